// SPDX-License-Identifier: GPL-2.0-or-later
//! What a machine is reached by: a port for each core, and a wire from it to the peers.

use std::net::SocketAddr;

use super::canary::{Canary, forget_retransmissions};
use super::peer::{Peers, target_address};
use super::plan::Plan;
use crate::memory::Arena;
use crate::net::{Address, FrameCaps, FramePort, HostConfig, StreamHost, TcpHost};
use crate::ports::memory::{End, Wire, wire};

/// What a machine is reached by: for each core a host of byte streams, and the wires where it is on such.
pub(super) struct Network {
    pub(super) hosts: Vec<Box<dyn StreamHost>>,
    pub(super) address: SocketAddr,
    pub(super) wires: Vec<Wire>,
}

/// A port of each core, and its wire to the peers.
pub(super) fn network(
    plan: &Plan,
    peers: &mut Peers,
    arenas: &[Arena],
    client_arena: &Arena,
    canary: Option<Canary>,
    number: u64,
) -> Network {
    let address = target_address(plan.wires.ipv6);
    let mut network = Network { hosts: Vec::new(), address, wires: Vec::new() };
    let mut plugs = Vec::new();
    for (core, arena) in arenas.iter().enumerate() {
        let segment_max = if plan.wires.segmentation { 64_254 } else { 0 };
        let caps = FrameCaps { mtu: plan.wires.mtu, segment_max, gather_max: 64 };
        let mac = [2, 0, 0, 0, 0, 1];
        let ours = End { mac, caps, arena: arena.clone() };
        let theirs = End { mac: [2, 0, 0, 0, 0, 9], caps, arena: client_arena.clone() };
        let seed = plan.seed.wrapping_mul(31) ^ (core as u64) << 48 ^ number << 32;
        let (line, [port, peer]) = wire(seed, [ours, theirs]);
        line.set_all_faults(plan.wires.faults());
        if canary == Some(Canary::UnchargedMemory) {
            arena.forget_budget();
        }
        if canary == Some(Canary::ForgottenRetransmission) {
            line.set_filter(0, Some(forget_retransmissions(seed)));
        }
        plugs.push((peer, port.mac()));
        let prefix = if plan.wires.ipv6 { 64 } else { 24 };
        let config = HostConfig {
            receive_window: 256 << 10,
            send_window: 256 << 10,
            secret: [seed, core as u64],
            ..HostConfig::new(vec![Address { ip: address.ip(), prefix }], vec![address])
        };
        network.hosts.push(Box::new(TcpHost::new(port, arena.clone(), &config)));
        network.wires.push(line);
    }
    peers.plug(plugs);
    network
}
