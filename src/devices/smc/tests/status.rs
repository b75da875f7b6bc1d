// SPDX-License-Identifier: GPL-2.0-or-later
//! What is told of elements.

use super::*;
use crate::scsi::primary::DeviceType;
use crate::wire::scsi::{be16, be24};

/// READ ELEMENT STATUS: type, start, count, volume tags, identifiers.
fn read_status(kind: u8, start: u16, count: u16, flags: (bool, bool), room: u32) -> [u8; 12] {
    let ([a, b], [c, d], [_, e, f, g]) = (start.to_be_bytes(), count.to_be_bytes(), room.to_be_bytes());
    [0xb8, u8::from(flags.0) << 4 | kind, a, b, c, d, u8::from(flags.1), e, f, g, 0, 0]
}

/// A page: type, length of its descriptors, and these.
type Page = (u8, usize, Vec<Vec<u8>>);

/// Header and pages, which are whole.
#[track_caller]
fn taken_apart(data: &[u8]) -> (u16, u16, Vec<Page>) {
    assert_eq!(be24(data, 5) as usize, data.len() - 8, "the header counts all");
    let (mut pages, mut rest) = (Vec::new(), &data[8..]);
    while !rest.is_empty() {
        let (len, bytes) = (usize::from(be16(rest, 2)), be24(rest, 5) as usize);
        assert_eq!(bytes % len, 0);
        pages.push((rest[0], len, rest[8..8 + bytes].chunks(len).map(<[u8]>::to_vec).collect()));
        rest = &rest[8 + bytes..];
    }
    (be16(data, 0), be16(data, 2), pages)
}

#[test]
fn each_type_has_a_page_of_its_own() {
    let mut rig = ChangerRig::new();
    rig.good(&move_medium(SLOT, DRIVE + 1), &[], 0);
    rig.good(&move_medium(SLOT + 1, MAIL), &[], 0);
    let data = rig.good(&read_status(0, 0, 0xffff, (true, false), 65536), &[], 65536);
    let (first, count, pages) = taken_apart(&data);
    assert_eq!((first, count), (HAND, 10));
    let shape: Vec<_> = pages.iter().map(|(kind, len, all)| (*kind, *len, all.len())).collect();
    assert_eq!(shape, [(1, 52, 1), (3, 52, 2), (4, 52, 2), (2, 52, 5)], "by ascending address");
    let of = |address: u16| {
        let all = pages.iter().flat_map(|(.., all)| all);
        all.clone().find(|it| be16(it, 0) == address).unwrap().clone()
    };
    assert_eq!(of(HAND)[2], 0);
    assert_eq!((of(SLOT)[2], of(SLOT + 2)[2]), (0x08, 0x09), "empty, full, and within reach");
    assert_eq!((of(MAIL)[2], of(MAIL + 1)[2]), (0x39, 0x38), "put there by the changer");
    let drive = of(DRIVE + 1);
    assert_eq!((drive[2], drive[9], be16(&drive, 10)), (0x09, 0x80, SLOT));
    assert_eq!(&drive[12..48], [b"A00001L8".to_vec(), vec![b' '; 24], vec![0; 4]].concat());
    assert_eq!(of(SLOT)[9..52], [0; 43], "what is empty has no tag and no source");
}

#[test]
fn start_count_and_type_choose_elements() {
    let mut rig = ChangerRig::new();
    let mut addresses = |kind, start, count| {
        let data = rig.good(&read_status(kind, start, count, (false, false), 65536), &[], 65536);
        let (first, told, pages) = taken_apart(&data);
        assert!(pages.iter().all(|(_, len, _)| *len == 16));
        let all: Vec<u16> = pages.iter().flat_map(|(.., all)| all.iter().map(|it| be16(it, 0))).collect();
        assert_eq!((first, usize::from(told)), (all[0], all.len()));
        all
    };
    assert_eq!(addresses(2, 0, 3), [SLOT, SLOT + 1, SLOT + 2]);
    assert_eq!(addresses(2, SLOT + 3, 100), [SLOT + 3, SLOT + 4]);
    assert_eq!(addresses(0, MAIL + 1, 3), [MAIL + 1, DRIVE, DRIVE + 1]);
    assert_eq!(addresses(4, DRIVE, 1), [DRIVE]);
    let none = (key::ILLEGAL_REQUEST, asc::INVALID_ELEMENT_ADDRESS);
    assert_eq!(rig.why(&read_status(2, SLOT + 5, 1, (false, false), 100), &[]), none);
    assert_eq!(rig.why(&read_status(1, HAND + 1, 1, (false, false), 100), &[]), none);
    let field = (key::ILLEGAL_REQUEST, asc::INVALID_FIELD_IN_CDB);
    assert_eq!(rig.why(&read_status(5, 0, 1, (false, false), 100), &[]), field);
}

