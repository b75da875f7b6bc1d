// SPDX-License-Identifier: GPL-2.0-or-later
//! UNMAP, WRITE SAME, GET LBA STATUS.

use super::*;

fn unmap_list(extents: &[(u64, u32)]) -> Vec<u8> {
    let len = extents.len() as u16 * 16;
    let mut list = [&(len + 6).to_be_bytes()[..], &len.to_be_bytes(), &[0; 4]].concat();
    for (lba, blocks) in extents {
        list.extend([&lba.to_be_bytes()[..], &blocks.to_be_bytes(), &[0; 4]].concat());
    }
    list
}

fn unmap(rig: &mut Rig, extents: &[(u64, u32)]) -> Ended {
    let list = unmap_list(extents);
    rig.write(&cdb10(0x42, 0, 0, list.len() as u16), &list)
}

fn status(rig: &mut Rig, lba: u64) -> Vec<u8> {
    rig.read(&cdb16(0x9e, 0x12, lba, 24)).good()
}

/// A GET LBA STATUS answer.
fn run(lba: u64, blocks: u32, provisioning: u8) -> Vec<u8> {
    [&[0, 0, 0, 20, 0, 0, 0, 0], &lba.to_be_bytes()[..], &blocks.to_be_bytes(), &[provisioning, 0, 0, 0]]
        .concat()
}

#[test]
fn unmap_deallocates() {
    let mut rig = Rig::thin();
    rig.write(&cdb10(0x2a, 0, 0, 100), &[7; 51200]).good();
    let ended = unmap(&mut rig, &[(10, 20), (0, 0), (50, 1), (BLOCKS, 0)]);
    assert_eq!((ended.steps, ended.outcome.data_out), (3, 72));
    ended.good();
    assert_eq!(rig.log[1..], ["unmap 10+20", "unmap 50+1"]);
    assert!(
        rig.blocks(10, 20).iter().all(|&b| b == 0) && rig.blocks(9, 1)[0] == 7 && rig.blocks(30, 1)[0] == 7
    );
    assert_eq!(status(&mut rig, 0), run(0, 10, 0));
    assert_eq!(status(&mut rig, 10), run(10, 20, 1));
    assert_eq!(status(&mut rig, 12), run(12, 18, 1));
    assert_eq!(status(&mut rig, 100), run(100, 3996, 1));
}

#[test]
fn unmap_lists() {
    let mut rig = Rig::thin();
    rig.none(&cdb10(0x42, 0, 0, 0)).good();
    unmap(&mut rig, &[]).good();
    unmap(&mut rig, &vec![(0, 0); 256]).good();
    assert_eq!(unmap(&mut rig, &vec![(0, 0); 257]).sense(), INVALID_FIELD_IN_PARAMETER_LIST);
    // Nothing is done when a later descriptor is bad.
    assert_eq!(unmap(&mut rig, &[(0, 1), (BLOCKS - 1, 2)]).sense(), OUT_OF_RANGE);
    assert_eq!(unmap(&mut rig, &[(0, 1), (u64::MAX, 2)]).sense(), OUT_OF_RANGE);
    assert!(rig.log.is_empty());
    // Lists that end too early: by the CDB, by their own header, by what the initiator offers.
    let list = unmap_list(&[(0, 1), (2, 1)]);
    assert_eq!(rig.write(&cdb10(0x42, 0, 0, 7), &list).sense(), PARAMETER_LIST_LENGTH);
    assert_eq!(rig.write(&cdb10(0x42, 0, 0, 24), &list).sense(), PARAMETER_LIST_LENGTH);
    assert_eq!(rig.write(&cdb10(0x42, 0, 0, 40), &list[..24]).sense(), PARAMETER_LIST_LENGTH);
    assert_eq!(rig.none(&cdb10(0x42, 0, 0, 40)).sense(), PARAMETER_LIST_LENGTH);
    // Half a descriptor is none.
    let mut half = list.clone();
    half[3] = 24;
    rig.write(&cdb10(0x42, 0, 0, 40), &half).good();
    assert_eq!(rig.log, ["unmap 0+1"]);
    // MAXIMUM UNMAP LBA COUNT is for all of a list.
    rig.geometry.bytes = 1 << 40;
    let ended = unmap(&mut rig, &[(0, 1 << 19), (0, 1 << 19), (0, 1)]);
    assert_eq!(ended.sense(), INVALID_FIELD_IN_PARAMETER_LIST);
    assert_eq!(ended.outcome.sense.unwrap().specific, Some([0x80, 0, 8 + 32 + 8]));
}

