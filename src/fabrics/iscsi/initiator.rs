// SPDX-License-Identifier: GPL-2.0-or-later
//! A scripted initiator for tests: it makes PDUs, right ones by default and wrong ones when a field is changed before
//! sending, and takes a target's byte stream apart again. It keeps its sequence numbers and nothing else; what to send
//! next is the script's affair.

use crate::wire::Crc32c;
use crate::wire::iscsi::{
    Bhs, DataInHeader, DataOutHeader, IscsiFunction, IscsiTaskAttribute, LoginRequestHeader,
    LoginResponseHeader, LoginStage, LogoutReason, LogoutRequestHeader, NO_TAG, NopOutHeader, Opcode,
    PduHeader, R2tHeader, RequestNumbers, ScsiCommandFlags, ScsiCommandHeader, TaskManagementRequestHeader,
    TextRequestHeader, push_pair,
};

/// One PDU, header and payload apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) bhs: Bhs,
    pub(crate) ahs: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// The byte with which the data segment is padded.
    pub(crate) padding: u8,
}

impl Packet {
    pub(crate) fn new(header: &impl PduHeader) -> Self {
        Self::from(header.emit())
    }

    /// Its header, if it is a PDU of that kind.
    pub(crate) fn header<H: PduHeader>(&self) -> Option<H> {
        (self.opcode() == H::OPCODE).then(|| H::parse(&self.bhs))
    }

    /// Changes its header.
    pub(crate) fn edit<H: PduHeader>(&mut self, change: impl FnOnce(&mut H)) {
        let mut header = H::parse(&self.bhs);
        change(&mut header);
        header.emit_over(&mut self.bhs);
    }

    /// Sets the ExpStatSN of a request.
    pub(crate) fn exp_stat_sn(mut self, exp_stat_sn: u32) -> Self {
        self.bhs.set_request_numbers(RequestNumbers { exp_stat_sn, ..self.bhs.request_numbers() });
        self
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    /// Adds an additional header segment of a type; `content` lies behind its reserved byte.
    pub(crate) fn ahs(mut self, kind: u8, content: &[u8]) -> Self {
        let len = u16::try_from(content.len() + 1).unwrap();
        self.ahs.extend(len.to_be_bytes());
        self.ahs.extend([kind, 0]);
        self.ahs.extend(content);
        self.ahs.resize(self.ahs.len().next_multiple_of(4), 0);
        self
    }

    /// Marks a request for immediate delivery.
    pub(crate) fn immediate(mut self) -> Self {
        self.bhs.set_immediate();
        self
    }

    pub(crate) fn opcode(&self) -> Opcode {
        self.bhs.opcode()
    }

    /// Whether it is the last answer to a login, which was successful.
    pub(crate) fn ends_login(&self) -> bool {
        self.header().is_some_and(|login: LoginResponseHeader| {
            login.status == 0 && login.transit && login.next_stage == LoginStage::FULL_FEATURE
        })
    }

    /// The bytes for the wire.
    pub(crate) fn encode(&self, digests: Digests) -> Vec<u8> {
        let mut bhs = self.bhs;
        bhs.set_ahs_len(self.ahs.len());
        bhs.set_data_len(self.data.len());
        let mut bytes = [&bhs.bytes()[..], &self.ahs].concat();
        if digests.header {
            bytes.extend(Crc32c::of(&bytes).wire());
        }
        let mut body = self.data.clone();
        body.resize(body.len().next_multiple_of(4), self.padding);
        if digests.data && !body.is_empty() {
            body.extend(Crc32c::of(&body).wire());
        }
        bytes.extend(body);
        bytes
    }
}

impl From<Bhs> for Packet {
    fn from(bhs: Bhs) -> Self {
        Self { bhs, ahs: Vec::new(), data: Vec::new(), padding: 0 }
    }
}

/// Which digests are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) header: bool,
    pub(crate) data: bool,
}

