// SPDX-License-Identifier: GPL-2.0-or-later
//! REWIND, SPACE(6) and (16), LOCATE(10) and (16) (SSC-4 7.8, 6.7, 7.9, 7.3, 7.4).

use super::drive::{Drive, Job};
use super::store_work::{Pause, StoreWork};
use crate::formats::tape::{MotionStop, TapeMotion};
use crate::scsi::primary::Fault;
use crate::scsi::{Context, Outcome, Sense, asc, key};
use crate::wire::scsi::{be24, be32, be64};

/// Where to.
#[derive(Clone, Copy, Debug)]
enum MotionTarget {
    Beginning,
    /// Over so many records.
    Records(i64),
    /// Over so many filemarks.
    Filemarks(i64),
    EndOfData,
    /// To an object of a partition.
    Object(u64),
    /// To the beginning of a file of a partition.
    File(u64),
}

/// A motion under way. What was written before is on stable storage when it begins.
#[derive(Debug)]
pub(super) struct Motion {
    target: MotionTarget,
    /// Another partition than the one of the head, and which byte of the CDB says so.
    partition: Option<(u8, u16)>,
    synchronized: bool,
}

impl Motion {
    fn new(target: MotionTarget, partition: Option<(u8, u16)>) -> Self {
        Self { target, partition, synchronized: false }
    }

    pub(super) fn rewind(_: &Job<'_>) -> Result<Self, Fault> {
        Ok(Self::new(MotionTarget::Beginning, None))
    }

    pub(super) fn space_6(job: &Job<'_>) -> Result<Self, Fault> {
        // A 24-bit number with a sign.
        let count = (be24(&job.cdb, 2) << 8).cast_signed() >> 8;
        Self::space(job.cdb[1], count.into())
    }

    pub(super) fn space_16(job: &Job<'_>) -> Result<Self, Fault> {
        Self::space(job.cdb[1], be64(&job.cdb, 4).cast_signed())
    }

    fn space(code: u8, count: i64) -> Result<Self, Fault> {
        let target = match code & 0x0f {
            0 => MotionTarget::Records(count),
            1 => MotionTarget::Filemarks(count),
            3 => MotionTarget::EndOfData,
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(3)).into()),
        };
        Ok(Self::new(target, None))
    }

    pub(super) fn locate_10(job: &Job<'_>) -> Result<Self, Fault> {
        const CP: u8 = 0x02;
        let partition = (job.cdb[1] & CP != 0).then_some((job.cdb[8], 8));
        Ok(Self::new(MotionTarget::Object(be32(&job.cdb, 3).into()), partition))
    }

    pub(super) fn locate_16(job: &Job<'_>) -> Result<Self, Fault> {
        const CP: u8 = 0x02;
        let partition = (job.cdb[1] & CP != 0).then_some((job.cdb[3], 3));
        let to = be64(&job.cdb, 4);
        let target = match job.cdb[1] >> 3 & 7 {
            0 => MotionTarget::Object(to),
            1 => MotionTarget::File(to),
            3 => MotionTarget::EndOfData,
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(5)).into()),
        };
        Ok(Self::new(target, partition))
    }

    pub(super) fn advance(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        cx: &Context<'_>,
    ) -> Result<Outcome, Pause> {
        if !std::mem::replace(&mut self.synchronized, true) {
            drive.image().sync();
        }
        store.settle(drive, cx)?;
        let other = self.partition.map(|(to, byte)| (usize::from(to), byte));
        if let Some((partition, byte)) = other.filter(|(to, _)| *to != drive.partition) {
            if partition >= drive.image().partitions().len() {
                return Err(Sense::invalid_field_in_cdb(byte, None).into());
            }
            drive.go_to(partition, 0);
        }
        let (partition, from) = (drive.partition, drive.lba);
        let end = drive.image().end(partition).lba;
        let (motion, wanted) = match self.target {
            MotionTarget::Beginning => (arrived(0), 0),
            MotionTarget::EndOfData => (arrived(end), 0),
            MotionTarget::Object(lba) if lba <= end => (arrived(lba), 0),
            MotionTarget::Object(_) => (past(end), 0),
            MotionTarget::Records(count) => {
                let motion = store.ask(drive, |image| image.space_records(partition, from, count))?;
                (motion, count.unsigned_abs())
            }
            MotionTarget::Filemarks(count) => {
                let motion = store.ask(drive, |image| image.space_filemarks(partition, from, count))?;
                (motion, count.unsigned_abs())
            }
            MotionTarget::File(file) => match store.ask(drive, |image| image.locate_file(partition, file))? {
                Some(lba) => (arrived(lba), 0),
                None => (past(end), 0),
            },
        };
        drive.go_to(partition, motion.lba);
        // LOCATE has no count: its sense data has no INFORMATION.
        let counts = matches!(self.target, MotionTarget::Records(_) | MotionTarget::Filemarks(_));
        let information = counts.then(|| wanted - motion.moved);
        let sense = match motion.stopped {
            None => return Ok(Outcome::good()),
            Some(MotionStop::Filemark) => {
                Sense { filemark: true, ..Sense::new(key::NO_SENSE, asc::FILEMARK_DETECTED) }
            }
            Some(MotionStop::Beginning) => {
                let code = asc::BEGINNING_OF_PARTITION_DETECTED;
                Sense { eom: true, ..Sense::new(key::NO_SENSE, code) }
            }
            Some(MotionStop::EndOfData) => {
                Sense { eom: drive.past_warning(), ..Sense::new(key::BLANK_CHECK, asc::END_OF_DATA_DETECTED) }
            }
        };
        Err(Sense { information, ..sense }.into())
    }
}

fn arrived(lba: u64) -> TapeMotion {
    TapeMotion { lba, moved: 0, stopped: None }
}

fn past(end: u64) -> TapeMotion {
    TapeMotion { stopped: Some(MotionStop::EndOfData), ..arrived(end) }
}
