// SPDX-License-Identifier: GPL-2.0-or-later
//! Motion over records and filemarks, as SPACE and LOCATE ask for it. Each is a few searches of the index, however far
//! it goes. What an image that is damaged says may not fit together: then a count may be wrong.

use super::image::{TapeImage, Unanswered};

/// What ended a motion early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MotionStop {
    /// A filemark, which was passed.
    Filemark,
    /// The beginning of the partition.
    Beginning,
    /// The end of its data.
    EndOfData,
}

/// Where a motion has led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapeMotion {
    /// The position now.
    pub lba: u64,
    /// How many of what was to be passed were passed.
    pub moved: u64,
    /// What ended it early.
    pub stopped: Option<MotionStop>,
}

impl TapeMotion {
    fn whole(lba: u64, moved: u64) -> Self {
        Self { lba, moved, stopped: None }
    }

    fn stopped(lba: u64, moved: u64, by: MotionStop) -> Self {
        Self { lba, moved, stopped: Some(by) }
    }
}

impl TapeImage {
    /// Over so many records, backwards if there are fewer than none. Stops at a filemark, behind it in the direction of
    /// the motion.
    pub fn space_records(
        &mut self,
        partition: usize,
        from: u64,
        count: i64,
    ) -> Result<TapeMotion, Unanswered> {
        let wanted = count.unsigned_abs();
        let file = self.file_of(partition, from)?;
        if count >= 0 {
            let (mark, end) = (self.find_filemark(partition, file)?, self.end(partition).lba);
            let target = from.saturating_add(wanted);
            return Ok(match mark {
                Some(mark) if mark < target => {
                    TapeMotion::stopped(mark + 1, mark.saturating_sub(from), MotionStop::Filemark)
                }
                _ if target > end => TapeMotion::stopped(end, end - from, MotionStop::EndOfData),
                _ => TapeMotion::whole(target, wanted),
            });
        }
        let mark = self.find_filemark_back(partition, file, 1)?;
        Ok(match (mark, from.checked_sub(wanted)) {
            (Some(mark), target) if target.is_none_or(|target| target <= mark) => {
                TapeMotion::stopped(mark, from.saturating_sub(mark + 1), MotionStop::Filemark)
            }
            (_, Some(target)) => TapeMotion::whole(target, wanted),
            (_, None) => TapeMotion::stopped(0, from, MotionStop::Beginning),
        })
    }

    /// Over so many filemarks, backwards if there are fewer than none.
    pub fn space_filemarks(
        &mut self,
        partition: usize,
        from: u64,
        count: i64,
    ) -> Result<TapeMotion, Unanswered> {
        let wanted = count.unsigned_abs();
        if wanted == 0 {
            return Ok(TapeMotion::whole(from, 0));
        }
        let file = self.file_of(partition, from)?;
        if count > 0 {
            let mark = self.find_filemark(partition, file.saturating_add(wanted - 1))?;
            let end = self.end(partition);
            return Ok(match mark {
                Some(mark) => TapeMotion::whole(mark + 1, wanted),
                None => TapeMotion::stopped(end.lba, end.file - file, MotionStop::EndOfData),
            });
        }
        let mark = self.find_filemark_back(partition, file, wanted)?;
        Ok(match mark {
            Some(mark) => TapeMotion::whole(mark, wanted),
            None => TapeMotion::stopped(0, file, MotionStop::Beginning),
        })
    }

    /// The filemark that is so many back from a position with `file` of them before it; `None` if there are not as
    /// many.
    fn find_filemark_back(
        &mut self,
        partition: usize,
        file: u64,
        count: u64,
    ) -> Result<Option<u64>, Unanswered> {
        match file.checked_sub(count) {
            Some(number) => self.find_filemark(partition, number),
            None => Ok(None),
        }
    }

    /// The beginning of a file: behind so many filemarks. `None` if there are not as many.
    pub fn locate_file(&mut self, partition: usize, file: u64) -> Result<Option<u64>, Unanswered> {
        match file {
            0 => Ok(Some(0)),
            _ => Ok(self.find_filemark_back(partition, file, 1)?.map(|mark| mark + 1)),
        }
    }
}
