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
