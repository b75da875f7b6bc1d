// SPDX-License-Identifier: GPL-2.0-or-later
//! What comes before TCP: which frames are ours, and the answers that a host owes its neighbours (ARP, neighbour
//! discovery, ICMP echo).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smallvec::SmallVec;

use super::checksum::Sum;
use super::ethernet::{BROADCAST, EthernetHeader, half, is_group};
use super::{Address, DropCounters, TcpOffload, TxFrame};
use crate::memory::Sg;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_ICMPV6: u8 = 58;
/// Routers between us and a peer, at most.
const HOPS: u8 = 64;
/// Flags of a TCP header (RFC 9293 3.1).
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// Longest echo request that is answered; pings are not for moving data.
const ECHO_MAX: usize = 16 << 10;

/// A TCP segment for one of our addresses.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    /// The Ethernet address that it came from.
    pub(super) mac: [u8; 6],
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    /// The whole IP packet, without the padding of the frame.
    pub(super) packet: &'a [u8],
    /// Where the TCP header begins in it.
    pub(super) tcp: usize,
}

/// What a TCP header says beside its ports.
pub(super) struct TcpFields {
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
}

/// What becomes of a frame.
pub(super) enum Verdict<'a> {
    Tcp(Segment<'a>),
    Answer(TxFrame),
    Nothing,
}

