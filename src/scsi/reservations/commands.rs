// SPDX-License-Identifier: GPL-2.0-or-later
//! PERSISTENT RESERVE IN and OUT (SPC-5 6.16 and 6.17), RESERVE and RELEASE (SPC-2 7.21 to 7.24), for the tables of all
//! device types.

use super::request::{LIST_MIN, Out, Request};
use super::{Access, ChangeError, report};
use crate::memory::Sg;
use crate::scsi::primary::{Definition, head};
use crate::scsi::{Change, Command, Context, Outcome, Resume, Sense, Status, Step, UnitState, asc, key};
use crate::wire::scsi::{be16, be32};

/// Longest parameter list: some 64 initiator ports.
const LIST_MAX: usize = 16 << 10;

const A: u8 = 0xff;

const fn persist_in(name: &'static str, action: u8) -> Definition {
    let usage: &'static [u8] = match action {
        0 => &[0x5e, 0, 0, 0, 0, 0, 0, A, A, 0],
        1 => &[0x5e, 1, 0, 0, 0, 0, 0, A, A, 0],
        2 => &[0x5e, 2, 0, 0, 0, 0, 0, A, A, 0],
        _ => &[0x5e, 3, 0, 0, 0, 0, 0, A, A, 0],
    };
    Definition::action(name, usage).with(Access::Persistent).in_standby()
}

const fn persist_out(name: &'static str, usage: &'static [u8]) -> Definition {
    Definition::action(name, usage).with(Access::Persistent).in_standby()
}

/// READ KEYS.
pub const READ_KEYS: Definition = persist_in("PERSISTENT RESERVE IN, READ KEYS", 0);
/// READ RESERVATION.
pub const READ_RESERVATION: Definition = persist_in("PERSISTENT RESERVE IN, READ RESERVATION", 1);
/// REPORT CAPABILITIES.
pub const REPORT_CAPABILITIES: Definition = persist_in("PERSISTENT RESERVE IN, REPORT CAPABILITIES", 2);
/// READ FULL STATUS.
pub const READ_FULL_STATUS: Definition = persist_in("PERSISTENT RESERVE IN, READ FULL STATUS", 3);
/// REGISTER.
pub const REGISTER: Definition =
    persist_out("PERSISTENT RESERVE OUT, REGISTER", &[0x5f, 0, A, 0, 0, A, A, A, A, 0]);
/// RESERVE.
pub const RESERVE: Definition =
    persist_out("PERSISTENT RESERVE OUT, RESERVE", &[0x5f, 1, A, 0, 0, A, A, A, A, 0]);
/// RELEASE.
pub const RELEASE: Definition =
    persist_out("PERSISTENT RESERVE OUT, RELEASE", &[0x5f, 2, A, 0, 0, A, A, A, A, 0]);
/// CLEAR.
pub const CLEAR: Definition =
    persist_out("PERSISTENT RESERVE OUT, CLEAR", &[0x5f, 3, A, 0, 0, A, A, A, A, 0]);
/// PREEMPT.
pub const PREEMPT: Definition =
    persist_out("PERSISTENT RESERVE OUT, PREEMPT", &[0x5f, 4, A, 0, 0, A, A, A, A, 0]);
/// PREEMPT AND ABORT.
pub const PREEMPT_AND_ABORT: Definition =
    persist_out("PERSISTENT RESERVE OUT, PREEMPT AND ABORT", &[0x5f, 5, A, 0, 0, A, A, A, A, 0]);
/// REGISTER AND IGNORE EXISTING KEY.
pub const REGISTER_AND_IGNORE: Definition = persist_out(
    "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY",
    &[0x5f, 6, A, 0, 0, A, A, A, A, 0],
);
/// REGISTER AND MOVE.
pub const REGISTER_AND_MOVE: Definition =
    persist_out("PERSISTENT RESERVE OUT, REGISTER AND MOVE", &[0x5f, 7, A, 0, 0, A, A, A, A, 0]);
