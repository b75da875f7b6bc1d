// SPDX-License-Identifier: GPL-2.0-or-later
//! From the byte stream to PDUs. Payload stays where it was received.

use smallvec::SmallVec;

use crate::memory::{Seg, Sg};
use crate::wire::iscsi::{Bhs, Crc32c};

/// Longest AHS that we take: an extended CDB of 260 bytes and a bidirectional read length need less.
const AHS_MAX: usize = 264 + 8;

/// A whole PDU.
pub(super) struct Pdu {
    pub(super) bhs: Bhs,
    pub(super) ahs: SmallVec<[u8; 16]>,
    /// The data segment without padding.
    pub(super) data: Sg,
    /// The data digest was wrong: the data must not be used.
    pub(super) damaged: bool,
}

impl Pdu {
    /// The data segment in one piece, for texts.
    pub(super) fn text(&self) -> Vec<u8> {
        self.data.to_vec()
    }
}

/// Which digests are on, and how much a PDU may carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) header_digest: bool,
    pub(super) data_digest: bool,
    pub(super) data_max: usize,
}

/// Collects received bytes until a PDU is whole.
#[derive(Default)]
pub(super) struct Framer {
    inbox: Sg,
    /// The header of the PDU that is being collected.
    head: Option<Bhs>,
}

impl Framer {
    pub(super) fn push(&mut self, data: Seg) {
        self.inbox.push(data);
    }

    /// The next whole PDU; `Ok(None)` when more bytes are needed. An error ends the connection: the stream cannot be
    /// followed any further.
    pub(super) fn next(&mut self, limits: Limits) -> Result<Option<Pdu>, &'static str> {
        let bhs = match self.head {
            Some(bhs) => bhs,
            None if self.inbox.len() < Bhs::LEN => return Ok(None),
            None => {
                let mut bhs = Bhs([0; Bhs::LEN]);
                self.inbox.copy_to(0, &mut bhs.0);
                if bhs.data_len() > limits.data_max {
                    return Err("data segment longer than MaxRecvDataSegmentLength");
                }
                if bhs.ahs_len() > AHS_MAX {
                    return Err("additional header segments too long");
                }
                *self.head.insert(bhs)
            }
        };
        let head = Bhs::LEN + bhs.ahs_len();
        let head_digest = if limits.header_digest { 4 } else { 0 };
        let padded = bhs.data_len().next_multiple_of(4);
        let data_digest = if limits.data_digest && padded > 0 { 4 } else { 0 };
        if self.inbox.len() < head + head_digest + padded + data_digest {
            return Ok(None);
        }
        self.head = None;
        let header = self.inbox.split_to(head + head_digest);
        let mut ahs = SmallVec::new();
        ahs.resize(bhs.ahs_len(), 0);
        header.copy_to(Bhs::LEN, &mut ahs);
        if limits.header_digest {
            let mut crc = Crc32c::default();
            crc.update(&bhs.0);
            crc.update(&ahs);
            let mut sent = [0; 4];
            header.copy_to(head, &mut sent);
            if crc.wire() != sent {
                return Err("header digest error");
            }
        }
        let mut data = self.inbox.split_to(padded);
        let mut damaged = false;
        if data_digest > 0 {
            let mut sent = [0; 4];
            self.inbox.split_to(4).copy_to(0, &mut sent);
            damaged = digest(&data) != sent;
        }
        data.truncate(bhs.data_len());
        Ok(Some(Pdu { bhs, ahs, data, damaged }))
    }

    /// Bytes held of a PDU that is not whole yet.
    pub(super) fn held(&self) -> usize {
        self.inbox.len()
    }

    pub(super) fn clear(&mut self) {
        self.inbox = Sg::new();
    }
}

/// CRC32C over private memory: received segments, and payload that was bounced because it was lent.
pub(super) fn digest(data: &Sg) -> [u8; 4] {
    let mut crc = Crc32c::default();
    for seg in data.segs() {
        crc.update(seg.private().expect("digested bytes lie in memory that nobody else writes"));
    }
    crc.wire()
}
