// SPDX-License-Identifier: GPL-2.0-or-later
//! The rules of SPC-5 5.14, one by one, and a table that random service actions never bring into a wrong state.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::scsi::{Sense, asc};

const ID: [NexusId; 4] = [NexusId::of(10), NexusId::of(11), NexusId::of(12), NexusId::of(13)];

/// Nexuses 0 and 1 are two initiator ports at target port 1; 2 is the first of them at target port 2, 3 a third one
/// there.
fn nexus(number: usize) -> Nexus {
    let isid = [0, 0, 0, 0, 0, [1, 2, 1, 3][number]];
    let port = ports()[number / 2].clone();
    Nexus { initiator: PortName::iscsi_initiator("iqn.2026-11.test:i", isid), port }
}

fn ports() -> [Arc<TargetPort>; 2] {
    [1, 2].map(|n| Arc::new(TargetPort::iscsi(n, "iqn.2026-11.test:t", n)))
}

fn kind(action: Action, key: u64, action_key: u64, kind: ReservationType) -> Out {
    Out { kind_code: kind as u8, ..Out::new(action, key, action_key) }
}

#[derive(Default)]
struct World {
    table: Reservations,
    effects: Effects,
}

impl World {
    /// Nexus `number` is registered with key `number + 1` for each of these.
    fn registered(numbers: &[usize]) -> Self {
        let mut world = Self::default();
        for &number in numbers {
            world.good(number, &Out::new(Action::Register, 0, number as u64 + 1));
        }
        world
    }

    /// The same, and nexus 0 holds a reservation.
    fn held(kind_of: ReservationType) -> Self {
        let mut world = Self::registered(&[0, 1, 2]);
        world.good(0, &kind(Action::Reserve, 1, 0, kind_of));
        world
    }

    fn good(&mut self, number: usize, out: &Out) {
        let applied = self.table.apply(&nexus(number), out, &ports());
        (self.table, self.effects) = applied.unwrap_or_else(|e| panic!("{out:?} of {number}: {e:?}"));
    }

    fn refused(&self, number: usize, out: &Out) -> ChangeError {
        let applied = self.table.apply(&nexus(number), out, &ports());
        applied.err().unwrap_or_else(|| panic!("{out:?} of {number} is carried out"))
    }

    fn conflicts(&self, number: usize, out: &Out) {
        assert_eq!(self.refused(number, out), ChangeError::Conflict, "{out:?} of {number}");
    }

    fn check(&self, number: usize, out: &Out, code: u16) {
        match self.refused(number, out) {
            ChangeError::Check(Sense { code: found, .. }) if found == code => {}
            other => panic!("{out:?} of {number}: {other:?}, wanted {code:#x}"),
        }
    }

    /// Who is told what: one code, and the numbers of the nexuses.
    fn told(&self, code: u16) -> Vec<usize> {
        let told = |&number: &usize| {
            self.effects.attentions.iter().any(|(whom, c)| *c == code && whom.includes(&nexus(number), false))
        };
        (0..4).filter(told).collect()
    }

    fn keys(&self) -> Vec<u64> {
        self.table.registrations().iter().map(|registration| registration.key).collect()
    }

    fn holders(&self) -> Vec<u64> {
        let holds = |registration: &&Registration| self.table.holds(registration);
        self.table.registrations().iter().filter(holds).map(|registration| registration.key).collect()
    }
}

/// SPC-5 5.14.7, tables 68 and 69.
#[test]
fn registering() {
    use Action::{Register, RegisterAndIgnore};
    let mut w = World::default();
    w.conflicts(0, &Out::new(Register, 9, 1));
    w.good(0, &Out::new(Register, 0, 0));
    assert_eq!((w.keys().len(), w.table.generation()), (0, 0), "nothing to do");
    w.good(0, &Out::new(Register, 0, 1));
    assert_eq!((w.keys(), w.table.generation()), (vec![1], 1));
    w.conflicts(0, &Out::new(Register, 0, 2));
    w.good(0, &Out::new(Register, 1, 2));
    w.good(0, &Out::new(RegisterAndIgnore, 77, 3));
    w.good(1, &Out::new(RegisterAndIgnore, 77, 3));
    assert_eq!((w.keys(), w.table.generation()), (vec![3, 3], 4));
    w.good(0, &Out::new(Register, 3, 0));
    w.good(1, &Out::new(RegisterAndIgnore, 0, 0));
    assert_eq!((w.keys().len(), w.table.generation()), (0, 6));
}

