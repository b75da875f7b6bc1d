// SPDX-License-Identifier: GPL-2.0-or-later
//! Copies: what they reach of other logical units, and where they are stopped.

use super::*;

fn copy(name: u8, flush: bool) -> [u8; 10] {
    [0x83, name, flush.into(), 0, 0, 0, 0, 0, 0, 0]
}

fn last(w: &mut World) -> Status {
    w.wire(0).responses.last().unwrap().1
}

#[test]
fn a_copy_reaches_the_logical_units_that_its_nexus_sees_and_no_other() {
    let mut w = World::new(TransportKind::Stream, 0);
    let store = HoldingStore { arena: w.arena.clone(), shared: w.stores[1].clone() };
    let hidden = ToyTape { name: 4, ..ToyTape::default() };
    w.manager.add_unit(UnitKey(3), Box::new(hidden), Some(Box::new(store)));
    w.command(0, 1, DISK, &copy(4, false), 512, &[]);
    w.turn();
    assert_eq!(last(&mut w), Status::CheckCondition);
    // The operation waits in the tape's store, or for it, and is aborted there.
    for full in [false, true] {
        for abort in [false, true] {
            let mut store = w.stores[1].borrow_mut();
            (store.hold, store.full) = (true, full);
            store.bytes[0] = 0x77;
            drop(store);
            let before = w.wire(0).responses.len();
            w.command(0, 2, DISK, &copy(2, false), 512, &[]);
            w.turn();
            assert_eq!(w.manager.tasks(), 1);
            if abort {
                w.task_management(0, TaskManagementFunction::AbortTask(RequestTag(2)), DISK);
                w.turn();
            }
            w.release();
            assert_eq!(w.wire(0).responses.len() - before, usize::from(!abort));
            if !abort {
                assert_eq!(w.wire(0).seen[&RequestTag(2)][..2], [0x77, 0]);
            }
            w.check_quiet();
        }
    }
}

/// The tape's own device, and whatever is reserved there, decide about each operation of the disk's copy.
#[test]
fn a_copy_is_let_pass_where_a_command_would_be() {
    use reservations::{Action, Out, ReservationType as Type};
    let mut w = World::new(TransportKind::Stream, 0);
    let tape = w.manager.nexuses[w.transports[0].0.0].task_sets[1].unit;
    let reserve = |w: &mut World, action, kind: Type, key, action_key| {
        let out = Out { kind_code: kind as u8, ..Out::new(action, key, action_key) };
        let change = Change::Reservations(reservations::Request::Out(out));
        let nexus = Some((NexusId::of(1), Arc::new(name(1))));
        w.manager.ask(tape.row(), change, nexus, change_queue::Requester::Owner(0));
        w.turn();
    };
    let try_both = |w: &mut World| {
        [false, true].map(|flush| {
            w.command(0, 3, DISK, &copy(2, flush), 512, &[]);
            w.turn();
            last(w) == Status::Good
        })
    };
    assert_eq!(try_both(&mut w), [true, true]);
    reserve(&mut w, Action::RegisterAndIgnore, Type::WriteExclusive, 0, 7);
    for (kind, passes) in [(Type::WriteExclusive, [true, false]), (Type::ExclusiveAccess, [false, false])] {
        reserve(&mut w, Action::Reserve, kind, 7, 0);
        assert_eq!(try_both(&mut w), passes, "{kind}");
        reserve(&mut w, Action::Release, kind, 7, 0);
    }
    assert_eq!(try_both(&mut w), [true, true]);
    w.check_quiet();
}
