// SPDX-License-Identifier: GPL-2.0-or-later
//! Information units of FCP (FCP-4, "FCP information units"). FCP_CONF has no payload, and FCP_DATA is all data, whose
//! place is [`FcHeader::relative_offset`](super::FcHeader::relative_offset).

use super::field::{Emit, Field, Malformed, Parse, bits, codes, head, layout};
use crate::wire::AdditionalCdb;

codes! {
    /// How a command is ordered among others (FCP-4, "FCP_CMND IU", TASK ATTRIBUTE).
    FcpTaskAttribute(u8) {
        SIMPLE = 0,
        HEAD_OF_QUEUE = 1,
        ORDERED = 2,
        ACA = 4,
        UNTAGGED = 5,
    }
}

codes! {
    /// A task management function (FCP-4, "FCP_CMND IU", task management flags): each is a bit.
    FcpTaskManagement(u8) {
        QUERY_TASK_SET = 0x01,
        ABORT_TASK_SET = 0x02,
        CLEAR_TASK_SET = 0x04,
        QUERY_ASYNCHRONOUS_EVENT = 0x08,
        LOGICAL_UNIT_RESET = 0x10,
        TARGET_RESET = 0x20,
        CLEAR_ACA = 0x40,
        TERMINATE_TASK = 0x80,
    }
}

impl FcpTaskManagement {
    /// Whether it is one function, and not several at once.
    pub const fn is_one(self) -> bool {
        self.raw().is_power_of_two()
    }
}

/// Which data a command moves, with the most of it (FCP-4, "FCP_CMND IU": RDDATA, WRDATA, FCP_DL,
/// FCP_BIDIRECTIONAL_READ_DL).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FcpTransfer {
    /// None.
    None,
    /// To the initiator.
    Read(u32),
    /// To the target.
    Write(u32),
    /// Both ways.
    Bidirectional {
        /// To the target.
        write: u32,
        /// To the initiator.
        read: u32,
    },
}

/// A command, or a task management function (FCP-4, "FCP_CMND IU").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FcpCmnd<'a> {
    /// The logical unit.
    pub lun: u64,
    /// Command reference number; 0 is none.
    pub crn: u8,
    /// Command priority, 0 to 15.
    pub priority: u8,
    /// How it is ordered among others.
    pub attribute: FcpTaskAttribute,
    /// The function, if it is no command. It may be several at once, which is the initiator's fault.
    pub task_management: Option<FcpTaskManagement>,
    /// What it moves.
    pub transfer: FcpTransfer,
    /// The command.
    pub cdb: [u8; 16],
    /// What the command has behind that.
    pub additional_cdb: AdditionalCdb<'a>,
}

impl<'a> Parse<'a> for FcpCmnd<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        const NAME: &str = "FCP_CMND";
        let fixed = head(bytes, 28, NAME, "FCP_CDB")?;
        let dl = 28 + usize::from(fixed[11] & 0xfc);
        let additional = &head(bytes, dl, NAME, "ADDITIONAL_FCP_CDB")?[28..];
        let additional_cdb = AdditionalCdb::new(additional).expect("words, as many as six bits count");
        let fcp_dl = u32::get(&head(bytes, dl + 4, NAME, "FCP_DL")?[dl..]);
        let transfer = match fixed[11] & 3 {
            0 => FcpTransfer::None,
            1 => FcpTransfer::Write(fcp_dl),
            2 => FcpTransfer::Read(fcp_dl),
            _ => {
                let read = &head(bytes, dl + 8, NAME, "FCP_BIDIRECTIONAL_READ_DL")?[dl + 4..];
                FcpTransfer::Bidirectional { write: fcp_dl, read: Field::get(read) }
            }
        };
        Ok(Self {
            lun: Field::get(&fixed[..8]),
            crn: fixed[8],
            priority: fixed[9] >> 3 & 0xf,
            attribute: FcpTaskAttribute::new(fixed[9] & 7),
            task_management: Some(FcpTaskManagement::new(fixed[10])).filter(|function| function.raw() != 0),
            transfer,
            cdb: Field::get(&fixed[12..]),
            additional_cdb,
        })
    }
}

