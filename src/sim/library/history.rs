// SPDX-License-Identifier: GPL-2.0-or-later
//! The commands of a library as initiators see them: sent, answered, lost. There has to be an order in which the model
//! carries them out, each between when it was sent and when it was answered, that gives every answer; all states to
//! which such orders lead are kept.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Effect, Library, LibraryAnswer, Object, RequestId};
use super::{LibraryCommand, LibraryShape};

/// Most states at once. Where there are more, too much is unknown: nothing more is looked at.
const STATES_MAX: usize = 2000;

/// A command under way.
#[derive(Clone, Debug)]
struct LibraryRequest {
    /// The drive that it is for, by its place.
    drive: usize,
    command: LibraryCommand,
    /// Cartridges were on their way since it was sent.
    beside_move: bool,
    /// Nobody waits for it: a movement that goes on after it was aborted.
    abandoned: bool,
    /// A movement had been abandoned when it was sent.
    behind: BTreeSet<RequestId>,
}

/// A state, and what has happened of commands that are not answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PossibleCourse {
    library: Library,
    done: BTreeMap<RequestId, Option<LibraryAnswer>>,
}

impl PossibleCourse {
    /// The inventory tells of a movement when that has ended, though the drive may have the cartridge before. Nobody
    /// waits for the end if it was aborted, which its initiator need not know yet.
    fn shows_before(&self, command: LibraryCommand) -> Option<Effect> {
        let before = self.library.before().filter(|_| command == LibraryCommand::Inventory)?;
        Some((self.library.clone(), Some(LibraryAnswer::Inventory(before.clone()))))
    }

    /// Nobody waits for a command any more.
    fn heard(mut self, id: RequestId) -> Self {
        self.done.remove(&id);
        self.library.heard(id);
        self
    }
}

/// See the module.
#[derive(Debug)]
pub(in crate::sim) struct LibraryHistory {
    courses: BTreeSet<PossibleCourse>,
    pending: BTreeMap<RequestId, LibraryRequest>,
    last: RequestId,
    /// There were too many states.
    pub(in crate::sim) given_up: bool,
}

impl LibraryHistory {
    pub(in crate::sim) fn new(shape: &LibraryShape) -> Self {
        let first = PossibleCourse { library: Library::new(shape), done: BTreeMap::new() };
        Self { courses: [first].into(), pending: BTreeMap::new(), last: 0, given_up: false }
    }

    pub(super) fn send(&mut self, unit: usize, command: LibraryCommand) -> RequestId {
        self.last += 1;
        let moves = |request: &LibraryRequest| request.command.moves();
        if command.moves() {
            self.pending.values_mut().for_each(|request| request.beside_move = true);
        }
        let beside_move = self.pending.values().any(moves);
        let abandoned = self.pending.iter().filter(|(_, request)| request.abandoned);
        let behind = abandoned.map(|(id, _)| *id).collect();
        let drive = unit.saturating_sub(1);
        let request = LibraryRequest { drive, command, beside_move, abandoned: false, behind };
        self.pending.insert(self.last, request);
        self.last
    }

    pub(super) fn command(&self, id: RequestId) -> LibraryCommand {
        self.pending[&id].command
    }

    /// Whether the drive of a command may have been without its cartridge for a while.
    pub(super) fn is_beside_move(&self, id: RequestId) -> bool {
        self.pending[&id].beside_move
    }

    /// Whether a movement may still be under way that was aborted, which its initiator need not know yet.
    pub(super) fn is_behind_move(&self, id: RequestId) -> bool {
        self.pending.iter().any(|(other, request)| *other != id && request.command.moves())
    }

    /// Carries out whatever may have been carried out by now.
    fn explore(&mut self) {
        let mut new: Vec<PossibleCourse> = self.courses.iter().cloned().collect();
        while let Some(course) = new.pop() {
            for (&id, request) in self.pending.iter().filter(|(id, _)| !course.done.contains_key(id)) {
                let effects = course.library.after(id, request.drive, request.command);
                for (library, answer) in effects.into_iter().chain(course.shows_before(request.command)) {
                    let mut done = course.done.clone();
                    done.insert(id, answer);
                    let next = PossibleCourse { library, done };
                    if self.courses.insert(next.clone()) {
                        new.push(next);
                    }
                }
            }
            self.given_up |= self.courses.len() > STATES_MAX;
            if self.given_up {
                return self.courses.clear();
            }
        }
    }

    pub(super) fn answered(&mut self, id: RequestId, answer: &LibraryAnswer) -> Result<(), String> {
        self.explore();
        let explored = std::mem::take(&mut self.courses);
        let agree = explored.iter().filter(|course| course.done.get(&id) == Some(&Some(answer.clone())));
        self.courses = agree.cloned().map(|course| course.heard(id)).collect();
        let Some(request) = self.pending.remove(&id) else { return Err("an answer to nothing".into()) };
        if self.courses.is_empty() && !self.given_up {
            let states: BTreeSet<_> = explored.iter().map(|course| &course.library).collect();
            let states: Vec<_> = states.into_iter().take(3).collect();
            return Err(format!("{answer:?} to request {id} in none of these states and others: {states:?}"));
        }
        // The changer begins a movement when the one before has ended.
        if request.command.moves() {
            request.behind.iter().for_each(|id| self.over(*id));
        }
        Ok(())
    }

    /// It has had no effect.
    pub(super) fn never(&mut self, id: RequestId) {
        self.pending.remove(&id);
        self.courses.retain(|course| !course.done.contains_key(&id));
    }

    /// It is over, and nobody said how it ended. A movement goes on.
    pub(in crate::sim) fn lost(&mut self, id: RequestId) {
        match self.pending.get_mut(&id) {
            Some(request) if request.command.moves() => request.abandoned = true,
            _ => self.over(id),
        }
    }

    fn over(&mut self, id: RequestId) {
        self.explore();
        self.pending.remove(&id);
        self.courses = std::mem::take(&mut self.courses).into_iter().map(|course| course.heard(id)).collect();
    }

    /// The target is gone, or has stopped in order; nothing that was sent to it has an effect any more.
    pub(in crate::sim) fn restarted(&mut self, in_order: bool) {
        self.explore();
        self.pending.clear();
        let all = std::mem::take(&mut self.courses);
        let next = all.iter().flat_map(|course| course.library.restarted(in_order));
        let next = next.map(|library| PossibleCourse { library, done: BTreeMap::new() });
        self.courses = next.take(STATES_MAX + 1).collect();
        self.given_up |= self.courses.len() > STATES_MAX;
    }

    /// At the end: what is where and on the cartridges has to be what a course has led to.
    pub(super) fn shows(&self, places: &[Option<usize>], tapes: &[Vec<Object>]) -> bool {
        self.given_up || self.courses.iter().any(|course| course.library.shows(places, tapes))
    }
}