/// The MAC addresses of the groups that a host with these addresses is in: IPv6 has its all-nodes group, and finds
/// neighbours through the solicited-node group of each address (RFC 4291 2.7.1, RFC 2464 7).
pub fn multicast_groups(addresses: &[Address]) -> Vec<[u8; 6]> {
    let mut groups = Vec::new();
    for address in addresses {
        if let IpAddr::V6(ip) = address.ip {
            let [.., a, b, c] = ip.octets();
            groups.extend([[0x33, 0x33, 0, 0, 0, 1], [0x33, 0x33, 0xff, a, b, c]]);
        }
    }
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// Our side of the link.
pub(super) struct Front {
    pub(super) mac: [u8; 6],
    addresses: Vec<Address>,
    pub(super) drops: DropCounters,
}

fn v4(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

fn v6(bytes: &[u8], at: usize) -> Ipv6Addr {
    let octets: [u8; 16] = bytes[at..at + 16].try_into().expect("sixteen bytes");
    Ipv6Addr::from(octets)
}

impl Front {
    /// IPv6 hosts have a link-local address, too (RFC 4291 2.8), made from the MAC address.
    pub(super) fn new(mac: [u8; 6], addresses: &[Address]) -> Self {
        let mut addresses = addresses.to_vec();
        if addresses.iter().any(|address| address.ip.is_ipv6()) {
            let [a, b, c, d, e, f] = mac;
            let octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
            addresses.push(Address { ip: Ipv6Addr::from(octets).into(), prefix: 64 });
        }
        Self { mac, addresses, drops: DropCounters::default() }
    }

    fn is_ours(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|address| address.ip == ip)
    }

    /// Looks at a frame. `verified`: the port vouches for its transport checksum.
    pub(super) fn receive<'a>(&mut self, frame: &'a [u8], verified: bool) -> Verdict<'a> {
        let Some(EthernetHeader { to, ethertype, vlan, body }) = EthernetHeader::of(frame) else {
            self.drops.dropped_malformed += 1;
            return Verdict::Nothing;
        };
        // Of groups the upper layer takes what is meant for us.
        if to != self.mac && !is_group(to) {
            self.drops.dropped_not_ours += 1;
            return Verdict::Nothing;
        }
        let mac: [u8; 6] = frame[6..12].try_into().expect("six bytes");
        let body = &frame[body..];
        let verdict = match ethertype {
            ETHERTYPE_ARP if vlan.is_none() => self.arp(body),
            ETHERTYPE_IPV4 if vlan.is_none() => self.ipv4(mac, body, verified),
            ETHERTYPE_IPV6 if vlan.is_none() => self.ipv6(mac, body, verified),
            _ => {
                self.drops.dropped_unserved += 1;
                return Verdict::Nothing;
            }
        };
        verdict.unwrap_or_else(|| {
            self.drops.dropped_malformed += 1;
            Verdict::Nothing
        })
    }

    /// ARP (RFC 826): tells who asks for one of our addresses.
    fn arp<'a>(&mut self, body: &[u8]) -> Option<Verdict<'a>> {
        let arp = body.get(..28)?;
        if arp[..6] != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        let (request, wanted) = (half(arp, 6) == 1, v4(arp, 24));
        if !request || !self.is_ours(wanted.into()) {
            return Some(Verdict::Nothing);
        }
        let mut answer = self.ethernet(arp[8..14].try_into().ok()?, ETHERTYPE_ARP);
        answer.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
        answer.extend_from_slice(&self.mac);
        answer.extend_from_slice(&wanted.octets());
        answer.extend_from_slice(&arp[8..18]);
        Some(Verdict::Answer(complete(answer)))
    }

    fn ipv4<'a>(&mut self, mac: [u8; 6], body: &'a [u8], verified: bool) -> Option<Verdict<'a>> {
        let header = usize::from(body.first()? & 0x0f) * 4;
        if body[0] >> 4 != 4 || header < 20 || body.len() < header {
            return None;
        }
        // A super-frame of more than 65535 bytes has no length that its header could hold: then the frame's counts.
        let len = match half(body, 2) {
            0 => body.len(),
            len => usize::from(len),
        };
        let packet = body.get(..len).filter(|_| len >= header)?;
        if Sum::default().add(&packet[..header]).checksum() != 0 {
            return None;
        }
        let (from, to) = (v4(packet, 12), v4(packet, 16));
        if !self.is_ours(to.into()) || from.is_unspecified() || from.is_broadcast() || from.is_multicast() {
            self.drops.dropped_not_ours += 1;
            return Some(Verdict::Nothing);
        }
        if half(packet, 6) & 0x3fff != 0 {
            self.drops.dropped_fragments += 1;
            return Some(Verdict::Nothing);
        }
        match packet[9] {
            PROTOCOL_TCP => self.tcp(mac, from.into(), to.into(), packet, header, verified),
            PROTOCOL_ICMP => self.echo(mac, from, to, &packet[header..], verified),
            _ => {
                self.drops.dropped_unserved += 1;
                Some(Verdict::Nothing)
            }
        }
    }

    fn ipv6<'a>(&mut self, mac: [u8; 6], body: &'a [u8], verified: bool) -> Option<Verdict<'a>> {
        const HEADER: usize = 40;
        if body.len() < HEADER || body[0] >> 4 != 6 {
            return None;
        }
        let len = match half(body, 4) {
            0 => body.len(),
            len => HEADER + usize::from(len),
        };
        let packet = body.get(..len)?;
        let (from, to) = (v6(packet, 8), v6(packet, 24));
        match packet[6] {
            PROTOCOL_TCP if self.is_ours(to.into()) && !from.is_multicast() && !from.is_unspecified() => {
                self.tcp(mac, from.into(), to.into(), packet, HEADER, verified)
            }
            PROTOCOL_ICMPV6 if to.is_multicast() || self.is_ours(to.into()) => {
                self.icmpv6(mac, from, to, packet[7], &packet[HEADER..], verified)
            }
            _ => {
                self.drops.dropped_unserved += 1;
                Some(Verdict::Nothing)
            }
        }
    }

    fn tcp<'a>(
        &mut self,
        mac: [u8; 6],
        from: IpAddr,
        to: IpAddr,
        packet: &'a [u8],
        tcp: usize,
        verified: bool,
    ) -> Option<Verdict<'a>> {
        let segment = packet.get(tcp..)?;
        let header = usize::from(segment.get(12)? >> 4) * 4;
        if segment.len() < 20 || header < 20 || header > segment.len() {
            return None;
        }
        if !verified && Sum::pseudo_header(from, to, PROTOCOL_TCP, segment.len()).add(segment).checksum() != 0
        {
            return None;
        }
        Some(Verdict::Tcp(Segment { mac, from, to, packet, tcp }))
    }

    /// ICMP echo (RFC 792).
    fn echo<'a>(
        &mut self,
        mac: [u8; 6],
        from: Ipv4Addr,
        to: Ipv4Addr,
        icmp: &[u8],
        verified: bool,
    ) -> Option<Verdict<'a>> {
        if icmp.len() < 8 || (!verified && Sum::default().add(icmp).checksum() != 0) {
            return None;
        }
        if icmp[..2] != [8, 0] || icmp.len() > ECHO_MAX {
            return Some(Verdict::Nothing);
        }
        let mut answer = self.ethernet(mac, ETHERTYPE_IPV4);
        answer.extend_from_slice(&ipv4_header(to, from, PROTOCOL_ICMP, icmp.len()));
        let at = answer.len();
        answer.extend_from_slice(&[0; 4]);
        answer.extend_from_slice(&icmp[4..]);
        let sum = Sum::default().add(&answer[at..]).checksum();
        answer[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
        Some(Verdict::Answer(complete(answer)))
    }

    /// ICMPv6: echo (RFC 4443) and neighbour solicitations (RFC 4861).
    fn icmpv6<'a>(
        &mut self,
        mac: [u8; 6],
        from: Ipv6Addr,
        to: Ipv6Addr,
        hops: u8,
        icmp: &[u8],
        verified: bool,
    ) -> Option<Verdict<'a>> {
        let sum = Sum::pseudo_header(from.into(), to.into(), PROTOCOL_ICMPV6, icmp.len()).add(icmp);
        if icmp.len() < 8 || (!verified && sum.checksum() != 0) {
            return None;
        }
        match icmp[0] {
            128 if self.is_ours(to.into()) && !from.is_unspecified() && icmp.len() <= ECHO_MAX => {
                let mut body = vec![129, 0, 0, 0];
                body.extend_from_slice(&icmp[4..]);
                Some(Verdict::Answer(self.icmpv6_frame(mac, to, from, 64, body)))
            }
            // A hop limit of 255 shows that the asker is on this link.
            135 if hops == 255 && icmp.len() >= 24 => {
                let wanted = v6(icmp, 8);
                if !self.is_ours(wanted.into()) {
                    return Some(Verdict::Nothing);
                }
                // Who has no address yet (duplicate address detection) is told through all nodes, unsolicited.
                let (back, flags) = match from.is_unspecified() {
                    true => (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0x20),
                    false => (from, 0x60),
                };
                let mut body = vec![136, 0, 0, 0, flags, 0, 0, 0];
                body.extend_from_slice(&wanted.octets());
                body.extend_from_slice(&[2, 1]);
                body.extend_from_slice(&self.mac);
                let mac = if from.is_unspecified() { [0x33, 0x33, 0, 0, 0, 1] } else { mac };
                Some(Verdict::Answer(self.icmpv6_frame(mac, wanted, back, 255, body)))
            }
            _ => Some(Verdict::Nothing),
        }
    }

    fn icmpv6_frame(
        &self,
        mac: [u8; 6],
        from: Ipv6Addr,
        to: Ipv6Addr,
        hops: u8,
        mut body: Vec<u8>,
    ) -> TxFrame {
        let sum =
            Sum::pseudo_header(from.into(), to.into(), PROTOCOL_ICMPV6, body.len()).add(&body).checksum();
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut frame = self.ethernet(mac, ETHERTYPE_IPV6);
        frame.extend_from_slice(&ipv6_header(from, to, (PROTOCOL_ICMPV6, hops), body.len()));
        frame.extend_from_slice(&body);
        complete(frame)
    }

    /// An Ethernet header of ours.
    pub(super) fn ethernet(&self, to: [u8; 6], ethertype: u16) -> SmallVec<[u8; 128]> {
        let mut frame = SmallVec::from_slice(&to);
        frame.extend_from_slice(&self.mac);
        frame.extend_from_slice(&ethertype.to_be_bytes());
        frame
    }

    /// A TCP segment without its payload of `len` bytes; its checksum is left to the port.
    pub(super) fn tcp_header(
        &self,
        mac: [u8; 6],
        (local, peer): (SocketAddr, SocketAddr),
        fields: &TcpFields,
        len: usize,
    ) -> (SmallVec<[u8; 128]>, TcpOffload) {
        let mut tcp = [0; 20];
        tcp[..2].copy_from_slice(&local.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&peer.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&fields.sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&fields.acknowledged.to_be_bytes());
        (tcp[12], tcp[13]) = (5 << 4, fields.flags);
        tcp[14..16].copy_from_slice(&fields.window.to_be_bytes());
        let total = tcp.len() + len;
        let partial = Sum::pseudo_header(local.ip(), peer.ip(), PROTOCOL_TCP, total).folded();
        tcp[16..18].copy_from_slice(&partial.to_be_bytes());
        let ipv6 = local.is_ipv6();
        let mut frame = self.ethernet(mac, if ipv6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 });
        frame.extend_from_slice(&ip_header(local.ip(), peer.ip(), total));
        let csum_start = u16::try_from(frame.len()).expect("headers are short");
        frame.extend_from_slice(&tcp);
        (frame, TcpOffload { csum_start, segment: None, ipv6 })
    }

    /// Tells the link where our addresses are, for neighbours that remember an older place.
    pub(super) fn announcements(&self) -> Vec<TxFrame> {
        let announce = |address: &Address| match address.ip {
            IpAddr::V4(ip) => {
                let mut frame = self.ethernet(BROADCAST, ETHERTYPE_ARP);
                frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
                frame.extend_from_slice(&self.mac);
                frame.extend_from_slice(&ip.octets());
                frame.extend_from_slice(&[0; 6]);
                frame.extend_from_slice(&ip.octets());
                complete(frame)
            }
            IpAddr::V6(ip) => {
                let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
                let mut body = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
                body.extend_from_slice(&ip.octets());
                body.extend_from_slice(&[2, 1]);
                body.extend_from_slice(&self.mac);
                self.icmpv6_frame([0x33, 0x33, 0, 0, 0, 1], ip, all, 255, body)
            }
        };
        self.addresses.iter().map(announce).collect()
    }
}

