// SPDX-License-Identifier: GPL-2.0-or-later
//! WRITE and WRITE FILEMARKS, (6) and (16) (SSC-4 6.2, 6.4). A record is part of the image when its payload is on the
//! store: a task that is aborted before leaves nothing.

use super::drive::{Drive, Job, TapeZone};
use super::forms::{GuardFailed, PROTECTION, RecordEncoder, stored_max};
use super::read::{RecordTransfer, add_to_sum, length};
use super::store_work::{Pause, StoreWork, no_memory};
use crate::formats::tape::{AppendError, INLINE_MAX, RECORD_BYTES_MAX, RecordHeader, StoreRange};
use crate::io::{Done, Op};
use crate::memory::{Seg, Sg};
use crate::scsi::primary::{Fault, MediumAccess, unexpected};
use crate::scsi::{Context, Outcome, Resume, Sense, Step, asc, key};
use crate::wire::Crc32c;

/// What fills the last block of a payload.
static ZEROS: [u8; 4096] = [0; 4096];

/// What a WRITE waits for.
#[derive(Debug)]
enum WriteStage {
    /// The next record is to be begun.
    Next,
    /// The bytes of so many records that lie between the headers.
    Small(u32),
    /// The payload of a record, which goes there; so much of it is on the store or on the way to it.
    Payload { range: StoreRange, done: u32 },
    /// What is made of a record.
    Formed(Box<FormedRecord>),
    /// All records are part of the image.
    Written,
}

/// A record that something is done to on its way.
#[derive(Debug)]
struct FormedRecord {
    encoder: RecordEncoder,
    /// Where its payload goes, if it is too large to lie between the headers.
    range: Option<StoreRange>,
    /// Bytes that have come from the initiator, and those on the store or on the way to it.
    fetched: u32,
    written: u32,
    /// Length and sum of the payload, when all has come.
    payload: Option<(u32, u32)>,
}

/// WRITE under way.
#[derive(Debug)]
pub(super) struct TapeWrite {
    transfer: RecordTransfer,
    left: u32,
    stage: WriteStage,
    /// Of the payload of the record.
    sum: Crc32c,
    /// Where the data ended before.
    began: Option<TapeZone>,
}

impl TapeWrite {
    pub(super) fn begin(job: &Job<'_>) -> Result<Self, Fault> {
        let transfer = RecordTransfer::of(job)?;
        if transfer.len > RECORD_BYTES_MAX {
            return Err(Sense::invalid_field_in_cdb(2, None).into());
        }
        if job.unit.drive().modes.protects_writes && transfer.count > 0 && transfer.len <= PROTECTION {
            return Err(Sense::invalid_field_in_cdb(2, None).into());
        }
        let wanted = transfer.bytes();
        if u64::from(job.command.expected.data_out) < wanted {
            return Err(Fault::PartOfBlock { wanted });
        }
        job.counts.command(MediumAccess::Write, wanted);
        Ok(Self {
            transfer,
            left: transfer.count,
            stage: WriteStage::Next,
            sum: Crc32c::default(),
            began: None,
        })
    }

