// SPDX-License-Identifier: GPL-2.0-or-later
//! Information units of SRP (SRP, SRP-2). Nothing uses them yet; the SRP fabric will.
//!
//! The texts of T10 were not at hand: layouts and codes are those of Linux's `srp.h`, and how the parts of variable
//! length follow each other is as its drivers have it.

use super::AdditionalCdb;
use super::field::{Emit, Field, Malformed, Parse, arrays, bit_fields, bits, codes, head, layout, requests};

codes! {
    /// The kind of an information unit.
    SrpOpcode(u8) {
        LOGIN_REQ = 0x00,
        TSK_MGMT = 0x01,
        CMD = 0x02,
        I_LOGOUT = 0x03,
        CRED_RSP = 0x41,
        AER_RSP = 0x42,
        T_LOGOUT = 0x80,
        CRED_REQ = 0x81,
        AER_REQ = 0x82,
        LOGIN_RSP = 0xc0,
        RSP = 0xc1,
        LOGIN_REJ = 0xc2,
    }
}

/// The name of a port: of an initiator, or of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct SrpPortId(pub [u8; 16]);

arrays! { SrpPortId }

bits! {
    /// Which formats of data buffers may be used.
    SrpBufferFormats(u16; 2) {
        /// One run of memory.
        DIRECT = 0x0002,
        /// A list of runs.
        INDIRECT = 0x0004,
    }
}

bits! {
    /// What an initiator asks for at login.
    SrpLoginFlags(u8; 1) {
        /// Its other channels to the target go on.
        MULTI_CHANNEL = 0x01,
        /// Immediate data (SRP-2).
        IMMEDIATE_DATA = 0x80,
    }
}

layout! {
    /// SRP_LOGIN_REQ: an initiator opens a channel.
    SrpLoginReq, "SRP_LOGIN_REQ", 64 bytes {
        /// Given back in the answer.
        [8] tag: u64,
        /// The longest information unit that it will send.
        [16] req_it_iu_len: u32,
        /// The formats that it will use.
        [24] req_buf_fmt: SrpBufferFormats,
        /// What it asks for.
        [26] flags: SrpLoginFlags,
        /// Where immediate data begins in a command (SRP-2).
        [28] imm_data_offset: u16,
        /// Who it is.
        [32] initiator_port_id: SrpPortId,
        /// Whom it wants.
        [48] target_port_id: SrpPortId,
    }
}

bits! {
    /// How a login was granted.
    SrpLoginRspFlags(u8; 1) {
        /// Channels that there were have been closed.
        CHANNELS_TERMINATED = 0x01,
        /// Channels that there were go on.
        CHANNELS_MAINTAINED = 0x02,
        /// Immediate data is taken (SRP-2).
        IMMEDIATE_DATA = 0x80,
    }
}

layout! {
    /// SRP_LOGIN_RSP: the channel is open.
    SrpLoginRsp, "SRP_LOGIN_RSP", 52 bytes {
        /// How many requests the initiator may send.
        [4] req_lim_delta: u32,
        /// That of the request.
        [8] tag: u64,
        /// The longest information unit that the target takes.
        [16] max_it_iu_len: u32,
        /// The longest that the initiator must take.
        [20] max_ti_iu_len: u32,
        /// The formats that the target takes.
        [24] buf_fmt: SrpBufferFormats,
        /// How it was granted.
        [26] flags: SrpLoginRspFlags,
    }
}

codes! {
    /// Why a login was rejected.
    SrpLoginRejReason(u32) {
        UNABLE_ESTABLISH_CHANNEL = 0x0001_0000,
        INSUFFICIENT_RESOURCES = 0x0001_0001,
        REQ_IT_IU_LENGTH_TOO_LARGE = 0x0001_0002,
        UNABLE_ASSOCIATE_CHANNEL = 0x0001_0003,
        UNSUPPORTED_DESCRIPTOR_FMT = 0x0001_0004,
        MULTI_CHANNEL_UNSUPPORTED = 0x0001_0005,
        CHANNEL_LIMIT_REACHED = 0x0001_0006,
    }
}

layout! {
    /// SRP_LOGIN_REJ: the channel is not opened.
    SrpLoginRej, "SRP_LOGIN_REJ", 32 bytes {
        /// Why.
        [4] reason: SrpLoginRejReason,
        /// That of the request.
        [8] tag: u64,
        /// The formats that the target takes.
        [24] buf_fmt: SrpBufferFormats,
    }
}