/// SPC-5 5.14.7: SPEC_I_PT, ALL_TG_PT.
#[test]
fn registering_for_others() {
    let mut w = World::default();
    let all = Out { all_target_ports: true, ..Out::new(Action::Register, 0, 5) };
    w.good(0, &all);
    assert_eq!(w.keys(), [5]);
    let standing = |w: &World, number: usize| w.table.standing(ID[number], &nexus(number)).registered;
    assert!(standing(&w, 0) && standing(&w, 2) && !standing(&w, 1));
    w.good(2, &Out::new(Action::Register, 5, 0));
    assert!(!standing(&w, 0), "it was one registration");

    let ports = vec![nexus(1).initiator, nexus(3).initiator];
    let others = Out { specifies_ports: true, ports, ..Out::new(Action::Register, 0, 6) };
    w.good(0, &others);
    assert_eq!(w.keys(), [6, 6, 6]);
    assert!(standing(&w, 0) && standing(&w, 1) && !standing(&w, 3), "at the port of the sender");
    w.check(0, &Out { key: 6, ..others.clone() }, asc::INVALID_FIELD_IN_PARAMETER_LIST);
    let mut w = World::registered(&[1]);
    w.conflicts(0, &others);
    assert_eq!(w.keys(), [2], "all or none");
    for n in 0..REGISTRATIONS_MAX - 1 {
        let initiator = PortName::iscsi_initiator(&format!("iqn.2026-11.test:{n}"), [0; 6]);
        let nexus = Nexus { initiator, port: ports_one() };
        w.table = w.table.apply(&nexus, &Out::new(Action::Register, 0, 9), &[]).unwrap().0;
    }
    w.check(0, &Out::new(Action::Register, 0, 1), asc::INSUFFICIENT_REGISTRATION_RESOURCES);
}

fn ports_one() -> Arc<TargetPort> {
    ports()[0].clone()
}

/// SPC-5 5.14.9.
#[test]
fn reserving() {
    for k in ReservationType::ALL {
        let mut w = World::registered(&[0, 1]);
        w.conflicts(0, &kind(Action::Reserve, 2, 0, k));
        w.conflicts(3, &kind(Action::Reserve, 0, 0, k));
        w.check(0, &Out { scope: 1, ..kind(Action::Reserve, 1, 0, k) }, asc::INVALID_FIELD_IN_CDB);
        w.check(0, &Out { kind_code: 2, ..Out::new(Action::Reserve, 1, 0) }, asc::INVALID_FIELD_IN_CDB);
        w.good(0, &kind(Action::Reserve, 1, 0, k));
        assert_eq!(w.holders(), if k.all_registrants() { vec![1, 2] } else { vec![1] });
        assert_eq!(w.table.generation(), 2, "RESERVE does not count");
        w.good(0, &kind(Action::Reserve, 1, 0, k));
        let other = if k == ReservationType::WriteExclusive {
            ReservationType::ExclusiveAccess
        } else {
            ReservationType::WriteExclusive
        };
        w.conflicts(0, &kind(Action::Reserve, 1, 0, other));
        match k.all_registrants() {
            true => w.good(1, &kind(Action::Reserve, 2, 0, k)),
            false => w.conflicts(1, &kind(Action::Reserve, 2, 0, k)),
        }
    }
}

