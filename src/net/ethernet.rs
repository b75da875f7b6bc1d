// SPDX-License-Identifier: GPL-2.0-or-later
//! The header of an Ethernet frame (IEEE 802.3 3.1.1), and the VLAN tag that may stand in it (IEEE 802.1Q 9.6).

pub(super) const ETHERNET: usize = 14;
/// What begins a VLAN tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// Of a VLAN tag.
const TAG: usize = 4;
pub(super) const BROADCAST: [u8; 6] = [0xff; 6];

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct EthernetHeader<'a> {
    pub(super) to: &'a [u8],
    /// Behind the tag if there is one.
    pub(super) ethertype: u16,
    /// None also with a tag of identifier 0, which carries a priority only.
    pub(super) vlan: Option<u16>,
    /// Where the bytes behind the ethertype begin.
    pub(super) body: usize,
}

pub(super) fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Whether an address is that of a group, which broadcast is, too.
pub(super) fn is_group(address: &[u8]) -> bool {
    address[0] & 1 != 0
}

impl<'a> EthernetHeader<'a> {
    /// None if the frame is too short, or comes from a group: nobody is one, and what is sent back would go to all of
    /// it.
    #[inline]
    pub(super) fn of(frame: &'a [u8]) -> Option<Self> {
        if frame.len() < ETHERNET || is_group(&frame[6..]) {
            return None;
        }
        let (to, ethertype) = (&frame[..6], half(frame, 12));
        if ethertype != ETHERTYPE_VLAN {
            return Some(Self { to, ethertype, vlan: None, body: ETHERNET });
        }
        if frame.len() < ETHERNET + TAG {
            return None;
        }
        let vlan = Some(half(frame, ETHERNET) & 0xfff).filter(|&identifier| identifier != 0);
        Some(Self { to, ethertype: half(frame, ETHERNET + 2), vlan, body: ETHERNET + TAG })
    }
}
