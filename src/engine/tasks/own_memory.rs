// SPDX-License-Identifier: GPL-2.0-or-later
//! A store that lends its pages, for one who must not be lent any: what it reads stays as it is.

use std::os::fd::RawFd;

use crate::io::{Done, Geometry, Health, Landing, Op, Store, Submitted, Tag};
use crate::memory::Arena;
use crate::time::Instant;

pub(super) struct OwnMemory {
    inner: Box<dyn Store>,
    arena: Arena,
}

impl OwnMemory {
    pub(super) fn new(inner: Box<dyn Store>, arena: Arena) -> Self {
        Self { inner, arena }
    }
}

impl Store for OwnMemory {
    fn geometry(&self) -> Geometry {
        let geometry = self.inner.geometry();
        let most = u32::try_from(Arena::block_max()).unwrap_or(u32::MAX);
        Geometry { transfer_max: geometry.transfer_max.min(most), ..geometry }
    }

    fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
        let op = match op {
            Op::Read { at, len, into: into @ (Landing::Own | Landing::Lent(_)) } => {
                match self.arena.alloc(len as usize) {
                    Some(block) => Op::Read { at, len, into: Landing::Given(block) },
                    None => return Submitted::Full(Op::Read { at, len, into }),
                }
            }
            other => other,
        };
        self.inner.submit(tag, op)
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
        self.inner.poll(done)
    }

    fn commit(&mut self) {
        self.inner.commit();
    }

    fn inspect(&mut self) -> Health {
        self.inner.inspect()
    }

    fn must_poll(&self) -> bool {
        self.inner.must_poll()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.inner.next_deadline()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        self.inner.wake_fd()
    }
}