impl Emit for FcpCmnd<'_> {
    fn buffer_len(&self) -> usize {
        let bidirectional = matches!(self.transfer, FcpTransfer::Bidirectional { .. });
        32 + self.additional_cdb.bytes().len() + if bidirectional { 4 } else { 0 }
    }

    fn emit(&self, out: &mut [u8]) {
        let (direction, fcp_dl, read) = match self.transfer {
            FcpTransfer::None => (0, 0, None),
            FcpTransfer::Write(len) => (1, len, None),
            FcpTransfer::Read(len) => (2, len, None),
            FcpTransfer::Bidirectional { write, read } => (3, write, Some(read)),
        };
        let dl = 28 + self.additional_cdb.bytes().len();
        self.lun.put(&mut out[..8]);
        out[8] = self.crn;
        out[9] = (self.priority & 0xf) << 3 | self.attribute.raw() & 7;
        out[10] = self.task_management.map_or(0, FcpTaskManagement::raw);
        // At most 252: the number of words is where it belongs.
        out[11] = u8::try_from(dl - 28).expect("at most AdditionalCdb::LEN_MAX") | direction;
        self.cdb.put(&mut out[12..28]);
        out[28..dl].copy_from_slice(self.additional_cdb.bytes());
        fcp_dl.put(&mut out[dl..dl + 4]);
        if let Some(read) = read {
            read.put(&mut out[dl + 4..dl + 8]);
        }
    }
}

layout! {
    /// Asks for a burst of data (FCP-4, "FCP_XFER_RDY IU").
    FcpXferRdy, "FCP_XFER_RDY", 12 bytes {
        /// From where on.
        [0] relative_offset: u32,
        /// How much.
        [4] burst_len: u32,
    }
}

/// How much more or less than what was allowed a command has moved (FCP-4, "FCP_RSP IU", FCP_RESID).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FcpResidual {
    /// Neither.
    None,
    /// So much less.
    Under(u32),
    /// It would have been so much more.
    Over(u32),
}

codes! {
    /// What became of a task management function, or what is wrong with a command (FCP-4, "FCP_RSP IU", RSP_CODE).
    RspCode(u8) {
        COMPLETE = 0,
        DATA_LENGTH_DIFFERS = 1,
        INVALID_FIELDS = 2,
        RELATIVE_OFFSET_MISMATCH = 3,
        FUNCTION_REJECTED = 4,
        FUNCTION_FAILED = 5,
        FUNCTION_SUCCEEDED = 8,
        INCORRECT_LUN = 9,
    }
}

bits! {
    /// What else an FCP_RSP has (FCP-4, "FCP_RSP IU", byte 10).
    RspFlags(u8; 1) {
        /// There is a residual of what is read besides that of what is written.
        BIDI_RESIDUAL = 0x80,
        /// That says how much less was read.
        BIDI_UNDER = 0x40,
        /// That says how much more would have been read.
        BIDI_OVER = 0x20,
        /// FCP_CONF is asked for.
        CONFIRM = 0x10,
        /// The residual says how much less was moved.
        RESID_UNDER = 0x08,
        /// The residual says how much more would have been moved.
        RESID_OVER = 0x04,
        /// There is sense data.
        SENSE = 0x02,
        /// There is a response code.
        RESPONSE = 0x01,
    }
}

/// The end of a command or of a task management function (FCP-4, "FCP_RSP IU").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FcpRsp<'a> {
    /// Status qualifier of SAM: when to try again.
    pub status_qualifier: u16,
    /// SCSI status.
    pub status: u8,
    /// Of the command's only direction, or of what it writes.
    pub residual: FcpResidual,
    /// Of what a bidirectional command reads.
    pub bidirectional: Option<FcpResidual>,
    /// Whether an FCP_CONF is asked for.
    pub confirm: bool,
    /// What became of a task management function, or what is wrong.
    pub response: Option<RspCode>,
    /// Sense data; empty if there is none.
    pub sense: &'a [u8],
}

impl FcpRsp<'_> {
    const NAME: &'static str = "FCP_RSP";
    const FIXED: usize = 24;
    /// What [`Self::response`] takes. Four bytes are allowed, too.
    const RESPONSE_LEN: usize = 8;

    /// A status and nothing else.
    pub const fn status(status: u8) -> Self {
        Self {
            status_qualifier: 0,
            status,
            residual: FcpResidual::None,
            bidirectional: None,
            confirm: false,
            response: None,
            sense: &[],
        }
    }

    fn residual(
        flags: RspFlags,
        over: RspFlags,
        under: RspFlags,
        value: u32,
    ) -> Result<FcpResidual, Malformed> {
        match (flags.contains(over), flags.contains(under)) {
            (false, false) => Ok(FcpResidual::None),
            (true, false) => Ok(FcpResidual::Over(value)),
            (false, true) => Ok(FcpResidual::Under(value)),
            (true, true) => Err(Malformed::value(Self::NAME, "flags", flags.raw())),
        }
    }
}

