// SPDX-License-Identifier: GPL-2.0-or-later
//! READ(6) (SSC-4 6.1): records, one of any length or several of one length.

use super::drive::{Drive, Job};
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
        let (fixed, length) = (job.cdb[1] & FIXED != 0, be24(&job.cdb, 2));
        if !fixed {
            return Ok(Self { fixed, len: length, count: u32::from(length > 0) });
        }
        match super::mode::block_length(&job.primary().state().modes) {
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
    /// Bytes that go to the initiator.
    take: u32,
    sum: Crc32c,
}

/// READ under way.
#[derive(Debug)]
pub(super) struct TapeRead {
    transfer: RecordTransfer,
    /// Records that are left.
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
        let transfer = RecordTransfer::of(job)?;
        job.counts.command(MediumAccess::Read, transfer.bytes());
        Ok(Self { transfer, left: transfer.count, sili, payload: None, pending: Sg::new(), sent: 0 })
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
                drive.lba += 1;
                return Err(unexpected(other, &job.shape).into());
            }
        }
        loop {
            if self.pending.len() >= job.shape.chunk as usize && (self.payload.is_some() || self.left > 0) {
                return Err(self.send(store));
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
        let whole = self.pending.is_empty() && len <= payload.take.saturating_sub(payload.got);
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
        let (partition, lba) = (drive.partition, drive.lba);
        let residual = Some(self.transfer.residual(self.left));
        match store.ask(drive, |image| image.find(partition, lba))? {
            None => {
                let eom = drive.past_warning();
                let sense = Sense::new(key::BLANK_CHECK, asc::END_OF_DATA_DETECTED);
                self.end(Sense { information: residual, eom, ..sense })
            }
            Some(TapeObject::Filemark) => {
                drive.lba += 1;
                let sense = Sense::new(key::NO_SENSE, asc::FILEMARK_DETECTED);
                self.end(Sense { information: residual, filemark: true, ..sense })
            }
            Some(TapeObject::Record(header, _)) if header.form != 0 => {
                drive.lba += 1;
                self.end(Sense::new(key::MEDIUM_ERROR, asc::UNKNOWN_FORMAT))
            }
            Some(TapeObject::Record(header, _))
                if self.transfer.fixed && header.logical != self.transfer.len =>
            {
                drive.lba += 1;
                self.end(Sense { information: residual, ili: true, ..Sense::new(key::NO_SENSE, 0) })
            }
            Some(TapeObject::Record(header, RecordPayload::Here(bytes))) => {
                let take = header.logical.min(self.transfer.len) as usize;
                if Crc32c::of(&bytes).value() != header.sum {
                    return self.damaged(drive);
                }
                let Some(data) = Sg::copied(cx.arena, &bytes[..take]) else {
                    return match self.sent + self.pending.len() as u64 {
                        0 => Err(Fault::Busy.into()),
                        _ => Err(super::store_work::no_memory()),
                    };
                };
                self.pending.append(data);
                self.over(drive, &header)
            }
            Some(TapeObject::Record(header, RecordPayload::At(range))) => {
                let take = header.logical.min(self.transfer.len);
                self.payload = Some(RecordRead { header, range, got: 0, take, sum: Crc32c::default() });
                Ok(())
            }
        }
    }

    /// A part of the payload has been read.
    fn take_data(&mut self, drive: &mut Drive, mut data: Sg, job: &Job<'_>) -> Result<(), Pause> {
        let Some(payload) = &mut self.payload else { return Err(unexpected(None, &job.shape).into()) };
        data.truncate((payload.header.stored - payload.got) as usize);
        add_to_sum(&mut payload.sum, &data);
        let wanted = payload.take.saturating_sub(payload.got) as usize;
        payload.got += data.len() as u32;
        data.truncate(wanted);
        self.pending.append(data);
        let whole = payload.got == payload.header.stored;
        if !whole && payload.got < payload.take {
            return Ok(());
        }
        let (header, sum) = (payload.header, payload.sum.value());
        self.payload = None;
        if whole && sum != header.sum {
            return self.damaged(drive);
        }
        self.over(drive, &header)
    }

    /// What was read is not what was written.
    fn damaged(&mut self, drive: &mut Drive) -> Result<(), Pause> {
        drive.lba += 1;
        let information = Some(self.transfer.residual(self.left));
        self.end(Sense { information, ..Sense::new(key::MEDIUM_ERROR, asc::UNRECOVERED_READ_ERROR) })
    }

    /// A record is done.
    fn over(&mut self, drive: &mut Drive, header: &RecordHeader) -> Result<(), Pause> {
        drive.lba += 1;
        self.left -= 1;
        let (asked, there) = (self.transfer.len, header.logical);
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