    pub(super) fn advance(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        mut answer: Option<Resume>,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Pause> {
        loop {
            match (&mut self.stage, answer.take()) {
                (WriteStage::Next, None) if self.left == 0 => {
                    // BUFFERED MODE 0: the status comes when all is on stable storage.
                    if drive.modes.unbuffered && self.transfer.count > 0 {
                        drive.image().sync();
                    }
                    self.stage = WriteStage::Written;
                }
                (WriteStage::Next, None) => return Err(self.next(store, drive, job, cx)?),
                (WriteStage::Small(count), Some(Resume::Fetched(data))) => {
                    let count = *count;
                    self.take_small(drive, count, &data)?;
                }
                (WriteStage::Formed(record), Some(Resume::Fetched(data))) => {
                    record.fetched += data.len() as u32;
                    record.encoder.push(&data.to_vec());
                    self.form(store, drive, job, cx)?;
                }
                (WriteStage::Formed(_), Some(Resume::Stored(Done::Finished))) => {
                    self.form(store, drive, job, cx)?;
                }
                (WriteStage::Payload { range, done }, Some(Resume::Fetched(mut data))) => {
                    add_to_sum(&mut self.sum, &data);
                    let at = range.at + u64::from(*done);
                    *done += data.len() as u32;
                    let padding = data.len().next_multiple_of(ZEROS.len()) - data.len();
                    data.push(Seg::from_static(&ZEROS[..padding]));
                    return Err(store.wait_for(Step::Store(Op::Write { at, data, fua: false })));
                }
                (WriteStage::Payload { done, .. }, Some(Resume::Stored(Done::Finished)))
                    if *done < self.transfer.len =>
                {
                    let len = (self.transfer.len - *done).min(job.shape.chunk);
                    return Err(store.wait_for(Step::Fetch { len }));
                }
                (WriteStage::Payload { .. }, Some(Resume::Stored(Done::Finished))) => {
                    let (logical, sum) = (self.transfer.len, self.sum.value());
                    let header = RecordHeader { logical, stored: logical, form: 0, sum };
                    let partition = drive.partition;
                    let appended = drive.image().append(partition, &header);
                    self.appended(drive, &header, appended.map(|_| ()))?;
                }
                (WriteStage::Written, None) => {
                    store.settle(drive, cx)?;
                    return Ok(self.good(drive));
                }
                (_, other) => return Err(unexpected(other, &job.shape).into()),
            }
            // Between records the image does what it wants.
            store.settle(drive, cx)?;
        }
    }

    /// Begins the next record, or several small ones.
    fn next(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        job: &Job<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Pause, Pause> {
        let RecordTransfer { len, .. } = self.transfer;
        if let Some(sense) = drive.refusal() {
            return Err(sense.into());
        }
        let (partition, lba) = (drive.partition, drive.lba);
        store.ask(drive, |image| image.begin(partition, lba))?;
        store.settle(drive, cx)?;
        self.began.get_or_insert_with(|| drive.zone());
        let modes = drive.modes;
        if modes.compresses || modes.protects_writes || drive.encryption.encrypts {
            return self.begin_forming(store, drive, job, cx);
        }
        if !drive.has_room(len) {
            return Err(self.full());
        }
        if len <= INLINE_MAX {
            let count = self.left.min(job.shape.chunk / len).max(1);
            self.stage = WriteStage::Small(count);
            return Ok(store.wait_for(Step::Fetch { len: count * len }));
        }
        let range = match drive.image().reserve(partition, len) {
            Ok(range) => range,
            Err(e) => return Err(self.refused(e)),
        };
        // It goes where it does when the packed block before it is closed.
        store.settle(drive, cx)?;
        (self.stage, self.sum) = (WriteStage::Payload { range, done: 0 }, Crc32c::default());
        Ok(store.wait_for(Step::Fetch { len: len.min(job.shape.chunk) }))
    }

    /// Begins a record that something is to be done to.
    fn begin_forming(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        job: &Job<'_>,
        cx: &Context<'_>,
    ) -> Result<Pause, Pause> {
        let (partition, modes) = (drive.partition, drive.modes);
        let logical = self.transfer.len - if modes.protects_writes { PROTECTION } else { 0 };
        let most = stored_max(logical);
        let range = match most > INLINE_MAX {
            true => Some(drive.image().reserve(partition, most).map_err(|e| self.refused(e))?),
            false => None,
        };
        store.settle(drive, cx)?;
        let cipher = drive.encryption.cipher(logical);
        let encoder = RecordEncoder::new(modes.compresses, logical, modes.protects_writes, cipher);
        let record = FormedRecord { encoder, range, fetched: 0, written: 0, payload: None };
        self.stage = WriteStage::Formed(Box::new(record));
        Ok(store.wait_for(Step::Fetch { len: self.transfer.len.min(job.shape.chunk) }))
    }

    /// Goes on with such a record: fetches, writes whole blocks of what comes of it, and at last appends it.
    fn form(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        job: &Job<'_>,
        cx: &Context<'_>,
    ) -> Result<(), Pause> {
        let (wire, chunk) = (self.transfer.len, job.shape.chunk);
        let WriteStage::Formed(record) = &mut self.stage else { return Ok(()) };
        if record.fetched < wire && record.encoder.out.len() < chunk as usize {
            return Err(store.wait_for(Step::Fetch { len: (wire - record.fetched).min(chunk) }));
        }
        if record.fetched == wire && record.payload.is_none() {
            match record.encoder.finish() {
                Ok((stored, _)) if !drive.has_room(stored) => return Err(self.full()),
                Ok(payload) => record.payload = Some(payload),
                Err(GuardFailed) => {
                    let information = Some(self.transfer.residual(self.left));
                    let sense = Sense::new(key::HARDWARE_ERROR, asc::LOGICAL_BLOCK_GUARD_CHECK_FAILED);
                    let outcome = Outcome::check(Sense { information, ..sense });
                    return Err(Pause::Ended(Box::new(self.with_data(outcome))));
                }
            }
        }
        let out = &mut record.encoder.out;
        let inline = record.payload.is_some_and(|(stored, _)| stored <= INLINE_MAX);
        if let Some(range) = record.range.filter(|_| !inline && !out.is_empty()) {
            let piece: Vec<u8> = out.drain(..out.len().min(chunk as usize)).collect();
            let mut data = Sg::copied(cx.arena, &piece).ok_or_else(no_memory)?;
            data.push(Seg::from_static(&ZEROS[..piece.len().next_multiple_of(ZEROS.len()) - piece.len()]));
            let at = range.at + u64::from(record.written);
            record.written += piece.len() as u32;
            return Err(store.wait_for(Step::Store(Op::Write { at, data, fua: false })));
        }
        let Some((stored, sum)) = record.payload else { return Ok(()) };
        let logical = wire - if drive.modes.protects_writes { PROTECTION } else { 0 };
        let header = RecordHeader { logical, stored, form: record.encoder.form(), sum };
        let (partition, payload) = (drive.partition, std::mem::take(&mut record.encoder.out));
        drive.saw_encrypted |= drive.encryption.encrypts;
        let appended = match inline {
            true => drive.image().append_inline(partition, &header, &payload),
            false => drive.image().append(partition, &header).map(|_| ()),
        };
        self.appended(drive, &header, appended)
    }

    fn take_small(&mut self, drive: &mut Drive, count: u32, data: &Sg) -> Result<(), Pause> {
        let bytes = data.to_vec();
        let logical = self.transfer.len;
        for payload in bytes.chunks_exact(logical as usize).take(count as usize) {
            if !drive.has_room(logical) {
                return Err(self.full());
            }
            let sum = Crc32c::of(payload).value();
            let header = RecordHeader { logical, stored: logical, form: 0, sum };
            let partition = drive.partition;
            let appended = drive.image().append_inline(partition, &header, payload);
            self.appended(drive, &header, appended)?;
        }
        Ok(())
    }

    /// A record is part of the image, or not.
    fn appended(
        &mut self,
        drive: &mut Drive,
        header: &RecordHeader,
        appended: Result<(), AppendError>,
    ) -> Result<(), Pause> {
        match appended {
            Ok(()) => {
                drive.count(|counts| {
                    counts.from_host += u64::from(header.logical);
                    counts.to_medium += u64::from(header.stored);
                    counts.records_written += 1;
                });
                drive.lba += 1;
                self.left -= 1;
                self.stage = WriteStage::Next;
                checkpoint_if_due(drive);
                Ok(())
            }
            Err(e) => Err(self.refused(e)),
        }
    }

    fn refused(&self, why: AppendError) -> Pause {
        match why {
            AppendError::Full => self.full(),
            AppendError::NotBegun => Sense::new(key::HARDWARE_ERROR, asc::INTERNAL_TARGET_FAILURE).into(),
        }
    }

    /// The physical end of the partition: what was written before it stays.
    fn full(&self) -> Pause {
        let information = Some(self.transfer.residual(self.left));
        let sense = Sense::new(key::VOLUME_OVERFLOW, asc::END_OF_PARTITION);
        Pause::Ended(Box::new(self.with_data(Outcome::check(Sense { eom: true, information, ..sense }))))
    }

    fn good(&self, drive: &mut Drive) -> Outcome {
        self.with_data(warned(drive, self.began))
    }

    fn with_data(&self, outcome: Outcome) -> Outcome {
        Outcome { data_out: self.transfer.bytes(), ..outcome }
    }
}

/// Bounds the time that a mount after a crash takes.
fn checkpoint_if_due(drive: &mut Drive) {
    let image = drive.image();
    if image.checkpoint_due() {
        image.checkpoint();
    }
}

/// GOOD; behind the early warning, that, although all was written; and once behind the programmable one. `began`: where
/// the data ended before, if anything was written.
fn warned(drive: &mut Drive, began: Option<TapeZone>) -> Outcome {
    let code = match (began, drive.zone()) {
        (Some(_), TapeZone::Warning) => asc::END_OF_PARTITION,
        (Some(TapeZone::Free), TapeZone::Programmable) => asc::PROGRAMMABLE_EARLY_WARNING_DETECTED,
        _ => return Outcome::good(),
    };
    Outcome::check(Sense { eom: true, information: Some(0), ..Sense::new(key::NO_SENSE, code) })
}

/// WRITE FILEMARKS under way.
#[derive(Debug)]
pub(super) struct Filemarks {
    count: u32,
    /// The status does not wait for stable storage.
    immediate: bool,
    appended: bool,
    began: Option<TapeZone>,
}

impl Filemarks {
    pub(super) fn begin(job: &Job<'_>) -> Result<Self, Fault> {
        const WSMK: u8 = 0x02;
        const IMMED: u8 = 0x01;
        if job.cdb[1] & WSMK != 0 {
            return Err(Sense::invalid_field_in_cdb(1, Some(1)).into());
        }
        let immediate = job.cdb[1] & IMMED != 0;
        Ok(Self { count: length(job), immediate, appended: false, began: None })
    }

    pub(super) fn advance(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        cx: &Context<'_>,
    ) -> Result<Outcome, Pause> {
        if !self.appended {
            if self.count > 0 {
                if let Some(sense) = drive.refusal() {
                    return Err(sense.into());
                }
                let (partition, lba) = (drive.partition, drive.lba);
                store.ask(drive, |image| image.begin(partition, lba))?;
                store.settle(drive, cx)?;
                self.began = Some(drive.zone());
                match drive.image().append_filemarks(partition, self.count) {
                    Ok(()) => drive.lba += u64::from(self.count),
                    Err(_) => {
                        let sense = Sense::new(key::VOLUME_OVERFLOW, asc::END_OF_PARTITION);
                        let information = Some(self.count.into());
                        return Err(Sense { eom: true, information, ..sense }.into());
                    }
                }
            }
            self.appended = true;
            checkpoint_if_due(drive);
            if !self.immediate {
                drive.image().sync();
            }
        }
        store.settle(drive, cx)?;
        Ok(warned(drive, self.began))
    }
}
