// SPDX-License-Identifier: GPL-2.0-or-later
//! A changer's task waits for media to be moved by somebody else.

use super::*;
use crate::engine::media::MediaMover;
use crate::scsi::{DriveChange, MoveFailure};

/// What is asked of it, and what has ended.
#[derive(Default)]
struct ToyMover {
    begun: Vec<(Tag, UnitKey, Vec<DriveChange>)>,
    ended: Vec<(Tag, Result<(), MoveFailure>)>,
}

impl MediaMover for Rc<RefCell<ToyMover>> {
    fn begin(&mut self, tag: Tag, changer: UnitKey, changes: Vec<DriveChange>) {
        self.borrow_mut().begun.push((tag, changer, changes));
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Result<(), MoveFailure>)>) {
        done.append(&mut self.borrow_mut().ended);
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(77)
    }
}

const MOVE: [u8; 10] = [0xa5, 0, 0, 0, 0, 3, 0, 0, 0, 0];

#[test]
fn a_task_goes_on_when_its_media_have_moved() {
    for outcome in [Ok(()), Err(MoveFailure::Failed)] {
        let mut w = World::new(TransportKind::Stream, 0);
        let mover = Rc::<RefCell<ToyMover>>::default();
        w.manager.move_with(Box::new(mover.clone()));
        let mut fds = Vec::new();
        w.manager.wake_fds(&mut fds);
        assert!(fds.contains(&77), "the core would sleep through it");
        w.command(0, 1, DISK, &MOVE, 0, &[]);
        w.turn();
        let (tag, changer, changes) = mover.borrow_mut().begun.pop().expect("it is asked");
        assert_eq!((changer, changes), (UnitKey(1), vec![DriveChange { drive: 3, barcode: None }]));
        assert!(w.wire(0).responses.is_empty());
        mover.borrow_mut().ended.push((tag, outcome));
        w.turn();
        let status = if outcome.is_ok() { Status::Good } else { Status::CheckCondition };
        assert_eq!(w.wire(0).responses.pop().unwrap().1, status);
        w.check_quiet();
    }
}

/// What has begun to move arrives: the device hears of that though nobody waits for its status any more.
#[test]
fn who_aborts_a_move_does_not_stop_it() {
    let mut w = World::new(TransportKind::Stream, 0);
    let mover = Rc::<RefCell<ToyMover>>::default();
    w.manager.move_with(Box::new(mover.clone()));
    w.command(0, 1, DISK, &MOVE, 0, &[]);
    w.turn();
    w.task_management(0, TaskManagementFunction::AbortTask(RequestTag(1)), DISK);
    w.turn();
    assert!(!w.wire(0).executed.is_empty(), "the function does not wait for it");
    assert_eq!((w.disk.borrow().live, w.manager.tasks()), (1, 1));
    let (tag, ..) = mover.borrow_mut().begun.pop().expect("it is asked");
    mover.borrow_mut().ended.push((tag, Ok(())));
    w.turn();
    assert!(w.wire(0).responses.is_empty());
    w.check_quiet();
}

#[test]
fn nothing_moves_where_nobody_moves_it() {
    let mut w = World::new(TransportKind::Stream, 0);
    w.command(0, 1, DISK, &MOVE, 0, &[]);
    w.turn();
    assert_eq!(w.wire(0).responses.pop().unwrap().1, Status::CheckCondition);
    w.check_quiet();
}
