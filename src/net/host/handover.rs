// SPDX-License-Identifier: GPL-2.0-or-later
//! Flows that go to another core, because their session lives there.
//!
//! The whole flow goes, so that everything that is done for it is done on one core. Whoever spreads frames over the
//! cores does not know of that at first: frames that still come in here are copied and sent after it. A TAP device
//! notices with the first frame that the flow sends from there, so these are few; their number is bounded by the
//! receive window.

use super::flows::Tuple;
use super::{FLOWS_MAX, TcpHost};
use crate::memory::Seg;
use crate::net::flow::Moving;
use crate::net::held::HeldByFlow;
use crate::net::{Detached, FramePort, RxChecksum, RxFrame, StreamEvent, StreamId, StreamOrigin};
use crate::time::Instant;
use smoltcp::socket::tcp::State;
use std::collections::HashMap;
use std::time::Duration;

/// How long a flow that has gone is remembered after its last frame, if there are many.
const MEMORY: Duration = Duration::from_secs(60);

/// Flows that have gone, and their frames.
#[derive(Default)]
pub(super) struct Gone {
    /// To which core, and when a frame came last.
    to: HashMap<Tuple, (usize, Instant)>,
    /// Frames for flows elsewhere, whose checksums are right.
    strays: Vec<(usize, Vec<u8>)>,
    /// Frames of flows that have come here.
    arrived: Vec<Vec<u8>>,
}

impl Gone {
    /// There is a new connection from the same place.
    pub(super) fn forget(&mut self, tuple: &Tuple) {
        self.to.remove(tuple);
    }

    /// Whether a frame belongs to a flow that has gone; then it goes, too. Who opens a new one has yet to show that he
    /// can.
    pub(super) fn takes(&mut self, now: Instant, tuple: Tuple, opens: bool, frame: &Seg) -> bool {
        if opens || self.to.is_empty() {
            return false;
        }
        let Some((core, last)) = self.to.get_mut(&tuple) else { return false };
        *last = now;
        let mut copy = vec![0; frame.len()];
        frame.copy_to(0, &mut copy);
        self.strays.push((*core, copy));
        true
    }

    pub(super) fn is_idle(&self) -> bool {
        self.arrived.is_empty()
    }
}

impl<P: FramePort> TcpHost<P> {
    pub(super) fn detach_flow(&mut self, id: StreamId, to: usize) -> Option<Detached> {
        let index = self.get(id)?;
        let entry = &self.flows[index];
        if entry.closing.is_some() || entry.flow.state() != State::Established || entry.flow.holds_payload() {
            return None;
        }
        if self.gone.to.len() >= FLOWS_MAX {
            let now = self.now;
            self.gone.to.retain(|_, (_, last)| now < *last + MEMORY);
            if self.gone.to.len() >= FLOWS_MAX {
                return None;
            }
        }
        let entry = self.flows.remove(index);
        self.timers.forget(index);
        self.gone.to.insert(entry.tuple(), (to, self.now));
        self.counters.handed_over += 1;
        Some(Detached { origin: entry.origin(), state: Box::new(entry.flow.detach()) })
    }

    pub(super) fn attach_flow(&mut self, stream: Detached) -> Option<StreamId> {
        let moving: Moving = *stream.state.downcast().ok()?;
        let StreamOrigin { listener, local, peer } = stream.origin;
        let tuple = Tuple { local, peer };
        self.gone.to.remove(&tuple);
        // A handshake that is not done is somebody else's.
        if let Some(other) = self.flows.find(&tuple).filter(|&other| !self.flows[other].accepted) {
            self.retire(other, &mut Vec::new());
        }
        if self.flows.len() >= FLOWS_MAX || self.flows.find(&tuple).is_some() {
            self.counters.refused += 1;
            return None;
        }
        let flow = moving.attach(self.shape, HeldByFlow::new(&self.arena));
        let (id, index) = self.insert(flow, listener, true);
        self.counters.taken_over += 1;
        self.touch(index);
        Some(id)
    }

    pub(super) fn take_strays(&mut self) -> Vec<(usize, Vec<u8>)> {
        std::mem::take(&mut self.gone.strays)
    }

    pub(super) fn give_stray(&mut self, frame: Vec<u8>) {
        self.gone.arrived.push(frame);
    }

    /// Takes the frames that other cores have sent after their flows. Without memory they are lost, as on a wire.
    pub(super) fn receive_strays(&mut self, events: &mut Vec<StreamEvent>) -> usize {
        let arrived = std::mem::take(&mut self.gone.arrived);
        for frame in &arrived {
            let Some(mut block) = self.arena.alloc_reserved(frame.len()) else {
                self.counters.dropped_no_memory += 1;
                continue;
            };
            block.bytes_mut().copy_from_slice(frame);
            let stray = RxFrame { data: block.freeze(), checksum: RxChecksum::Good };
            self.receive_frames(&[stray], events);
        }
        arrived.len()
    }
}
