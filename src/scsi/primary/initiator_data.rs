// SPDX-License-Identifier: GPL-2.0-or-later
//! What initiators leave with a logical unit and get back from it: the time, identifying information, buffer contents.
//! None of it means anything to the device. The identifying information outlives the daemon.

use crate::io::Record;
use crate::scsi::{NexusId, Sense, asc, key};
use crate::time::Instant;
use crate::wire::scsi::{DataIn, be16, be24, be32, be64};

/// Longest identifying information, of either type: what SPC-5 wants at least of the one, and allows for the other.
const INFORMATION_MAX: u16 = 512;
const TEXT_MAX: u16 = 256;
/// Size of the data buffer and of the echo buffer.
const BUFFER: u32 = 4096;

/// Name of the record of the identifying information.
pub const INFORMATION_RECORD: &str = "information";
/// Version of it.
const VERSION: u8 = 1;

/// Which identifying information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InformationType {
    /// Bytes.
    Peripheral,
    /// A text in UTF-8 with a zero at its end.
    Text,
}

impl InformationType {
    fn max(self) -> u16 {
        match self {
            Self::Peripheral => INFORMATION_MAX,
            Self::Text => TEXT_MAX,
        }
    }

    fn of(cdb: &[u8; 16]) -> Result<Self, Sense> {
        match cdb[10] >> 1 {
            0x00 => Ok(Self::Peripheral),
            0x02 => Ok(Self::Text),
            _ => Err(Sense::invalid_field_in_cdb(10, Some(7))),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct InitiatorData {
    /// The time that was set, in milliseconds since 1970, and when.
    set: Option<(u64, Instant)>,
    /// Milliseconds since 1970 at [`Instant::ZERO`], as the daemon knows it.
    epoch: u64,
    information: [Vec<u8>; 2],
    /// Records made of it.
    made: u64,
    buffer: Vec<u8>,
    echo: Option<(NexusId, Vec<u8>)>,
}

impl InitiatorData {
    /// Nothing yet; the clock shows `epoch` milliseconds since 1970 at [`Instant::ZERO`].
    pub fn new(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// REPORT TIMESTAMP (SPC-5 6.40).
    pub fn report_timestamp(&self, cdb: &[u8; 16], now: Instant) -> (DataIn, u32) {
        const SET: u8 = 2;
        const BY_OTHER_METHODS: u8 = 3;
        let milliseconds = |from: Instant| u64::try_from(now.since(from).as_millis()).unwrap_or(u64::MAX);
        let (origin, time) = match self.set {
            Some((time, at)) => (SET, time.saturating_add(milliseconds(at))),
            None => (BY_OTHER_METHODS, self.epoch.saturating_add(milliseconds(Instant::ZERO))),
        };
        let mut data = DataIn::new();
        data.u16(10).u8(origin).u8(0).bytes(&time.to_be_bytes()[2..]).u16(0);
        (data, be32(cdb, 6))
    }

    /// SET TIMESTAMP (SPC-5 6.54): its parameter list. Returns the attention that it makes.
    pub fn set_timestamp(&mut self, list: &[u8], now: Instant) -> Result<u16, Sense> {
        if list.len() < 12 {
            return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR));
        }
        self.set = Some((be64(list, 2) & 0xffff_ffff_ffff, now));
        Ok(asc::TIMESTAMP_CHANGED)
    }

    /// REPORT IDENTIFYING INFORMATION (SPC-5 6.32).
    pub fn report_information(&self, cdb: &[u8; 16]) -> Result<(DataIn, u32), Sense> {
        const SUPPORTED_TYPES: u8 = 0x7f;
        let mut data = DataIn::new();
        data.u32(0);
        if cdb[10] >> 1 == SUPPORTED_TYPES {
            for kind in [InformationType::Peripheral, InformationType::Text] {
                data.u8((kind as u8) << 2).u8(0).u16(kind.max());
            }
            data.close(2, 2);
        } else {
            data.bytes(&self.information[InformationType::of(cdb)? as usize]).close(2, 2);
        }
        Ok((data, be32(cdb, 6)))
    }

    /// How long the list of SET IDENTIFYING INFORMATION is, if it may be as long.
    pub fn information_length(cdb: &[u8; 16]) -> Result<u32, Sense> {
        let kind = InformationType::of(cdb)?;
        let len = be32(cdb, 6);
        if len > kind.max().into() { Err(Sense::invalid_field_in_cdb(6, None)) } else { Ok(len) }
    }

    /// SET IDENTIFYING INFORMATION (SPC-5 6.51): its parameter list, with which the information changes. Returns
    /// the attention that it makes.
    pub fn set_information(&mut self, cdb: &[u8; 16], list: &[u8]) -> Result<u16, Sense> {
        let kind = InformationType::of(cdb)?;
        let text = kind == InformationType::Text && !list.is_empty();
        if text
            && (std::str::from_utf8(list).is_err()
                || list.iter().position(|&b| b == 0) != Some(list.len() - 1))
        {
            return Err(Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST));
        }
        self.information[kind as usize] = list.to_vec();
        Ok(asc::DEVICE_IDENTIFIER_CHANGED)
    }

    /// The identifying information, to be kept: version, and twice length and bytes.
    pub fn record(&mut self) -> Record {
        let mut data = DataIn::new();
        data.u8(VERSION);
        for information in &self.information {
            data.u16(information.len() as u16).bytes(information);
        }
        self.made += 1;
        Record { name: INFORMATION_RECORD, generation: self.made, bytes: data.as_bytes().to_vec() }
    }

    /// Takes the record of an earlier run. The error says what is wrong with it.
    pub fn load(&mut self, record: &[u8]) -> Result<(), &'static str> {
        let Some((&VERSION, mut rest)) = record.split_first() else {
            return Err("identifying information of another version");
        };
        let mut information = [Vec::new(), Vec::new()];
        for (bytes, kind) in information.iter_mut().zip([InformationType::Peripheral, InformationType::Text])
        {
            let len = be16(rest, 0);
            if len > kind.max() {
                return Err("too long");
            }
            let (own, others) =
                rest.get(2..).and_then(|r| r.split_at_checked(len.into())).ok_or("too short")?;
            *bytes = own.to_vec();
            rest = others;
        }
        self.information = information;
        Ok(())
    }