/// SPC-5 5.14.11.2, and 5.14.11.3 for the holder that unregisters.
#[test]
fn releasing() {
    for k in ReservationType::ALL {
        let mut w = World::held(k);
        w.conflicts(3, &kind(Action::Release, 0, 0, k));
        w.conflicts(0, &kind(Action::Release, 7, 0, k));
        if !k.all_registrants() {
            w.good(1, &kind(Action::Release, 2, 0, k));
            assert_eq!(w.table.kind(), Some(k), "not its own");
        }
        let other = if k == ReservationType::WriteExclusive {
            ReservationType::ExclusiveAccess
        } else {
            ReservationType::WriteExclusive
        };
        w.check(0, &kind(Action::Release, 1, 0, other), asc::INVALID_RELEASE_OF_PERSISTENT_RESERVATION);
        w.good(0, &kind(Action::Release, 1, 0, k));
        assert_eq!((w.table.kind(), w.holders().len(), w.keys().len()), (None, 0, 3));
        // The sender is in the list, and left out by whoever delivers it.
        let told = if k.for_registrants() { vec![0, 1, 2] } else { vec![] };
        assert_eq!(w.told(asc::RESERVATIONS_RELEASED), told, "{k:?}");
        w.good(0, &kind(Action::Release, 1, 0, k));

        let mut w = World::held(k);
        w.good(0, &Out::new(Action::Register, 1, 0));
        let stays = k.all_registrants();
        assert_eq!(w.table.kind().is_some(), stays, "{k:?}");
        let told = if k.for_registrants() && !stays { vec![1, 2] } else { vec![] };
        assert_eq!(w.told(asc::RESERVATIONS_RELEASED), told, "{k:?}");
        w.good(1, &Out::new(Action::Register, 2, 0));
        assert_eq!(w.table.kind().is_some(), stays);
        w.good(2, &Out::new(Action::Register, 3, 0));
        assert_eq!(w.table.kind(), None, "the last one");
    }
}

/// SPC-5 5.14.11.6.
#[test]
fn clearing() {
    for k in ReservationType::ALL {
        let mut w = World::held(k);
        w.conflicts(1, &Out::new(Action::Clear, 1, 0));
        w.good(1, &Out::new(Action::Clear, 2, 0));
        assert_eq!((w.table.kind(), w.keys().len(), w.table.generation()), (None, 0, 4));
        assert_eq!(w.told(asc::RESERVATIONS_PREEMPTED), [0, 1, 2]);
    }
}

/// SPC-5 5.14.11.4: the registrations of others.
#[test]
fn preempting_registrations() {
    use Action::{Preempt, PreemptAndAbort};
    let mut w = World::registered(&[0, 1, 3]);
    w.conflicts(2, &Out::new(Preempt, 1, 2));
    w.conflicts(0, &Out::new(Preempt, 1, 99));
    w.check(0, &Out::new(Preempt, 1, 0), asc::INVALID_FIELD_IN_PARAMETER_LIST);
    w.good(0, &Out::new(PreemptAndAbort, 1, 2));
    assert_eq!((w.keys(), w.table.generation()), (vec![1, 4], 4));
    assert_eq!(w.told(asc::REGISTRATIONS_PREEMPTED), [1]);
    assert_eq!(w.effects.aborts, [Whom::Port(nexus(1).initiator, Some(1))]);
    w.good(0, &Out::new(Preempt, 1, 4));
    assert!(w.effects.aborts.is_empty(), "without ABORT");
    // Somebody else's registration, while another one holds the reservation.
    let mut w = World::held(ReservationType::WriteExclusive);
    w.good(1, &Out::new(Preempt, 2, 3));
    assert_eq!((w.keys(), w.holders()), (vec![1, 2], vec![1]));
    // Its own.
    w.good(1, &Out::new(Preempt, 2, 2));
    assert_eq!((w.keys(), w.effects.attentions.len()), (vec![1], 0));
}

