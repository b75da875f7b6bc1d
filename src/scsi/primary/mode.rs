// SPDX-License-Identifier: GPL-2.0-or-later
//! MODE SENSE and MODE SELECT, 6 and 10 (SPC-5 6.13 and 6.15). A device type lists its pages; their values, of all four
//! kinds (current, changeable, default, saved), headers, page control and the check of what may be changed are here.
//!
//! What stands before the pages, the device-specific parameter and the block descriptor, may only be repeated by MODE
//! SELECT; a device type whose initiators set a block length with it says so by a row of its own
//! ([`ModePage::of_header`]).
//!
//! Saved values are a [`Record`]: MODE SELECT with SP answers when it is kept, and [`ModeValues::load`] takes it back
//! at the start. A reset returns to the saved values, as a power-on does.

use smallvec::SmallVec;

use crate::io::Record;
use crate::scsi::{Sense, asc};
use crate::wire::scsi::{DataIn, be16, be24, be32, be64};

/// The name of the record.
pub const MODE_RECORD: &str = "mode";

/// Version of the record.
const VERSION: u8 = 1;
/// All pages, or with a page code before it all subpages.
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;
/// Parameters savable, of a page's header.
const PS: u8 = 0x80;
/// The page has a subpage code and a length of two bytes.
const SPF: u8 = 0x40;
/// Stands for the parameters before the pages in the table and in records; no page has this code.
const HEADER: (u8, u8) = (ALL_PAGES, 0);
/// Where they are among their values: DEVICE-SPECIFIC PARAMETER, DENSITY CODE, and four bytes of LOGICAL BLOCK LENGTH.
const SPECIFIC: usize = 0;
const DENSITY: usize = 1;
const BLOCK_LENGTH: usize = 2;
/// Longest page of ours, without its header.
const PAGE_MAX: usize = 32;
/// Most bytes of a MODE SELECT parameter list: far more than all pages together.
const LIST_MAX: u32 = 512;

/// A mode page. Both slices hold what follows the header, which has two bytes, and four in a subpage.
#[derive(Clone, Copy, Debug)]
pub struct ModePage {
    /// Page code.
    pub code: u8,
    /// Subpage code; 0 for a page in page_0 format.
    pub subpage: u8,
    /// Values after power-on, unless the configuration or saved values say something else.
    pub default: &'static [u8],
    /// A one for each bit that MODE SELECT may change.
    pub changeable: &'static [u8],
}

impl ModePage {
    /// The parameters before the pages, as the last row of a table: DEVICE-SPECIFIC PARAMETER, DENSITY CODE, and
    /// LOGICAL BLOCK LENGTH. With it they are changed, saved and reset as a page's are.
    pub const fn of_header(default: &'static [u8; 6], changeable: &'static [u8; 6]) -> Self {
        Self { code: HEADER.0, subpage: HEADER.1, default, changeable }
    }

    /// Whether it is [`Self::of_header`].
    pub fn is_header(&self) -> bool {
        self.code == HEADER.0
    }

    fn header(&self) -> usize {
        if self.subpage == 0 { 2 } else { 4 }
    }

    fn write_header(&self, first: u8, data: &mut DataIn) {
        let len = self.default.len();
        match self.subpage {
            0 => data.u8(first | self.code).u8(len as u8),
            subpage => data.u8(first | SPF | self.code).u8(subpage).u16(len as u16),
        };
    }
}

/// What MODE SENSE and MODE SELECT have to know of a logical unit beside the values of its pages.
pub trait ModeUnit {
    /// DEVICE-SPECIFIC PARAMETER of the header, but for what MODE SELECT sets.
    fn device_specific(&self) -> u8;

    /// Number and length of the logical blocks, for the block descriptor; `None` without one. The length does not count
    /// if MODE SELECT sets it.
    fn blocks(&self) -> Option<(u64, u32)>;

    /// Replaces new values of [`ModePage::of_header`] that stand for others, as a density code for what is so now.
    fn resolve_header(&self, _now: &[u8], _wanted: &mut [u8]) {}

    /// MEDIUM TYPE of the header.
    fn medium_type(&self) -> u8 {
        0
    }

    /// Puts into current values of a page what follows from the state of the unit, as it is now.
    fn observe(&self, _page: &ModePage, _values: &mut [u8]) {}