layout! {
    /// What has a tag alone: SRP_I_LOGOUT, SRP_CRED_RSP, SRP_AER_RSP.
    SrpTagOnly, "SRP information unit", 16 bytes {
        /// In an answer, that of the request.
        [8] tag: u64,
    }
}

layout! {
    /// SRP_T_LOGOUT: the target closes the channel.
    SrpTLogout, "SRP_T_LOGOUT", 16 bytes {
        /// The initiator is to be notified.
        [1] solicited_notification: u8,
        /// Why.
        [4] reason: u32,
        /// Its tag.
        [8] tag: u64,
    }
}

layout! {
    /// SRP_CRED_REQ: the target changes how many requests the initiator may send.
    SrpCredReq, "SRP_CRED_REQ", 16 bytes {
        /// The initiator is to be notified.
        [1] solicited_notification: u8,
        /// By how many, which may be less than none.
        [4] req_lim_delta: u32,
        /// Given back in the answer.
        [8] tag: u64,
    }
}

codes! {
    /// A task management function.
    SrpTaskManagementFunction(u8) {
        ABORT_TASK = 0x01,
        ABORT_TASK_SET = 0x02,
        CLEAR_TASK_SET = 0x04,
        LOGICAL_UNIT_RESET = 0x08,
        CLEAR_ACA = 0x40,
    }
}

layout! {
    /// SRP_TSK_MGMT: a task management function.
    SrpTskMgmt, "SRP_TSK_MGMT", 48 bytes {
        /// The target is to be notified.
        [1] solicited_notification: u8,
        /// Its own tag.
        [8] tag: u64,
        /// The logical unit.
        [20] lun: u64,
        /// What is to be done.
        [30] function: SrpTaskManagementFunction,
        /// The task to abort.
        [32] task_tag: u64,
    }
}

layout! {
    /// A run of the initiator's memory.
    SrpDirectDescriptor, "SRP memory descriptor", 16 bytes {
        /// Where it begins.
        [0] virtual_address: u64,
        /// By which it may be reached.
        [8] memory_handle: u32,
        /// How long it is.
        [12] len: u32,
    }
}

/// Runs of memory one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SrpDescriptors<'a>(&'a [u8]);

impl<'a> SrpDescriptors<'a> {
    /// Those of these bytes, if there are whole ones in them and not too many.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let fit = bytes.len().is_multiple_of(SrpDirectDescriptor::LEN);
        (fit && bytes.len() / SrpDirectDescriptor::LEN <= usize::from(u8::MAX)).then_some(Self(bytes))
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = SrpDirectDescriptor> + 'a {
        self.0.chunks_exact(SrpDirectDescriptor::LEN).map(Field::get)
    }
}

/// Where a command's data of one direction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SrpDataBuffer<'a> {
    /// There is none.
    None,
    /// In one run of memory.
    Direct(SrpDirectDescriptor),
    /// In several.
    Indirect {
        /// Where the whole list of them is.
        table: SrpDirectDescriptor,
        /// How long they are together.
        len: u32,
        /// The first of them, or all.
        list: SrpDescriptors<'a>,
    },
    /// Behind the command, so many bytes (SRP-2).
    Immediate(u32),
}

impl<'a> SrpDataBuffer<'a> {
    /// Its format, and how many descriptors its list has.
    fn format(&self) -> (SrpDataFormat, u8) {
        match self {
            Self::None => (SrpDataFormat::NONE, 0),
            Self::Direct(_) => (SrpDataFormat::DIRECT, 0),
            Self::Indirect { list, .. } => {
                let count = list.0.len() / SrpDirectDescriptor::LEN;
                (SrpDataFormat::INDIRECT, u8::try_from(count).expect("as many as a byte counts"))
            }
            Self::Immediate(_) => (SrpDataFormat::IMMEDIATE, 0),
        }
    }

    /// From the bytes at a place of a command.
    fn parse(bytes: &'a [u8], at: usize, format: SrpDataFormat, count: u8) -> Result<Self, Malformed> {
        let part = |at, len| {
            let all = head(bytes, at + len, SrpCmd::NAME, "data buffer")?;
            Ok(&all[at..])
        };
        let (len_at, list_at) = (at + SrpDirectDescriptor::LEN, at + SrpDirectDescriptor::LEN + 4);
        Ok(match format {
            SrpDataFormat::NONE => Self::None,
            SrpDataFormat::DIRECT => Self::Direct(Field::get(part(at, SrpDirectDescriptor::LEN)?)),
            SrpDataFormat::INDIRECT => Self::Indirect {
                table: Field::get(part(at, SrpDirectDescriptor::LEN)?),
                len: Field::get(part(len_at, 4)?),
                list: SrpDescriptors(part(list_at, usize::from(count) * SrpDirectDescriptor::LEN)?),
            },
            SrpDataFormat::IMMEDIATE => Self::Immediate(Field::get(part(at, 4)?)),
            other => return Err(Malformed::value(SrpCmd::NAME, "format of a data buffer", other.raw())),
        })
    }
}

