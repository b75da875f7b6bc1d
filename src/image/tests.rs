// SPDX-License-Identifier: GPL-2.0-or-later
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use super::file::TapeItem;
use super::foreign::{ForeignReader, ForeignWriter};
use super::progress::bar;
use super::*;
use crate::formats::tape::RECORD_BYTES_MAX;
use crate::wire::Crc32c;

/// A directory that goes with the test.
struct TapeDirectory(PathBuf);

impl TapeDirectory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ptgt-image-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TapeDirectory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn new(size: u64) -> CartridgeArguments {
    CartridgeArguments { kind: None, size: Some(size), barcode: Some("ABC001L5".into()), worm: false }
}

/// Objects of every kind of length.
fn items() -> Vec<TapeItem> {
    let lengths =
        [1, 2, 511, 512, 4015, 4016, 4017, 4096, 4097, 10_240, 65_535, 65_536, 65_537, 131_070, 1 << 20];
    let mut items = vec![TapeItem::Filemark];
    for (number, len) in lengths.into_iter().enumerate() {
        items.push(TapeItem::Record((0..len).map(|at: u32| (at * 7 + at / 256) as u8).collect()));
        if number % 4 == 0 {
            items.extend([TapeItem::Filemark, TapeItem::Filemark]);
        }
    }
    items
}

fn contents(file: &Path) -> Vec<TapeItem> {
    let mut tape = TapeFile::open(file, false).unwrap();
    let end = tape.image.end(0).lba;
    let mut item = |lba| match tape.find(0, lba).unwrap().unwrap() {
        TapeObject::Filemark => TapeItem::Filemark,
        TapeObject::Record(record, place) => TapeItem::Record(tape.payload(record, place).unwrap()),
    };
    (0..end).map(&mut item).collect()
}

fn filled(file: &Path) -> Vec<TapeItem> {
    let mut tape = TapeFile::create(file, new(16 << 20).cartridge(file, None).unwrap()).unwrap();
    for item in items() {
        tape.append(0, &item).unwrap();
    }
    tape.finish().unwrap();
    items()
}

fn error(command: ImageCommand) -> String {
    run(&command).unwrap_err()
}

#[test]
fn an_image_is_made_for_its_user_alone_and_never_over_another() {
    let directory = TapeDirectory::new("create");
    let file = directory.file("a.ptt");
    let create = |cartridge| ImageCommand::Create { file: file.clone(), cartridge };
    run(&create(new(1 << 30))).unwrap();
    let meta = fs::metadata(&file).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert!(meta.len() > 1 << 30, "it is sparse, and as long as it can become");
    assert!(report(&file).unwrap().allocated < 1 << 20);
    assert!(error(create(new(1 << 30))).contains("exists already; remove it first"));
    let other = directory.file("b.ptt");
    let create = |cartridge| ImageCommand::Create { file: other.clone(), cartridge };
    assert!(error(create(CartridgeArguments { size: None, ..new(0) })).contains("`--size`"));
    assert!(error(create(new(0))).contains("`--size`"));
    assert!(error(create(new(u64::MAX))).contains("`--size`"));
    for barcode in ["", "abc", "A B", &"A".repeat(33)] {
        assert!(
            error(create(CartridgeArguments { barcode: Some(barcode.into()), ..new(1 << 20) }))
                .contains("barcode")
        );
    }
    assert!(!other.exists());
    let kind = CartridgeArguments { kind: Some("lto5".into()), size: None, barcode: None, worm: true };
    let made = kind.cartridge(Path::new("x/XYZ777L5.ptt"), None).unwrap();
    assert_eq!((made.density, made.capacity, &*made.barcode), (0x58, 1_500_000_000_000, "XYZ777L5"));
    assert_eq!(made.purpose, CartridgeUse::Worm);
}

#[test]
fn an_image_that_somebody_has_open_is_left_alone() {
    let directory = TapeDirectory::new("lock");
    let file = directory.file("a.ptt");
    filled(&file);
    let show = || ImageCommand::Show { file: file.clone(), json: true };
    let writer = TapeFile::open(&file, true).unwrap();
    assert!(error(show()).contains("is in use by"));
    assert!(error(ImageCommand::Repair { file: file.clone(), json: false }).contains("is in use by"));
    drop(writer);
    let reader = TapeFile::open(&file, false).unwrap();
    run(&show()).unwrap();
    assert!(error(ImageCommand::Repair { file: file.clone(), json: false }).contains("is in use by"));
    drop(reader);
    run(&ImageCommand::Repair { file, json: false }).unwrap();
}