/// What has no room is left out descriptor by descriptor, and the header says how much there is.
#[test]
fn what_is_cut_is_whole_and_counted() {
    let mut rig = ChangerRig::new();
    let all = rig.good(&read_status(0, 0, 0xffff, (true, true), 65536), &[], 65536);
    for room in 0..all.len() as u32 {
        let data = rig.good(&read_status(0, 0, 0xffff, (true, true), room), &[], room);
        assert!(data.len() <= room as usize && all.starts_with(&data));
        if room >= 8 {
            assert_eq!(be24(&data, 5) as usize, all.len() - 8);
            assert!(data.len() + 8 + 86 > room as usize, "{room}: {} bytes", data.len());
            // Headers aside, whole descriptors.
            assert!(
                (0..=4).any(|pages| (data.len() - 8).checked_sub(8 * pages).is_some_and(|it| it % 86 == 0))
            );
        }
    }
    // As the ch driver of Linux asks: one element, 255 bytes, its descriptor behind two headers.
    let one = rig.good(&read_status(2, SLOT + 1, 1, (true, false), 255), &[], 255);
    assert_eq!((be16(&one, 16), one.len()), (SLOT + 1, 68));
}

#[test]
fn drives_are_named_where_that_is_asked_for() {
    let mut rig = ChangerRig::new();
    let data = rig.good(&read_status(4, 0, 9, (true, true), 65536), &[], 65536);
    let (_, _, pages) = taken_apart(&data);
    let (_, len, drives) = &pages[0];
    assert_eq!(
        (*len, &drives[1][48..86]),
        (86, [&[2, 1, 0, 34][..], b"PTGT    VIRTUAL-TAPE    D-2       "].concat().as_slice())
    );
    let data = rig.good(&read_status(2, 0, 9, (false, true), 65536), &[], 65536);
    let (_, _, pages) = taken_apart(&data);
    assert_eq!((pages[0].1, pages[0].2[0][12..50].to_vec()), (50, vec![0; 38]), "slots have no name");
}

#[test]
fn cartridges_are_found_by_their_labels_once() {
    let mut rig = ChangerRig::new();
    let ask = |count: u16| {
        let [a, b] = count.to_be_bytes();
        [0xb5, 0x10, 0, 0, a, b, 0, 0, 0xff, 0xff, 0, 0]
    };
    let search = |action: u8| [0xb6, 0, 0, 0, 0, action, 0, 0, 0, 40, 0, 0];
    let list = |template: &[u8]| {
        let mut list = vec![b' '; 32];
        list[..template.len()].copy_from_slice(template);
        list.extend([0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        list
    };
    let sequence = (key::ILLEGAL_REQUEST, asc::COMMAND_SEQUENCE_ERROR);
    assert_eq!(rig.why(&ask(9), &[]), sequence);
    for (template, found) in [
        (&b"A0000?L8"[..], &[SLOT, SLOT + 1][..]),
        (b"*", &[SLOT, SLOT + 1, SLOT + 2]),
        (b"A*", &[SLOT, SLOT + 1]),
        (b"CLN001L1", &[SLOT + 2]),
        (b"CLN001L", &[]),
        (b"A00001L8?", &[]),
    ] {
        for action in [0, 1, 4, 5] {
            rig.good(&search(action), &list(template), 0);
            let data = rig.good(&ask(9), &[], 65536);
            let (_, _, pages) = taken_apart(&data);
            let all: Vec<u16> = pages.iter().flat_map(|(.., all)| all.iter().map(|it| be16(it, 0))).collect();
            assert_eq!((all.as_slice(), data[4]), (found, action), "{}", template.escape_ascii());
            assert_eq!(rig.why(&ask(9), &[]), sequence, "once");
        }
    }
    // There are no alternate labels, and labels are printed on.
    rig.good(&search(2), &list(b"*"), 0);
    assert_eq!(taken_apart(&rig.good(&ask(9), &[], 65536)).1, 0);
    for action in [3, 7, 8, 0xa, 0xc, 0x1f] {
        assert_eq!(rig.why(&search(action), &list(b"*")), (key::ILLEGAL_REQUEST, asc::INVALID_FIELD_IN_CDB));
    }
    rig.good(&search(5), &list(b"*"), 0);
    rig.server.unit().reset();
    assert_eq!(rig.why(&ask(9), &[]), sequence, "a reset forgets it");
}

#[test]
fn mode_pages_tell_the_addresses() {
    let mut rig = ChangerRig::new();
    // As the ch driver asks, with and without block descriptors.
    for dbd in [0, 8] {
        let data = rig.good(&[0x1a, dbd, 0x1d, 0, 255, 0], &[], 255);
        let page = &data[4 + usize::from(data[3])..];
        assert_eq!((page[0] & 0x3f, page[1]), (0x1d, 0x12));
        let numbers: Vec<u16> = (2..18).step_by(2).map(|at| be16(page, at)).collect();
        assert_eq!(numbers, [HAND, 1, SLOT, 5, MAIL, 2, DRIVE, 2]);
    }
    let data = rig.good(&[0x1a, 8, 0x1f, 0, 255, 0], &[], 255);
    assert_eq!(
        data[4..],
        [0x9f, 0x12, 0x0e, 0, 0, 0x0e, 0x0e, 0x0e, 0, 0, 0, 0, 0, 0x0e, 0x0e, 0x0e, 0, 0, 0, 0]
    );
    assert_eq!(rig.good(&[0x1a, 8, 0x1e, 0, 255, 0], &[], 255)[4..], [0x9e, 2, 0, 0]);
    let inquiry = rig.good(&[0x12, 0, 0, 0, 255, 0], &[], 255);
    assert_eq!((inquiry[0], inquiry[1]), (0x08, 0x80));
}