/// SPC-5 5.14.11.4: the reservation.
#[test]
fn preempting_the_reservation() {
    for before in ReservationType::ALL.into_iter().filter(|kind| !kind.all_registrants()) {
        for after in ReservationType::ALL {
            let mut w = World::held(before);
            w.check(1, &Out { kind_code: 0, ..Out::new(Action::Preempt, 2, 1) }, asc::INVALID_FIELD_IN_CDB);
            w.good(1, &kind(Action::Preempt, 2, 1, after));
            assert_eq!((w.table.kind(), w.keys()), (Some(after), vec![2, 3]));
            assert_eq!(w.holders(), if after.all_registrants() { vec![2, 3] } else { vec![2] });
            assert_eq!(w.told(asc::REGISTRATIONS_PREEMPTED), [0]);
            let told = if before == after { vec![] } else { vec![2] };
            assert_eq!(w.told(asc::RESERVATIONS_RELEASED), told, "{before:?} {after:?}");
            // The holder preempts itself: it keeps its registration.
            let mut w = World::held(before);
            w.good(0, &kind(Action::Preempt, 1, 1, after));
            assert_eq!((w.table.kind(), w.keys()), (Some(after), vec![1, 2, 3]));
        }
    }
    for before in
        [ReservationType::WriteExclusiveAllRegistrants, ReservationType::ExclusiveAccessAllRegistrants]
    {
        let mut w = World::held(before);
        w.good(1, &kind(Action::Preempt, 2, 1, ReservationType::WriteExclusive));
        assert_eq!((w.table.kind(), w.keys()), (Some(before), vec![2, 3]), "a registration like any other");
        w.good(1, &kind(Action::PreemptAndAbort, 2, 0, ReservationType::WriteExclusive));
        assert_eq!(
            (w.table.kind(), w.keys(), w.holders()),
            (Some(ReservationType::WriteExclusive), vec![2], vec![2])
        );
        assert_eq!((w.told(asc::REGISTRATIONS_PREEMPTED), w.effects.aborts.len()), (vec![2], 1));
    }
}

/// SPC-5 5.14.8.
#[test]
fn moving() {
    let to = |number: usize, key: u64| Out {
        ports: vec![nexus(number).initiator],
        move_port: nexus(number).port.relative,
        ..Out::new(Action::RegisterAndMove, 1, key)
    };
    let w = World::registered(&[0, 1]);
    w.check(0, &to(3, 8), asc::INVALID_FIELD_IN_CDB);
    let w = World::held(ReservationType::WriteExclusiveAllRegistrants);
    w.conflicts(0, &to(3, 8));
    let mut w = World::held(ReservationType::ExclusiveAccess);
    w.conflicts(1, &Out { key: 2, ..to(3, 8) });
    w.conflicts(3, &to(3, 8));
    w.check(0, &to(0, 8), asc::INVALID_FIELD_IN_PARAMETER_LIST);
    w.check(0, &to(3, 0), asc::INVALID_FIELD_IN_PARAMETER_LIST);
    w.check(0, &Out { move_port: 99, ..to(3, 8) }, asc::INVALID_FIELD_IN_PARAMETER_LIST);
    w.good(0, &Out { unregister: true, aptpl: true, ..to(3, 8) });
    assert_eq!((w.keys(), w.holders()), (vec![2, 3, 8], vec![8]));
    assert!(w.table.persists());
    let mut w = World::held(ReservationType::ExclusiveAccess);
    w.good(0, &to(1, 9));
    assert_eq!((w.keys(), w.holders()), (vec![1, 9, 3], vec![9]), "one that was registered gets the key");
}

/// SPC-5 table 67, and SPC-2 5.5.1 for RESERVE.
#[test]
fn who_may_do_what() {
    use Access::{Always, Harmless, Persistent, Read, Reserve, Write};
    for k in ReservationType::ALL {
        let mut w = World::registered(&[0, 1]);
        w.good(0, &kind(Action::Reserve, 1, 0, k));
        let conflict =
            |number: usize, access| w.table.conflict(access, w.table.standing(ID[number], &nexus(number)));
        for number in 0..4 {
            for access in [Always, Harmless, Persistent, Reserve] {
                assert!(!conflict(number, access));
            }
            let registered = number < 2;
            let passes = number == 0 || registered && k.for_registrants();
            assert_eq!(conflict(number, Write), !passes, "{k:?} {number}");
            assert_eq!(conflict(number, Read), !passes && k.exclusive_access(), "{k:?} {number}");
        }
    }
    let table = Reservations::default().reserve_unit(ID[0], &nexus(0)).unwrap();
    for (number, id) in ID.into_iter().enumerate() {
        let conflict = |access| table.conflict(access, table.standing(id, &nexus(number)));
        assert!(!conflict(Always) && !conflict(Reserve) && conflict(Persistent));
        for access in [Harmless, Read, Write] {
            assert_eq!(conflict(access), number != 0);
        }
    }
}