#[test]
fn thick_disks_do_not_deallocate() {
    let mut rig = Rig::thick();
    assert_eq!(unmap(&mut rig, &[(0, 1)]).sense(), INVALID_OPCODE);
    assert_eq!(rig.write(&cdb10(0x41, 8, 0, 1), &[0; 512]).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.write(&cdb16(0x93, 8, 0, 1), &[0; 512]).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(status(&mut rig, 5), run(5, 4091, 0));
    assert!(rig.log.is_empty());
}

#[test]
fn lba_status_lengths_and_ends() {
    let mut rig = Rig::thin();
    for lba in [BLOCKS, BLOCKS + 1, u64::MAX] {
        assert_eq!(rig.read(&cdb16(0x9e, 0x12, lba, 24)).sense(), OUT_OF_RANGE);
    }
    let wanted = run(0, 4096, 1);
    for len in 0..30 {
        assert_eq!(rig.read(&cdb16(0x9e, 0x12, 0, len)).good(), wanted[..(len as usize).min(24)]);
    }
    // A run of the store that is shorter than a block still makes one.
    let mut rig = Rig::new(Config { block: BlockSize::B4096, ..config() });
    rig.mapped[8..9].fill(true);
    assert_eq!(status(&mut rig, 1), run(1, 1, 0));
    let mut rig = Rig::thick();
    rig.geometry.bytes = 1 << 45;
    assert_eq!(status(&mut rig, 1), run(1, u32::MAX, 0));
}

#[test]
fn write_same_writes_in_chunks() {
    let mut rig = Rig::thin();
    rig.geometry.transfer_max = 4096;
    let block: Vec<u8> = (0..512_u16).map(|i| i as u8).collect();
    let ended = rig.write(&cdb10(0x41, 0, 3, 20), &block);
    assert_eq!((ended.fetched, ended.outcome.data_out), (512, 512));
    ended.good();
    assert!(rig.blocks(3, 20).chunks(512).all(|b| b == block));
    assert_eq!(rig.log, ["same 3+8", "same 11+8", "same 19+4"]);
    assert_eq!(rig.arena.in_use(), 0);
}

#[test]
fn write_same_deallocates_what_shall_be_zero() {
    let mut rig = Rig::thin();
    rig.bytes[..51200].fill(9);
    rig.write(&cdb10(0x41, 8, 0, 4), &[0; 512]).good();
    rig.write(&cdb16(0x93, 8, 4, 4), &[0xa6; 512]).good();
    rig.none(&cdb16(0x93, 9, 8, 4)).good();
    rig.none(&cdb16(0x93, 1, 12, 4)).good();
    assert_eq!(rig.log, ["unmap 0+4", "same 4+4", "unmap 8+4", "same 12+4"]);
    let first: Vec<u8> = rig.blocks(0, 17).chunks(512).map(|b| b[0]).collect();
    assert_eq!(first, [0, 0, 0, 0, 0xa6, 0xa6, 0xa6, 0xa6, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
}

#[test]
fn write_same_lengths() {
    let mut rig = Rig::thin();
    rig.geometry.bytes = 1 << 40;
    for blocks in [0, (1 << 22) + 1] {
        assert_eq!(rig.write(&cdb16(0x93, 0, 0, blocks), &[3; 512]).sense(), INVALID_FIELD_IN_CDB);
        assert_eq!(rig.none(&cdb16(0x93, 9, 0, blocks)).sense(), INVALID_FIELD_IN_CDB);
    }
    assert_eq!(rig.write(&cdb10(0x41, 0, 0, 0), &[3; 512]).sense(), INVALID_FIELD_IN_CDB);
    assert!(rig.log.is_empty());
}

#[test]
fn write_same_takes_exactly_one_block() {
    let mut rig = Rig::thin();
    for offered in [0, 256, 1024] {
        assert_eq!(rig.write(&cdb10(0x41, 8, 0, 1), &vec![0; offered]).sense(), INVALID_FIELD_IN_CDB);
        assert_eq!(rig.write(&cdb16(0x93, 0, 0, 1), &vec![0; offered]).sense(), INVALID_FIELD_IN_CDB);
    }
    // ANCHOR without UNMAP, PBDATA, LBDATA.
    for flags in [0x10, 0x04, 0x02] {
        assert_eq!(rig.write(&cdb10(0x41, flags, 0, 1), &[0; 512]).sense(), INVALID_FIELD_IN_CDB);
    }
    assert!(rig.log.is_empty());
}

#[test]
fn anchored_blocks_keep_their_room() {
    let mut rig = Rig::thin();
    rig.write(&cdb10(0x2a, 0, 0, 8), &[7; 4096]).good();
    let list = unmap_list(&[(0, 4)]);
    rig.write(&cdb10(0x42, 1, 0, list.len() as u16), &list).good();
    assert_eq!(status(&mut rig, 0), run(0, 4, 2));
    assert_eq!(status(&mut rig, 4), run(4, 4, 0));
    rig.write(&cdb16(0x93, 0x18, 4, 2), &[0; 512]).good();
    assert_eq!(rig.log[1..], ["anchor 0+4", "extent 0+0", "extent 4+0", "anchor 4+2"]);
    assert_eq!(status(&mut rig, 1), run(1, 5, 2));
    assert!(rig.blocks(0, 6).iter().all(|&byte| byte == 0) && rig.blocks(6, 1)[0] == 7);
    // What is not zeros is written.
    rig.write(&cdb16(0x93, 0x18, 0, 1), &[1; 512]).good();
    assert_eq!(rig.blocks(0, 1)[0], 1);
}
