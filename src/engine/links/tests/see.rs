// SPDX-License-Identifier: GPL-2.0-or-later
//! What a nexus sees of the units of another core changes.

use std::time::Duration;

use super::*;

/// What a nexus sees is what its mirror sees: what is under way goes on, what comes then finds nothing.
#[test]
fn a_mirror_sees_what_its_nexus_sees() {
    let mut cores = LinkedCores::new(&[0, OWNER]);
    for client in [0, 1] {
        let MirroredClient { core, key, .. } = cores.clients[client];
        cores.log.borrow_mut().hold = true;
        cores.send(client, 1, FLUSH, 1);
        cores.send(client, 2, READY, 2);
        cores.settle();
        cores.managers[core].see(cores.now, key, &[]);
        cores.settle();
        cores.send(client, 3, READY, 3);
        cores.settle();
        let absent = (RequestTag(3), Some(Status::CheckCondition));
        assert_eq!(cores.clients[client].ended, [absent], "client {client}");
        cores.log.borrow_mut().hold = false;
        cores.settle();
        let good = |tag| (RequestTag(tag), Some(Status::Good));
        assert_eq!(cores.clients[client].ended, [absent, good(1), good(2)], "client {client}");
        let begun = cores.log.borrow().begun.len();
        // Its task set goes when it is looked after, and comes again as that of a new nexus.
        cores.now = cores.now + Duration::from_millis(5);
        cores.settle();
        cores.managers[core].see(cores.now, key, &[(LUN, UNIT)]);
        cores.settle();
        cores.clients[client].ended.clear();
        let mut statuses = Vec::new();
        while statuses.last() != Some(&Some(Status::Good)) {
            cores.send(client, 4, READY, 4);
            cores.settle();
            statuses.extend(cores.clients[client].ended.drain(..).map(|(_, status)| status));
            assert!(statuses.len() < 5, "{statuses:?}");
        }
        assert_eq!(statuses.len(), 3, "the power-on and other LUNs, and then it is there");
        assert_eq!(cores.log.borrow().begun.len(), begun + 1);
        // Under another number.
        let far = Lun::from_index(7);
        cores.managers[core].see(cores.now, key, &[(far, UNIT)]);
        cores.settle();
        for _ in 0..3 {
            cores.send(client, 6, READY, 6);
            if let Some(Request::Command { command, .. }) = cores.clients[client].requests.back_mut() {
                command.lun = far;
            }
            cores.settle();
        }
        assert_eq!(cores.log.borrow().begun.len(), begun + 2, "after the power-on and other LUNs");
        cores.clients[client].ended.clear();
    }
    // One that has seen nothing joins when there is something.
    let late = cores.join_seeing(0, &[]);
    let MirroredClient { core, key, .. } = cores.clients[late];
    cores.managers[core].see(cores.now, key, &[(LUN, UNIT)]);
    cores.settle();
    cores.send(late, 5, WRITE, 5);
    cores.settle();
    assert_eq!(cores.clients[late].ended, [(RequestTag(5), Some(Status::CheckCondition))]);
    for client in [0, 1, late] {
        cores.lose(client);
    }
    cores.assert_quiet("in the end");
}

/// Takes the place of the unit.
const NEXT: UnitKey = UnitKey(2);
const OTHER: UnitKey = UnitKey(3);

impl LinkedCores {
    /// A unit comes that the owner has, too.
    fn add(&mut self, unit: UnitKey, log: &SharedLog) {
        self.managers[OWNER].add_unit(unit, Box::new(Device(log.clone())), Some(Box::new(log.clone())));
        self.managers[OWNER].make_serial(unit);
        self.managers[1 - OWNER].add_remote_unit(unit, OWNER);
    }

    fn remove(&mut self, unit: UnitKey) {
        for _ in 0..4 {
            self.now = self.now + Duration::from_millis(2);
            self.settle();
        }
        self.retired.sort_unstable();
        assert_eq!(std::mem::take(&mut self.retired), [(0, unit), (1, unit)]);
        self.managers.iter_mut().for_each(|manager| manager.remove_unit(unit));
    }

    /// The status of a command, after the unit attentions.
    fn ready(&mut self, client: usize) -> Option<Status> {
        for _ in 0..4 {
            self.send(client, 9, READY, 9);
            self.settle();
        }
        self.clients[client].ended.drain(..).next_back().and_then(|(_, status)| status)
    }
}