    /// READ BUFFER(10) (SPC-5 6.18): data, echo and descriptor modes.
    pub fn read_buffer(&self, cdb: &[u8; 16], nexus: NexusId) -> Result<(DataIn, u32), Sense> {
        let (mode, id, offset) = (cdb[1] & 0x1f, cdb[2], be24(cdb, 3));
        let mut data = DataIn::new();
        match mode {
            // Combined header and data, data, descriptor: there is buffer 0.
            0x00 | 0x02 if id != 0 => return Err(Sense::invalid_field_in_cdb(2, Some(7))),
            0x00 | 0x02 if offset > BUFFER || mode == 0 && offset != 0 => {
                return Err(Sense::invalid_field_in_cdb(3, None));
            }
            0x00 | 0x02 => {
                if mode == 0 {
                    data.u32(BUFFER);
                }
                data.bytes(self.buffer.get(offset as usize..).unwrap_or_default());
                data.pad_to(if mode == 0 { 4 + BUFFER as usize } else { (BUFFER - offset) as usize });
            }
            0x03 if id == 0 => {
                // Offset boundary: any byte.
                data.u32(BUFFER);
            }
            0x03 => {
                data.u32(0);
            }
            0x0a => match &self.echo {
                Some((owner, echo)) if *owner == nexus => {
                    data.bytes(echo);
                }
                _ => return Err(Sense::new(key::ILLEGAL_REQUEST, asc::COMMAND_SEQUENCE_ERROR)),
            },
            0x0b => {
                data.u32(BUFFER);
            }
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(4))),
        }
        Ok((data, be24(cdb, 6)))
    }

    /// How long the data of WRITE BUFFER is, if it is of a kind that there is and fits.
    pub fn buffer_length(cdb: &[u8; 16]) -> Result<u32, Sense> {
        let (mode, id, offset, len) = (cdb[1] & 0x1f, cdb[2], be24(cdb, 3), be24(cdb, 6));
        match mode {
            0x02 if id != 0 => Err(Sense::invalid_field_in_cdb(2, Some(7))),
            0x02 if offset > BUFFER => Err(Sense::invalid_field_in_cdb(3, None)),
            0x02 if len > BUFFER - offset => Err(Sense::invalid_field_in_cdb(6, None)),
            0x0a if len > BUFFER => Err(Sense::invalid_field_in_cdb(6, None)),
            0x02 | 0x0a => Ok(len),
            _ => Err(Sense::invalid_field_in_cdb(1, Some(4))),
        }
    }

    /// WRITE BUFFER (SPC-5 6.59): its data.
    pub fn write_buffer(&mut self, cdb: &[u8; 16], nexus: NexusId, bytes: &[u8]) {
        if cdb[1] & 0x1f == 0x0a {
            self.echo = Some((nexus, bytes.to_vec()));
            return;
        }
        let at = be24(cdb, 3) as usize;
        self.buffer.resize(BUFFER as usize, 0);
        // buffer_length() has seen that it fits.
        if let Some(to) = self.buffer.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }
}

/// RECEIVE DIAGNOSTIC RESULTS (SPC-5 6.24): the list of diagnostic pages, which is the only one.
pub(super) fn receive_diagnostic(cdb: &[u8; 16]) -> Result<(DataIn, u32), Sense> {
    if cdb[1] & 1 != 0 && cdb[2] != 0 {
        return Err(Sense::invalid_field_in_cdb(2, Some(7)));
    }
    let mut data = DataIn::new();
    data.u8(0).u8(0).u16(1).u8(0);
    Ok((data, be16(cdb, 3).into()))
}

/// SEND DIAGNOSTIC (SPC-5 6.42): a parameter list, which may be that page, whose length is zero here.
pub(super) fn send_diagnostic(list: &[u8]) -> Result<(), Sense> {
    let invalid = Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST);
    match list {
        [0, _, 0, 0] => Ok(()),
        [0, _, _, _, ..] => Err(invalid.pointing_at(false, 2, None)),
        [_, _, _, _, ..] => Err(invalid.pointing_at(false, 0, None)),
        _ => Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR)),
    }
}
