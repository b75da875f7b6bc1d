// SPDX-License-Identifier: GPL-2.0-or-later
//! Tape data encryption, with the parameters that stenc, Bareos and LTFS send.

use super::*;

const SECRET: [u8; 32] = *b"32 bytes that nobody else knows!";

fn set(rig: &mut TapeRig, list: &[u8]) -> TapeEnded {
    let len = (list.len() as u32).to_be_bytes();
    rig.write(&[0xb5, 0x20, 0, 0x10, 0, 0, len[0], len[1], len[2], len[3], 0, 0], list)
}

fn page(rig: &mut TapeRig, page: u8) -> Vec<u8> {
    let data = rig.read(&[0xa2, 0x20, 0, page, 0, 0, 0, 0, 4, 0, 0, 0]).good();
    assert_eq!((data[1], usize::from(u16::from_be_bytes([data[2], data[3]]))), (page, data.len() - 4));
    data
}

/// Scope of all nexuses, with these flags and modes, a key, and key-associated data by type.
fn parameters(flags: u8, [encrypts, decrypts]: [u8; 2], key: &[u8], data: &[(u8, &[u8])]) -> Vec<u8> {
    let mut list = vec![0, 0x10, 0, 0, 0x40, flags, encrypts, decrypts, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    list.extend((key.len() as u16).to_be_bytes());
    list.extend(key);
    for (kind, bytes) in data {
        list.extend([*kind, 0, 0, bytes.len() as u8]);
        list.extend(*bytes);
    }
    let len = (list.len() - 4) as u16;
    list[2..4].copy_from_slice(&len.to_be_bytes());
    list
}

fn on(key: &[u8], decrypts: u8) -> Vec<u8> {
    parameters(0x40, [2, decrypts], key, &[(0, b"label")])
}

fn off() -> Vec<u8> {
    parameters(0, [0, 0], &[], &[])
}

#[test]
fn records_of_every_length_are_encrypted_and_come_back() {
    for compression in [0, 0x80] {
        let mut rig = TapeRig::with(cartridge(16 << 20, CartridgeUse::Data, false));
        let list = [0, 0, 0, 0, 0x0f, 14, compression | 0x40, 0x80, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
        rig.write(&[0x15, 0x10, 0, 0, 20, 0], &list).good();
        let list = [&[0, 0, 0, 0, 0x4a, 0xf0, 0, 28, 2, 4, 0xc0][..], &[0; 25]].concat();
        set(&mut rig, &on(&SECRET, 2)).good();
        let lengths = [1, 300, 4016, 4017, 65_536, 262_145, 1_000_000];
        for (number, len) in lengths.into_iter().enumerate() {
            rig.write_record(&record(number as u64, len)).good();
        }
        rig.filemarks(1);
        rig.rewind();
        for (number, len) in lengths.into_iter().enumerate() {
            assert!(rig.read_record(len).good() == record(number as u64, len), "{len}");
        }
        // Logical block protection is of the record.
        rig.write(&[0x15, 0x10, 0, 0, 36, 0], &list).good();
        rig.locate(5).good();
        let data = rig.read_record(262_149).good();
        assert!(data[..262_145] == record(5, 262_145));
        assert_eq!(data[262_145..], crate::wire::Crc32c::of(&data[..262_145]).wire());
        // Neither a record nor the key is on the store, and the key is in nothing that is printed.
        let holds = |needle: &[u8]| rig.bytes.windows(needle.len()).any(|bytes| bytes == needle);
        assert!(!holds(&record(4, 200)) && !holds(&SECRET[..8]));
        let printed = format!("{:?} {:?}", rig.server.unit(), rig.server.unit().report());
        assert!(!printed.contains("51, 50, 32, 98"), "{printed}");
    }
}

#[test]
fn what_cannot_be_decrypted_is_told_and_not_passed() {
    let mut rig = TapeRig::new();
    rig.write_record(&record(0, 100)).good();
    for (number, len) in [(1, 100), (2, 100_000)] {
        set(&mut rig, &on(&SECRET, 2)).good();
        rig.write_record(&record(number, len)).good();
    }
    let why = |rig: &mut TapeRig, lba: u32| {
        rig.locate(lba).good();
        let ended = rig.read_record(100_000);
        assert!(ended.data.is_empty());
        assert_eq!(rig.position().1, u64::from(lba), "the head stays");
        ended.why()
    };
    for lba in [1, 2] {
        set(&mut rig, &off()).good();
        assert_eq!(why(&mut rig, lba), (key::DATA_PROTECT, asc::UNABLE_TO_DECRYPT_DATA));
        set(&mut rig, &on(&[7; 32], 2)).good();
        assert_eq!(why(&mut rig, lba), (key::DATA_PROTECT, asc::INCORRECT_DATA_ENCRYPTION_KEY));
    }
    let unencrypted = (key::DATA_PROTECT, asc::UNENCRYPTED_DATA_ENCOUNTERED_WHILE_DECRYPTING);
    assert_eq!(why(&mut rig, 0), unencrypted);
    // Mixed reads both.
    set(&mut rig, &parameters(0x40, [2, 3], &SECRET, &[])).good();
    rig.rewind();
    for (number, len) in [(0, 100), (1, 100), (2, 100_000)] {
        assert!(rig.read_record(len).good() == record(number, len));
    }
    // VERIFY compares what is on the cartridge, for which no key is needed.
    set(&mut rig, &off()).good();
    rig.rewind();
    rig.none(&[0x13, 0x20, 0, 0, 0, 0]).good();
    assert_eq!(rig.position().1, 3);
}

#[test]
fn pages_are_as_clients_parse_them() {
    let mut rig = TapeRig::new();
    assert_eq!(rig.read(&[0xa2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]).good(), [0, 0, 0, 0, 0, 0, 0, 2, 0, 0x20]);
    for listed in page(&mut rig, 0)[4..].chunks(2) {
        page(&mut rig, listed[1]);
    }
    let capabilities = page(&mut rig, 0x10);
    assert_eq!((capabilities.len(), &capabilities[20..24]), (44, &[1, 0, 0, 20][..]));
    assert_eq!(capabilities[24] & 0x0f, 0x0a, "encrypts and decrypts");
    assert_eq!(capabilities[26..32], [0, 32, 0, 60, 0, 32]);
    assert_eq!(capabilities[40..], [0, 1, 0, 0x14]);
    let status = page(&mut rig, 0x20);
    assert_eq!((status[3], &status[4..13]), (20, &[0, 0, 0, 0, 0, 0, 0, 0, 0x10][..]));
    set(&mut rig, &on(&SECRET, 2)).good();
    rig.write_record(&record(0, 100)).good();
    let status = page(&mut rig, 0x20);
    assert_eq!(status[4..13], [0x42, 2, 2, 1, 0, 0, 0, 1, 0x18]);
    assert_eq!(status[24..], *b"\0\0\0\x05label");
    // The next block: a record that was encrypted with this key, with another, one that was not, none.
    rig.write_record(&record(1, 50_000)).good();
    set(&mut rig, &off()).good();
    rig.write_record(&record(2, 100)).good();
    for (with, lba, status) in [
        (&SECRET, 0, 5),
        (&[1; 32], 0, 6),
        (&SECRET, 1, 5),
        (&[1; 32], 1, 6),
        (&SECRET, 2, 3),
        (&SECRET, 3, 2),
    ] {
        set(&mut rig, &on(with, 3)).good();
        rig.locate(lba).good();
        let next = page(&mut rig, 0x21);
        assert_eq!((next[11], next[12]), (lba as u8, status));
        let label = if lba < 2 { &b"\0\0\0\x05label"[..] } else { &[] };
        assert_eq!(next[16..], *label);
    }
    rig.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    assert_eq!(rig.read(&[0xa2, 0x20, 0, 0x21, 0, 0, 0, 0, 4, 0, 0, 0]).why(), (2, asc::MEDIUM_NOT_PRESENT));
}

#[test]
fn what_clients_send_is_taken_and_others_are_told() {
    let mut rig = TapeRig::new();
    let told = |ended: TapeEnded| {
        let codes: Vec<u16> = ended.outcome.attentions.iter().map(|attention| attention.code).collect();
        ended.good();
        codes
    };
    let changed = [asc::DATA_ENCRYPTION_PARAMETERS_CHANGED_BY_ANOTHER_I_T_NEXUS];
    let label = [b'k'; 32];
    // stenc; Bareos, which gives a key to switch it off, too; LTFS.
    assert_eq!(told(set(&mut rig, &parameters(0x40, [2, 2], &SECRET, &[(0, &label)]))), changed);
    assert_eq!(told(set(&mut rig, &parameters(0, [2, 3], &SECRET, &[]))), changed);
    assert_eq!(told(set(&mut rig, &parameters(0, [0, 0], &SECRET, &[]))), changed);
    assert_eq!(told(set(&mut rig, &parameters(0, [2, 3], &SECRET, &[(1, &label[..12])]))), changed);
    assert_eq!(told(set(&mut rig, &off())), changed);
    assert_eq!(told(set(&mut rig, &off())), [0; 0]);
    assert_eq!(page(&mut rig, 0x20)[8..12], [0, 0, 0, 5]);
}

#[test]
fn parameters_that_make_no_sense_change_nothing() {
    let mut rig = TapeRig::new();
    set(&mut rig, &on(&SECRET, 2)).good();
    let good = on(&[5; 32], 2);
    let with = |at: usize, byte: u8| {
        let mut list = good.clone();
        list[at] = byte;
        list
    };
    let long = [0; 61];
    let cases = [
        (with(4, 0x20), 4),
        (with(4, 0x41), 4),
        (with(5, 0x80), 5),
        (with(5, 0x08), 5),
        (with(5, 0x20), 5),
        (with(6, 1), 6),
        (with(7, 1), 7),
        (with(8, 2), 8),
        (with(9, 1), 9),
        (parameters(0, [2, 2], &SECRET[..16], &[]), 18),
        (parameters(0, [2, 2], &[], &[]), 18),
        (parameters(0, [2, 2], &SECRET, &[(2, b"x")]), 52),
        (parameters(0, [2, 2], &SECRET, &[(1, b"x"), (0, b"y")]), 57),
        (parameters(0, [2, 2], &SECRET, &[(0, &long[..33])]), 54),
        (parameters(0, [2, 2], &SECRET, &[(1, &long)]), 54),
        (with(0, 1), 0),
    ];
    for (list, byte) in cases {
        let ended = set(&mut rig, &list);
        assert_eq!(ended.why(), (5, asc::INVALID_FIELD_IN_PARAMETER_LIST), "{byte}");
        assert_eq!(ended.sense().specific, Some([0x80, 0, byte]));
        assert_eq!(page(&mut rig, 0x20)[8..12], [0, 0, 0, 1]);
    }
    for list in [&good[..19], &good[..40]] {
        assert_eq!(set(&mut rig, list).why(), (5, asc::PARAMETER_LIST_LENGTH_ERROR));
    }
    for cdb in [[0xb5, 0x20, 0, 0x11, 0, 0, 0, 0, 0, 0, 0, 0], [0xb5, 0x21, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0]]
    {
        assert_eq!(rig.none(&cdb).why(), (5, asc::INVALID_FIELD_IN_CDB));
    }
    assert_eq!(
        rig.read(&[0xa2, 0x20, 0, 0x99, 0, 0, 0, 0, 4, 0, 0, 0]).why(),
        (5, asc::INVALID_FIELD_IN_CDB)
    );
    assert_eq!(rig.read(&[0xa2, 0x41, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]).why(), (5, asc::INVALID_FIELD_IN_CDB));
}

#[test]
fn the_key_goes_with_a_reset_and_with_the_cartridge_if_that_was_asked_for() {
    let has_key = |rig: &mut TapeRig| page(rig, 0x20)[4] == 0x42;
    let unload = [0x1b, 0, 0, 0, 0, 0];
    for (flags, stays) in [(0x40, true), (0x44, false)] {
        let mut rig = TapeRig::new();
        rig.none(&[0; 6]).good();
        set(&mut rig, &parameters(flags, [2, 2], &SECRET, &[])).good();
        rig.none(&unload).good();
        assert_eq!(has_key(&mut rig), stays);
    }
    let mut rig = TapeRig::new();
    set(&mut rig, &on(&SECRET, 2)).good();
    rig.server.reset();
    assert!(!has_key(&mut rig));
    set(&mut rig, &on(&SECRET, 2)).good();
    assert!(!has_key(&mut rig.restarted()));
}

/// Nor after the same key was given again, by the same initiator to the same drive, at the same time by its clock, as
/// after a restart.
#[test]
fn no_two_records_are_encrypted_alike() {
    let mut made = Vec::new();
    for _ in 0..3 {
        let mut encryption = crate::devices::ssc::encryption::TapeEncryption::default();
        for key in [&SECRET, &[1; 32], &SECRET] {
            encryption.set(&on(key, 2)).unwrap();
            for _ in 0..2 {
                let (mut cipher, head) = encryption.cipher(4).unwrap();
                for _ in 0..2 {
                    let mut frame = vec![0; 32];
                    cipher.encrypt(&[], &mut frame);
                    made.push(frame);
                }
                made.push(head);
            }
        }
    }
    let count = made.len();
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), count);
}
