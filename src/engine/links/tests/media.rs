// SPDX-License-Identifier: GPL-2.0-or-later
//! A medium goes and another comes, while commands are under way, wait in line, are aborted, or are cut off.

use super::*;
use crate::engine::tasks::MediumChange;

impl LinkedCores {
    fn change(&mut self, what: u64, force: bool, store: Option<&SharedLog>) {
        let store = store.map(|store| -> Box<dyn Store> { Box::new(store.clone()) });
        self.managers[OWNER].change_medium(self.now, UNIT, MediumChange { force, store }, what);
    }

    /// The only change that has ended since the last call.
    fn outcome(&mut self) -> Result<(), String> {
        let changed = std::mem::take(&mut self.changed);
        let [(_, outcome)] = &changed[..] else { panic!("{changed:?}") };
        outcome.clone()
    }

    fn hold(&self, hold: bool) {
        self.log.borrow_mut().hold = hold;
    }

    /// Whether the first store is still what is behind the unit: an operation of a new command comes to it.
    fn is_unchanged(&mut self) -> bool {
        self.hold(true);
        self.send(0, 900, FLUSH, 0);
        self.settle();
        let reached = self.log.borrow().held.len();
        self.hold(false);
        self.settle();
        let ended = self.clients[0].ended.pop();
        reached == 1 && ended == Some((RequestTag(900), Some(Status::Good)))
    }
}

#[test]
fn what_came_before_is_done_with_the_medium_and_what_comes_later_without() {
    let mut cores = LinkedCores::new(&[0, OWNER]);
    let before = cores.log.borrow().begun.len();
    cores.hold(true);
    cores.send(0, 1, WRITE, 1);
    cores.send(1, 1, READY, 2);
    cores.settle();
    cores.change(7, false, None);
    cores.send(1, 2, READY, 3);
    cores.send(0, 2, READY, 4);
    cores.settle();
    assert_eq!((cores.log.borrow().begun.len() - before, cores.changed.len()), (1, 0), "it waits");
    cores.hold(false);
    cores.settle();
    assert_eq!(cores.outcome(), Ok(()));
    assert_eq!(cores.log.borrow().media, [(false, before + 2)], "behind two, and before two");
    assert_eq!(cores.log.borrow().begun.len(), before + 4);
    for client in [0, 1] {
        let good = |tag| (RequestTag(tag), Some(Status::Good));
        assert_eq!(cores.clients[client].ended, [good(1), good(2)], "{client}");
    }
}

#[test]
fn all_learn_of_a_medium_that_comes_and_use_it() {
    let mut cores = LinkedCores::new(&[0, OWNER]);
    let (second, third) = (SharedLog::default(), SharedLog::default());
    cores.change(1, false, None);
    cores.settle();
    assert_eq!(cores.outcome(), Ok(()));
    cores.change(2, false, None);
    cores.settle();
    assert!(cores.outcome().unwrap_err().contains("no medium"));
    // One comes, and then another in its place.
    for (what, medium) in [(3, &second), (4, &third)] {
        cores.change(what, false, Some(medium));
        cores.settle();
        assert_eq!(cores.outcome(), Ok(()));
        for client in [0, 1] {
            cores.send(client, 5, READY, 0);
            cores.settle();
            cores.send(client, 6, READY, 0);
            cores.settle();
            let told = [(RequestTag(5), Some(Status::CheckCondition)), (RequestTag(6), Some(Status::Good))];
            assert_eq!(std::mem::take(&mut cores.clients[client].ended), told, "{client}");
        }
        medium.borrow_mut().hold = true;
        cores.send(0, 7, FLUSH, 0);
        cores.settle();
        assert_eq!(medium.borrow().held.len(), 1, "the commands are for it");
        medium.borrow_mut().hold = false;
        cores.settle();
        cores.clients[0].ended.clear();
    }
    let media: Vec<bool> = cores.log.borrow().media.iter().map(|(comes, _)| *comes).collect();
    assert_eq!(media, [false, true, false, true]);
    assert_eq!((Rc::strong_count(&second), Rc::strong_count(&third)), (1, 2), "the old one is given back");
}

#[test]
fn what_fails_changes_nothing() {
    let mut cores = LinkedCores::new(&[0, OWNER]);
    let second = SharedLog::default();
    for store in [None, Some(&second)] {
        cores.log.borrow_mut().prevents = true;
        cores.change(1, false, store);
        cores.settle();
        assert!(cores.outcome().unwrap_err().contains("prevents"));
        assert!(cores.is_unchanged());
        cores.log.borrow_mut().prevents = false;
        cores.log.borrow_mut().fails = true;
        cores.change(2, false, store);
        cores.settle();
        assert!(cores.outcome().unwrap_err().contains("cannot be brought"));
        cores.log.borrow_mut().fails = false;
        assert!(cores.is_unchanged());
    }
    assert_eq!((Rc::strong_count(&second), cores.log.borrow().media.len()), (1, 0));
    cores.managers[OWNER].change_medium(NOW, UnitKey(99), MediumChange::default(), 3);
    cores.managers[1 - OWNER].change_medium(NOW, UNIT, MediumChange::default(), 4);
    cores.settle();
    assert_eq!(cores.changed.len(), 2);
    assert!(cores.changed.drain(..).all(|(_, outcome)| outcome.is_err()) && cores.is_unchanged());
    // By force neither holds it.
    cores.log.borrow_mut().fails = true;
    cores.log.borrow_mut().prevents = true;
    cores.change(5, true, None);
    cores.settle();
    assert_eq!(cores.outcome(), Ok(()));
    assert_eq!(cores.log.borrow().media.len(), 1);
}

