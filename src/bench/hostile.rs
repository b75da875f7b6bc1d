// SPDX-License-Identifier: GPL-2.0-or-later
//! A target that answers at random, whatever it is sent: the load generator continues or ends with an error, and holds
//! little memory.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::load::{Load, Spec, Window};
use super::login::{self, Credentials, Stream};
use super::pattern::Pattern;
use super::session::Session;
use crate::time::Instant;

/// Bytes of an operation.
const BLOCK: u32 = 4096;

/// Pieces that may wait to be sent to one who reads nothing.
const WAITING_MAX: usize = 400;

/// What the target says, in the pieces in which it comes in.
struct Sayings(VecDeque<Vec<u8>>);

impl Stream for Sayings {
    fn send(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn receive(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.extend(self.0.pop_front().ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A run against a target that says this. It reads nothing from a piece of odd length on.
pub(crate) fn run_against(pieces: VecDeque<Vec<u8>>) {
    let mut sayings = Sayings(pieces);
    let who = Credentials {
        initiator: "iqn.2026-11.test:victim".to_owned(),
        target: "iqn.2026-11.test:hostile".to_owned(),
        lun: 0,
        isid: [0x80, 0, 0, 1, 0, 0],
        account: None,
    };
    let Ok(terms) = login::login(&mut sayings, &who) else { return };
    if !BLOCK.is_multiple_of(terms.block) {
        return;
    }
    let spec = Spec {
        block: BLOCK,
        reads: 50,
        pattern: Pattern::Sequential,
        verify: true,
        first: 0,
        blocks: 16,
        streams: 1,
        count: Some(64),
        seed: 7,
    };
    let mut load = Load::new(spec, Window { from: Instant::ZERO, end: None });
    let mut session = Session::new(0, terms, 4, &load);
    let mut now = Instant::ZERO;
    let mut reads = true;
    while let Some(piece) = sayings.0.pop_front() {
        session.fill(&mut load, now);
        let (mut waiting, mut bytes) = (0, 0);
        session.output(|piece| {
            (waiting, bytes) = (waiting + 1, bytes + piece.len());
            true
        });
        assert!(waiting <= WAITING_MAX, "{waiting} pieces wait to be sent");
        reads &= piece.len() % 2 == 0;
        if reads {
            session.sent(bytes);
        }
        now = now + Duration::from_micros(10);
        if session.receive(&piece, &mut load, now).is_err() {
            return;
        }
    }
    login::logout(&mut sayings, session.numbers());
}
