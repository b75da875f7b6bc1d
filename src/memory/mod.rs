// SPDX-License-Identifier: GPL-2.0-or-later
//! Payload memory: a per-core [`Arena`] of (huge)pages, cut into blocks; [`SegMut`] is the right to write a block,
//! [`Seg`] a shared read-only run of bytes, [`Sg`] a list of them. Nothing here is `Send`: a segment belongs to the
//! core that made it, so reference counts are plain integers. What another core is to have, it copies ([`Abroad`]). A
//! [`MemoryAccount`] is what a peer may make a core hold. What devices, the kernel or peers may touch is a [`Region`];
//! buffers that are not the arena's, such as [`BufferSlots`], make segments, too.
//!
//! Memory that several cores can see at once (a RAM disk's pages, a mapped file) is *lent*: a [`Seg`] over it keeps the
//! mapping alive, and its bytes are only ever reached by raw copies or by the kernel through an iovec, never through
//! a `&[u8]`, because another core may be writing them.
#![expect(unsafe_code, reason = "the one room that turns addresses into bytes")]

mod abroad;
mod account;
mod arena;
mod list;
mod loan;
mod nothing;
mod prefetch;
mod region;
mod seg;
mod slots;

pub use crate::sys::HiddenBytes;
pub use abroad::Abroad;
pub use account::{MemoryAccount, MemoryCharge};
pub use arena::{Arena, ArenaCounters};
pub use list::Sg;
#[cfg(test)]
pub(crate) use list::drop_spare;
pub use loan::Lender;
pub(crate) use nothing::socket_over_nothing;
pub(crate) use prefetch::prefetch;
pub use region::{Pages, Region, RegionId, RegionPages, RegionRef, RegionTable, Registrar, SharedMemory};
pub use seg::{Lease, Seg, SegMut};
pub use slots::BufferSlots;
