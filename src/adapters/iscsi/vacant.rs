// SPDX-License-Identifier: GPL-2.0-or-later
//! What is in the place of a port that is gone: nothing comes in there.

use crate::memory::{Seg, Sg};
use crate::net::{StreamEvent, StreamHost, StreamId};
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
}
