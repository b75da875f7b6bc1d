// SPDX-License-Identifier: GPL-2.0-or-later
//! The commands of a library as bytes, and what their endings say.

use super::super::scsi::{Ending, Made};
use super::history::LibraryHistory;
use super::model::{LibraryAnswer, READ_LEN, RequestId};
use super::{LibraryCommand, LibraryShape};
use crate::scsi::{asc, key};

/// Where drives and slots begin among the element addresses.
pub(super) const DRIVE: u16 = 0x100;
pub(super) const SLOT: u16 = 0x1000;

/// Bytes of READ POSITION, long form, and those that READ ELEMENT STATUS asks for.
const POSITION_LEN: usize = 32;
const INVENTORY_LEN: usize = 4096;

/// What is printed on a cartridge.
pub(super) fn barcode(cartridge: usize) -> String {
    format!("W{cartridge:05}L5")
}

fn address(place: usize, shape: &LibraryShape) -> [u8; 2] {
    let (first, number) = match place.checked_sub(shape.drives) {
        None => (DRIVE, place),
        Some(slot) => (SLOT, slot),
    };
    (first + u16::try_from(number).expect("few")).to_be_bytes()
}

fn place(address: u16, shape: &LibraryShape) -> Option<usize> {
    match address {
        SLOT.. => Some(shape.drives + usize::from(address - SLOT)),
        DRIVE.. => Some(usize::from(address - DRIVE)),
        _ => None,
    }
}

/// The record of a request: its name, its length, and bytes made of both.
fn record(id: RequestId, len: u32) -> Vec<u8> {
    let mut bytes = [id.to_be_bytes(), len.to_be_bytes()].concat();
    bytes.extend((8..len).map(|at| (id.wrapping_mul(31).wrapping_add(at * 7) >> 3) as u8));
    bytes
}

