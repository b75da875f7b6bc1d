// SPDX-License-Identifier: GPL-2.0-or-later
//! A store that reads as zeros and forgets what is written: the yardstick for everything above it.

use std::io;
use std::sync::Arc;

use super::Backing;
use crate::io::{Allocation, Done, Error, ErrorKind, Geometry, Landing, Op, Store, Submitted, Tag};
use crate::memory::Lease;
use crate::reactor::CoreContext;
use crate::sys::Mapping;

/// Longest read or write.
const TRANSFER_MAX: u32 = 1 << 20;

pub(super) struct Null {
    zeros: Arc<Mapping>,
    geometry: Geometry,
}

impl Null {
    pub(super) fn new(bytes: u64, block: u32) -> io::Result<Self> {
        // Never written, so that all of it is the kernel's one zero page.
        let zeros = Arc::new(Mapping::anonymous(TRANSFER_MAX as usize, false)?);
        let geometry = Geometry { bytes, block, transfer_max: TRANSFER_MAX, thin: true, read_only: false };
        Ok(Self { zeros, geometry })
    }
}

impl Backing for Null {
    fn attach(&self, _: &CoreContext) -> io::Result<Box<dyn Store>> {
        let zeros = Lease::new(self.zeros.clone());
        Ok(Box::new(NullStore { zeros, geometry: self.geometry }))
    }
}

struct NullStore {
    zeros: Lease,
    geometry: Geometry,
}

impl Store for NullStore {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn submit(&mut self, _: Tag, op: Op) -> Submitted {
        Submitted::Done(match op {
            Op::Read { len, into: Landing::Own | Landing::Lent(_), .. } if len <= TRANSFER_MAX => {
                Done::Data(self.zeros.clone().lend(0, len).into())
            }
            Op::Read { into: Landing::Given(mut memory), .. } => {
                memory.bytes_mut().fill(0);
                Done::Data(memory.freeze().into())
            }
            Op::Read { at, .. } => Done::Failed(Error { kind: ErrorKind::Unsupported, at }),
            Op::CompareAndWrite { compare, .. } => {
                let compare = compare.map_or_else(Vec::new, |compare| compare.to_vec());
                match compare.iter().position(|&byte| byte != 0) {
                    Some(at) => Done::Differs { offset: u32::try_from(at).unwrap_or(u32::MAX) },
                    None => Done::Finished,
                }
            }
            Op::Extent { at } => {
                Done::Extent { state: Allocation::Deallocated, len: self.geometry.bytes.saturating_sub(at) }
            }
            Op::Write { .. } | Op::Flush | Op::Unmap { .. } | Op::Anchor { .. } | Op::WriteSame { .. } => {
                Done::Finished
            }
        })
    }

    fn poll(&mut self, _: &mut Vec<(Tag, Done)>) -> usize {
        0
    }
}