/// RESERVE(6), of the whole unit and for the sender itself.
pub const RESERVE_6: Definition = Definition::new("RESERVE(6)", &[0x16, 0, 0, 0, 0, 0]).with(Access::Reserve);
/// RELEASE(6).
pub const RELEASE_6: Definition = Definition::new("RELEASE(6)", &[0x17, 0, 0, 0, 0, 0]).with(Access::Reserve);
/// RESERVE(10).
pub const RESERVE_10: Definition =
    Definition::new("RESERVE(10)", &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0]).with(Access::Reserve);
/// RELEASE(10).
pub const RELEASE_10: Definition =
    Definition::new("RELEASE(10)", &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0]).with(Access::Reserve);

/// One of the commands of this module under way.
#[derive(Debug)]
pub enum ReservationCommand {
    /// PERSISTENT RESERVE IN.
    In,
    /// PERSISTENT RESERVE OUT, with the length of its parameter list.
    Out(u32),
    /// RESERVE or RELEASE.
    Unit(Request),
}

impl ReservationCommand {
    /// Begins a command whose CDB has passed the checks of its definition.
    pub fn begin(command: &Command) -> Result<Self, Sense> {
        let cdb = head(&command.cdb);
        match cdb[0] {
            0x5e => Ok(Self::In),
            0x5f => {
                let len = be32(&cdb, 5);
                let usable = (LIST_MIN..=LIST_MAX).contains(&(len as usize));
                if !usable || len > command.expected.data_out {
                    return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR));
                }
                Ok(Self::Out(len))
            }
            0x16 | 0x56 => Ok(Self::Unit(Request::Reserve)),
            _ => Ok(Self::Unit(Request::Release)),
        }
    }

    /// Does what can be done now that the last step is answered; there is no answer before the first.
    pub fn advance(&mut self, answer: Option<Resume>, command: &Command, cx: &Context<'_>) -> Step {
        let cdb = head(&command.cdb);
        match (&mut *self, answer) {
            (Self::In, None) => Step::Change(Change::Look),
            (Self::In, Some(Resume::Changed(Ok(state)))) => Step::Finish(look(&cdb, &state, cx)),
            (Self::Out(len), None) => Step::Fetch { len: *len },
            (Self::Out(_), Some(Resume::Fetched(list))) => Self::ask(&cdb, &list),
            (Self::Out(len), Some(Resume::Changed(Ok(_)))) => Step::Finish(Outcome::took(u64::from(*len))),
            (Self::Unit(request), None) => Step::Change(Change::Reservations(request.clone())),
            (Self::Unit(_), Some(Resume::Changed(Ok(_)))) => Step::Finish(Outcome::good()),
            (work, Some(Resume::Changed(Err(refusal)))) => {
                let data_out = if let Self::Out(len) = work { u64::from(*len) } else { 0 };
                Step::Finish(Outcome { data_out, ..refusal.into() })
            }
            _ => Step::Finish(Outcome::check(Sense::new(key::HARDWARE_ERROR, asc::INTERNAL_TARGET_FAILURE))),
        }
    }

    fn ask(cdb: &[u8; 16], list: &Sg) -> Step {
        match Out::parse(cdb, &list.to_vec()) {
            Ok(out) => Step::Change(Change::Reservations(Request::Out(out))),
            Err(sense) => Step::Finish(Outcome { data_out: list.len() as u64, ..Outcome::check(sense) }),
        }
    }
}

fn look(cdb: &[u8; 16], state: &UnitState, cx: &Context<'_>) -> Outcome {
    let table = state.reservations();
    let data = match cdb[1] & 0x1f {
        0 => report::keys(table),
        1 => report::reservation(table),
        2 => report::capabilities(table),
        _ => report::full_status(table),
    };
    crate::scsi::primary::reply(&data, be16(cdb, 7).into(), cx)
}

impl From<ChangeError> for Outcome {
    fn from(refusal: ChangeError) -> Self {
        match refusal {
            ChangeError::Conflict => Self::status(Status::ReservationConflict),
            ChangeError::Check(sense) => Self::check(sense),
        }
    }
}