/// What is wrong with a target's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamError {
    /// A digest: it was damaged on its way.
    Digest,
    /// Padding that is not zero.
    Padding,
    /// A StatSN that is not the next.
    StatSn,
    /// A command window that goes back.
    Window,
}

impl std::fmt::Display for StreamError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Digest => "a digest is wrong",
            Self::Padding => "padding is not zero",
            Self::StatSn => "a StatSN is not the next",
            Self::Window => "the command window goes back",
        })
    }
}

/// How a command moves data.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Transfer {
    /// Expected length of the read direction.
    pub(crate) reads: Option<u32>,
    /// Expected length of the write direction.
    pub(crate) writes: Option<u32>,
}

impl Transfer {
    pub(crate) const NONE: Self = Self { reads: None, writes: None };

    pub(crate) fn read(len: u32) -> Self {
        Self { reads: Some(len), writes: None }
    }

    pub(crate) fn write(len: u32) -> Self {
        Self { reads: None, writes: Some(len) }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Initiator {
    pub(crate) digests: Digests,
    pub(crate) isid: [u8; 6],
    pub(crate) cid: u16,
    /// The session to log in to; 0 for a new one.
    pub(crate) tsih: u16,
    /// CmdSN of the next request that is not immediate.
    pub(crate) cmd_sn: u32,
    /// StatSN of the next status.
    pub(crate) exp_stat_sn: u32,
    /// The command window as the target told last.
    pub(crate) exp_cmd_sn: u32,
    pub(crate) max_cmd_sn: u32,
    /// Task tag of the next request.
    pub(crate) itt: u32,
    /// The login is done.
    full_feature: bool,
    inbox: Vec<u8>,
}

impl Initiator {
    pub(crate) fn new() -> Self {
        Self {
            digests: Digests::default(),
            isid: [0x80, 0, 0, 1, 0, 0],
            cid: 3,
            tsih: 0,
            cmd_sn: 100,
            exp_stat_sn: 7,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
            itt: 0x10,
            full_feature: false,
            inbox: Vec::new(),
        }
    }

    fn numbers(&self) -> RequestNumbers {
        RequestNumbers { cmd_sn: self.cmd_sn, exp_stat_sn: self.exp_stat_sn }
    }

    /// The task tag and the numbers of the next request.
    fn request(&mut self) -> (u32, RequestNumbers) {
        self.itt += 1;
        let numbers = self.numbers();
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        (self.itt, numbers)
    }

    /// The last request was immediate: its CmdSN is used again.
    pub(crate) fn immediate(&mut self, request: Packet) -> Packet {
        self.cmd_sn = self.cmd_sn.wrapping_sub(1);
        request.immediate()
    }

    /// A Login Request; `transit` is the stage to go to.
    pub(crate) fn login(&mut self, stage: u8, transit: Option<u8>, pairs: &[(&str, &str)]) -> Packet {
        let header = LoginRequestHeader {
            immediate: true,
            transit: transit.is_some(),
            continues: false,
            stage: LoginStage::new(stage),
            next_stage: LoginStage::new(transit.unwrap_or_default()),
            version_max: 0,
            version_min: 0,
            isid: self.isid,
            tsih: self.tsih,
            itt: self.itt,
            cid: self.cid,
            numbers: self.numbers(),
        };
        let mut text = Vec::new();
        for (key, value) in pairs {
            push_pair(&mut text, key, value);
        }
        Packet::new(&header).data(&text)
    }

    /// A SCSI Command without immediate data and without unsolicited Data-Out.
    pub(crate) fn command(&mut self, lun: u64, cdb: &[u8], transfer: Transfer) -> Packet {
        let (itt, numbers) = self.request();
        let mut flags = ScsiCommandFlags::FINAL.with_attribute(IscsiTaskAttribute::SIMPLE);
        if transfer.reads.is_some() {
            flags = flags.with(ScsiCommandFlags::READ);
        }
        if transfer.writes.is_some() {
            flags = flags.with(ScsiCommandFlags::WRITE);
        }
        let mut header = ScsiCommandHeader {
            immediate: false,
            flags,
            lun,
            itt,
            expected_len: transfer.writes.or(transfer.reads).unwrap_or_default(),
            numbers,
            cdb: [0; 16],
        };
        let short = cdb.len().min(16);
        header.cdb[..short].copy_from_slice(&cdb[..short]);
        let mut packet = Packet::new(&header);
        if cdb.len() > 16 {
            packet = packet.ahs(1, &cdb[16..]);
        }
        match transfer {
            Transfer { reads: Some(len), writes: Some(_) } => packet.ahs(2, &len.to_be_bytes()),
            _ => packet,
        }
    }

    /// A Data-Out PDU of a command: as an answer to `r2t`, or unsolicited without one.
    pub(crate) fn data_out(
        &self,
        command: &Packet,
        r2t: Option<&Packet>,
        data_sn: u32,
        offset: u32,
        data: &[u8],
        last: bool,
    ) -> Packet {
        let ScsiCommandHeader { lun, itt, .. } = ScsiCommandHeader::parse(&command.bhs);
        let header = DataOutHeader {
            is_final: last,
            lun,
            itt,
            ttt: r2t.map_or(NO_TAG, |r2t| R2tHeader::parse(&r2t.bhs).ttt),
            exp_stat_sn: self.exp_stat_sn,
            data_sn,
            buffer_offset: offset,
        };
        Packet::new(&header).data(data)
    }

    /// All that an R2T asks for, of the command's whole `buffer`, in PDUs of at most `segment` bytes.
    pub(crate) fn answer_r2t(
        &self,
        command: &Packet,
        r2t: &Packet,
        buffer: &[u8],
        segment: usize,
    ) -> Vec<Packet> {
        let R2tHeader { buffer_offset, desired_len, .. } = R2tHeader::parse(&r2t.bhs);
        let (at, len) = (buffer_offset as usize, desired_len as usize);
        let burst = &buffer[at..at + len];
        let count = burst.len().div_ceil(segment);
        let pdus = burst.chunks(segment).enumerate().map(|(i, chunk)| {
            let offset = u32::try_from(at + i * segment).unwrap();
            self.data_out(command, Some(r2t), u32::try_from(i).unwrap(), offset, chunk, i + 1 == count)
        });
        pdus.collect()
    }

    pub(crate) fn task_management(&mut self, function: u8, lun: u64) -> Packet {
        let (itt, numbers) = self.request();
        Packet::new(&TaskManagementRequestHeader {
            immediate: false,
            function: IscsiFunction::new(function),
            lun,
            itt,
            referenced_task_tag: NO_TAG,
            numbers,
            ref_cmd_sn: 0,
            exp_data_sn: 0,
        })
    }

    pub(crate) fn abort_task(&mut self, command: &Packet) -> Packet {
        let ScsiCommandHeader { lun, itt, numbers, .. } = ScsiCommandHeader::parse(&command.bhs);
        let mut packet = self.task_management(1, lun);
        packet.edit(|request: &mut TaskManagementRequestHeader| {
            (request.referenced_task_tag, request.ref_cmd_sn) = (itt, numbers.cmd_sn);
        });
        packet
    }

    pub(crate) fn nop_out(&mut self, data: &[u8]) -> Packet {
        let (itt, numbers) = self.request();
        Packet::new(&NopOutHeader { immediate: false, lun: 0, itt, ttt: NO_TAG, numbers }).data(data)
    }

    pub(crate) fn text(&mut self, text: &[u8]) -> Packet {
        let (itt, numbers) = self.request();
        let (immediate, is_final, continues) = (false, true, false);
        let header = TextRequestHeader { immediate, is_final, continues, lun: 0, itt, ttt: NO_TAG, numbers };
        Packet::new(&header).data(text)
    }

    pub(crate) fn logout(&mut self, reason: u8) -> Packet {
        let (itt, numbers) = self.request();
        let reason = LogoutReason::new(reason);
        Packet::new(&LogoutRequestHeader { immediate: false, reason, itt, cid: self.cid, numbers })
    }

    /// Takes bytes of the target's stream and returns the PDUs that are whole now. Digests and padding are checked, and
    /// so are StatSN and the command window, which only ever grows.
    ///
    /// # Panics
    /// When any of that is wrong.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<Packet> {
        self.push(bytes);
        std::iter::from_fn(|| self.next().unwrap_or_else(|e| panic!("{e}"))).collect()
    }

    /// Takes bytes of the target's stream, for [`Self::next`].
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.inbox.extend(bytes);
    }