impl Emit for SrpDataBuffer<'_> {
    fn buffer_len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Direct(_) => SrpDirectDescriptor::LEN,
            Self::Indirect { list, .. } => SrpDirectDescriptor::LEN + 4 + list.0.len(),
            Self::Immediate(_) => 4,
        }
    }

    fn emit(&self, out: &mut [u8]) {
        const DESCRIPTOR: usize = SrpDirectDescriptor::LEN;
        match self {
            Self::None => {}
            Self::Direct(direct) => direct.put(&mut out[..DESCRIPTOR]),
            Self::Indirect { table, len, list } => {
                table.put(&mut out[..DESCRIPTOR]);
                len.put(&mut out[DESCRIPTOR..DESCRIPTOR + 4]);
                list.0.emit(&mut out[DESCRIPTOR + 4..]);
            }
            Self::Immediate(len) => len.put(&mut out[..4]),
        }
    }
}

codes! {
    /// How a command is ordered among others.
    SrpTaskAttribute(u8) {
        SIMPLE = 0,
        HEAD_OF_QUEUE = 1,
        ORDERED = 2,
        ACA = 4,
    }
}

codes! {
    /// How a command says where its data is.
    SrpDataFormat(u8) {
        NONE = 0,
        DIRECT = 1,
        INDIRECT = 2,
        IMMEDIATE = 3,
    }
}

bit_fields! { SrpTaskAttribute SrpDataFormat }

layout! {
    /// What each SRP_CMD begins with.
    SrpCmdHead, "SRP_CMD", 48 bytes {
        /// The target is to be notified.
        [1] solicited_notification: u8,
        /// The format of what is written.
        [5 & 0xf0] data_out_format: SrpDataFormat,
        /// The format of what is read.
        [5 & 0x0f] data_in_format: SrpDataFormat,
        /// Descriptors in the list of what is written.
        [6] data_out_count: u8,
        /// Descriptors in the list of what is read.
        [7] data_in_count: u8,
        /// Its tag.
        [8] tag: u64,
        /// The logical unit.
        [20] lun: u64,
        /// How it is ordered among others.
        [29 & 0x07] attribute: SrpTaskAttribute,
        /// Words of additional CDB.
        [31 & 0xfc] additional_words: u8,
        /// The command.
        [32] cdb: [u8; 16],
    }
}

/// SRP_CMD: a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SrpCmd<'a> {
    /// The target is to be notified.
    pub solicited_notification: u8,
    /// Its tag.
    pub tag: u64,
    /// The logical unit.
    pub lun: u64,
    /// How it is ordered among others.
    pub attribute: SrpTaskAttribute,
    /// The command.
    pub cdb: [u8; 16],
    /// What the command has behind that.
    pub additional_cdb: AdditionalCdb<'a>,
    /// What is written.
    pub data_out: SrpDataBuffer<'a>,
    /// What is read.
    pub data_in: SrpDataBuffer<'a>,
}

impl SrpCmd<'_> {
    const NAME: &'static str = "SRP_CMD";
}

impl<'a> Parse<'a> for SrpCmd<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fixed = SrpCmdHead::parse(bytes)?;
        let out_at = SrpCmdHead::LEN + 4 * usize::from(fixed.additional_words);
        let additional = &head(bytes, out_at, Self::NAME, "additional CDB")?[SrpCmdHead::LEN..];
        let additional_cdb = AdditionalCdb::new(additional).expect("words, as many as six bits count");
        let data_out = SrpDataBuffer::parse(bytes, out_at, fixed.data_out_format, fixed.data_out_count)?;
        let in_at = out_at + data_out.buffer_len();
        let data_in = SrpDataBuffer::parse(bytes, in_at, fixed.data_in_format, fixed.data_in_count)?;
        let SrpCmdHead { solicited_notification, tag, lun, attribute, cdb, .. } = fixed;
        Ok(Self { solicited_notification, tag, lun, attribute, cdb, additional_cdb, data_out, data_in })
    }
}

