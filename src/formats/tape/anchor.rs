// SPDX-License-Identifier: GPL-2.0-or-later
//! The anchor of a partition: up to where its log is known to lie on stable storage, and what the index says of that.
//! Whoever mounts the image goes on from there, over packed blocks of the same epoch alone.

use super::index::{IndexRun, decode_runs, encode_runs};
use super::layout::{BLOCK_BYTES, PAGE_RUNS, begin, put32, put64, seal, sealed};
use super::packed::LogEnd;
use crate::wire::scsi::{be16, be32, be64};

const MAGIC: &[u8; 8] = b"ptgtANCH";
const RUNS_AT: usize = 128;
const BYTES: usize = RUNS_AT + PAGE_RUNS * 24;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogAnchor {
    /// Of the packed blocks that follow it.
    pub(super) epoch: u64,
    pub(super) end: LogEnd,
    /// The packed block with the last object; 0 if there is none.
    pub(super) last: u64,
    /// Pages of the index that count, and the sum of their sums.
    pub(super) pages: u64,
    pub(super) sum: u32,
    /// The runs behind those of the pages.
    pub(super) runs: Vec<IndexRun>,
}

impl LogAnchor {
    pub(super) fn encode(&self, partition: u16, identity: u64, sequence: u64) -> Vec<u8> {
        let mut bytes = vec![0; BYTES.next_multiple_of(BLOCK_BYTES)];
        begin(&mut bytes, MAGIC, partition, u16::try_from(self.runs.len()).unwrap_or(0), identity);
        let LogEnd { lba, file, block } = self.end;
        let fields = [sequence, self.epoch, lba, file, block, self.last, self.pages];
        for (value, at) in fields.into_iter().zip((24..).step_by(8)) {
            put64(&mut bytes, at, value);
        }
        put32(&mut bytes, 80, self.sum);
        encode_runs(&self.runs, &mut bytes[RUNS_AT..]);
        seal(&mut bytes);
        bytes
    }

    /// The anchor in these bytes, with its sequence number.
    pub(super) fn decode(bytes: &[u8], partition: u16, identity: u64) -> Option<(Self, u64)> {
        sealed(bytes, MAGIC)?;
        let count = usize::from(be16(bytes, 10));
        if be16(bytes, 8) != partition || be64(bytes, 16) != identity || count >= PAGE_RUNS {
            return None;
        }
        let anchor = Self {
            epoch: be64(bytes, 32),
            end: LogEnd { lba: be64(bytes, 40), file: be64(bytes, 48), block: be64(bytes, 56) },
            last: be64(bytes, 64),
            pages: be64(bytes, 72),
            sum: be32(bytes, 80),
            runs: decode_runs(bytes.get(RUNS_AT..)?, count).collect(),
        };
        let sequence = be64(bytes, 24);
        // Beyond that nobody could count on.
        let counted = [sequence, anchor.epoch, anchor.end.lba, anchor.end.file];
        counted.iter().all(|count| *count < u64::MAX / 2).then_some((anchor, sequence))
    }
}
