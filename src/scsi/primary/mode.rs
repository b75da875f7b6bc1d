// SPDX-License-Identifier: GPL-2.0-or-later
//! MODE SENSE and MODE SELECT, 6 and 10 (SPC-5 6.13 and 6.15). A device type lists its pages; headers, page control
//! and the check of what may be changed are here.

use smallvec::SmallVec;

use crate::scsi::{Sense, asc};
use crate::wire::scsi::{DataIn, be16, be24, be32, be64};

/// All pages, or with a page code before it all subpages.
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;
/// Longest page of ours, without its header.
const PAGE_MAX: usize = 32;
/// Most bytes of a MODE SELECT parameter list: far more than all pages together.
const LIST_MAX: u32 = 512;

/// A mode page in page_0 format. Both slices hold what follows the two bytes of the header.
#[derive(Clone, Copy, Debug)]
pub struct ModePage {
    /// Page code.
    pub code: u8,
    /// Values after power-on.
    pub default: &'static [u8],
    /// A one for each bit that MODE SELECT may change.
    pub changeable: &'static [u8],
}

/// The mode parameters of a logical unit.
pub trait ModePages {
    /// Its pages in ascending order.
    fn pages(&self) -> &'static [ModePage];

    /// Turns the default values of `page` into the current ones.
    fn current(&self, page: &ModePage, values: &mut [u8]);

    /// DEVICE-SPECIFIC PARAMETER of the header.
    fn device_specific(&self) -> u8;

    /// Number and length of the logical blocks, for the block descriptor; `None` without one.
    fn blocks(&self) -> Option<(u64, u32)>;
}

/// Whether the command is one of the 10-byte forms.
fn is_long(cdb: &[u8; 16]) -> bool {
    cdb[0] >> 5 != 0
}

/// The data that MODE SENSE asks for and its allocation length. The CDB has been checked against its definition.
pub fn mode_sense(cdb: &[u8; 16], unit: &impl ModePages) -> Result<(DataIn, u32), Sense> {
    let long = is_long(cdb);
    let (control, code, subpage) = (cdb[2] >> 6, cdb[2] & 0x3f, cdb[3]);
    if control == 3 {
        return Err(Sense::illegal(asc::SAVING_PARAMETERS_NOT_SUPPORTED));
    }
    if subpage != 0 && subpage != ALL_SUBPAGES {
        return Err(Sense::invalid_field_in_cdb(3, Some(7)));
    }
    let mut data = DataIn::new();
    header(&mut data, cdb, unit);
    let mut found = code == ALL_PAGES;
    for page in unit.pages().iter().filter(|p| code == ALL_PAGES || p.code == code) {
        found = true;
        data.u8(page.code).u8(page.default.len() as u8);
        match control {
            0 => data.bytes(&current(page, unit)),
            1 => data.bytes(page.changeable),
            _ => data.bytes(page.default),
        };
    }
    if !found {
        return Err(Sense::invalid_field_in_cdb(2, Some(5)));
    }
    data.close(0, if long { 2 } else { 1 });
    Ok((data, if long { be16(cdb, 7).into() } else { cdb[4].into() }))
}

fn current(page: &ModePage, unit: &impl ModePages) -> SmallVec<[u8; PAGE_MAX]> {
    let mut values = SmallVec::from_slice(page.default);
    unit.current(page, &mut values);
    values
}

/// Header and block descriptor.
fn header(data: &mut DataIn, cdb: &[u8; 16], unit: &impl ModePages) {
    let long = is_long(cdb);
    let long_descriptor = long && cdb[1] & 0x10 != 0;
    let blocks = unit.blocks().filter(|_| cdb[1] & 0x08 == 0);
    let descriptor: u8 = match (blocks, long_descriptor) {
        (None, _) => 0,
        (_, false) => 8,
        (_, true) => 16,
    };
    if long {
        data.u16(0).u8(0).u8(unit.device_specific()).u8(long_descriptor.into()).u8(0).u16(descriptor.into());
    } else {
        data.u8(0).u8(0).u8(unit.device_specific()).u8(descriptor);
    }
    match blocks {
        Some((count, len)) if long_descriptor => {
            data.u64(count).u32(0).u32(len);
        }
        Some((count, len)) => {
            data.u32(u32::try_from(count).unwrap_or(u32::MAX)).u32(len & 0x00ff_ffff);
        }
        None => {}
    }
}

/// How many bytes of parameters MODE SELECT brings; an error if they are more than any sensible list has.
pub fn mode_select_list_length(cdb: &[u8; 16]) -> Result<u32, Sense> {
    if cdb[1] & 0x10 == 0 {
        // PF: without it the parameters would be of a vendor's format.
        return Err(Sense::invalid_field_in_cdb(1, Some(4)));
    }
    let len: u32 = if is_long(cdb) { be16(cdb, 7).into() } else { cdb[4].into() };
    if len > LIST_MAX { Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR)) } else { Ok(len) }
}

/// Checks a MODE SELECT parameter list and calls `visit` with each page and its new values, in the list's order. What
/// it visits may still turn out to be part of a bad list: nothing is to be changed before this returns.
pub fn mode_select(
    cdb: &[u8; 16],
    list: &[u8],
    unit: &impl ModePages,
    mut visit: impl FnMut(&ModePage, &[u8]),
) -> Result<(), Sense> {
    let length_error = Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR);
    if list.is_empty() {
        return Ok(());
    }
    let (header, descriptor, long_descriptor) = if is_long(cdb) {
        (8, be16(list, 6).into(), list.get(4).is_some_and(|b| b & 1 != 0))
    } else {
        (4, usize::from(list.get(3).copied().unwrap_or(0)), false)
    };
    let mut at = header + descriptor;
    if list.len() < at {
        return Err(length_error);
    }
    check_descriptor(&list[header..at], long_descriptor, header, unit)?;
    while at < list.len() {
        let (code, len) = (list[at], usize::from(*list.get(at + 1).ok_or(length_error)?));
        let invalid = |byte: usize, bit| {
            let byte = u16::try_from(byte).unwrap_or(u16::MAX);
            Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing_at(false, byte, bit)
        };
        let page = unit.pages().iter().find(|p| p.code == code).ok_or_else(|| invalid(at, Some(5)))?;
        if len != page.default.len() {
            return Err(invalid(at + 1, None));
        }
        let values = list.get(at + 2..at + 2 + len).ok_or(length_error)?;
        let now = current(page, unit);
        for (i, ((new, old), may)) in values.iter().zip(&now).zip(page.changeable).enumerate() {
            if (new ^ old) & !may != 0 {
                return Err(invalid(at + 2 + i, None));
            }
        }
        visit(page, values);
        at += 2 + len;
    }
    Ok(())
}

/// A block descriptor may only say what is so already, or nothing.
fn check_descriptor(bytes: &[u8], long: bool, at: usize, unit: &impl ModePages) -> Result<(), Sense> {
    let invalid = Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing_at(
        false,
        u16::try_from(at).unwrap_or(u16::MAX),
        None,
    );
    if bytes.is_empty() {
        return Ok(());
    }
    let (count, len, full) = match (long, bytes.len()) {
        (false, 8) => (be32(bytes, 0).into(), be24(bytes, 5), u32::MAX.into()),
        (true, 16) => (be64(bytes, 0), be32(bytes, 12), u64::MAX),
        _ => return Err(invalid),
    };
    match unit.blocks() {
        Some((blocks, block)) if (count == 0 || count == full || count == blocks) && len == block => Ok(()),
        _ => Err(invalid),
    }
}