#[test]
fn damage_is_found_and_repaired_to_the_last_good_record() {
    let directory = TapeDirectory::new("repair");
    let file = directory.file("a.ptt");
    let items = filled(&file);
    let verify = || ImageCommand::Verify { file: file.clone(), json: true };
    run(&verify()).unwrap();
    let mut tape = TapeFile::open(&file, false).unwrap();
    let (mut last, mut place) = (0, 0);
    for lba in 0..tape.image.end(0).lba {
        if let Some(TapeObject::Record(_, RecordPayload::At(range))) = tape.find(0, lba).unwrap() {
            (last, place) = (lba, range.at);
        }
    }
    drop(tape);
    let raw = fs::OpenOptions::new().write(true).open(&file).unwrap();
    raw.write_all_at(b"damage", place + 100).unwrap();
    // And one of the superblocks.
    raw.write_all_at(b"damage", 2000).unwrap();
    let mut tape = TapeFile::open(&file, false).unwrap();
    let found = check(&mut tape);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((found[1].partition, found[1].lba), (Some(0), Some(last)));
    drop(tape);
    assert!(error(verify()).contains("2 faults"));
    run(&ImageCommand::Repair { file: file.clone(), json: true }).unwrap();
    run(&verify()).unwrap();
    assert_eq!(contents(&file), items[..last as usize]);
}

#[test]
fn exports_come_back_as_they_were() {
    let directory = TapeDirectory::new("convert");
    let file = directory.file("a.ptt");
    let items = filled(&file);
    for format in [ForeignFormat::Aws, ForeignFormat::Simh] {
        let (to, back) = (directory.file(&format!("{format:?}")), directory.file(&format!("{format:?}.ptt")));
        let export = || ImageCommand::Export { format, partition: 0, file: file.clone(), to: to.clone() };
        run(&export()).unwrap();
        assert!(error(export()).contains("exists already"));
        let import =
            |cartridge| ImageCommand::Import { format, from: to.clone(), file: back.clone(), cartridge };
        assert!(error(import(new(4096))).contains("`--size`"), "a cartridge that is too small");
        assert!(!back.exists(), "what is not whole is removed");
        run(&import(CartridgeArguments { size: None, ..new(0) })).unwrap();
        assert_eq!(contents(&back), items, "{format:?}");
        let whole = fs::read(&to).unwrap();
        fs::write(&to, &whole[..whole.len() * 2 / 3]).unwrap();
        fs::remove_file(&back).unwrap();
        assert!(error(import(new(16 << 20))).contains("ends in the middle"));
        assert!(!back.exists());
    }
    let none =
        ImageCommand::Export { format: ForeignFormat::Aws, partition: 1, file, to: directory.file("x") };
    assert!(error(none).contains("no partition 1"));
}

