// SPDX-License-Identifier: GPL-2.0-or-later
//! Commands that tell what is where.

use super::changer::{Job, MediaChanger};
use super::elements::MoveRefusal;
use super::status::ElementStatusRequest;
use super::tags::{self, TagSearch};
use crate::scsi::primary::handlers::answered;
use crate::scsi::primary::{Fault, TakeList, TaskWork};
use crate::scsi::{Context, Sense, asc};
use crate::wire::scsi::{be16, be24};

const START: u16 = 2;

/// READ ELEMENT STATUS.
pub(super) fn read_status(job: &Job<'_>, cx: &mut Context<'_>) -> Result<TaskWork<MediaChanger>, Fault> {
    const VOLTAG: u8 = 0x10;
    const DVCID: u8 = 0x01;
    let request = ElementStatusRequest {
        kind: tags::element_type(&job.cdb)?,
        start: be16(&job.cdb, START.into()),
        count: be16(&job.cdb, 4),
        tags: job.cdb[1] & VOLTAG != 0,
        identifiers: (job.cdb[6] & DVCID != 0).then(|| job.unit.naming()),
    };
    let inventory = job.unit.inventory();
    if !request.is_within(&inventory) {
        return Err(MoveRefusal::NoElement.sense(START).into());
    }
    let allocation = be24(&job.cdb, 7);
    let data = request.answer(&inventory, &job.unit.drives(), |_| true, 0, allocation as usize);
    answered((data, allocation), cx)
}

/// SEND VOLUME TAG.
pub(super) fn send_tag(job: &Job<'_>, _: &mut Context<'_>) -> Result<TaskWork<MediaChanger>, Fault> {
    const LENGTH: u16 = 8;
    let length = u32::from(be16(&job.cdb, LENGTH.into()));
    if length < tags::LIST {
        return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR).into());
    }
    Ok(TaskWork::Take(TakeList::new(length.min(tags::LIST), |job, list, _| {
        job.unit.search_for(TagSearch::of(&job.cdb, list)?);
        Ok((None, None))
    })))
}

/// REQUEST VOLUME ELEMENT ADDRESS: what was searched for last, once.
pub(super) fn request_address(job: &Job<'_>, cx: &mut Context<'_>) -> Result<TaskWork<MediaChanger>, Fault> {
    const VOLTAG: u8 = 0x10;
    let kind = tags::element_type(&job.cdb)?;
    let search = job.unit.take_search().ok_or_else(|| Sense::illegal(asc::COMMAND_SEQUENCE_ERROR))?;
    let request = ElementStatusRequest {
        kind: kind.or(search.kind),
        start: be16(&job.cdb, START.into()).max(search.start),
        count: be16(&job.cdb, 4),
        tags: job.cdb[1] & VOLTAG != 0,
        identifiers: None,
    };
    let allocation = be24(&job.cdb, 7);
    let found = |element: &_| search.finds(element);
    let inventory = job.unit.inventory();
    let data = request.answer(&inventory, &job.unit.drives(), found, search.action, allocation as usize);
    answered((data, allocation), cx)
}