    /// Whether it has the page now.
    fn offers(&self, _page: &ModePage) -> bool {
        true
    }

    /// How long the page is at least in a MODE SELECT parameter list, without its header: what is left out is zero.
    fn shortest(&self, page: &ModePage) -> usize {
        page.default.len()
    }

    /// Whether new values of a page make sense, beyond what the mask of changeable bits says: else the byte that does
    /// not, among those behind the header.
    fn check(&self, _page: &ModePage, _values: &[u8]) -> Result<(), usize> {
        Ok(())
    }
}

type Values = SmallVec<[u8; PAGE_MAX]>;

/// The values of a page.
#[derive(Clone, Debug)]
struct Kept {
    default: Values,
    current: Values,
    saved: Values,
}

/// The values of all mode pages of a logical unit.
#[derive(Clone, Debug)]
pub struct ModeValues {
    /// In ascending order.
    pages: &'static [ModePage],
    values: Vec<Kept>,
    /// Of the newest record that was made.
    made: u64,
    /// It is on its way.
    saving: bool,
}

impl ModeValues {
    /// All pages with their defaults.
    pub fn new(pages: &'static [ModePage]) -> Self {
        let values = pages.iter().map(|page| {
            let default = Values::from_slice(page.default);
            Kept { current: default.clone(), saved: default.clone(), default }
        });
        Self { pages, values: values.collect(), made: 0, saving: false }
    }

    fn index(&self, (code, subpage): (u8, u8)) -> Option<usize> {
        self.pages.iter().position(|page| (page.code, page.subpage) == (code, subpage))
    }

    /// Sets bits of a default, and of all values made of it: for the start, before [`Self::load`].
    pub fn set_default(&mut self, (code, subpage): (u8, u8), at: usize, bits: &[u8]) {
        let index = self.index((code, subpage)).expect("a page of the table");
        let Kept { default, current, saved } = &mut self.values[index];
        for values in [default, current, saved] {
            values[at..at + bits.len()].iter_mut().zip(bits).for_each(|(value, bit)| *value |= bit);
        }
    }

    /// The current values of [`ModePage::of_header`], which is there.
    pub fn header(&self) -> &[u8] {
        self.current(HEADER.0, HEADER.1)
    }

    /// The current values of a page that is there.
    pub fn current(&self, code: u8, subpage: u8) -> &[u8] {
        let index = self.index((code, subpage)).expect("a page of the table");
        &self.values[index].current
    }

    /// Whether initiators have saved something else than the defaults.
    pub fn are_saved(&self) -> bool {
        self.values.iter().any(|Kept { default, saved, .. }| default != saved)
    }

    /// Back to the saved values, as after power-on.
    pub fn reset(&mut self) {
        for Kept { current, saved, .. } in &mut self.values {
            current.clone_from(saved);
        }
    }

    /// Whether a record is on its way: the next would lack what that changes.
    pub fn are_being_saved(&self) -> bool {
        self.saving
    }

    /// The values that [`Self::select`] would make current, to be kept as the saved ones. Nothing is in force before
    /// [`Self::kept`] or [`Self::not_kept`], one of which follows.
    pub fn record(&mut self, cdb: &[u8; 16], list: &[u8], unit: &impl ModeUnit) -> Result<Record, Sense> {
        debug_assert!(!self.saving, "one at a time");
        let mut data = DataIn::new();
        data.u8(VERSION);
        for (page, values) in self.pages.iter().zip(self.selected(cdb, list, unit)?) {
            data.u8(page.code).u8(page.subpage).u8(values.len() as u8).bytes(&values);
        }
        self.made += 1;
        self.saving = true;
        Ok(Record { name: MODE_RECORD, generation: self.made, bytes: data.as_bytes().to_vec() })
    }

    /// The record of [`Self::record`] is on stable storage.
    pub fn kept(&mut self, record: &Record) {
        self.saving = false;
        self.read(&record.bytes, |values| &mut values.saved).expect("made of these pages");
    }

    /// It could not be kept, or nobody waits for it any more.
    pub fn not_kept(&mut self) {
        self.saving = false;
    }

