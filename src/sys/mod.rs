// SPDX-License-Identifier: GPL-2.0-or-later
//! Every libc call of the project, wrapped safely. Knows nothing of the rest.
#![expect(unsafe_code, reason = "libc")]

mod clock;
#[cfg(test)]
pub(crate) mod counting;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod coverage;
mod epoll;
mod event;
mod file;
mod hidden;
mod mapping;
mod notify;
mod packet;
mod peer;
mod process;
mod racing;
mod shared;
mod stdio;
mod tap;

/// What threads share state with. Code that takes it from here can be tried in every order of its threads:
/// `ci/tests/interleavings.rs` puts a scheduler's own in its place.
pub mod sync {
    pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
    pub use std::sync::{Arc, Mutex, PoisonError};
}

pub use clock::{TICKS_ARE_CYCLES, monotonic, monotonic_origin, ticks};
pub use epoll::{Epoll, Ready, send_pieces};
pub use event::{Affinity, EventFd, affinity, pin_to_core, random, set_affinity, wait_readable};
pub use file::{
    InMemory, LockHolder, Space, block_device_size, can_allocate, data_extent, file_space, first_extent,
    in_memory, lock_file, lock_holder, read_cached, write_cached,
};
pub use hidden::HiddenBytes;
pub use mapping::{Mapping, free_huge_pages, map_large_vectors, map_repeatedly};
pub use notify::{notify, watchdog};
pub use packet::{Link, PacketDrops, PacketSocket, Waiting, link};
pub use peer::{effective_uid, holds_for_all, may_write, peer_pid, peer_uid};
pub use process::{forbid_new_privileges, processor_time, raise_descriptor_limit};
pub use racing::{copy_racing, zero_racing};
pub use shared::{FileMapping, MAPPED_MAX, PAGE, reserve};
pub use stdio::caught_output;
pub use tap::{add_address, bring_up, open_tap, write_frame, zone_index};
