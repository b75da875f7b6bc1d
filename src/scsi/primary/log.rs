// SPDX-License-Identifier: GPL-2.0-or-later
//! LOG SENSE (SPC-5 6.8 and 7.3): page lists, headers and the parameter pointer. A device type has its pages written
//! parameter by parameter.

use crate::scsi::Sense;
use crate::wire::scsi::{DataIn, be16};

/// Codes of log pages that every logical unit may have (SPC-5 7.3).
#[expect(missing_docs, reason = "the names are those of SPC-5")]
pub mod page {
    pub const WRITE_ERRORS: u8 = 0x02;
    pub const READ_ERRORS: u8 = 0x03;
    pub const VERIFY_ERRORS: u8 = 0x05;
    pub const NON_MEDIUM_ERRORS: u8 = 0x06;
    pub const TEMPERATURE: u8 = 0x0d;
    pub const START_STOP: u8 = 0x0e;
    pub const SELF_TESTS: u8 = 0x10;
    pub const STATISTICS: u8 = 0x19;
    pub const EXCEPTIONS: u8 = 0x2f;
}

/// All subpages.
const ALL: u8 = 0xff;

/// What kind of value a log parameter holds (its control byte, SPC-5 7.3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Counter {
    /// A count, as a number.
    Bounded = 0x00,
    /// Text in ASCII.
    Text = 0x01,
    /// A list in a format of its own.
    List = 0x03,
}

/// The parameters of one log page as they are written.
#[derive(Debug)]
pub struct LogData {
    data: DataIn,
    from: u16,
}

impl LogData {
    /// Appends a parameter with its value, unless the initiator asked for later ones only.
    pub fn parameter(&mut self, code: u16, kind: Counter, value: &[u8]) -> &mut Self {
        if code >= self.from {
            self.data.u16(code).u8(kind as u8).u8(value.len() as u8).bytes(value);
        }
        self
    }
}

/// The log pages of a logical unit.
pub(super) trait LogPages {
    /// Page and subpage codes in ascending order, without those that list them.
    fn pages(&self) -> &'static [(u8, u8)];

    /// Writes the parameters of one of them in ascending order: current cumulative values, or the default ones.
    fn page(&self, page: (u8, u8), default: bool, data: &mut LogData);
}

/// The data that LOG SENSE asks for and its allocation length. The CDB has been checked against its definition.
pub(super) fn log_sense(cdb: &[u8; 16], unit: &impl LogPages) -> Result<(DataIn, u32), Sense> {
    const CUMULATIVE: u8 = 1;
    const DEFAULT_CUMULATIVE: u8 = 3;
    const SUBPAGE_FORMAT: u8 = 0x40;
    let (control, page, subpage) = (cdb[2] >> 6, cdb[2] & 0x3f, cdb[3]);
    if cdb[1] & 1 != 0 {
        // SP: nothing is kept over a restart.
        return Err(Sense::invalid_field_in_cdb(1, Some(0)));
    }
    let mut data = DataIn::new();
    let head = page | if subpage != 0 { SUBPAGE_FORMAT } else { 0 };
    data.u8(head).u8(subpage).u16(0);
    if subpage == ALL || page == 0 {
        let lists = [(0, 0), (0, ALL)];
        let all = lists.iter().chain(unit.pages());
        match (page, subpage) {
            // Supported pages: each page once.
            (0, 0) => {
                let mut last = None;
                for &(page, _) in all {
                    if last.replace(page) != Some(page) {
                        data.u8(page);
                    }
                }
            }
            (_, ALL) => {
                let of_page = all.filter(|&&(of, _)| page == 0 || of == page);
                for &(page, subpage) in of_page {
                    data.u8(page).u8(subpage);
                }
                if page != 0 {
                    data.u8(page).u8(ALL);
                }
                if data.len() == 6 && page != 0 {
                    return Err(Sense::invalid_field_in_cdb(2, Some(5)));
                }
            }
            _ => return Err(Sense::invalid_field_in_cdb(3, Some(7))),
        }
        data.close(2, 2);
        return Ok((data, be16(cdb, 7).into()));
    }
    let found = unit.pages().contains(&(page, subpage));
    if !found {
        let known = unit.pages().iter().any(|p| p.0 == page);
        let (byte, bit) = if known { (3, 7) } else { (2, 5) };
        return Err(Sense::invalid_field_in_cdb(byte, Some(bit)));
    }
    if control != CUMULATIVE && control != DEFAULT_CUMULATIVE {
        // There are no thresholds.
        return Err(Sense::invalid_field_in_cdb(2, Some(7)));
    }
    let from = be16(cdb, 5);
    let mut parameters = LogData { data, from };
    unit.page((page, subpage), control == DEFAULT_CUMULATIVE, &mut parameters);
    let mut data = parameters.data;
    if from != 0 && data.len() == 4 {
        return Err(Sense::invalid_field_in_cdb(5, None));
    }
    data.close(2, 2);
    Ok((data, be16(cdb, 7).into()))
}