    /// Takes the record of an earlier run. Pages that are gone or have another length are left out, and only what is
    /// changeable counts. The error says what is wrong with the record.
    pub fn load(&mut self, record: &[u8]) -> Result<(), &'static str> {
        self.read(record, |values| &mut values.saved)?;
        self.reset();
        Ok(())
    }

    fn read(&mut self, record: &[u8], which: fn(&mut Kept) -> &mut Values) -> Result<(), &'static str> {
        let Some((&VERSION, mut rest)) = record.split_first() else {
            return Err("mode pages of another version");
        };
        let mut found = Vec::new();
        while let [code, subpage, len, tail @ ..] = rest {
            let (values, tail) = tail.split_at_checked((*len).into()).ok_or("too short")?;
            found.push((self.index((*code, *subpage)), values));
            rest = tail;
        }
        if !rest.is_empty() {
            return Err("too short");
        }
        for (index, new) in found {
            let Some(index) = index.filter(|&index| self.pages[index].default.len() == new.len()) else {
                continue;
            };
            let (default, may) = (self.values[index].default.clone(), self.pages[index].changeable);
            let values = which(&mut self.values[index]);
            for (at, value) in values.iter_mut().enumerate() {
                *value = default[at] & !may[at] | new[at] & may[at];
            }
        }
        Ok(())
    }

    /// The data that MODE SENSE asks for and its allocation length. The CDB has been checked against its definition.
    pub fn sense(&self, cdb: &[u8; 16], unit: &impl ModeUnit) -> Result<(DataIn, u32), Sense> {
        let long = is_long(cdb);
        let (control, code, subpage) = (cdb[2] >> 6, cdb[2] & 0x3f, cdb[3]);
        let mut data = DataIn::new();
        let header = self.index(HEADER).map(|index| self.observed(index, unit));
        write_header(&mut data, cdb, unit, header.as_deref());
        if code == ALL_PAGES && !matches!(subpage, 0 | ALL_SUBPAGES) {
            return Err(Sense::invalid_field_in_cdb(3, Some(7)));
        }
        // Page 00h is a vendor's, without a format: where the header has values of its own, initiators ask with it for
        // these alone.
        let alone = code == 0 && subpage == 0 && header.is_some();
        let (mut known, mut found) = (alone, alone);
        let offered = |page: &ModePage| !page.is_header() && unit.offers(page);
        for (index, page) in self.pages.iter().enumerate().filter(|(_, page)| offered(page)) {
            if code != ALL_PAGES && page.code != code {
                continue;
            }
            known = true;
            if subpage != ALL_SUBPAGES && page.subpage != subpage {
                continue;
            }
            found = true;
            page.write_header(PS, &mut data);
            let values = &self.values[index];
            match control {
                0 => data.bytes(&self.observed(index, unit)),
                1 => data.bytes(page.changeable),
                2 => data.bytes(&values.default),
                _ => data.bytes(&values.saved),
            };
        }
        if !found {
            let (byte, bit) = if known { (3, 7) } else { (2, 5) };
            return Err(Sense::invalid_field_in_cdb(byte, Some(bit)));
        }
        data.close(0, if long { 2 } else { 1 });
        Ok((data, if long { be16(cdb, 7).into() } else { cdb[4].into() }))
    }

    /// Takes a MODE SELECT parameter list, all of it or nothing. Returns whether that changed anything.
    pub fn select(&mut self, cdb: &[u8; 16], list: &[u8], unit: &impl ModeUnit) -> Result<bool, Sense> {
        let new = self.selected(cdb, list, unit)?;
        let old: Vec<Values> = (0..self.pages.len()).map(|index| self.observed(index, unit)).collect();
        let mut changed = false;
        for ((Kept { current, .. }, old), new) in self.values.iter_mut().zip(old).zip(new) {
            changed |= old != new;
            *current = new;
        }
        Ok(changed)
    }

    /// The current values of a page of the table as they are told.
    fn observed(&self, index: usize, unit: &impl ModeUnit) -> Values {
        let mut values = self.values[index].current.clone();
        unit.observe(&self.pages[index], &mut values);
        values
    }

    /// The current values, and what a MODE SELECT parameter list makes of them.
    fn selected(&self, cdb: &[u8; 16], list: &[u8], unit: &impl ModeUnit) -> Result<Vec<Values>, Sense> {
        let length_error = Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR);
        let mut new: Vec<Values> = (0..self.pages.len()).map(|index| self.observed(index, unit)).collect();
        if list.is_empty() {
            return Ok(new);
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
        self.select_header(&mut new, &list[..at], header, long_descriptor, unit)?;
        while at < list.len() {
            let (index, given) = self.page_of_list(list, at, unit)?;
            let page = &self.pages[index];
            if !unit.offers(page) {
                return Err(invalid(at, Some(5)));
            }
            let begin = at + page.header();
            let mut values = Values::from_slice(given);
            values.resize(page.default.len(), 0);
            for (i, ((value, old), may)) in values.iter().zip(&new[index]).zip(page.changeable).enumerate() {
                if (value ^ old) & !may != 0 {
                    return Err(invalid(begin + i, None));
                }
            }
            unit.check(page, &values).map_err(|i| invalid(begin + i, None))?;
            at = begin + given.len();
            new[index] = values;
        }
        Ok(new)
    }

    /// Takes what stands before the pages. Without a row for it a block descriptor may only say what is so already, or
    /// nothing, and the device-specific parameter, whose bits SBC reserves here, does not count.
    fn select_header(
        &self,
        new: &mut [Values],
        list: &[u8],
        header: usize,
        long: bool,
        unit: &impl ModeUnit,
    ) -> Result<(), Sense> {
        let row = self.index(HEADER);
        let given = match &list[header..] {
            [] => None,
            bytes => {
                let descriptor = BlockDescriptor::parse(bytes, long, row.is_some());
                // BLOCK DESCRIPTOR LENGTH: the last byte of the header.
                let (descriptor, (blocks, block)) =
                    descriptor.zip(unit.blocks()).ok_or_else(|| invalid(header - 1, None))?;
                if ![0, descriptor.all, blocks].contains(&descriptor.blocks) {
                    return Err(invalid(header + descriptor.blocks_at, None));
                }
                if row.is_none() && descriptor.length != block {
                    return Err(invalid(header + descriptor.length_at, None));
                }
                Some(descriptor)
            }
        };
        let Some(row) = row else { return Ok(()) };
        let (page, now) = (&self.pages[row], new[row].clone());
        let specific_at = if header == 8 { 3 } else { 2 };
        let mut wanted = now.clone();
        // What is not to be changed here, such as WP, initiators give back as they were given it: it does not count.
        let may = page.changeable[SPECIFIC];
        wanted[SPECIFIC] = now[SPECIFIC] & !may | list[specific_at] & may;
        if let Some(given) = &given {
            wanted[DENSITY] = given.density.unwrap_or(now[DENSITY]);
            wanted[BLOCK_LENGTH..].copy_from_slice(&given.length.to_be_bytes());
        }
        unit.resolve_header(&now, &mut wanted);
        let fault = |index: usize| match (index, &given) {
            (BLOCK_LENGTH.., Some(given)) => invalid(header + given.length_at, None),
            (DENSITY, Some(_)) => invalid(header, None),
            _ => invalid(specific_at, None),
        };
        let wrong = |&index: &usize| (wanted[index] ^ now[index]) & !page.changeable[index] != 0;
        if let Some(index) = (0..wanted.len()).find(wrong) {
            return Err(fault(index));
        }
        unit.check(page, &wanted).map_err(fault)?;
        new[row] = wanted;
        Ok(())
    }

    /// The page at that byte of a parameter list, and its values. PS is reserved there, and initiators give back what
    /// they were given: it does not count.
    fn page_of_list<'a>(
        &self,
        list: &'a [u8],
        at: usize,
        unit: &impl ModeUnit,
    ) -> Result<(usize, &'a [u8]), Sense> {
        let field = |offset: usize, len: usize| {
            let length_error = || Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR);
            list.get(at + offset..at + offset + len).ok_or_else(length_error)
        };
        let (code, subpage, header, len) = match list[at] & SPF {
            0 => (list[at] & !PS, 0, 2, usize::from(field(1, 1)?[0])),
            _ => (list[at] & !(PS | SPF), field(1, 1)?[0], 4, usize::from(be16(field(2, 2)?, 0))),
        };
        let fits = |page: &ModePage| !page.is_header() && (header == 2) == (page.subpage == 0);
        let index = self.index((code, subpage)).filter(|&index| fits(&self.pages[index]));
        let index = index.ok_or_else(|| invalid(at, Some(5)))?;
        let page = &self.pages[index];
        if len > page.default.len() || len < unit.shortest(page) {
            return Err(invalid(at + header - if header == 2 { 1 } else { 2 }, None));
        }
        Ok((index, field(header, len)?))
    }
}

