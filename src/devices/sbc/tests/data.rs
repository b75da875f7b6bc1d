// SPDX-License-Identifier: GPL-2.0-or-later
//! Commands that move data: bytes, chunks, residuals.

use super::*;

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i / 7) as u8 ^ (i as u8).wrapping_mul(seed)).collect()
}

#[test]
fn small_transfers_take_one_store_operation() {
    let mut rig = Rig::thin();
    let out = pattern(1024, 3);
    let ended = rig.write(&cdb10(0x2a, 0, 7, 2), &out);
    assert_eq!((ended.steps, ended.outcome.data_out), (2, 1024), "fetch, store");
    let ended = rig.read(&cdb10(0x28, 0, 7, 2));
    assert_eq!((ended.steps, ended.outcome.data_in), (1, 1024), "store");
    assert_eq!(ended.good(), out);
    assert_eq!(rig.log, ["write 7+2", "read 7+2"]);
}

#[test]
fn every_length_of_cdb_reads_and_writes() {
    let mut rig = Rig::thin();
    let out = pattern(512, 5);
    let cdbs: [(&[u8], &[u8]); 4] = [
        (&[0x0a, 0, 0, 9, 1, 0], &[0x08, 0, 0, 9, 1, 0]),
        (&[0x2a, 0, 0, 0, 0, 10, 0, 0, 1, 0], &[0x28, 0, 0, 0, 0, 10, 0, 0, 1, 0]),
        (&[0xaa, 0, 0, 0, 0, 11, 0, 0, 0, 1, 0, 0], &[0xa8, 0, 0, 0, 0, 11, 0, 0, 0, 1, 0, 0]),
        (&cdb16(0x8a, 0, 12, 1), &cdb16(0x88, 0, 12, 1)),
    ];
    for (i, (write, read)) in cdbs.into_iter().enumerate() {
        rig.write(write, &out).good();
        assert_eq!(rig.blocks(9 + i, 1), out);
        assert_eq!(rig.read(read).good(), out);
    }
    // Zero means 256 to the 6-byte commands and nothing to all others.
    assert_eq!(rig.run(&[0x08, 0, 0, 0, 0, 0], &[], 1 << 20).good().len(), 256 * 512);
    assert_eq!(rig.read(&cdb10(0x28, 0, 0, 0)).good().len(), 0);
    assert_eq!(rig.write(&cdb16(0x8a, 0, 0, 0), &[]).good().len(), 0);
    // The field of 21 bits ends where the SCSI-2 logical unit number began.
    assert_eq!(rig.read(&[0x08, 0xe0, 0, 9, 1, 0]).good(), out);
}

#[test]
fn large_transfers_move_in_chunks() {
    let mut rig = Rig::thin();
    let out = pattern(300 * 512, 11);
    let ended = rig.write(&cdb10(0x2a, 0, 1, 300), &out);
    assert_eq!(ended.fetched, 300 * 512);
    ended.good();
    let ended = rig.run(&cdb10(0x28, 0, 1, 300), &[], 300 * 512);
    assert_eq!(ended.outcome.data_in, 300 * 512);
    assert_eq!(ended.good(), out);
    assert_eq!(
        rig.log,
        ["write 1+128", "write 129+128", "write 257+44", "read 1+128", "read 129+128", "read 257+44"]
    );
    // Never more than a chunk and what a copy of it takes was held at once.
    assert!(rig.arena.counters().in_use_max_bytes <= 256 << 10);
}

#[test]
fn fua_and_the_write_cache() {
    let mut rig = Rig::thin();
    let block = [1; 512];
    rig.write(&cdb10(0x2a, 0x08, 0, 1), &block).good();
    rig.write(&cdb16(0x8a, 0x10, 0, 1), &block).good();
    rig.read(&cdb10(0x28, 0x08, 0, 1)).good();
    rig.read(&cdb10(0x28, 0x10, 0, 1)).good();
    assert_eq!(rig.log, ["write! 0+1", "write 0+1", "flush 0+0", "read 0+1", "read 0+1"]);

    let mut rig = Rig::new(Config { write_cache: false, ..config() });
    rig.write(&cdb10(0x2a, 0, 0, 1), &block).good();
    rig.write(&cdb10(0x41, 0, 0, 1), &block).good();
    assert_eq!(rig.log, ["write! 0+1", "same! 0+1"]);
}

