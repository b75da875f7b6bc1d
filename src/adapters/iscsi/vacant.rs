// SPDX-License-Identifier: GPL-2.0-or-later
//! What is in the place of a port that is gone: nothing comes in there.

use std::os::fd::RawFd;

use crate::counters::Counted;
use crate::memory::{Seg, Sg};
use crate::net::{Detached, StreamEvent, StreamHost, StreamId};
use crate::time::Instant;

struct Vacant;

pub(super) fn vacant() -> (String, Box<dyn StreamHost>) {
    (String::new(), Box::new(Vacant))
}

impl StreamHost for Vacant {
    fn poll(&mut self, _: Instant, _: &mut Vec<StreamEvent>) -> usize {
        0
    }

    fn receive(&mut self, _: StreamId) -> Option<Seg> {
        None
    }

    fn room(&self, _: StreamId) -> usize {
        0
    }

    fn send(&mut self, _: StreamId, _: Sg) {}

    fn close(&mut self, _: StreamId) {}

    fn abort(&mut self, _: StreamId) {}

    fn commit(&mut self, _: Instant) {}

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn wake_fds(&self, _: &mut Vec<RawFd>) {}

    fn stop_listening(&mut self) {}

    fn detach(&mut self, _: StreamId, _: usize) -> Option<Detached> {
        None
    }

    fn attach(&mut self, _: Detached) -> Option<StreamId> {
        None
    }

    fn counters(&self) -> Vec<Counted> {
        Vec::new()
    }
}