/// A byte of the parameter list that is wrong.
fn invalid(byte: usize, bit: Option<u8>) -> Sense {
    let byte = u16::try_from(byte).unwrap_or(u16::MAX);
    Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing_at(false, byte, bit)
}

/// Whether the command is one of the 10-byte forms.
fn is_long(cdb: &[u8; 16]) -> bool {
    cdb[0] >> 5 != 0
}

/// Header and block descriptor; `selected` are the values of [`ModePage::of_header`].
fn write_header(data: &mut DataIn, cdb: &[u8; 16], unit: &impl ModeUnit, selected: Option<&[u8]>) {
    let long = is_long(cdb);
    let long_descriptor = long && cdb[1] & 0x10 != 0;
    let blocks = unit.blocks().filter(|_| cdb[1] & 0x08 == 0);
    let descriptor: u8 = match (blocks, long_descriptor) {
        (None, _) => 0,
        (_, false) => 8,
        (_, true) => 16,
    };
    let specific = unit.device_specific() | selected.map_or(0, |values| values[SPECIFIC]);
    if long {
        data.u16(0)
            .u8(unit.medium_type())
            .u8(specific)
            .u8(long_descriptor.into())
            .u8(0)
            .u16(descriptor.into());
    } else {
        data.u8(0).u8(unit.medium_type()).u8(specific).u8(descriptor);
    }
    let Some((count, len)) = blocks else { return };
    let len = selected.map_or(len, |values| be32(values, BLOCK_LENGTH));
    if long_descriptor {
        data.u64(count).u32(0).u32(len);
        return;
    }
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    match selected {
        Some(values) => data.u32(u32::from(values[DENSITY]) << 24 | count.min(COUNT_MAX)),
        None => data.u32(count),
    };
    data.u32(len & 0x00ff_ffff);
}

