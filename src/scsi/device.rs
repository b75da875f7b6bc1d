// SPDX-License-Identifier: GPL-2.0-or-later
//! The upper waist, seen from above: what a device is to whoever runs its tasks.

use std::sync::Arc;

use super::primary::{Definition, Designation, universal};
use super::reservations::ChangeError;
use super::{
    Attention, Cdb, Change, Command, Interlock, Lun, Nexus, NexusId, Sense, Status, TaskId, UnitAttentions,
    UnitKey, UnitState,
};
use crate::io::{Done, Error, Geometry, Health, Landing, Op, Record};
use crate::memory::{Arena, Lease, Sg};
use crate::time::Instant;

/// What a task wants next. The task manager carries it out and calls [`DeviceServer::resume`] with the answer.
#[derive(Debug)]
pub enum Step {
    /// Fetch the next `len` bytes from the initiator; answered by [`Resume::Fetched`] with exactly as many. Never more
    /// in sum than [`super::Expected::data_out`].
    Fetch {
        /// How many bytes.
        len: u32,
    },
    /// A store operation; answered by [`Resume::Stored`].
    Store(Op),
    /// The same on the store of another logical unit, one that [`Step::Look`] has found; answered by
    /// [`Resume::NotAdmitted`] if that does not let it pass.
    StoreOf(UnitKey, Op),
    /// Look for another logical unit that the nexus may see; answered by [`Resume::Seen`].
    Look(Designation),
    /// The initiator gets its status now and the task goes on: with [`Step::Store`] and at last [`Step::Finish`], whose
    /// outcome nobody learns but for its attentions. Neither resets nor the loss of the nexus abort it any more, only
    /// the end of the daemon. Answered by [`Resume::Detached`].
    Detach(Outcome),
    /// Persist this record of the logical unit for the next start of the daemon; answered by [`Resume::Persisted`].
    /// What the device takes back at its start is given to its constructor.
    Persist(Record),
    /// Change what all cores know of the logical unit, or look at it; answered by [`Resume::Changed`] when that is in
    /// force everywhere and nothing is under way by the old state.
    Change(Change),
    /// Have media brought to the drives of a library, or taken out of them, one after the other; answered by
    /// [`Resume::MediaMoved`].
    MoveMedia(Vec<DriveChange>),
    /// What was written is on the medium, which may go, or else stays: the last step of a task that
    /// [`DeviceServer::release_medium`] has begun.
    ReleaseMedium {
        /// It stays: what was written cannot be brought to it.
        stays: bool,
    },
    /// Send this data now; answered by [`Resume::Sent`] when the fabric can take more. Bytes beyond
    /// [`super::Expected::data_in`] are cut off and count as overflow.
    Send(Sg),
    /// The task is over.
    Finish(Outcome),
}

/// The answer to a [`Step`].
#[derive(Debug)]
pub enum Resume {
    /// The bytes asked for.
    Fetched(Sg),
    /// How the store operation ended.
    Stored(Done),
    /// The record is on stable storage, or could not be brought there.
    Persisted(Result<(), Error>),
    /// All of that has happened, or none of it.
    MediaMoved(Result<(), MoveFailure>),
    /// The state in force after the change, or why there was none.
    Changed(Result<Arc<UnitState>, ChangeError>),
    /// The fabric has taken the data.
    Sent,
    /// The other logical unit; `None` if the nexus sees none of that name that takes part in copies.
    Seen(Option<Peer>),
    /// The other logical unit does not let the operation pass: something is reserved against the nexus, its port is not
    /// active, or its medium is not ready or protected.
    NotAdmitted,
    /// The status is on its way.
    Detached,
}

/// What is to be in a drive of a library from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveChange {
    /// Its place among the drives of the library.
    pub drive: usize,
    /// The cartridge, by its barcode; `None`: nothing.
    pub barcode: Option<Arc<str>>,
}

/// Why media were not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveFailure {
    /// An initiator of the drive prevents the removal of its medium.
    Prevented,
    /// The medium or the drive fails, or nobody moves media here.
    Failed,
}

