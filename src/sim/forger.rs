// SPDX-License-Identifier: GPL-2.0-or-later
//! Somebody on the wires who sees nothing of the connections, and says whatever he likes in the initiators' name.

use std::net::IpAddr;

use super::canary::checksum;
use super::peer::{Port, initiator_address, target_address};
use crate::ports::memory::Dice;

pub(super) const MAC: [u8; 6] = [2, 0x66, 0, 0, 0, 6];

const SYN: u8 = 2;

/// SYNs that he sends at once now and then: more than the target remembers.
const FLOOD: u16 = 300;

/// See the module.
pub(super) struct Forger {
    dice: Dice,
    /// Share of turns in which he says something.
    pub(super) share: f64,
    ipv6: bool,
}

impl Forger {
    pub(super) fn new(share: f64, ipv6: bool, seed: u64) -> Self {
        Self { dice: Dice::new(seed), share, ipv6 }
    }

    /// What he says in a turn, for a machine with an Ethernet address. Connections have ports up to `next`, and those
    /// of some are known to him.
    pub(super) fn frames(&mut self, target: [u8; 6], ports: &[Port], next: Port) -> Vec<Vec<u8>> {
        if !self.dice.chance(self.share) {
            return Vec::new();
        }
        let about = self.dice.below(ports.len() as u64 + 1) as usize;
        let port = ports.get(about).copied().unwrap_or(next);
        match self.dice.below(300) {
            0 => (0..FLOOD).map(|port| self.segment(target, port + 1, SYN)).collect(),
            1..40 => vec![self.error(target, port)],
            40..60 => vec![self.claim(target)],
            60..100 => vec![self.segment(target, next, SYN)],
            _ => {
                let flags = [0x10, 0x11, 4, 0x14, SYN, 0x12, self.dice.roll() as u8];
                let flags = flags[self.dice.below(7) as usize];
                vec![self.segment(target, port, flags)]
            }
        }
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.dice.roll() as u8).collect()
    }

    /// A segment with numbers that are guessed.
    fn segment(&mut self, target: [u8; 6], port: Port, flags: u8) -> Vec<u8> {
        let (numbers, window) = (self.bytes(8), self.bytes(2));
        let options = self.dice.below(4) * 4;
        let more = self.bytes(options);
        let payload = self.dice.below(3) * 300;
        let payload = self.bytes(payload);
        let length = 5 + (options / 4) as u8;
        let ports = [port.to_be_bytes(), target_address(self.ipv6).port().to_be_bytes()].concat();
        let tcp = [&ports, &numbers, &[length << 4, flags][..], &window, &[0; 4], &more, &payload].concat();
        self.packet(target, 6, 16, tcp)
    }

    /// An ICMP error, or something like it, about a segment of the target's.
    fn error(&mut self, target: [u8; 6], port: Port) -> Vec<u8> {
        let kinds = [1, 2, 3, 3, 4, 5, 11, 12, 134, 136, 137];
        let kind = kinds[self.dice.below(kinds.len() as u64) as usize];
        let code = self.dice.below(16) as u8;
        let quoted = self.bytes(20);
        let ports = [target_address(self.ipv6).port().to_be_bytes(), port.to_be_bytes()].concat();
        let icmp = [&[kind, code, 0, 0, 0, 0, 0, 68], &quoted[..], &ports, &[0; 8]].concat();
        self.packet(target, if self.ipv6 { 58 } else { 1 }, 2, icmp)
    }

    /// The initiator's address is his, he says.
    fn claim(&mut self, target: [u8; 6]) -> Vec<u8> {
        match (initiator_address(self.ipv6), target_address(self.ipv6).ip()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let operation = 1 + self.dice.below(2) as u8;
                let head = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
                let about = if self.dice.chance(0.5) { own } else { other };
                [&target[..], &MAC, &head, &MAC, &own.octets(), &[0; 6], &about.octets()].concat()
            }
            (IpAddr::V6(own), _) => {
                let kind = 135 + self.dice.below(2) as u8;
                let head = [kind, 0, 0, 0, 0x60, 0, 0, 0];
                self.packet(target, 58, 2, [&head[..], &own.octets(), &[2, 1], &MAC].concat())
            }
            _ => unreachable!("both are of one family"),
        }
    }

    /// A frame with a packet, whose checksum goes to byte `at` of its body.
    fn packet(&mut self, target: [u8; 6], protocol: u8, at: usize, mut body: Vec<u8>) -> Vec<u8> {
        let len = body.len() as u16;
        let (mut ip, pseudo): (Vec<u8>, Vec<u8>) =
            match (initiator_address(self.ipv6), target_address(self.ipv6).ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    let mut head = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
                    head[2..4].copy_from_slice(&(len + 20).to_be_bytes());
                    let ends = [from.octets(), to.octets()].concat();
                    let pseudo = [&ends[..], &[0, protocol], &len.to_be_bytes()].concat();
                    ([&head[..], &ends].concat(), if protocol == 1 { Vec::new() } else { pseudo })
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    let ends = [from.octets(), to.octets()].concat();
                    let head = [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[protocol, 255], &ends].concat();
                    (head, [&ends[..], &[0, protocol], &len.to_be_bytes()].concat())
                }
                _ => unreachable!("both are of one family"),
            };
        if !self.ipv6 {
            let sum = checksum(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let sum = checksum(&[&pseudo[..], &body].concat());
        body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let ethertype = if self.ipv6 { [0x86, 0xdd] } else { [8, 0] };
        // Now and then he takes the initiator's Ethernet address, too.
        let mac = if self.dice.chance(0.2) { [2, 0, 0, 0, 0, 9] } else { MAC };
        [&target[..], &mac, &ethertype, &ip, &body].concat()
    }
}
