// SPDX-License-Identifier: GPL-2.0-or-later
//! Canaries: a target that is broken on purpose in one way, which the world must notice. The breaks lie where the
//! target meets the world, at the store and at the wire, so that nothing of them is in the target itself; seen from
//! outside they are what a fault inside would be.

use std::collections::HashMap;

use crate::ports::memory::{Dice, Filter};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Canary {
    /// A flush is answered and not done.
    DroppedFlush,
    /// Two completions are given to each other's commands.
    MixedTags,
    /// A segment that was lost is never sent again.
    ForgottenRetransmission,
    /// Of what is held for peers nothing is on their accounts.
    UnchargedMemory,
    /// A page is written again while it is still lent to somebody who sends it.
    ReusedPage,
    /// A change of the topology is put in force though a core has refused it.
    LoneCommit,
    /// A medium is put into a disk while it is in another one.
    MountedTwice,
    /// Disks that run one command at a time run as many as come.
    Overtaking,
    /// A changer forgets all movements but the first.
    ForgottenMove,
    /// A drive writes once where the data of a cartridge ends, and not again.
    ForgottenAnchor,
}

impl Canary {
    pub(super) const ALL: [(&str, Self); 10] = [
        ("dropped-flush", Self::DroppedFlush),
        ("mixed-tags", Self::MixedTags),
        ("forgotten-retransmission", Self::ForgottenRetransmission),
        ("overtaking", Self::Overtaking),
        ("reused-page", Self::ReusedPage),
        ("uncharged-memory", Self::UnchargedMemory),
        ("lone-commit", Self::LoneCommit),
        ("mounted-twice", Self::MountedTwice),
        ("forgotten-move", Self::ForgottenMove),
        ("forgotten-anchor", Self::ForgottenAnchor),
    ];
}

/// Stops one data segment of some connections, each time it comes.
pub(super) fn forget_retransmissions(seed: u64) -> Filter {
    let mut dice = Dice::new(seed);
    let mut forgotten: HashMap<Vec<u8>, u32> = HashMap::new();
    Box::new(move |_, frame| {
        let Some(segment) = Segment::of(frame) else { return true };
        if segment.len == 0 {
            return true;
        }
        let lost = match forgotten.get(&segment.flow) {
            Some(&lost) => lost,
            None if dice.chance(0.02) => *forgotten.entry(segment.flow).or_insert(segment.sequence),
            None => return true,
        };
        // Does the frame hold the byte?
        lost.wrapping_sub(segment.sequence) as usize >= segment.len
    })
}

/// A TCP segment in a frame.
pub(super) struct Segment {
    /// Addresses and ports.
    pub(super) flow: Vec<u8>,
    pub(super) to_port: u16,
    pub(super) sequence: u32,
    /// Where the payload begins, and its length.
    pub(super) payload: usize,
    pub(super) len: usize,
    /// Whether its checksum is right.
    pub(super) intact: bool,
}

impl Segment {
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        const ETHERNET: usize = 14;
        let ip = frame.get(ETHERNET..)?;
        let (header, total, addresses) = match ip.first()? >> 4 {
            4 if *ip.get(9)? == 6 => {
                let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
                (usize::from(ip[0] & 15) * 4, total, 12..20)
            }
            6 if *ip.get(6)? == 6 => {
                let payload = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
                (40, 40 + payload, 8..40)
            }
            _ => return None,
        };
        let tcp = ip.get(header..)?;
        let ports = tcp.get(..4)?;
        let data = header + usize::from(*tcp.get(12)? >> 4) * 4;
        let whole = ip.get(header..total).unwrap_or_default();
        let len = u32::try_from(whole.len()).ok()?;
        let pseudo = [ip.get(addresses.clone())?, &len.to_be_bytes(), &[0, 0, 0, 6], whole].concat();
        Some(Self {
            flow: [ip.get(addresses)?, ports].concat(),
            to_port: u16::from_be_bytes([ports[2], ports[3]]),
            sequence: u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?),
            payload: ETHERNET + data,
            len: total.min(ip.len()).checked_sub(data)?,
            intact: checksum(&pseudo) == 0,
        })
    }
}

/// The Internet checksum (RFC 1071).
pub(super) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}