/// What is before a change in the line ends before its time; what is behind it goes on.
#[test]
fn aborts_and_lost_connections_hold_up_no_change() {
    let end: [fn(&mut LinkedCores); 4] = [
        |cores| cores.ask(0, TaskManagementFunction::AbortTaskSet),
        |cores| cores.ask(1, TaskManagementFunction::LogicalUnitReset),
        |cores| cores.ask(1, TaskManagementFunction::TargetReset),
        |cores| cores.lose(0),
    ];
    for (index, end) in end.into_iter().enumerate() {
        let mut cores = LinkedCores::new(&[0, OWNER]);
        // It waits for its initiator, and another one of it in line.
        cores.clients[0].hold = true;
        cores.send(0, 1, WRITE, 1);
        cores.send(0, 2, WRITE, 2);
        cores.settle();
        cores.change(1, false, None);
        cores.settle();
        assert!(cores.changed.is_empty(), "{index}");
        end(&mut cores);
        cores.settle();
        assert_eq!(cores.outcome(), Ok(()), "{index}");
        let second = SharedLog::default();
        cores.change(2, false, Some(&second));
        cores.settle();
        assert_eq!(cores.outcome(), Ok(()), "{index}");
        cores.clients[1].ended.clear();
        for tag in 10..14 {
            cores.send(1, tag, READY, 0);
        }
        cores.settle();
        assert_eq!(cores.clients[1].ended.last(), Some(&(RequestTag(13), Some(Status::Good))), "{index}");
    }
}

/// In each stage, by the asker and by the end of the daemon.
#[test]
fn a_change_that_is_given_up_changes_nothing() {
    let give_up: [fn(&mut LinkedCores); 2] = [
        |cores| cores.managers[OWNER].give_up_medium(NOW, 1),
        |cores| cores.managers[OWNER].abort_detached(NOW),
    ];
    for (stage, give_up) in [0, 1, 2].into_iter().flat_map(|stage| give_up.map(|give_up| (stage, give_up))) {
        let mut cores = LinkedCores::new(&[0, OWNER]);
        cores.hold(true);
        match stage {
            // Behind a command.
            0 => cores.send(0, 1, FLUSH, 1),
            // The device flushes.
            1 => {}
            // The store still has something that goes on without its initiator, and then the flush.
            _ => cores.send(0, 1, DETACHED, 1),
        }
        cores.settle();
        cores.change(1, false, None);
        cores.settle();
        if stage == 2 {
            let [detached, flush] = std::mem::take(&mut cores.log.borrow_mut().held).try_into().unwrap();
            cores.log.borrow_mut().held.push(flush);
            cores.hold(false);
            cores.settle();
            cores.hold(true);
            cores.log.borrow_mut().held.push(detached);
            assert!(cores.changed.is_empty() && cores.log.borrow().media.is_empty(), "it is waited for");
        }
        give_up(&mut cores);
        cores.settle();
        cores.hold(false);
        cores.settle();
        assert!(cores.outcome().unwrap_err().contains("given up"), "{stage}");
        assert!(cores.log.borrow().media.is_empty(), "{stage}");
        assert!(cores.is_unchanged(), "{stage}");
    }
}

/// What goes on without its initiator is about the medium that goes: it is ended, and given back by the store first.
#[test]
fn what_goes_on_alone_ends_before_the_medium_goes() {
    let mut cores = LinkedCores::new(&[0, OWNER]);
    cores.hold(true);
    cores.send(1, 1, DETACHED, 1);
    cores.settle();
    cores.log.borrow_mut().hold = false;
    let detached = cores.log.borrow_mut().held.pop().unwrap();
    let second = SharedLog::default();
    second.borrow_mut().hold = true;
    cores.change(1, false, Some(&second));
    cores.settle();
    assert!(cores.changed.is_empty(), "the store has something");
    cores.send(1, 2, READY, 2);
    cores.settle();
    assert_eq!(cores.clients[1].ended.len(), 1, "others wait for the end of the change");
    cores.log.borrow_mut().held.push(detached);
    cores.settle();
    assert_eq!(cores.outcome(), Ok(()));
    assert_eq!(cores.clients[1].ended.len(), 2);
    assert!(second.borrow().held.is_empty(), "nothing of it comes to the other medium");
}