    /// The next PDU that is whole, checked as by [`Self::take`].
    pub(crate) fn next(&mut self) -> Result<Option<Packet>, StreamError> {
        let packet = self.cut()?;
        packet.map(|packet| self.account(&packet).map(|()| packet)).transpose()
    }

    /// Bytes of a PDU that is not whole.
    pub(crate) fn is_between_pdus(&self) -> bool {
        self.inbox.is_empty()
    }

    fn cut(&mut self) -> Result<Option<Packet>, StreamError> {
        let Some(bhs) = self.inbox.first_chunk() else { return Ok(None) };
        let bhs = Bhs::from(*bhs);
        // A login response never has digests. (What only looks like one, because it was damaged, has.)
        let digests = match bhs.opcode() {
            Opcode::LOGIN_RESPONSE if !self.full_feature => Digests::default(),
            _ => self.digests,
        };
        let head = Bhs::LEN + bhs.ahs_len();
        let body = head + if digests.header { 4 } else { 0 };
        // The lengths are used only when they are known to be right.
        if self.inbox.len() < body {
            return Ok(None);
        }
        if digests.header && self.inbox[head..body] != Crc32c::of(&self.inbox[..head]).wire() {
            return Err(StreamError::Digest);
        }
        let padded = bhs.data_len().next_multiple_of(4);
        let end = body + padded + if digests.data && padded > 0 { 4 } else { 0 };
        let pdu: Vec<u8> = match self.inbox.len() >= end {
            true => self.inbox.drain(..end).collect(),
            false => return Ok(None),
        };
        if digests.data && padded > 0 && pdu[end - 4..] != Crc32c::of(&pdu[body..body + padded]).wire() {
            return Err(StreamError::Digest);
        }
        let data_end = body + bhs.data_len();
        if pdu[data_end..body + padded].iter().any(|&b| b != 0) {
            return Err(StreamError::Padding);
        }
        let (ahs, data) = (pdu[Bhs::LEN..head].to_vec(), pdu[body..data_end].to_vec());
        Ok(Some(Packet { bhs, ahs, data, padding: 0 }))
    }

    fn account(&mut self, packet: &Packet) -> Result<(), StreamError> {
        let bhs = &packet.bhs;
        let unnumbered = match bhs.opcode() {
            Opcode::R2T => true,
            Opcode::DATA_IN => !DataInHeader::parse(bhs).has_status,
            Opcode::NOP_IN => bhs.itt() == NO_TAG,
            _ => false,
        };
        let numbers = bhs.response_numbers();
        if numbers.stat_sn != self.exp_stat_sn {
            return Err(StreamError::StatSn);
        }
        if !unnumbered {
            self.exp_stat_sn = self.exp_stat_sn.wrapping_add(1);
        }
        self.full_feature |= packet.ends_login();
        let (exp, max) = (numbers.exp_cmd_sn, numbers.max_cmd_sn);
        let back = |new: u32, old: u32| new.wrapping_sub(old) >= 1 << 31;
        if self.exp_cmd_sn != 0 && (back(exp, self.exp_cmd_sn) || back(max, self.max_cmd_sn)) {
            return Err(StreamError::Window);
        }
        (self.exp_cmd_sn, self.max_cmd_sn) = (exp, max);
        Ok(())
    }
}
