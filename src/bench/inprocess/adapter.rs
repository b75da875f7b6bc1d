// SPDX-License-Identifier: GPL-2.0-or-later
//! The driver for DPDK's devices, over the model of an adapter: a device of rings whose other end is the peer's wire.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Frames;
use super::frames::{self, Peer, TARGET_MAC, Wire};
use super::streams::After;
use crate::memory::{Arena, Seg};
use crate::net::StreamHost;
use crate::ports::dpdk::{DeviceConfig, Dpdk, ENVIRONMENT_MEMORY, Eal, EalConfig, FarEnd, buffer_memory};
use crate::sys;

/// Headers of IPv4 and TCP without options.
const IP_TCP: u16 = 40;

/// The far end as the wire of a peer.
struct Adapter {
    far: FarEnd,
    mtu: u16,
    eal: Arc<Eal>,
}

/// A host of the target's on such a device, and its peer. Once per process. `offload`: the adapter computes checksums
/// and cuts frames.
pub(super) fn host(arena: &Arena, mtu: u16, offload: bool) -> Result<(Box<dyn StreamHost>, Peer), String> {
    let environment = EalConfig {
        memory_mib: (buffer_memory(mtu, 1) + ENVIRONMENT_MEMORY).div_ceil(1 << 20),
        processor: sys::affinity().ok().and_then(|allowed| allowed.first()).unwrap_or(0),
        ..EalConfig::default()
    };
    let eal = Eal::start(&environment).map_err(|e| e.to_string())?;
    let device = DeviceConfig {
        device: String::new(),
        mtu,
        mac: Some(TARGET_MAC),
        queues: 1,
        offload,
        promiscuous: false,
    };
    let (queue, far) = FarEnd::new(&eal, &device).map_err(|e| e.to_string())?;
    let port =
        Dpdk::new(queue, arena.clone(), std::slice::from_ref(arena.region())).map_err(|e| e.to_string())?;
    Ok(frames::host(port, Adapter { far, mtu, eal }, arena))
}

impl Wire for Adapter {
    fn payload_max(&self) -> usize {
        usize::from(self.segment_max())
    }

    fn segment_max(&self) -> u16 {
        self.mtu - IP_TCP
    }

    fn has_room(&self) -> bool {
        self.far.has_room()
    }

    fn send(&mut self, header: &[u8], payload: &[u8]) {
        assert!(self.far.send(header, payload), "there is room for a frame of one MTU");
    }

    fn receive(&mut self, payload: &mut Vec<Seg>) -> Option<SmallVec<[u8; 128]>> {
        let mut header = SmallVec::new();
        let mut take = |mut piece: Seg| {
            // The headers are whole in the first buffer: the rest of that is payload.
            if header.is_empty() {
                header.resize(piece.len().min(128), 0);
                piece.copy_to(0, &mut header);
                let words = header.get(46).map_or(5, |byte| usize::from(byte >> 4));
                piece.skip((34 + 4 * words).min(piece.len()));
            }
            if !piece.is_empty() {
                payload.push(piece);
            }
        };
        self.far.receive(&mut take).then_some(header)
    }

    fn exchange(&mut self) {
        self.far.exchange();
    }

    fn after(&self) -> After {
        let eal = self.eal.clone();
        Box::new(move || eal.all_home())
    }

    fn counts(&self) -> Frames {
        let counts = self.far.counts();
        Frames {
            to_target: counts.received,
            from_target: counts.sent,
            in_place: counts.in_place,
            wrong_sums: counts.wrong_sums,
        }
    }
}