#[test]
fn addresses_beyond_the_end() {
    let mut rig = Rig::thin();
    let last = BLOCKS as u32;
    let block = [0; 1024];
    for opcode in [0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35, 0x41] {
        for (lba, blocks) in [(last - 1, 2), (last, 1), (last + 1, 0), (0x8000_0000, 1), (u32::MAX, 0)] {
            let ended = rig.run(&cdb10(opcode, 0, lba, blocks), &block[..512], 512);
            assert_eq!(ended.sense(), OUT_OF_RANGE, "{opcode:02x} {lba} {blocks}");
        }
    }
    for opcode in [0x88, 0x8a, 0x8b, 0x8e, 0x8f, 0x90, 0x91, 0x93] {
        for (lba, blocks) in
            [(BLOCKS, 1), (1 << 63, 1), (u64::MAX, 0), (u64::MAX, 2), (u64::MAX - 1, u32::MAX)]
        {
            let ended = rig.run(&cdb16(opcode, 0, lba, blocks), &block[..512], 512);
            assert_eq!(ended.sense(), OUT_OF_RANGE, "{opcode:02x} {lba} {blocks}");
        }
    }
    // Nothing right behind the end is there.
    rig.read(&cdb10(0x28, 0, last, 0)).good();
    assert!(rig.log.is_empty());
}

#[test]
fn maximum_transfer_length_is_obeyed() {
    let mut rig = Rig::thin();
    rig.geometry.bytes = 1 << 40;
    for opcode in [0x88, 0x8a, 0x8b, 0x8e, 0x8f] {
        let ended = rig.none(&cdb16(opcode, 0, 0, 65537));
        assert_eq!(ended.sense(), INVALID_FIELD_IN_CDB);
        assert_eq!(ended.outcome.sense.unwrap().specific, Some([0xc0, 0, 10]));
    }
    rig.none(&cdb16(0x8a, 0, 0, 65536)).good();
}

#[test]
fn reads_with_another_expected_length() {
    let mut rig = Rig::thin();
    rig.bytes[..1024].copy_from_slice(&pattern(1024, 9));
    let first = rig.blocks(0, 1).to_vec();
    for (blocks, room, data, steps) in [
        (1, 0, &first[..0], 0),
        (1, 10_000, &first[..], 1),
        (1, 200, &first[..200], 1),
        (2, 512, &first[..], 1),
    ] {
        let ended = rig.run(&cdb10(0x28, 0, 0, blocks), &[], room);
        assert_eq!((ended.outcome.data_in, ended.steps), (u64::from(blocks) * 512, steps));
        assert_eq!(ended.good(), data);
    }
    // A READ that is flagged as a write takes nothing.
    let ended = rig.write(&cdb10(0x28, 0, 0, 1), &[0; 512]);
    assert_eq!((ended.fetched, ended.outcome.data_out, ended.outcome.data_in), (0, 0, 512));
    ended.good();
}

#[test]
fn writes_with_another_expected_length() {
    for (opcode, name) in [(0x2a, "write"), (0x2e, "write and verify")] {
        let mut rig = Rig::thin();
        let b = vec![b'b'; 10_000];
        for (blocks, offered, written) in [(1, 0, 0), (1, 10_000, 1), (2, 512, 1), (1, 1024, 1), (1, 600, 1)]
        {
            rig.bytes[..2048].fill(b'a');
            let ended = rig.write(&cdb10(opcode, 0, 0, blocks), &b[..offered]);
            assert_eq!(ended.outcome.data_out, u64::from(blocks) * 512, "{name}");
            assert_eq!(ended.fetched, written * 512);
            ended.good();
            let split = written as usize * 512;
            assert!(rig.bytes[..split].iter().all(|&x| x == b'b'), "{name} {blocks} {offered}");
            assert!(rig.bytes[split..2048].iter().all(|&x| x == b'a'), "{name} {blocks} {offered}");
        }
        // A WRITE that is flagged as a read writes nothing.
        rig.bytes[..512].fill(b'a');
        rig.run(&cdb10(opcode, 0, 0, 1), &[], 512).good();
        assert_eq!(rig.bytes[0], b'a');
    }
}

#[test]
fn protection_information_is_refused() {
    let mut rig = Rig::thin();
    for protect in 1..8 {
        for opcode in [0x28, 0x2a, 0x2e, 0x2f, 0x41] {
            let ended = rig.run(&cdb10(opcode, protect << 5, 0, 1), &[0; 512], 512);
            assert_eq!(ended.sense(), INVALID_FIELD_IN_CDB);
        }
        for opcode in [0x88, 0x8a, 0x8b, 0x8e, 0x8f, 0x93] {
            let ended = rig.run(&cdb16(opcode, protect << 5, 0, 1), &[0; 512], 512);
            assert_eq!(ended.sense(), INVALID_FIELD_IN_CDB);
        }
    }
}