/// Another logical unit, as a copy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Names it in [`Step::StoreOf`].
    pub unit: UnitKey,
    /// The shape of its store.
    pub geometry: Geometry,
    /// What copies have to know besides.
    pub traits: CopyTraits,
}

/// What a logical unit is to copies between logical units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyTraits {
    /// Peripheral device type.
    pub device_type: u8,
    /// Bytes of a logical block, not less than the store's.
    pub block: u32,
    /// What is written must be stable before the status.
    pub write_through: bool,
}

/// How a task ended. Never an `Err`: whatever goes wrong inside a command is a status and sense.
#[derive(Debug)]
pub struct Outcome {
    /// Status.
    pub status: Status,
    /// Sense data, with CHECK CONDITION.
    pub sense: Option<Box<Sense>>,
    /// The last data for the initiator, sent together with the status where the fabric can.
    pub data: Sg,
    /// How many bytes the command would have moved to the initiator, had it offered room for all of them: no more than
    /// its CDB asks for. Residuals are made from this and from what was sent.
    pub data_in: u64,
    /// How many bytes the command wanted from the initiator: no more than its CDB says.
    pub data_out: u64,
    /// Unit attentions to be established on every core before the status goes out.
    pub attentions: Vec<Attention>,
}

impl Outcome {
    /// GOOD without data.
    pub fn good() -> Self {
        Self::data(Sg::new())
    }

    /// GOOD with all the data there is. (A task that sent data before adds its length to `data_in`.)
    #[inline]
    pub fn data(data: Sg) -> Self {
        let (data_in, attentions) = (data.len() as u64, Vec::new());
        Self { status: Status::Good, sense: None, data, data_in, data_out: 0, attentions }
    }

    /// GOOD after `len` bytes came from the initiator.
    pub fn took(len: u64) -> Self {
        Self { data_out: len, ..Self::good() }
    }

    /// CHECK CONDITION.
    pub fn check(sense: Sense) -> Self {
        Self { status: Status::CheckCondition, sense: Some(Box::new(sense)), ..Self::good() }
    }

    /// The end of a READ of a serial device whose CDB asks for `asked` bytes where the block on the medium has `there`.
    /// A fabric compares the initiator's buffer with what the command presents to it (RFC 7143 11.4.5.2), which is
    /// never more than was asked for: that a block is longer is told by ILI and INFORMATION (SSC-4, READ(6)) and is no
    /// overflow.
    #[must_use]
    pub fn of_block(self, asked: u64, there: u64) -> Self {
        Self { data_in: asked.min(there), ..self }
    }

    /// Tells all nexuses but the sender, if there is anything to tell.
    #[must_use]
    pub fn telling_others(mut self, code: Option<u16>) -> Self {
        self.attentions.extend(code.map(Attention::others));
        self
    }

    /// Another status without data.
    pub fn status(status: Status) -> Self {
        Self { status, ..Self::good() }
    }
}

/// What a device server may look at and use while it runs.
pub struct Context<'a> {
    /// The core's payload memory.
    pub arena: &'a Arena,
    /// The store's shape now; all zeros for a device without one.
    pub geometry: Geometry,
    /// What the nexus has yet to be told about this logical unit (for REQUEST SENSE; everything else is answered
    /// with a pending attention before the device sees it).
    pub attentions: &'a mut UnitAttentions,
    /// What all cores know of the logical unit, as it is in force on this core.
    pub state: &'a UnitState,
    /// Between whom the command goes; `None` for a task that has outlived its status.
    pub nexus: Option<&'a Nexus>,
    /// The logical units that this nexus may see, in ascending order (for REPORT LUNS).
    pub luns: &'a [Lun],
    /// Where the next read for this task should land: fabric memory, if the fabric has some for it.
    pub landing: &'a mut dyn FnMut(u32) -> Landing,
    /// In whose name the store lends what the nexus is sent.
    pub lease: Option<&'a Lease>,
    /// The time.
    pub now: Instant,
}