impl Emit for SrpCmd<'_> {
    fn buffer_len(&self) -> usize {
        let additional = self.additional_cdb.bytes().len();
        SrpCmdHead::LEN + additional + self.data_out.buffer_len() + self.data_in.buffer_len()
    }

    fn emit(&self, out: &mut [u8]) {
        let Self { solicited_notification, tag, lun, attribute, cdb, .. } = *self;
        let additional = self.additional_cdb.bytes();
        let ((data_out_format, data_out_count), (data_in_format, data_in_count)) =
            (self.data_out.format(), self.data_in.format());
        let additional_words = u8::try_from(additional.len() / 4).expect("as many as six bits count");
        let fixed = SrpCmdHead {
            solicited_notification,
            data_out_format,
            data_in_format,
            data_out_count,
            data_in_count,
            tag,
            lun,
            attribute,
            additional_words,
            cdb,
        };
        fixed.emit(out);
        let out_at = SrpCmdHead::LEN + additional.len();
        out[SrpCmdHead::LEN..out_at].copy_from_slice(additional);
        self.data_out.emit(&mut out[out_at..]);
        self.data_in.emit(&mut out[out_at + self.data_out.buffer_len()..]);
    }
}

bits! {
    /// What an SRP_RSP has.
    SrpRspFlags(u8; 1) {
        /// There is response data.
        RESPONSE = 0x01,
        /// There is sense data.
        SENSE = 0x02,
        /// More would have been written.
        DATA_OUT_OVER = 0x04,
        /// Less was written.
        DATA_OUT_UNDER = 0x08,
        /// More would have been read.
        DATA_IN_OVER = 0x10,
        /// Less was read.
        DATA_IN_UNDER = 0x20,
    }
}

layout! {
    /// What each SRP_RSP begins with.
    SrpRspHead, "SRP_RSP", 36 bytes {
        /// The initiator is to be notified.
        [1] solicited_notification: u8,
        /// How many more requests the initiator may send.
        [4] req_lim_delta: u32,
        /// That of the request.
        [8] tag: u64,
        /// What it has.
        [18] flags: SrpRspFlags,
        /// SCSI status.
        [19] status: u8,
        /// How much more or less was written.
        [20] data_out_residual: u32,
        /// How much more or less was read.
        [24] data_in_residual: u32,
        /// Bytes of sense data.
        [28] sense_len: u32,
        /// Bytes of response data.
        [32] response_len: u32,
    }
}

/// SRP_RSP: the end of a command or of a task management function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SrpRsp<'a> {
    /// What it begins with. Lengths, and flags that say what follows, are as the next two have it.
    pub head: SrpRspHead,
    /// What became of a function, or what is wrong with a command, in the last of four bytes.
    pub response: &'a [u8],
    /// Sense data.
    pub sense: &'a [u8],
}

impl<'a> Parse<'a> for SrpRsp<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        const NAME: &str = "SRP_RSP";
        let fixed = SrpRspHead::parse(bytes)?;
        let len = |flag, len: u32| match fixed.flags.contains(flag) {
            true => usize::try_from(len).ok().filter(|&len| len <= bytes.len()).unwrap_or(bytes.len()),
            false => 0,
        };
        let sense_at = SrpRspHead::LEN + len(SrpRspFlags::RESPONSE, fixed.response_len);
        let response = &head(bytes, sense_at, NAME, "response data")?[SrpRspHead::LEN..];
        let end = sense_at + len(SrpRspFlags::SENSE, fixed.sense_len);
        let sense = &head(bytes, end, NAME, "sense data")?[sense_at..];
        Ok(Self { head: Self::with_lengths(fixed, response, sense), response, sense })
    }
}

impl<'a> SrpRsp<'a> {
    /// With this response and sense data.
    pub fn new(head: SrpRspHead, response: &'a [u8], sense: &'a [u8]) -> Self {
        Self { head: Self::with_lengths(head, response, sense), response, sense }
    }

    fn with_lengths(head: SrpRspHead, response: &[u8], sense: &[u8]) -> SrpRspHead {
        let (mut flags, none) = (head.flags, SrpRspFlags::default());
        flags = flags.without(SrpRspFlags::RESPONSE.with(SrpRspFlags::SENSE));
        flags = flags.with(if response.is_empty() { none } else { SrpRspFlags::RESPONSE });
        flags = flags.with(if sense.is_empty() { none } else { SrpRspFlags::SENSE });
        let [sense_len, response_len] =
            [sense, response].map(|data| u32::try_from(data.len()).expect("both are short"));
        SrpRspHead { flags, sense_len, response_len, ..head }
    }
}

