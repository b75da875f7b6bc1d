// SPDX-License-Identifier: GPL-2.0-or-later
//! Unit attentions that the end of a command establishes: there for everybody whom they concern, on both cores, before
//! its status goes out.

use super::*;
use crate::scsi::Whom;

/// A unit attention is there for everybody before the status that tells of its cause, on both cores.
#[test]
fn attentions_come_before_the_status() {
    for seed in 1..=300 {
        let cause = if seed % 2 == 0 { Ask::Select } else { Ask::Detach };
        let mut cores = Cores::new(seed, |_, client| match client {
            0 => vec![cause.clone()],
            _ => Vec::new(),
        });
        cores.run_to_the_end_of(0);
        for client in 1..CLIENTS {
            cores.clients[client].left.push(Ask::Ready);
        }
        cores.run();
        let got = cores.calls.iter().map(|call| call.got.clone().unwrap());
        let told = Got::Attention(asc::MODE_PARAMETERS_CHANGED);
        let wanted = [Got::Good, told.clone(), told.clone(), told];
        assert_eq!(got.collect::<Vec<_>>(), wanted, "seed {seed}");
    }
}

/// MEDIUM MAY HAVE CHANGED, IMPORT OR EXPORT ELEMENT ACCESSED, and two more that are told apart.
const MEDIUM: u16 = 0x2800;
const ACCESSED: u16 = 0x2801;
const MODE: u16 = asc::MODE_PARAMETERS_CHANGED;
const LOG: u16 = asc::LOG_PARAMETERS_CHANGED;

fn attention(unit: Option<UnitKey>, whom: Whom, code: u16) -> Attention {
    Attention { unit, whom, code }
}

/// What each initiator is told after the first has sent MOVE MEDIUM: at the logical unit of the command, and at the
/// other.
fn told_after_a_move(seed: u64, tells: &[Attention]) -> Vec<[Vec<u16>; 2]> {
    let first = |_: &mut Dice, client| if client == 0 { vec![Ask::Move] } else { Vec::new() };
    let mut cores = Cores::with_gate(seed, first, true, tells);
    cores.run_to_the_end_of(0);
    assert_eq!(cores.calls[0].got, Some(Got::Good), "seed {seed}");
    // Each is told one at a time: after the last there is GOOD.
    for client in &mut cores.clients {
        client.left.extend([Ask::OtherReady, Ask::OtherReady, Ask::Ready, Ask::Ready, Ask::Ready]);
    }
    cores.run();
    let codes = |number: usize, asked: Ask| {
        let calls = cores.calls.iter().filter(|call| call.client == number && call.ask == asked);
        let codes = calls.filter_map(|call| match call.got {
            Some(Got::Attention(code)) => Some(code),
            _ => None,
        });
        codes.collect()
    };
    (0..CLIENTS).map(|number| [codes(number, Ask::Ready), codes(number, Ask::OtherReady)]).collect()
}

#[test]
fn each_nexus_is_told_what_concerns_it_before_the_status() {
    let other = Cores::new(1, |_, _| Vec::new()).other;
    let tells = [
        attention(Some(other), Whom::All, MEDIUM),
        attention(None, Whom::Others, MODE),
        attention(None, Whom::Sender, LOG),
        attention(None, Whom::All, ACCESSED),
        attention(Some(other), Whom::Others, MODE),
    ];
    for seed in 1..=300 {
        let sender = [vec![LOG, ACCESSED], vec![MEDIUM]];
        let others = [vec![MODE, ACCESSED], vec![MEDIUM, MODE]];
        let wanted = [sender, others.clone(), others.clone(), others];
        assert_eq!(told_after_a_move(seed, &tells), wanted, "seed {seed}");
    }
}

#[test]
fn a_port_that_is_told_is_not_the_senders() {
    let port = |client| Whom::Port(name(client).initiator, None);
    let tells = [attention(None, port(0), MODE), attention(None, port(3), LOG)];
    for seed in 1..=50 {
        let nothing = [vec![], vec![]];
        let wanted = [nothing.clone(), nothing.clone(), nothing, [vec![LOG], vec![]]];
        assert_eq!(told_after_a_move(seed, &tells), wanted, "seed {seed}");
    }
}

/// The status does not wait for it, and the others are told.
#[test]
fn a_logical_unit_that_is_gone_is_told_nothing() {
    let gone = attention(Some(UnitKey(99)), Whom::All, MEDIUM);
    for tells in [vec![gone.clone()], vec![gone, attention(None, Whom::All, ACCESSED)]] {
        for seed in 1..=50 {
            let own = if tells.len() > 1 { vec![ACCESSED] } else { vec![] };
            let wanted = [(); CLIENTS].map(|()| [own.clone(), vec![]]);
            assert_eq!(told_after_a_move(seed, &tells), wanted, "seed {seed}");
        }
    }
}

/// What has happened is told although the command is aborted meanwhile, at every logical unit that it concerns.
#[test]
fn an_abort_does_not_stop_what_is_being_told() {
    let other = Cores::new(1, |_, _| Vec::new()).other;
    let tells = [attention(None, Whom::Others, ACCESSED), attention(Some(other), Whom::All, MEDIUM)];
    let mut aborted = 0;
    for seed in 1..=300 {
        let first = |_: &mut Dice, client| if client == 0 { vec![Ask::Move] } else { Vec::new() };
        let mut cores = Cores::with_gate(seed, first, true, &tells);
        // The command has ended for its device, and both units still have to be told.
        while cores.managers[0].changes.finishing.is_empty() {
            cores.step();
            assert!(cores.clock < 200_000, "nobody is told");
        }
        let request = Request::Abandoned { request_tag: RequestTag(0) };
        cores.clients[0].requests.push_back(request);
        cores.run_to_the_end_of(0);
        aborted += usize::from(cores.calls[0].got == Some(Got::Aborted));
        for client in 1..CLIENTS {
            cores.clients[client].left.extend([Ask::OtherReady, Ask::Ready]);
        }
        cores.run();
        for call in &cores.calls[1..] {
            let code = if call.ask == Ask::Ready { ACCESSED } else { MEDIUM };
            assert_eq!(call.got, Some(Got::Attention(code)), "seed {seed}");
        }
    }
    assert!(aborted > 100, "only {aborted} were aborted in time");
}

/// With one core there is nobody to wait for.
#[test]
fn one_core_tells_its_own_nexuses() {
    let mut w = World::new(TransportKind::Stream, 0);
    let tape = w.manager.nexuses[w.transports[0].0.0].task_sets[1].unit;
    let tells = vec![attention(Some(tape), Whom::All, MEDIUM), Attention::others(MODE)];
    let unit = UnitKey(3);
    w.manager.add_unit(unit, Box::new(Guarded { tells, ..Guarded::default() }), None);
    for nexus in 0..2 {
        let key = w.transports[nexus].0;
        w.manager.nexuses[key.0].task_sets[0].unit = unit;
    }
    w.command(0, 1, DISK, &[0xa5; 12], 0, &[]);
    w.turn();
    assert_eq!(w.wire(0).responses[0].1, Status::Good);
    let pending = |w: &World, nexus: usize, lun: usize| {
        w.manager.nexuses[w.transports[nexus].0.0].task_sets[lun].attentions.first()
    };
    assert_eq!([pending(&w, 0, 0), pending(&w, 0, 1)], [None, Some(MEDIUM)]);
    assert_eq!([pending(&w, 1, 0), pending(&w, 1, 1)], [Some(MODE), Some(MEDIUM)]);
}
