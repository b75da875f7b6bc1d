// SPDX-License-Identifier: GPL-2.0-or-later
//! The packed blocks that were looked at last.

use std::sync::Arc;

use super::packed::PackedBlock;

/// Most packed blocks that are kept: those of two runs of the index.
const KEPT: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct BlockCache {
    /// The one used last is the last. `None`: what lies there is no packed block.
    blocks: Vec<(u64, Option<Arc<PackedBlock>>)>,
}

impl BlockCache {
    pub(super) fn insert(&mut self, block: u64, packed: Option<PackedBlock>) {
        self.forget(block);
        if self.blocks.len() == KEPT {
            self.blocks.remove(0);
        }
        self.blocks.push((block, packed.map(Arc::new)));
    }

    /// What lies there, if that is known. What is damaged is looked at again the next time.
    pub(super) fn find(&mut self, block: u64) -> Option<Option<Arc<PackedBlock>>> {
        let at = self.blocks.iter().position(|known| known.0 == block)?;
        let known = self.blocks.remove(at);
        if known.1.is_some() {
            self.blocks.push(known.clone());
        }
        Some(known.1)
    }

    pub(super) fn holds(&self, block: u64) -> bool {
        self.blocks.iter().any(|known| known.0 == block)
    }

    pub(super) fn forget(&mut self, block: u64) {
        self.blocks.retain(|known| known.0 != block);
    }
}