/// Makes a command for a unit of the library.
pub(in crate::sim) fn make(
    command: LibraryCommand,
    unit: usize,
    shape: &LibraryShape,
    history: &mut LibraryHistory,
) -> (RequestId, Made) {
    use LibraryCommand as C;
    let id = history.send(unit, command);
    let mut made = Made { cdb: vec![0; 6], lba: 0, out: Vec::new(), wanted: 0, op: None, sent: 0 };
    let three = |count: i32| count.to_be_bytes()[1..].to_vec();
    let short = |opcode: u8, flags: u8, count: i32| [&[opcode, flags][..], &three(count), &[0]].concat();
    let at = |place| address(place, shape);
    made.cdb = match command {
        C::Write { len } => {
            made.out = record(id, len);
            short(0x0a, 0, len.cast_signed())
        }
        C::Read => {
            const SILI: u8 = 0x02;
            made.wanted = READ_LEN as usize;
            short(0x08, SILI, READ_LEN.cast_signed())
        }
        C::Filemarks { count, immediate } => short(0x10, immediate.into(), count.into()),
        C::SpaceRecords(count) => short(0x11, 0, count.into()),
        C::SpaceFilemarks(count) => short(0x11, 1, count.into()),
        C::SpaceEnd => short(0x11, 3, 0),
        C::Locate(to) => vec![0x2b, 0, 0, 0, 0, 0, to, 0, 0, 0],
        C::Rewind => short(0x01, 0, 0),
        C::Erase => short(0x19, 0, 0),
        C::Load => short(0x1b, 0, 1),
        C::Unload => short(0x1b, 0, 0),
        C::Position => {
            made.wanted = POSITION_LEN;
            vec![0x34, 6, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        C::Move { from, to } => [&[0xa5, 0, 0, 0][..], &at(from), &at(to), &[0; 4]].concat(),
        C::Exchange(places) => [&[0xa6, 0, 0, 0][..], &places.map(at).concat(), &[0; 2]].concat(),
        C::Inventory => {
            const TAGS: u8 = 0x10;
            made.wanted = INVENTORY_LEN;
            let [_, len @ ..] = u32::try_from(INVENTORY_LEN).expect("short").to_be_bytes();
            [&[0xb8, TAGS, 0, 0, 0xff, 0xff, 0][..], &len, &[0; 2]].concat()
        }
    };
    (id, made)
}

/// What GOOD says.
fn good(command: LibraryCommand, got: &[u8], shape: &LibraryShape) -> Result<LibraryAnswer, String> {
    match command {
        LibraryCommand::Read => {
            let word = |at: usize| Some(u32::from_be_bytes(*got.get(at..)?.first_chunk()?));
            let (Some(id), Some(len)) = (word(0), word(4)) else { return Err("a short record".into()) };
            match record(id, len) == got {
                true => Ok(LibraryAnswer::Record(id)),
                false => Err(format!("{} bytes that were never written, as record {id}", got.len())),
            }
        }
        LibraryCommand::Position => {
            let long = |at: usize| got[at..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
            match (got.len(), long(8), long(16)) {
                (POSITION_LEN, Some(object), Some(file)) => Ok(LibraryAnswer::Position(object, file)),
                (len, ..) => Err(format!("a position of {len} bytes")),
            }
        }
        LibraryCommand::Inventory => inventory(got, shape).map(LibraryAnswer::Inventory),
        _ => Ok(LibraryAnswer::Good),
    }
}

/// What element status data say of each place.
fn inventory(data: &[u8], shape: &LibraryShape) -> Result<Vec<Option<usize>>, String> {
    const FULL: u8 = 0x01;
    let mut places = vec![None; shape.places()];
    let mut pages = data.get(8..).unwrap_or_default();
    while let [_, _, a, b, _, c, d, e, rest @ ..] = pages {
        let each = usize::from(u16::from_be_bytes([*a, *b]));
        let len = u32::from_be_bytes([0, *c, *d, *e]) as usize;
        let (page, others) = rest.split_at_checked(len).ok_or("a page of element status that is cut")?;
        for element in page.chunks(each.max(1)) {
            let Some(place) = place(u16::from_be_bytes([element[0], element[1]]), shape) else { continue };
            let full = element[2] & FULL != 0;
            let tag = std::str::from_utf8(&element[12..44]).unwrap_or_default().trim_end_matches([' ', '\0']);
            let found = (0..shape.cartridges).find(|&cartridge| barcode(cartridge) == tag);
            if full != found.is_some() {
                return Err(format!("element status {element:x?}"));
            }
            places[place] = found;
        }
        pages = others;
    }
    Ok(places)
}

/// How commands end whose initiator has to be told something first.
pub(in crate::sim) const ATTENTION: &str = "with a unit attention";

/// How a command ended.
pub(in crate::sim) struct LibraryEnding<'a> {
    pub(in crate::sim) ending: &'a Ending,
    pub(in crate::sim) got: &'a [u8],
    /// Its data may have been damaged on the way.
    pub(in crate::sim) damaged: bool,
    /// The daemon is being stopped.
    pub(in crate::sim) draining: bool,
}

/// Holds an ending against the history. Returns its name, or what is wrong with it.
pub(in crate::sim) fn judge(
    id: RequestId,
    LibraryEnding { ending, got, damaged, draining }: LibraryEnding<'_>,
    shape: &LibraryShape,
    history: &mut LibraryHistory,
) -> Result<&'static str, String> {
    const FILEMARK: u8 = 0x80;
    const EOM: u8 = 0x40;
    let command = history.command(id);
    let sense = ending.sense.map(|(key, code, information)| (key, code, information, ending.marks));
    let answer = match (ending.status, sense) {
        (0x00, _) => good(command, got, shape)?,
        (0x02, Some((key::UNIT_ATTENTION, ..))) => {
            history.never(id);
            return Ok(ATTENTION);
        }
        (0x02, Some((key::NO_SENSE, asc::FILEMARK_DETECTED, left, FILEMARK))) => {
            LibraryAnswer::Filemark(left)
        }
        (0x02, Some((key::NO_SENSE, asc::BEGINNING_OF_PARTITION_DETECTED, left, EOM))) => {
            LibraryAnswer::Beginning(left)
        }
        (0x02, Some((key::BLANK_CHECK, asc::END_OF_DATA_DETECTED, left, 0))) => {
            let counts = !matches!(command, LibraryCommand::Locate(_));
            LibraryAnswer::End(counts.then_some(left))
        }
        (0x02, Some((key::NOT_READY, code, ..)))
            if history.is_beside_move(id)
                && [asc::MEDIUM_NOT_PRESENT, asc::LOGICAL_UNIT_IS_IN_PROCESS_OF_BECOMING_READY]
                    .contains(&code) =>
        {
            history.never(id);
            return Ok("while a cartridge was on its way");
        }
        (0x02, Some((key::NOT_READY, asc::MEDIUM_NOT_PRESENT, ..))) => LibraryAnswer::NoMedium,
        (0x02, Some((key::NOT_READY, asc::LOGICAL_UNIT_NOT_READY_OPERATION_IN_PROGRESS, ..)))
            if history.is_behind_move(id) =>
        {
            history.never(id);
            return Ok("behind a movement that was aborted");
        }
        (0x02, Some((key::ILLEGAL_REQUEST, asc::MEDIUM_SOURCE_ELEMENT_EMPTY, ..))) => {
            LibraryAnswer::SourceEmpty
        }
        (0x02, Some((key::ILLEGAL_REQUEST, asc::MEDIUM_DESTINATION_ELEMENT_FULL, ..))) => {
            LibraryAnswer::DestinationFull
        }
        (0x02, Some((key::ILLEGAL_REQUEST, asc::SEQUENTIAL_POSITIONING_ERROR, ..))) => {
            LibraryAnswer::NotPlaced
        }
        (0x02, Some((key::HARDWARE_ERROR, asc::MEDIA_LOAD_OR_EJECT_FAILED, ..))) if draining => {
            history.never(id);
            return Ok("as the daemon stops");
        }
        (0x02, Some((key::ABORTED_COMMAND, ..))) if damaged => {
            history.lost(id);
            return Ok("damaged");
        }
        (0x08, _) => {
            history.lost(id);
            return Ok("with BUSY");
        }
        (0x28, _) => {
            history.never(id);
            return Ok("with TASK SET FULL");
        }
        (status, sense) => return Err(format!("status {status:#04x} with sense {sense:x?}")),
    };
    history.answered(id, &answer)?;
    Ok(match answer {
        LibraryAnswer::Good => "well",
        LibraryAnswer::Record(_) => "with a record",
        LibraryAnswer::Position(..) => "with a position",
        LibraryAnswer::Inventory(_) => "with what is where",
        LibraryAnswer::Filemark(_) => "at a filemark",
        LibraryAnswer::End(_) => "at the end of the data",
        LibraryAnswer::Beginning(_) => "at the beginning of the tape",
        LibraryAnswer::NoMedium => "without a cartridge",
        LibraryAnswer::SourceEmpty => "as the source is empty",
        LibraryAnswer::NotPlaced => "as it would write over something after a start",
        LibraryAnswer::DestinationFull => "as the destination is full",
    })
}