impl Context<'_> {
    /// Where a read of the store should land whose bytes go to the initiator: with `whole` in memory of the fabric's,
    /// if it has some for so many bytes; else in the store's own.
    pub fn landing(&mut self, len: u32, whole: bool) -> Landing {
        if whole {
            match (self.landing)(len) {
                // It holds nothing, and dropping it would be a call.
                own @ Landing::Own => std::mem::forget(own),
                given => return given,
            }
        }
        self.lease.map_or(Landing::Own, |lease| Landing::Lent(lease.clone()))
    }
}

/// What the control mode page (SPC-5 7.5.8) asks of the task manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Sense data in descriptor format (D_SENSE).
    pub descriptor_sense: bool,
    /// CHECK CONDITION aborts all other tasks of the set (QERR 01b and 11b, which are the same with a set per nexus).
    pub abort_others: bool,
    /// Tasks that another nexus aborts end with TASK ABORTED (TAS).
    pub aborted_status: bool,
    /// What becomes of unit attentions (UA_INTLCK_CTRL).
    pub interlock: Interlock,
}

/// The device server of one logical unit, as one core sees it. It never waits and never does I/O.
///
/// A task begins with `start` and ends with the first [`Step::Finish`], or with `abort`; in between the device keeps
/// what it needs under the [`TaskId`].
pub trait DeviceServer {
    /// A new task. The command has passed unit attention and reservation checks.
    fn start(&mut self, task: TaskId, command: &Command, cx: &mut Context<'_>) -> Step;

    /// The last step is done. The command is the same as at the start.
    fn resume(&mut self, task: TaskId, command: &Command, answer: Resume, cx: &mut Context<'_>) -> Step;

    /// When the device wants to begin a task by itself. Asked at the owner of a unit that runs one command at a time,
    /// whenever one has ended.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Its deadline has passed, and no command is under way: begins a task of the device's own, if there is something
    /// to do. It has no nexus and goes on like one after [`Step::Detach`]; `command` stands for none.
    fn wake(&mut self, _task: TaskId, _command: &Command, _cx: &mut Context<'_>) -> Option<Step> {
        None
    }

    /// Whether initiators prevent the removal of the medium.
    fn prevents_removal(&self) -> bool {
        false
    }

    /// The medium is to be taken out, by somebody else than an initiator, and no command is under way: begins a task
    /// that brings to it what was written. By `force` it goes even if that fails. It has no nexus; `command` stands for
    /// none.
    fn release_medium(&mut self, _: TaskId, _: &Command, _force: bool, _: &mut Context<'_>) -> Step {
        Step::ReleaseMedium { stays: false }
    }

    /// The medium and its store are gone.
    fn medium_gone(&mut self) {}

    /// There is a medium, and the store is its.
    fn medium_come(&mut self) {}

    /// The task is aborted: forget it. Called between steps, when no store operation of the task is under way. There
    /// will be no further call for it.
    fn abort(&mut self, task: TaskId);

    /// Whether a task that is aborted goes on without its nexus, as after [`Step::Detach`]: because what it has begun
    /// is not to be stopped.
    fn goes_on(&self, _task: TaskId) -> bool {
        false
    }

    /// A nexus is gone (I_T nexus loss): forget what is kept for it. Its tasks on this core may still have to end.
    fn nexus_lost(&mut self, _nexus: NexusId) {}

    /// How the store fares. Returns the unit attentions to be established for every nexus.
    fn inspected(&mut self, _health: &Health) -> Vec<u16> {
        Vec::new()
    }

    /// What it is to copies, if it goes by that name and takes part in any.
    fn copies_as(&self, _name: &Designation) -> Option<CopyTraits> {
        None
    }

    /// Whether a copy may give its store that operation now: what its own commands look at before they begin. Asked for
    /// each operation of a copy that is another logical unit's task.
    fn admits(&self, _op: &Op, _geometry: &Geometry) -> bool {
        false
    }

    /// What the device's table says about a command; `None` if it has no such command. Asked when something is
    /// reserved, the target port is not active, or a unit attention is pending.
    fn definition(&self, cdb: &Cdb) -> Option<&'static Definition> {
        universal(cdb)
    }

    /// The logical unit is reset: return to the state after power-on. All tasks have been aborted before.
    fn reset(&mut self) {}

    /// What the control mode page says.
    fn control(&self) -> Control {
        Control::default()
    }
}