/// SPC-2 7.21 and 7.23; SPC-5 5.14.3 (CRH) beside registrants.
#[test]
fn reserve_and_release_of_old() {
    let table = Reservations::default().reserve_unit(ID[0], &nexus(0)).unwrap();
    assert_eq!(table.reserve_unit(ID[0], &nexus(0)).unwrap(), table);
    assert_eq!(table.reserve_unit(ID[1], &nexus(1)), Err(ChangeError::Conflict));
    assert_eq!(table.release_unit(ID[1], &nexus(1)).unwrap(), table, "not its own");
    assert_eq!(table.release_unit(ID[0], &nexus(0)).unwrap(), Reservations::default());
    assert_eq!(table.without(ID[1]), table);
    assert!(table.without(ID[0]).is_open() && table.after_reset().is_open());
    let w = World::held(ReservationType::WriteExclusiveRegistrantsOnly);
    for number in [0, 1] {
        assert_eq!(w.table.reserve_unit(ID[number], &nexus(number)).unwrap(), w.table, "GOOD, and no effect");
        assert_eq!(w.table.release_unit(ID[number], &nexus(number)).unwrap(), w.table);
    }
    assert_eq!(w.table.reserve_unit(ID[3], &nexus(3)), Err(ChangeError::Conflict));
    assert_eq!(World::registered(&[0]).table.reserve_unit(ID[0], &nexus(0)), Err(ChangeError::Conflict));
}

/// SPC-5 6.16.2 to 6.16.5, byte by byte.
#[test]
fn what_is_reported() {
    let mut w = World::registered(&[0, 1]);
    assert_eq!(report::reservation(&w.table).as_bytes(), [0, 0, 0, 2, 0, 0, 0, 0]);
    assert_eq!(report::capabilities(&w.table).as_bytes(), [0, 8, 0x1d, 0x80, 0xea, 0x01, 0, 0]);
    w.good(0, &Out { aptpl: true, ..Out::new(Action::Register, 1, 0x0102) });
    w.good(0, &kind(Action::Reserve, 0x0102, 0, ReservationType::ExclusiveAccess));
    assert_eq!(report::capabilities(&w.table).as_bytes()[3], 0x81);
    let keys = [0, 0, 0, 3, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 2];
    assert_eq!(report::keys(&w.table).as_bytes(), keys);
    let held = [0, 0, 0, 3, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 3, 0, 0];
    assert_eq!(report::reservation(&w.table).as_bytes(), held);
    let full = report::full_status(&w.table);
    let full = full.as_bytes();
    let id = nexus(0).initiator.transport_id();
    let each = 24 + id.len();
    assert_eq!((full.len(), usize::from(full[7])), (8 + 2 * each, 2 * each));
    let first = [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0, id.len() as u8];
    assert_eq!((&full[8..32], &full[32..8 + each]), (&first[..], id.as_bytes()));
    assert_eq!(&full[8 + each + 12..8 + each + 14], [0, 0], "not a holder");
}

fn any_out() -> impl Strategy<Value = (usize, Out)> {
    const ACTIONS: [Action; 8] = [
        Action::Register,
        Action::Reserve,
        Action::Release,
        Action::Clear,
        Action::Preempt,
        Action::PreemptAndAbort,
        Action::RegisterAndIgnore,
        Action::RegisterAndMove,
    ];
    let fields = (
        prop::sample::select(&ACTIONS[..]),
        0u64..4,
        0u64..4,
        prop::sample::select(&ReservationType::ALL[..]),
    );
    (0usize..4, fields, any::<[bool; 4]>(), prop::collection::vec(0usize..4, 0..3)).prop_map(
        |(number, (action, key, action_key, kind), [spec, all, aptpl, unregister], others)| {
            let ports = others.into_iter().map(|number| nexus(number).initiator).collect();
            let moves = action == Action::RegisterAndMove;
            let out = Out {
                kind_code: kind as u8,
                specifies_ports: spec && action == Action::Register,
                all_target_ports: all,
                aptpl,
                unregister,
                move_port: 1 + u16::from(all),
                ports: if spec || moves { ports } else { Vec::new() },
                ..Out::new(action, key, action_key)
            };
            (number, out)
        },
    )
}