/// Most blocks that a short descriptor with a density code can tell.
const COUNT_MAX: u32 = 0x00ff_ffff;

/// A mode parameter block descriptor: short or long (SPC-5 7.5.6, SBC-3 6.5.2). Where it has a DENSITY CODE the number
/// of blocks is a byte shorter, which direct access block devices use otherwise.
struct BlockDescriptor {
    density: Option<u8>,
    blocks: u64,
    /// What stands for all blocks that there are.
    all: u64,
    length: u32,
    /// Where these fields begin.
    blocks_at: usize,
    length_at: usize,
}

impl BlockDescriptor {
    fn parse(bytes: &[u8], long: bool, has_density: bool) -> Option<Self> {
        let short = Self {
            density: has_density.then_some(bytes[0]),
            blocks: u64::from(be32(bytes, 0)) & if has_density { COUNT_MAX.into() } else { u64::MAX },
            all: if has_density { COUNT_MAX } else { u32::MAX }.into(),
            length: be24(bytes, 5),
            blocks_at: has_density.into(),
            length_at: 5,
        };
        match (long, bytes.len()) {
            (false, 8) => Some(short),
            (true, 16) => Some(Self {
                density: None,
                blocks: be64(bytes, 0),
                all: u64::MAX,
                length: be32(bytes, 12),
                blocks_at: 0,
                length_at: 12,
            }),
            _ => None,
        }
    }
}

/// How many bytes of parameters MODE SELECT brings; an error if they are more than any sensible list has.
pub(super) fn mode_select_list_length(cdb: &[u8; 16]) -> Result<u32, Sense> {
    if cdb[1] & 0x10 == 0 {
        // PF: without it the parameters would be of a vendor's format.
        return Err(Sense::invalid_field_in_cdb(1, Some(4)));
    }
    let len: u32 = if is_long(cdb) { be16(cdb, 7).into() } else { cdb[4].into() };
    if len > LIST_MAX { Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR)) } else { Ok(len) }
}