#[test]
fn verify_compares_bytes() {
    let mut rig = Rig::thin();
    let mut data = pattern(300 * 512, 13);
    rig.bytes[512..512 + data.len()].copy_from_slice(&data);
    let cdb = cdb10(0x2f, 0x02, 1, 300);
    let ended = rig.write(&cdb, &data);
    assert_eq!(ended.outcome.data_out, 300 * 512);
    ended.good();
    data[200 * 512 + 3] ^= 1;
    let ended = rig.write(&cdb, &data);
    assert_eq!((ended.sense(), ended.information()), (MISCOMPARE, Some(200 * 512 + 3)));
    // Without BYTCHK the medium has only to be readable, and no data moves.
    let ended = rig.none(&cdb10(0x2f, 0, 1, 300));
    assert_eq!(ended.outcome.data_out, 0);
    ended.good();
    assert_eq!(rig.none(&cdb10(0x2f, 0x04, 1, 1)).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.log[rig.log.len() - 3..], ["read 1+128", "read 129+128", "read 257+44"]);
}

#[test]
fn verify_compares_one_block_with_all() {
    let mut rig = Rig::thin();
    let block = pattern(512, 17);
    for lba in 10..310 {
        rig.bytes[lba * 512..(lba + 1) * 512].copy_from_slice(&block);
    }
    let cdb = cdb16(0x8f, 0x06, 10, 300);
    let ended = rig.write(&cdb, &block);
    assert_eq!((ended.fetched, ended.outcome.data_out), (512, 512));
    ended.good();
    rig.bytes[300 * 512 + 5] ^= 1;
    let ended = rig.write(&cdb, &block);
    assert_eq!((ended.sense(), ended.information()), (MISCOMPARE, Some(5)));
    // Nothing is compared with less than a block, and that is told.
    let ended = rig.write(&cdb, &block[..100]);
    assert_eq!((ended.fetched, ended.outcome.data_out), (0, 512));
    assert_eq!(ended.sense(), (5, 0x0e03));
}