proptest! {
    /// Whatever is asked: at most one registration covers a nexus, a reservation has a holder, a registration has a
    /// key, and what is kept over a loss of power is what there was.
    #[test]
    fn a_table_is_always_sound(requests in prop::collection::vec(any_out(), 1..40)) {
        let mut table = Reservations::default();
        for (number, out) in requests {
            let before = table.clone();
            let Ok((next, effects)) = table.apply(&nexus(number), &out, &ports()) else { continue };
            table = next;
            for number in 0..4 {
                let covering = table.registrations.iter().filter(|r| r.covers(&nexus(number))).count();
                prop_assert!(covering <= 1);
            }
            prop_assert!(table.registrations.iter().all(|registration| registration.key != 0));
            let holders = table.registrations.iter().filter(|registration| registration.holder).count();
            match table.kind {
                Some(kind) if kind.all_registrants() => {
                    prop_assert!(!table.registrations.is_empty() && holders == 0);
                }
                Some(_) => prop_assert_eq!(holders, 1),
                None => prop_assert_eq!(holders, 0),
            }
            // Who loses its registration to another one hears of it.
            for other in (0..4).filter(|&other| nexus(other) != nexus(number)) {
                let lost = before.find(&nexus(other)).is_some() && table.find(&nexus(other)).is_none();
                let own = before.find(&nexus(number)) == before.find(&nexus(other));
                let told = effects.attentions.iter().any(|(whom, _)| whom.includes(&nexus(other), false));
                prop_assert!(!lost || own || told, "{:?}", out);
            }
            let kept = Reservations::from_record(&table.to_record(), &ports()).unwrap();
            if table.aptpl && !table.registrations.is_empty() {
                prop_assert_eq!(kept, Reservations { generation: 0, ..table.clone() });
            } else {
                prop_assert_eq!(kept, Reservations::default());
            }
        }
    }

    #[test]
    fn no_record_makes_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        _ = Reservations::from_record(&bytes, &ports());
    }
}

/// A port that the configuration no longer has takes its registration with it, and the reservation of that one.
#[test]
fn a_record_of_another_configuration() {
    let mut w = World::default();
    w.good(0, &Out { aptpl: true, ..Out::new(Action::Register, 0, 1) });
    w.good(3, &Out { aptpl: true, ..Out::new(Action::Register, 0, 4) });
    w.good(3, &kind(Action::Reserve, 4, 0, ReservationType::WriteExclusive));
    let record = w.table.to_record();
    let found = Reservations::from_record(&record, &ports()[..1]).unwrap();
    assert_eq!((found.registrations().len(), found.kind()), (1, None));
    assert!(Reservations::from_record(&record[..record.len() - 1], &ports()).is_err());
    assert!(Reservations::from_record(&[2, 0, 0, 0], &ports()).is_err(), "a version of the future");
    // Of IEEE 1394: the first daemons took such a port from initiators; no fabric here can have it.
    let id = [[3; 24], [0; 24]].map(|id| [&[0, 24], &id[..], &[0, 0]].concat());
    let [unknown, fc] = id.map(|id| [&[0, 0, 0, 0, 0, 0, 0, 9, 0], &id[..]].concat());
    let record = [&[1, 0, 0, 2], &unknown[..], &fc].concat();
    let found = Reservations::from_record(&record, &ports()).unwrap();
    let [registration] = found.registrations() else { panic!("{found:?}") };
    assert_eq!(registration.initiator.text(), "00:00:00:00:00:00:00:00");
    let held = [&[1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 1], &unknown[9..]].concat();
    assert!(Reservations::from_record(&held, &ports()).unwrap().is_open(), "nobody could release it");
    for damaged in [
        [&[1, 0, 0, 1], &unknown[..9], &[0, 23], &[3; 23], &[0, 0]].concat(),
        [&[1, 0, 0, 1], &unknown[..9], &[0, 24], &[5; 24], &[0, 0]].concat(),
    ] {
        assert_eq!(Reservations::from_record(&damaged, &ports()), Err("no TransportID"));
    }
}