#[test]
fn formats_of_others_are_written_byte_for_byte() {
    let items = [TapeItem::Record(b"abc".to_vec()), TapeItem::Filemark, TapeItem::Record(vec![7; 65_536])];
    let written = |format| {
        let mut writer = ForeignWriter::new(format, Vec::new());
        items.iter().for_each(|item| writer.put(item).unwrap());
        writer.finish().unwrap()
    };
    let aws = written(ForeignFormat::Aws);
    assert_eq!(aws[..15], *b"\x03\0\0\0\xa0\0abc\0\0\x03\0\x40\0");
    assert_eq!(aws[15..21], [0xff, 0xff, 0, 0, 0x80, 0], "the first part of a long record");
    assert_eq!(aws[21 + 65_535..], [1, 0, 0xff, 0xff, 0x20, 0, 7]);
    let simh = written(ForeignFormat::Simh);
    assert_eq!(simh[..20], *b"\x03\0\0\0abc\0\x03\0\0\0\0\0\0\0\0\0\x01\0");
    assert_eq!(simh[simh.len() - 8..], [0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn a_list_has_a_line_for_each_object_that_a_terminal_shows_as_it_is() {
    let record = crate::formats::tape::RecordHeader { logical: 10, stored: 10, form: 0, sum: 0 };
    let objects = [TapeObject::Filemark, TapeObject::Record(record, RecordPayload::Here(vec![0; 10]))];
    for object in &objects {
        let text = line(0, 7, object, false);
        assert!(text.trim_end().chars().all(crate::wire::is_printable), "{text:?}");
        let json: serde_json::Value = serde_json::from_str(&line(0, 7, object, true)).unwrap();
        let words: Vec<_> = text.split_whitespace().collect();
        assert_eq!((words[1], words[2]), ("7", json["type"].as_str().unwrap()));
        assert_eq!(words.get(3).copied().unwrap_or("null"), json["length"].to_string());
    }
}

/// An image of tgt with these blocks: type and data.
fn tgt(blocks: &[(u32, &[u8])]) -> Vec<u8> {
    let mut image = Vec::new();
    let mut at = 0;
    for (number, (kind, data)) in blocks.iter().enumerate() {
        let next = at + 48 + data.len() as u64;
        let mut header = Vec::new();
        for word in [data.len() as u32, data.len() as u32, *kind] {
            header.extend(word.to_be_bytes());
        }
        for word in [number as u64, 0, at, if *kind == 0x20 { at } else { next }] {
            header.extend(word.to_be_bytes());
        }
        image.extend(Crc32c::of(&header).value().to_ne_bytes());
        image.extend(header);
        image.extend(*data);
        at = next;
    }
    image
}

#[test]
fn an_image_of_tgt_is_read_and_damage_in_it_is_told() {
    let read = |image: Vec<u8>| {
        let mut reader = ForeignReader::new(ForeignFormat::Tgt, Cursor::new(image))?;
        let mut items = Vec::new();
        while let Some(item) = reader.next()? {
            items.push(item);
        }
        Ok::<_, String>(items)
    };
    let whole = tgt(&[(0x10, &[0; 1104]), (2, b"first"), (0x40, b""), (2, &[9; 70_000]), (0x20, b"")]);
    let items = read(whole.clone()).unwrap();
    let records =
        [TapeItem::Record(b"first".to_vec()), TapeItem::Filemark, TapeItem::Record(vec![9; 70_000])];
    assert_eq!(items, records);
    for at in [5, 1104 + 48 + 9, whole.len() - 20] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        assert!(read(damaged).unwrap_err().contains("damaged"), "at {at}");
    }
    assert!(read(tgt(&[(0x10, b""), (1, b"packed"), (0x20, b"")])).unwrap_err().contains("compressed"));
    assert!(read(whole[..whole.len() - 10].to_vec()).unwrap_err().contains("ends in the middle"));
    assert!(read(b"no tape".to_vec()).is_err());
}

#[test]
fn foreign_bytes_never_panic_and_never_ask_for_more_than_a_record() {
    let mut seed = 1_u64;
    let mut number = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let aws = {
        let mut writer = ForeignWriter::new(ForeignFormat::Aws, Vec::new());
        items().iter().take(9).for_each(|item| writer.put(item).unwrap());
        writer.finish().unwrap()
    };
    let samples = [aws, tgt(&[(0x10, b""), (2, b"first"), (0x20, b"")]), vec![0; 64]];
    for round in 0..20_000 {
        let mut bytes = samples[round % 3].clone();
        for _ in 0..number() % 5 {
            let at = number() % bytes.len().min(200);
            bytes[at] = [0, 1, 0x80, 0xff, number() as u8][number() % 5];
        }
        for format in [ForeignFormat::Aws, ForeignFormat::Simh, ForeignFormat::Tgt] {
            let Ok(mut reader) = ForeignReader::new(format, Cursor::new(&bytes)) else { continue };
            let mut count = 0;
            while let Ok(Some(item)) = reader.next() {
                count += 1;
                assert!(count <= bytes.len(), "objects without an end");
                let long =
                    matches!(&item, TapeItem::Record(bytes) if bytes.len() > RECORD_BYTES_MAX as usize);
                assert!(!long);
            }
        }
    }
}

#[test]
fn errors_say_what_to_do() {
    let directory = TapeDirectory::new("errors");
    let file = directory.file("a.ptt");
    let show = |file: &Path| error(ImageCommand::Show { file: file.into(), json: false });
    assert!(show(&file).contains("give the path of a tape image"));
    fs::write(&file, vec![1; 1 << 20]).unwrap();
    assert!(show(&file).contains("this is no tape image; give the path of a tape image"));
    fs::remove_file(&file).unwrap();
    filled(&file);
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(2 << 20).unwrap();
    assert!(show(&file).contains("cut short"), "{}", show(&file));
    assert_eq!(size("800GB"), Ok(800_000_000_000));
    assert_eq!(size("2 MiB"), Ok(2 << 20));
    assert_eq!(size("17"), Ok(17));
    assert!(size("x").is_err() && size("99999999999TiB").is_err());
    assert_eq!(bar("verify", 1, 2).matches('#').count(), 20);
    assert!(bar("verify", u64::MAX, 0).ends_with(" 0 %") || bar("verify", u64::MAX, 0).ends_with("  0 %"));
}
