// SPDX-License-Identifier: GPL-2.0-or-later
//! READ(6) and (16), READ REVERSE and VERIFY (SSC-4 6.1, 6.5, 6.9): records, one of any length or several of one
//! length.

use super::drive::{Drive, Job};
use super::encryption::{DecryptFault, DecryptMode};
use super::forms::{AS_IT_IS, COMPRESSED, ENCRYPTED, PROTECTION, RecordDecoder};
use super::store_work::{Pause, StoreWork};
use crate::formats::tape::{RecordHeader, RecordPayload, StoreRange, TapeObject};
use crate::io::{Done, Landing, Op};
use crate::memory::Sg;
use crate::scsi::primary::{Fault, MediumAccess, unexpected};
use crate::scsi::{Context, Outcome, Resume, Sense, Step, asc, key};
use crate::wire::Crc32c;
use crate::wire::scsi::be24;

const SILI: u8 = 0x02;
pub(super) const FIXED: u8 = 0x01;

/// The CRC of bytes that may lie in memory that others see, too.
pub(super) fn add_to_sum(sum: &mut Crc32c, data: &Sg) {
    const PIECE: usize = 4096;
    for seg in data.segs() {
        match seg.private() {
            Some(bytes) => sum.update(bytes),
            None => {
                let mut piece = [0; PIECE];
                for at in (0..seg.len()).step_by(PIECE) {
                    let piece = &mut piece[..PIECE.min(seg.len() - at)];
                    seg.copy_to(at, piece);
                    sum.update(piece);
                }
            }
        }
    }
}

/// TRANSFER LENGTH, which the commands of 16 bytes have elsewhere.
pub(super) fn length(job: &Job<'_>) -> u32 {
    const OF_16_BYTES: u8 = 0x80;
    be24(&job.cdb, if job.cdb[0] < OF_16_BYTES { 2 } else { 12 })
}

/// How records are transferred: FIXED, TRANSFER LENGTH and the block length of the mode parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordTransfer {
    /// Several records of one length.
    pub(super) fixed: bool,
    /// That length, or the transfer length of a record of any length.
    pub(super) len: u32,
    /// Records.
    pub(super) count: u32,
}

impl RecordTransfer {
    pub(super) fn of(job: &Job<'_>) -> Result<Self, Fault> {
        let (fixed, length) = (job.cdb[1] & FIXED != 0, length(job));
        if !fixed {
            return Ok(Self { fixed, len: length, count: u32::from(length > 0) });
        }
        match job.unit.drive().modes.block_length {
            0 => Err(Sense::invalid_field_in_cdb(1, Some(0)).into()),
            len => Ok(Self { fixed, len, count: length }),
        }
    }

    /// Bytes of all records.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.len) * u64::from(self.count)
    }

    /// INFORMATION when so many records were not transferred: records, or bytes of the one.
    pub(super) fn residual(&self, left: u32) -> u64 {
        if self.fixed { left.into() } else { u64::from(left) * u64::from(self.len) }
    }
}

/// The record that is being read.
#[derive(Debug)]
struct RecordRead {
    header: RecordHeader,
    range: StoreRange,
    /// Bytes that have been read.
    got: u32,
    /// Bytes that go to the initiator, of which so many have been taken.
    take: u32,
    taken: u32,
    sum: Crc32c,
    /// Makes the record of its payload, if that is not the same.
    decoder: Option<Box<RecordDecoder>>,
    /// Payload that it has yet to take.
    undecoded: Vec<u8>,
}

/// How far is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadUntil {
    /// As many records as the transfer has.
    Records,
    /// Over so many filemarks.
    Filemarks,
    /// To the end of the data.
    EndOfData,
}

/// READ, READ REVERSE or VERIFY under way.
#[derive(Debug)]
pub(super) struct TapeRead {
    access: MediumAccess,
    reverse: bool,
    until: ReadUntil,
    transfer: RecordTransfer,
    /// Records or filemarks that are left.
    left: u32,
    /// SUPPRESS INCORRECT LENGTH INDICATOR.
    sili: bool,
    payload: Option<RecordRead>,
    /// Bytes that are to be sent, and those that have been.
    pending: Sg,
    sent: u64,
}

impl TapeRead {
    pub(super) fn begin(job: &Job<'_>) -> Result<Self, Fault> {
        let sili = job.cdb[1] & SILI != 0;
        if sili && job.cdb[1] & FIXED != 0 {
            return Err(Sense::invalid_field_in_cdb(1, Some(1)).into());
        }
        Ok(Self::new(MediumAccess::Read, RecordTransfer::of(job)?, job, sili))
    }