/// What an initiator offers is taken as far as the command wants it, or the command fails: no GOOD with bytes dropped.
#[test]
fn good_means_that_all_that_was_offered_and_wanted_was_taken() {
    let mut cdbs: Vec<Vec<u8>> = vec![
        vec![0x0a, 0, 0, 0, 2, 0],
        vec![0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0],
        vec![0xae, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0],
        vec![0xaf, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0],
        vec![0x15, 0x10, 0, 0, 24, 0],
        vec![0x1d, 0x10, 0, 0, 8, 0],
        vec![0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        vec![0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0],
        vec![0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0],
        vec![0xa4, 0x06, 0, 0, 0, 0, 0, 0, 0, 64, 4, 0],
        vec![0x04, 0x10, 0, 0, 0, 0],
    ];
    cdbs.extend([0x2a, 0x2e, 0x2f, 0x41].map(|opcode| cdb10(opcode, 2, 0, 2).to_vec()));
    cdbs.extend([0x42, 0x4c, 0x55, 0x3b, 0x48, 0x5f].map(|opcode| cdb10(opcode, 0, 0, 24).to_vec()));
    cdbs.extend([0x8a, 0x8b, 0x8e, 0x8f, 0x93].map(|opcode| cdb16(opcode, 2, 0, 2).to_vec()));
    cdbs.push(cdb10(0x2f, 6, 0, 2).to_vec());
    cdbs.extend([0x0b, 0x0c, 0x0a, 0x0d, 0x0e].map(|action| {
        let mut long = vec![0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, action, 2, 0];
        long.extend([0; 16]);
        long.extend(2_u32.to_be_bytes());
        long
    }));
    let mut taken = 0;
    for cdb in cdbs {
        for offered in [0, 1, 8, 24, 100, 511, 512, 513, 1000, 1023, 1024, 1025, 2000] {
            let mut rig = Rig::thin();
            let ended = rig.write(&cdb, &vec![0; offered]);
            let wanted = ended.outcome.data_out;
            if ended.outcome.status == Status::Good && ended.detached.is_none() {
                let most = wanted.min(offered as u64);
                assert_eq!(u64::from(ended.fetched), most, "{cdb:02x?}, {offered} offered");
                taken += usize::from(most > 0);
            }
        }
    }
    assert!(taken > 80, "{taken} commands have taken something");
}

#[test]
fn a_part_of_a_block_is_not_written() {
    let mut rig = Rig::thin();
    for opcode in [0x2a, 0x2e] {
        for (blocks, offered) in [(1, 1), (1, 200), (1, 511), (2, 513), (2, 1000), (300, 299 * 512 + 1)] {
            let ended = rig.write(&cdb10(opcode, 0, 0, blocks), &vec![b'b'; offered]);
            assert_eq!((ended.sense(), ended.fetched), ((5, 0x0e03), 0), "{blocks} {offered}");
            assert_eq!(ended.outcome.data_out, u64::from(blocks) * 512, "from which the overflow is made");
        }
    }
    assert!(rig.log.is_empty() && rig.bytes.iter().all(|&byte| byte == 0));
}

#[test]
fn write_and_verify_reads_back_what_is_on_the_medium() {
    let mut rig = Rig::thin();
    let data = pattern(129 * 512, 19);
    rig.write(&cdb10(0x2e, 0x02, 3, 129), &data).good();
    assert_eq!(rig.log, ["write! 3+128", "read 3+128", "write! 131+1", "read 131+1"]);
    assert_eq!(rig.blocks(3, 129), data);
    for flags in [0x04, 0x06] {
        assert_eq!(rig.write(&cdb10(0x2e, flags, 3, 1), &data[..512]).sense(), INVALID_FIELD_IN_CDB);
    }
    // A medium that loses bits is found out with BYTCHK only.
    rig.interfere = Some(Box::new(|bytes| bytes[133 * 512 + 1] ^= 0xee));
    let ended = rig.write(&cdb10(0x2e, 0x02, 4, 130), &[&data[..], &[0; 512]].concat());
    assert_eq!((ended.sense(), ended.information()), (MISCOMPARE, Some(129 * 512 + 1)));
    rig.write(&cdb10(0x2e, 0, 4, 2), &data[..1024]).good();
}

#[test]
fn orwrite_sets_bits_and_survives_interference() {
    let mut rig = Rig::thin();
    rig.bytes[..512 * 200].fill(0x0f);
    let bits = pattern(200 * 512, 23);
    // Another core sets a bit between the first two reads and their writes.
    let mut left = 2;
    rig.interfere = Some(Box::new(move |bytes| {
        if left > 0 {
            left -= 1;
            bytes[7] |= 0x80 >> left;
        }
    }));
    let ended = rig.write(&cdb16(0x8b, 0, 0, 200), &bits);
    assert_eq!(ended.outcome.data_out, 200 * 512);
    ended.good();
    let mut wanted: Vec<u8> = bits.iter().map(|b| b | 0x0f).collect();
    wanted[7] |= 0xc0;
    assert_eq!(rig.blocks(0, 200), wanted);
    // What is compared is a copy, which cannot change with the medium.
    let once = ["read into 0+128", "swap 0+128"];
    assert_eq!(rig.log[..6], [once, once, once].concat());
    assert_eq!(rig.log[6..], ["read into 128+72", "swap 128+72"]);
}

fn compare_and_write(lba: u64, blocks: u8) -> [u8; 16] {
    let mut cdb = cdb16(0x89, 0, lba, 0);
    cdb[13] = blocks;
    cdb
}

#[test]
fn compare_and_write_is_one_store_operation() {
    let mut rig = Rig::thin();
    rig.bytes[..1024].fill(b'A');
    let mut out = [[b'A'; 1024], [b'B'; 1024]].concat();
    let ended = rig.write(&compare_and_write(0, 2), &out);
    assert_eq!(ended.outcome.data_out, 2048);
    ended.good();
    assert_eq!(rig.blocks(0, 2), [b'B'; 1024]);
    out[..1024].fill(b'B');
    out[1000] = b'x';
    let ended = rig.write(&compare_and_write(0, 2), &out);
    assert_eq!((ended.sense(), ended.information()), (MISCOMPARE, Some(1000)));
    assert_eq!(rig.log, ["swap 0+2", "swap 0+2"]);
}

#[test]
fn compare_and_write_lengths() {
    let mut rig = Rig::thin();
    let out = vec![0; 256 * 512];
    for (blocks, offered) in [(1, 4), (3, 4), (1, 0), (1, 1), (0, 2), (0, 256)] {
        let ended = rig.write(&compare_and_write(0, blocks), &out[..offered * 512]);
        assert_eq!(ended.sense(), INVALID_FIELD_IN_CDB, "{blocks} {offered}");
    }
    rig.write(&compare_and_write(0, 0), &out[..512]).good();
    rig.write(&compare_and_write(0, 128), &out).good();
    let ended = rig.write(&compare_and_write(0, 129), &[0; 258 * 512]);
    assert_eq!(ended.sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.write(&compare_and_write(BLOCKS, 1), &out[..1024]).sense(), OUT_OF_RANGE);
}

#[test]
fn blocks_of_4096() {
    let mut rig = Rig::new(Config { block: BlockSize::B4096, ..config() });
    let out = pattern(8192, 29);
    rig.write(&cdb10(0x2a, 0, 2, 2), &out).good();
    assert_eq!(rig.bytes[8192..16384], out);
    assert_eq!(rig.read(&cdb16(0x88, 0, 2, 2)).good(), out);
    assert_eq!(rig.log, ["write 16+16", "read 16+16"]);
    assert_eq!(rig.read(&cdb10(0x28, 0, 4095, 2)).sense(), OUT_OF_RANGE);
}

/// A 32-byte CDB.
fn cdb32(action: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 32] {
    let mut cdb = [0; 32];
    (cdb[0], cdb[7], cdb[9], cdb[10]) = (0x7f, 0x18, action, flags);
    cdb[12..20].copy_from_slice(&lba.to_be_bytes());
    cdb[28..].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

#[test]
fn the_32_byte_commands_do_what_the_shorter_ones_do() {
    let mut rig = Rig::thin();
    rig.write(&cdb32(0x0b, 8, 5, 2), &[3; 1024]).good();
    assert_eq!(rig.log, ["write! 5+2"]);
    assert_eq!(rig.read(&cdb32(0x09, 0, 4, 2)).good(), [[0; 512], [3; 512]].concat());
    rig.write(&cdb32(0x0a, 2, 5, 2), &[3; 1024]).good();
    let miss = rig.write(&cdb32(0x0a, 2, 5, 2), &[[3; 512], [4; 512]].concat());
    assert_eq!((miss.sense(), miss.information()), (MISCOMPARE, Some(512)));
    rig.write(&cdb32(0x0c, 2, 6, 1), &[5; 512]).good();
    rig.write(&cdb32(0x0e, 0, 6, 1), &[0x0a; 512]).good();
    assert_eq!(rig.blocks(6, 1), [0x0f; 512]);
    rig.write(&cdb32(0x0d, 0, 8, 3), &[9; 512]).good();
    assert_eq!(rig.blocks(8, 3), [9; 1536]);
    rig.none(&cdb32(0x0d, 9, 8, 3)).good();
    assert_eq!(rig.blocks(8, 3), [0; 1536]);
    assert_eq!(rig.read(&cdb32(0x09, 0, BLOCKS, 1)).sense(), OUT_OF_RANGE);
    // Faults point into the 32 bytes: at the length, at BYTCHK, at the transfer length.
    let pointer = |ended: Ended| ended.outcome.sense.unwrap().specific;
    let mut bad = cdb32(0x09, 0, 0, 1);
    bad[7] = 0x10;
    assert_eq!(pointer(rig.read(&bad)), Some([0xcb, 0, 7]));
    assert_eq!(pointer(rig.write(&cdb32(0x0c, 4, 0, 1), &[0; 512])), Some([0xca, 0, 10]));
    rig.geometry.bytes = 1 << 40;
    assert_eq!(pointer(rig.read(&cdb32(0x09, 0, 0, 1 << 17))), Some([0xc0, 0, 28]));
    // A service action that there is not, a CDB that ends too early.
    assert_eq!(pointer(rig.read(&cdb32(0x03, 0, 0, 1))), Some([0xcf, 0, 8]));
    assert_eq!(rig.read(&cdb32(0x09, 0, 0, 1)[..16]).sense(), INVALID_FIELD_IN_CDB);
}

#[test]
fn write_atomic_writes_all_or_nothing() {
    let mut rig = Rig::thin();
    let cdb = |flags, lba: u64, blocks: u16| {
        let mut cdb = cdb16(0x9c, flags, lba, 0);
        cdb[12..14].copy_from_slice(&blocks.to_be_bytes());
        cdb
    };
    rig.write(&cdb(0, 7, 128), &[6; 65536]).good();
    assert_eq!(rig.log, ["swap 7+128"]);
    assert_eq!(rig.blocks(7, 128), [6; 65536]);
    rig.write(&cdb(8, 7, 1), &[6; 512]).good();
    assert_eq!(rig.log[1..], ["swap! 7+1"]);
    rig.none(&cdb(0, 7, 0)).good();
    // More than the limit that the Block Limits page tells, more than the initiator offers, beyond the end, in parts.
    assert_eq!(rig.write(&cdb(0, 0, 129), &[6; 129 * 512]).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.write(&cdb(0, 0, 2), &[6; 512]).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.write(&cdb(0, BLOCKS, 1), &[6; 512]).sense(), OUT_OF_RANGE);
    let mut parts = cdb(0, 0, 2);
    parts[11] = 1;
    assert_eq!(rig.write(&parts, &[6; 1024]).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.log.len(), 2);
}