/// The IP header of a TCP segment of `len` bytes.
pub(super) fn ip_header(from: IpAddr, to: IpAddr, len: usize) -> SmallVec<[u8; 128]> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => SmallVec::from_slice(&ipv4_header(from, to, PROTOCOL_TCP, len)),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            SmallVec::from_slice(&ipv6_header(from, to, (PROTOCOL_TCP, HOPS), len))
        }
        _ => unreachable!("both ends of a connection have the same family"),
    }
}

/// An IPv4 header (RFC 791 3.1) for `len` bytes of payload.
fn ipv4_header(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, len: usize) -> [u8; 20] {
    let total = u16::try_from(20 + len).unwrap_or(u16::MAX);
    let mut header = [0x45, 0, 0, 0, 0, 0, 0x40, 0, HOPS, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = Sum::default().add(&header).checksum();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

/// An IPv6 header (RFC 8200 3) for `len` bytes of payload.
fn ipv6_header(from: Ipv6Addr, to: Ipv6Addr, (protocol, hops): (u8, u8), len: usize) -> [u8; 40] {
    let mut header = [0; 40];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
    (header[6], header[7]) = (protocol, hops);
    header[8..24].copy_from_slice(&from.octets());
    header[24..].copy_from_slice(&to.octets());
    header
}

fn complete(header: SmallVec<[u8; 128]>) -> TxFrame {
    TxFrame { header, payload: Sg::new(), offload: None }
}