/// Another unit has the LUN from one moment to the next, whichever core puts that in force first.
#[test]
fn a_unit_is_replaced_without_being_away() {
    for first in [0, OWNER] {
        let mut cores = LinkedCores::new(&[0, OWNER, 0, OWNER]);
        let log = SharedLog::default();
        cores.add(NEXT, &log);
        cores.log.borrow_mut().hold = true;
        [0, 1].into_iter().for_each(|client| cores.send(client, 1, FLUSH, 1));
        cores.settle();
        for core in [first, 1 - first] {
            for client in [core, core + 2] {
                let key = cores.clients[client].key;
                cores.managers[core].see(cores.now, key, &[(LUN, NEXT)]);
            }
            cores.managers[core].retire(cores.now, UNIT);
            cores.settle();
            // Before the other core has heard of it.
            for client in [2, 3] {
                let asked = |cores: &LinkedCores| cores.log.borrow().inquiries + log.borrow().inquiries;
                let before = asked(&cores);
                cores.send(client, 2, INQUIRY, 0);
                cores.settle();
                let answered = cores.clients[client].ended.pop().map(|(_, status)| status);
                // Without a unit it would be answered well, too, by nobody.
                let by_units = asked(&cores) - before;
                assert_eq!(
                    (answered, by_units),
                    (Some(Some(Status::Good)), 1),
                    "client {client}, core {core}"
                );
            }
        }
        // An owner tells nobody that it is done while a device of it may begin something.
        cores.log.borrow_mut().due = Some(cores.now);
        cores.log.borrow_mut().hold = false;
        cores.settle();
        for client in [0, 1] {
            assert_eq!(cores.clients[client].ended.pop(), Some((RequestTag(1), Some(Status::Good))));
        }
        cores.remove(UNIT);
        assert_eq!(cores.log.borrow().woken, 0, "it begins nothing any more");
        assert!([0, 1, 2, 3].map(|client| cores.ready(client)) == [Some(Status::Good); 4]);
        assert!(log.borrow().begun.len() >= 4 && cores.managers[OWNER].is_owner());
        [0, 1, 2, 3].into_iter().for_each(|client| cores.lose(client));
        cores.assert_quiet("in the end");
        cores.managers.iter_mut().for_each(|manager| manager.retire(cores.now, NEXT));
        cores.remove(NEXT);
        assert!(!cores.managers[OWNER].is_owner());
    }
}

/// A nexus that nobody tells of the change, since it is to leave, does not hold up a unit that goes, and keeps others.
#[test]
fn a_unit_goes_from_nexuses_that_are_not_shown_anything() {
    let mut cores = LinkedCores::new(&[]);
    let (log, far) = (SharedLog::default(), Lun::from_index(7));
    cores.add(OTHER, &log);
    let client = cores.join_seeing(0, &[(LUN, UNIT), (far, OTHER)]);
    assert_eq!(cores.ready(client), Some(Status::Good));
    cores.managers.iter_mut().for_each(|manager| manager.retire(cores.now, UNIT));
    cores.remove(UNIT);
    assert_eq!(cores.ready(client), Some(Status::CheckCondition));
    for _ in 0..4 {
        cores.send(client, 6, READY, 6);
        if let Some(Request::Command { command, .. }) = cores.clients[client].requests.back_mut() {
            command.lun = far;
        }
        cores.settle();
    }
    assert_eq!(cores.clients[client].ended.last(), Some(&(RequestTag(6), Some(Status::Good))));
    cores.lose(client);
    cores.assert_quiet("in the end");
}

/// Links that come while the daemon stops are closed like the others.
#[test]
fn links_that_come_late_are_closed() {
    let mut cores = LinkedCores::new(&[]);
    let contexts = [0, 1].map(|core| CoreContext::new(core, 2, cores.arenas[core].clone()));
    cores.links = contexts.iter().map(|context| PeerLinks::new(context, Vec::new())).collect();
    let (links, managers) = (&mut cores.links, &cores.managers);
    assert!([0, 1].into_iter().all(|core| links[core].close(&managers[core])), "there are none");
    links.iter_mut().zip(connect(2)).for_each(|(links, ends)| links.add(ends));
    assert!(![0, 1].into_iter().any(|core| links[core].close(&managers[core])));
    cores.settle();
    let (links, managers) = (&mut cores.links, &cores.managers);
    assert!([0, 1].into_iter().all(|core| links[core].close(&managers[core])));
}