    fn new(access: MediumAccess, transfer: RecordTransfer, job: &Job<'_>, sili: bool) -> Self {
        job.counts.command(access, transfer.bytes());
        Self {
            access,
            reverse: false,
            until: ReadUntil::Records,
            transfer,
            left: transfer.count,
            sili,
            payload: None,
            pending: Sg::new(),
            sent: 0,
        }
    }

    /// READ REVERSE: records come in the order of the motion, each as it was written.
    pub(super) fn begin_reverse(job: &Job<'_>) -> Result<Self, Fault> {
        Ok(Self { reverse: true, ..Self::begin(job)? })
    }

    /// VERIFY: nothing goes to the initiator.
    pub(super) fn begin_verify(job: &Job<'_>) -> Result<Self, Fault> {
        const VTE: u8 = 0x20;
        const VBF: u8 = 0x08;
        let until = match job.cdb[1] & (VTE | VBF) {
            0 => ReadUntil::Records,
            VBF => ReadUntil::Filemarks,
            VTE => ReadUntil::EndOfData,
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(5)).into()),
        };
        let transfer = match until {
            ReadUntil::Records => RecordTransfer::of(job)?,
            ReadUntil::Filemarks => RecordTransfer { fixed: true, len: 0, count: length(job) },
            ReadUntil::EndOfData => RecordTransfer { fixed: true, len: 0, count: 1 },
        };
        Ok(Self { until, ..Self::new(MediumAccess::Verify, transfer, job, false) })
    }

    /// What its errors are counted as.
    pub(super) fn access(&self) -> MediumAccess {
        self.access
    }

    fn sends(&self) -> bool {
        self.access == MediumAccess::Read
    }

    /// The head goes over an object.
    fn pass(&self, drive: &mut Drive) {
        drive.lba = if self.reverse { drive.lba.saturating_sub(1) } else { drive.lba + 1 };
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn advance(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Pause> {
        match answer {
            None | Some(Resume::Sent) => {}
            Some(Resume::Stored(Done::Data(data))) => self.take_data(drive, data, job)?,
            other => {
                self.pass(drive);
                return Err(unexpected(other, &job.shape).into());
            }
        }
        loop {
            if self.pending.len() >= job.shape.chunk as usize && (self.payload.is_some() || self.left > 0) {
                return Err(self.send(store));
            }
            if self.payload.as_ref().is_some_and(|payload| !payload.undecoded.is_empty()) {
                self.decode(drive, job, cx)?;
                continue;
            }
            if let Some(payload) = &self.payload {
                return Err(store.wait_for(self.next_read(payload, job, cx)));
            }
            if self.left == 0 {
                return Ok(self.ended(None));
            }
            self.next_record(store, drive, cx)?;
        }
    }

    fn send(&mut self, store: &mut StoreWork) -> Pause {
        self.sent += self.pending.len() as u64;
        store.wait_for(Step::Send(std::mem::take(&mut self.pending)))
    }

    fn next_read(&self, payload: &RecordRead, job: &Job<'_>, cx: &mut Context<'_>) -> Step {
        let at = payload.range.at + u64::from(payload.got);
        let left = payload.header.stored - payload.got;
        let len = left.next_multiple_of(4096).min(job.shape.chunk);
        let plain = self.sends() && payload.decoder.is_none();
        let whole = plain && self.pending.is_empty() && len <= payload.take - payload.taken;
        let into = if whole { cx.landing(len, self.fits(len, job)) } else { Landing::Own };
        Step::Store(Op::Read { at, len, into })
    }

    /// Whether the initiator has room for so many bytes more.
    fn fits(&self, len: u32, job: &Job<'_>) -> bool {
        self.sent + self.pending.len() as u64 + u64::from(len) <= job.command.expected.data_in.into()
    }

    /// Looks at the next object.
    fn next_record(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        cx: &Context<'_>,
    ) -> Result<(), Pause> {
        let partition = drive.partition;
        let residual = Some(self.transfer.residual(self.left));
        let Some(lba) = (if self.reverse { drive.lba.checked_sub(1) } else { Some(drive.lba) }) else {
            let sense = Sense::new(key::NO_SENSE, asc::BEGINNING_OF_PARTITION_DETECTED);
            return self.end(Sense { information: residual, eom: true, ..sense });
        };
        match store.ask(drive, |image| image.find(partition, lba))? {
            None if self.until == ReadUntil::EndOfData => {
                self.left = 0;
                Ok(())
            }
            None => {
                let eom = drive.past_warning();
                let sense = Sense::new(key::BLANK_CHECK, asc::END_OF_DATA_DETECTED);
                self.end(Sense { information: residual, eom, ..sense })
            }
            Some(TapeObject::Filemark) if self.until != ReadUntil::Records => {
                self.pass(drive);
                self.left -= u32::from(self.until == ReadUntil::Filemarks);
                Ok(())
            }
            Some(TapeObject::Filemark) => {
                self.pass(drive);
                let sense = Sense::new(key::NO_SENSE, asc::FILEMARK_DETECTED);
                self.end(Sense { information: residual, filemark: true, ..sense })
            }
            Some(TapeObject::Record(header, _)) if header.form > COMPRESSED | ENCRYPTED => {
                self.pass(drive);
                self.end(Sense::new(key::MEDIUM_ERROR, asc::UNKNOWN_FORMAT))
            }
            Some(TapeObject::Record(header, _)) if self.sends() && locked(drive, &header).is_some() => {
                let code = locked(drive, &header).unwrap_or(asc::UNABLE_TO_DECRYPT_DATA);
                self.undecrypted(code)
            }
            Some(TapeObject::Record(header, _))
                if self.until == ReadUntil::Records
                    && self.transfer.fixed
                    && self.wire_len(drive, &header) != self.transfer.len =>
            {
                self.pass(drive);
                self.end(Sense { information: residual, ili: true, ..Sense::new(key::NO_SENSE, 0) })
            }
            Some(TapeObject::Record(header, RecordPayload::Here(bytes))) => {
                if Crc32c::of(&bytes).value() != header.sum {
                    return self.damaged(drive);
                }
                if !self.sends() {
                    return self.over(drive, &header);
                }
                let mut bytes = bytes;
                if let Some(mut decoder) = self.decoder(drive, &header) {
                    let payload = std::mem::take(&mut bytes);
                    let decoded = decoder.push(&payload, usize::MAX, &mut bytes);
                    if let Err(fault) = decoded.and_then(|_| decoder.finish(&mut bytes)) {
                        return self.not_decoded(drive, fault);
                    }
                }
                bytes.truncate(self.transfer.len as usize);
                let data = self.copied(&bytes, cx)?;
                self.pending.append(data);
                self.over(drive, &header)
            }
            Some(TapeObject::Record(header, RecordPayload::At(range))) => {
                let decoder = self.decoder(drive, &header);
                let take = self.wire_len(drive, &header).min(self.transfer.len);
                let sum = Crc32c::default();
                self.payload = Some(RecordRead {
                    header,
                    range,
                    got: 0,
                    take,
                    taken: 0,
                    sum,
                    decoder,
                    undecoded: Vec::new(),
                });
                Ok(())
            }
        }
    }

    /// Length of a record as it goes to the initiator.
    fn wire_len(&self, drive: &Drive, header: &RecordHeader) -> u32 {
        let protected = self.sends() && drive.modes.protects_reads;
        header.logical + if protected { PROTECTION } else { 0 }
    }

    /// What makes such a record of its payload; `None` if that is what goes to the initiator.
    fn decoder(&self, drive: &Drive, header: &RecordHeader) -> Option<Box<RecordDecoder>> {
        let protected = self.sends() && drive.modes.protects_reads;
        let needed = self.sends() && (header.form != AS_IT_IS || protected);
        needed.then(|| {
            Box::new(RecordDecoder::new(header.form, header.logical, protected, drive.encryption.key.clone()))
        })
    }

    /// These bytes in memory that can be sent.
    fn copied(&self, bytes: &[u8], cx: &Context<'_>) -> Result<Sg, Pause> {
        Sg::copied(cx.arena, bytes).ok_or_else(|| match self.sent + self.pending.len() as u64 {
            0 => Fault::Busy.into(),
            _ => super::store_work::no_memory(),
        })
    }

    /// A part of the payload has been read.
    fn take_data(&mut self, drive: &mut Drive, mut data: Sg, job: &Job<'_>) -> Result<(), Pause> {
        let sends = self.sends();
        let Some(mut payload) = self.payload.take() else { return Err(unexpected(None, &job.shape).into()) };
        data.truncate((payload.header.stored - payload.got) as usize);
        add_to_sum(&mut payload.sum, &data);
        payload.got += data.len() as u32;
        let whole = payload.got == payload.header.stored;
        if whole && payload.sum.value() != payload.header.sum {
            return self.damaged(drive);
        }
        if payload.decoder.is_some() {
            payload.undecoded.extend(data.to_vec());
            self.payload = Some(payload);
            return Ok(());
        }
        data.truncate(if sends { (payload.take - payload.taken) as usize } else { 0 });
        payload.taken += data.len() as u32;
        self.pending.append(data);
        if !whole && (!sends || payload.taken < payload.take) {
            self.payload = Some(payload);
            return Ok(());
        }
        self.over(drive, &payload.header)
    }

    /// Makes a part of the record of payload that has been read.
    fn decode(&mut self, drive: &mut Drive, job: &Job<'_>, cx: &Context<'_>) -> Result<(), Pause> {
        let Some(mut payload) = self.payload.take() else { return Ok(()) };
        let all_read = payload.got == payload.header.stored;
        let RecordRead { decoder: Some(decoder), undecoded, .. } = &mut payload else { return Ok(()) };
        let mut record = Vec::new();
        let taken = match decoder.push(undecoded, job.shape.chunk as usize, &mut record) {
            Ok(taken) => taken,
            Err(fault) => return self.not_decoded(drive, fault),
        };
        undecoded.drain(..taken);
        let whole = all_read && undecoded.is_empty();
        if whole && let Err(fault) = decoder.finish(&mut record) {
            return self.not_decoded(drive, fault);
        }
        record.truncate((payload.take - payload.taken) as usize);
        payload.taken += record.len() as u32;
        let record = self.copied(&record, cx)?;
        self.pending.append(record);
        if !whole && payload.taken < payload.take {
            self.payload = Some(payload);
            return Ok(());
        }
        self.over(drive, &payload.header)
    }

    /// No record comes of the payload.
    fn not_decoded(&mut self, drive: &mut Drive, fault: DecryptFault) -> Result<(), Pause> {
        match fault {
            DecryptFault::Malformed => self.damaged(drive),
            DecryptFault::WrongKey => self.undecrypted(asc::INCORRECT_DATA_ENCRYPTION_KEY),
            DecryptFault::NotAuthentic => self.undecrypted(asc::CRYPTOGRAPHIC_INTEGRITY_VALIDATION_FAILED),
        }
    }

    /// The head stays in front of a record that cannot be read so.
    fn undecrypted(&mut self, code: u16) -> Result<(), Pause> {
        let information = Some(self.transfer.residual(self.left));
        self.end(Sense { information, ..Sense::new(key::DATA_PROTECT, code) })
    }

    /// What was read is not what was written.
    fn damaged(&mut self, drive: &mut Drive) -> Result<(), Pause> {
        self.pass(drive);
        let information = Some(self.transfer.residual(self.left));
        self.end(Sense { information, ..Sense::new(key::MEDIUM_ERROR, asc::UNRECOVERED_READ_ERROR) })
    }

    /// A record is done.
    fn over(&mut self, drive: &mut Drive, header: &RecordHeader) -> Result<(), Pause> {
        self.pass(drive);
        let there = self.wire_len(drive, header);
        let sent = if self.sends() { there.min(self.transfer.len) } else { 0 };
        drive.count(|counts| {
            counts.to_host += u64::from(sent);
            counts.from_medium += u64::from(header.stored);
            counts.records_read += 1;
        });
        if self.until != ReadUntil::Records {
            return Ok(());
        }
        self.left -= 1;
        let asked = self.transfer.len;
        if self.transfer.fixed || asked == there || self.sili {
            return Ok(());
        }
        let information = Some((i64::from(asked) - i64::from(there)).cast_unsigned());
        self.end(Sense { information, ili: true, ..Sense::new(key::NO_SENSE, 0) })
    }

    fn end(&mut self, sense: Sense) -> Result<(), Pause> {
        Err(Pause::Ended(Box::new(self.ended(Some(sense)))))
    }

    fn ended(&mut self, sense: Option<Sense>) -> Outcome {
        let data = std::mem::take(&mut self.pending);
        let data_in = self.sent + data.len() as u64;
        let outcome = sense.map_or_else(Outcome::good, Outcome::check);
        Outcome { data, data_in, ..outcome }
    }
}

/// Why the data encryption parameters let such a record not be read, if so.
fn locked(drive: &mut Drive, header: &RecordHeader) -> Option<u16> {
    let encrypted = header.form & ENCRYPTED != 0;
    drive.saw_encrypted |= encrypted;
    match (encrypted, drive.encryption.decrypts) {
        (true, DecryptMode::Off) => Some(asc::UNABLE_TO_DECRYPT_DATA),
        (false, DecryptMode::On) => Some(asc::UNENCRYPTED_DATA_ENCOUNTERED_WHILE_DECRYPTING),
        _ => None,
    }
}
