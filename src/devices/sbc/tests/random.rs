// SPDX-License-Identifier: GPL-2.0-or-later
//! Random commands: any bytes at all, and sequences against an oracle.

use proptest::prelude::*;

use super::*;

/// Operation codes of the disk, more often than chance would have them.
fn opcode() -> impl Strategy<Value = u8> {
    let rows = super::super::table::TABLE.rows();
    prop_oneof![4 => (0..rows.len()).prop_map(move |i| rows[i].definition.opcode), 1 => any::<u8>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever comes, the task ends, fetches no more than is offered (the rig checks), stays within the store (the
    /// rig checks), and holds no memory afterwards (the rig checks).
    #[test]
    fn any_cdb_ends(
        opcode in opcode(),
        mut cdb in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 1..33),
        out in 0usize..2000,
        room in 0u32..100_000,
        thin: bool,
        small: bool,
    ) {
        cdb[0] = opcode;
        let mut rig = Rig::new(Config { thin, ..config() });
        if small {
            rig.geometry.transfer_max = 1024;
        }
        let out = vec![0x5a; out * 8];
        let ended = rig.run(&cdb, &out, room);
        prop_assert_eq!(ended.outcome.status == Status::CheckCondition, ended.outcome.sense.is_some());
        prop_assert!(ended.data.len() <= room as usize);
    }

    /// As before, with a store that fails somewhere.
    #[test]
    fn any_cdb_ends_over_a_bad_store(
        opcode in opcode(),
        mut cdb in prop::collection::vec(prop_oneof![5 => Just(0u8), 1 => any::<u8>()], 16),
        bad in 0u64..BLOCKS * 512,
    ) {
        cdb[0] = opcode;
        let mut rig = Rig::thin();
        rig.fault = Some((bad, ErrorKind::WriteFailed));
        rig.run(&cdb, &[0; 8192], 8192);
    }
}

/// A command of a sequence.
#[derive(Clone, Debug)]
enum Do {
    Write { opcode: u8, lba: u64, blocks: u64, byte: u8 },
    Or { lba: u64, blocks: u64, byte: u8 },
    Same { unmap: bool, lba: u64, blocks: u64, byte: u8 },
    Unmap { lba: u64, blocks: u64 },
    Swap { lba: u64, blocks: u64, guess: u8, byte: u8 },
    Read { lba: u64, blocks: u64 },
    Verify { lba: u64, blocks: u64, flip: bool },
}

const SMALL: u64 = 64;

fn steps() -> impl Strategy<Value = Do> {
    let extent = (0..SMALL).prop_flat_map(|lba| (Just(lba), 1..=(SMALL - lba)));
    (extent, 0u8..8, any::<bool>(), 0u8..4, prop::sample::select(vec![0x8a_u8, 0x8e])).prop_map(
        |((lba, blocks), kind, flag, byte, opcode)| match kind {
            0 | 1 => Do::Write { opcode, lba, blocks, byte },
            2 => Do::Or { lba, blocks, byte },
            3 => Do::Same { unmap: flag, lba, blocks, byte },
            4 => Do::Unmap { lba, blocks },
            5 => Do::Swap { lba, blocks: blocks.min(3), guess: u8::from(flag), byte },
            6 => Do::Read { lba, blocks },
            _ => Do::Verify { lba, blocks, flip: flag },
        },
    )
}

fn range(lba: u64, blocks: u64) -> std::ops::Range<usize> {
    lba as usize * 512..(lba + blocks) as usize * 512
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn sequences_agree_with_an_oracle(steps in prop::collection::vec(steps(), 1..40), chunk in 1u32..20) {
        let mut rig = Rig::thin();
        rig.geometry.transfer_max = chunk * 512;
        let mut oracle = vec![0; SMALL as usize * 512];
        for step in steps {
            match step {
                Do::Write { opcode, lba, blocks, byte } => {
                    let out = vec![byte; blocks as usize * 512];
                    rig.write(&cdb16(opcode, 0, lba, blocks as u32), &out).good();
                    oracle[range(lba, blocks)].fill(byte);
                }
                Do::Or { lba, blocks, byte } => {
                    rig.write(&cdb16(0x8b, 0, lba, blocks as u32), &vec![byte; blocks as usize * 512]).good();
                    oracle[range(lba, blocks)].iter_mut().for_each(|b| *b |= byte);
                }
                Do::Same { unmap, lba, blocks, byte } => {
                    let flags = u8::from(unmap) << 3;
                    rig.write(&cdb16(0x93, flags, lba, blocks as u32), &[byte; 512]).good();
                    oracle[range(lba, blocks)].fill(byte);
                }
                Do::Unmap { lba, blocks } => {
                    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
                    list.extend([&lba.to_be_bytes()[..], &(blocks as u32).to_be_bytes(), &[0; 4]].concat());
                    rig.write(&cdb10(0x42, 0, 0, 24), &list).good();
                    oracle[range(lba, blocks)].fill(0);
                }
                Do::Swap { lba, blocks, guess, byte } => {
                    let mut cdb = cdb16(0x89, 0, lba, 0);
                    let blocks = blocks.min(chunk.into());
                    cdb[13] = blocks as u8;
                    let half = blocks as usize * 512;
                    let ended = rig.write(&cdb, &[vec![guess; half], vec![byte; half]].concat());
                    let now = &mut oracle[range(lba, blocks)];
                    if let Some(i) = now.iter().position(|&b| b != guess) {
                        prop_assert_eq!((ended.sense(), ended.information()), (MISCOMPARE, Some(i as u64)));
                    } else {
                        ended.good();
                        now.fill(byte);
                    }
                }
                Do::Read { lba, blocks } => {
                    let data = rig.read(&cdb16(0x88, 0, lba, blocks as u32)).good();
                    prop_assert_eq!(&data, &oracle[range(lba, blocks)]);
                }
                Do::Verify { lba, blocks, flip } => {
                    let mut out = oracle[range(lba, blocks)].to_vec();
                    let at = out.len() * 2 / 3;
                    out[at] ^= u8::from(flip);
                    let ended = rig.write(&cdb16(0x8f, 2, lba, blocks as u32), &out);
                    if flip {
                        prop_assert_eq!((ended.sense(), ended.information()), (MISCOMPARE, Some(at as u64)));
                    } else {
                        ended.good();
                    }
                }
            }
            prop_assert_eq!(&rig.bytes[..oracle.len()], &oracle[..]);
        }
    }
}