impl Emit for SrpRsp<'_> {
    fn buffer_len(&self) -> usize {
        SrpRspHead::LEN + self.response.len() + self.sense.len()
    }

    fn emit(&self, out: &mut [u8]) {
        Self::with_lengths(self.head, self.response, self.sense).emit(out);
        let sense_at = SrpRspHead::LEN + self.response.len();
        out[SrpRspHead::LEN..sense_at].copy_from_slice(self.response);
        out[sense_at..sense_at + self.sense.len()].copy_from_slice(self.sense);
    }
}

layout! {
    /// What each SRP_AER_REQ begins with.
    SrpAerReqHead, "SRP_AER_REQ", 36 bytes {
        /// The initiator is to be notified.
        [1] solicited_notification: u8,
        /// How many more requests the initiator may send.
        [4] req_lim_delta: u32,
        /// Given back in the answer.
        [8] tag: u64,
        /// The logical unit.
        [20] lun: u64,
        /// Bytes of sense data.
        [28] sense_len: u32,
    }
}

/// SRP_AER_REQ: the target tells of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SrpAerReq<'a> {
    /// The initiator is to be notified.
    pub solicited_notification: u8,
    /// How many more requests the initiator may send.
    pub req_lim_delta: u32,
    /// Given back in the answer.
    pub tag: u64,
    /// The logical unit.
    pub lun: u64,
    /// Sense data.
    pub sense: &'a [u8],
}

impl<'a> Parse<'a> for SrpAerReq<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let SrpAerReqHead { solicited_notification, req_lim_delta, tag, lun, sense_len } =
            SrpAerReqHead::parse(bytes)?;
        let len = usize::try_from(sense_len).unwrap_or(usize::MAX);
        let end = SrpAerReqHead::LEN.saturating_add(len);
        let sense = &head(bytes, end, "SRP_AER_REQ", "sense data")?[SrpAerReqHead::LEN..];
        Ok(Self { solicited_notification, req_lim_delta, tag, lun, sense })
    }
}

impl Emit for SrpAerReq<'_> {
    fn buffer_len(&self) -> usize {
        SrpAerReqHead::LEN + self.sense.len()
    }

    fn emit(&self, out: &mut [u8]) {
        let Self { solicited_notification, req_lim_delta, tag, lun, sense } = *self;
        let sense_len = u32::try_from(sense.len()).expect("sense data is short");
        SrpAerReqHead { solicited_notification, req_lim_delta, tag, lun, sense_len }.emit(out);
        out[SrpAerReqHead::LEN..SrpAerReqHead::LEN + sense.len()].copy_from_slice(sense);
    }
}

requests! {
    /// An information unit. One that is not known has all its bytes, from the opcode on.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[expect(missing_docs, reason = "the names are those of SRP")]
    SrpIu, opcode: SrpOpcode {
        LoginReq(SrpLoginReq) = LOGIN_REQ,
        LoginRsp(SrpLoginRsp) = LOGIN_RSP,
        LoginRej(SrpLoginRej) = LOGIN_REJ,
        ILogout(SrpTagOnly) = I_LOGOUT,
        TLogout(SrpTLogout) = T_LOGOUT,
        TskMgmt(SrpTskMgmt) = TSK_MGMT,
        Cmd(SrpCmd<'a>) = CMD,
        Rsp(SrpRsp<'a>) = RSP,
        CredReq(SrpCredReq) = CRED_REQ,
        CredRsp(SrpTagOnly) = CRED_RSP,
        AerReq(SrpAerReq<'a>) = AER_REQ,
        AerRsp(SrpTagOnly) = AER_RSP,
    }
}

impl<'a> Parse<'a> for SrpIu<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let opcode = head(bytes, 1, "SRP information unit", "opcode")?[0];
        Self::of(SrpOpcode::new(opcode), bytes)
    }
}

impl Emit for SrpIu<'_> {
    fn buffer_len(&self) -> usize {
        self.payload().buffer_len()
    }

    fn emit(&self, out: &mut [u8]) {
        self.payload().emit(out);
        out[0] = self.opcode().raw();
    }
}

/// Reads any bytes, and what was written of that. For tests and the fuzz target.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn rewrite(bytes: &[u8]) {
    super::rewrite::again!(bytes, SrpIu::parse);
}

#[cfg(test)]
mod tests;