impl<'a> Parse<'a> for FcpRsp<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fixed = head(bytes, Self::FIXED, Self::NAME, "FCP_RSP_LEN")?;
        let flags = RspFlags::new(fixed[10]);
        let word = |at: usize| u32::get(&fixed[at..at + 4]);
        let len = |flag, at| if flags.contains(flag) { word(at) } else { 0 };
        let (sense_len, response_len) = (len(RspFlags::SENSE, 16), len(RspFlags::RESPONSE, 20));
        let sense_at = match response_len {
            0 => Self::FIXED,
            4 => Self::FIXED + 4,
            8 => Self::FIXED + 8,
            _ => return Err(Malformed::value(Self::NAME, "FCP_RSP_LEN", response_len)),
        };
        let response = head(bytes, sense_at, Self::NAME, "FCP_RSP_INFO")?.get(Self::FIXED + 3);
        let Some(end) = usize::try_from(sense_len).ok().and_then(|len| sense_at.checked_add(len)) else {
            return Err(Malformed::value(Self::NAME, "FCP_SNS_LEN", sense_len));
        };
        let sense = &head(bytes, end, Self::NAME, "FCP_SNS_INFO")?[sense_at..];
        let bidirectional = match flags.contains(RspFlags::BIDI_RESIDUAL) {
            false => None,
            true => {
                let all = head(bytes, end.saturating_add(4), Self::NAME, "FCP_BIDIRECTIONAL_READ_RESID")?;
                let value = Field::get(&all[end..]);
                Some(Self::residual(flags, RspFlags::BIDI_OVER, RspFlags::BIDI_UNDER, value)?)
            }
        };
        Ok(Self {
            status_qualifier: Field::get(&fixed[8..10]),
            status: fixed[11],
            residual: Self::residual(flags, RspFlags::RESID_OVER, RspFlags::RESID_UNDER, word(12))?,
            bidirectional,
            confirm: flags.contains(RspFlags::CONFIRM),
            response: response.map(|&code| RspCode::new(code)),
            sense,
        })
    }
}

impl Emit for FcpRsp<'_> {
    fn buffer_len(&self) -> usize {
        let response = self.response.map_or(0, |_| Self::RESPONSE_LEN);
        Self::FIXED + response + self.sense.len() + self.bidirectional.map_or(0, |_| 4)
    }

    fn emit(&self, out: &mut [u8]) {
        let out = &mut out[..self.buffer_len()];
        out.fill(0);
        let mut flags = if self.confirm { RspFlags::CONFIRM } else { RspFlags::default() };
        let mut residual = |residual, over, under| match residual {
            FcpResidual::None => 0,
            FcpResidual::Over(value) => {
                flags = flags.with(over);
                value
            }
            FcpResidual::Under(value) => {
                flags = flags.with(under);
                value
            }
        };
        residual(self.residual, RspFlags::RESID_OVER, RspFlags::RESID_UNDER).put(&mut out[12..16]);
        if let Some(bidirectional) = self.bidirectional {
            let at = out.len() - 4;
            residual(bidirectional, RspFlags::BIDI_OVER, RspFlags::BIDI_UNDER).put(&mut out[at..]);
            flags = flags.with(RspFlags::BIDI_RESIDUAL);
        }
        let mut sense_at = Self::FIXED;
        if let Some(code) = self.response {
            flags = flags.with(RspFlags::RESPONSE);
            8_u32.put(&mut out[20..24]);
            out[Self::FIXED + 3] = code.raw();
            sense_at += Self::RESPONSE_LEN;
        }
        if !self.sense.is_empty() {
            flags = flags.with(RspFlags::SENSE);
            u32::try_from(self.sense.len()).expect("sense data is short").put(&mut out[16..20]);
            out[sense_at..sense_at + self.sense.len()].copy_from_slice(self.sense);
        }
        self.status_qualifier.put(&mut out[8..10]);
        out[10] = flags.raw();
        out[11] = self.status;
    }
}
