// SPDX-License-Identifier: GPL-2.0-or-later
//! The lower waist: what a device asks of a store. Block operations that own their buffers until their completion
//! gives them back. A store never sees SCSI, a device never sees a file.
//!
//! Contract, both ways:
//! * The caller never asks for bytes outside `0..Geometry::bytes` as it last saw it; a store that shrank answers
//!   [`ErrorKind::OutOfRange`] and never panics.
//! * `submit` and `poll` never wait: what is not at hand is queued and completes in a later `poll`.
//! * Every accepted operation completes exactly once, also after an abort: memory that a device or the kernel may still
//!   write is never freed before. There is no cancel.
//! * Completions come in any order. A `Flush` covers the writes that had *completed* when it was submitted.
//! * A write is atomic per logical block at most; the caller asks for [`Op::CompareAndWrite`] where it needs more.

mod fault;
mod record;

use std::os::fd::RawFd;

use thiserror::Error;

mod needs;
pub use fault::{FaultRate, FaultRule};
pub use needs::StoreNeeds;
pub use record::{RECORD_MAX, Record, RecordSlot, RecordStore};

use crate::memory::{Lease, Seg, SegMut, Sg};
use crate::time::Instant;

/// Names one operation of a caller until its completion; chosen by the caller, opaque to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u32);

/// Where the bytes of a read shall go.
#[derive(Debug, Default)]
pub enum Landing {
    /// Wherever the store likes: it lends its own pages, or fills blocks of the core's arena.
    #[default]
    Own,
    /// As [`Landing::Own`]; pages are lent in the name of this lease, which is one of [`Store::lease`].
    Lent(Lease),
    /// Into memory of the caller's, whose length is that of the read; it comes back frozen in [`Done::Data`].
    Given(SegMut),
}

/// One operation. Offsets and lengths are in bytes, multiples of the store's block size.
#[derive(Debug)]
pub enum Op {
    /// Read `len` bytes (at most [`Geometry::transfer_max`]); answered by [`Done::Data`].
    Read {
        /// First byte.
        at: u64,
        /// How many bytes.
        len: u32,
        /// Where they shall go.
        into: Landing,
    },
    /// Write the bytes of `data`. With `fua` they are on stable storage before the completion.
    Write {
        /// First byte.
        at: u64,
        /// The bytes; dropped at the completion.
        data: Sg,
        /// Force unit access.
        fua: bool,
    },
    /// Bring all completed writes to stable storage.
    Flush,
    /// Deallocate: the range reads as zeros afterwards.
    Unmap {
        /// First byte.
        at: u64,
        /// How many bytes.
        len: u64,
    },
    /// As [`Op::Unmap`], but room for the range stays reserved: later writes to it do not run out of space.
    Anchor {
        /// First byte.
        at: u64,
        /// How many bytes.
        len: u64,
    },
    /// Write `pattern` (one block) over and over.
    WriteSame {
        /// First byte.
        at: u64,
        /// How many bytes, a multiple of the pattern's length.
        len: u64,
        /// One block; dropped at the completion.
        pattern: Seg,
        /// Force unit access.
        fua: bool,
    },
    /// If the range holds `compare`, or without a condition, write `data`, and let nobody in between: atomic against
    /// every other operation on the range, on every core. Answered by [`Done::Finished`] or [`Done::Differs`].
    CompareAndWrite {
        /// First byte.
        at: u64,
        /// The bytes expected, if there is a condition. In a box, because this is rare, and with two lists it would be
        /// twice as large as any other operation.
        compare: Option<Box<Sg>>,
        /// As many bytes to be written (any number up to [`Geometry::transfer_max`] without a condition).
        data: Sg,
        /// Force unit access.
        fua: bool,
    },
    /// Whether the byte `at` is allocated, and how far that stays so; answered by [`Done::Extent`].
    Extent {
        /// First byte.
        at: u64,
    },
}

/// Whether bytes have room of their own (SBC-3 4.7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// They have, and data in it.
    Mapped,
    /// They have, and read as zeros.
    Anchored,
    /// They have none, and read as zeros.
    Deallocated,
}

/// How an operation ended.
#[derive(Debug)]
pub enum Done {
    /// The bytes read, as many as were asked for.
    Data(Sg),
    /// Done.
    Finished,
    /// The compare failed at this byte of the range; nothing was written.
    Differs {
        /// Offset of the first byte that differs.
        offset: u32,
    },
    /// The state of a run of bytes.
    Extent {
        /// What the bytes of the run are.
        state: Allocation,
        /// How long it is, from the byte asked for; at least one block unless that is the end of the store.
        len: u64,
    },
    /// It failed; what a failed write left in its range is undefined.
    Failed(Error),
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{kind} at byte {at}")]
pub struct Error {
    /// What happened.
    pub kind: ErrorKind,
    /// First byte concerned, as far as it is known; else the first byte of the operation.
    pub at: u64,
}

/// What happened to a failed operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ErrorKind {
    /// The medium does not give the bytes back.
    #[error("unrecovered read error")]
    ReadFailed,
    /// The medium does not take the bytes.
    #[error("write error")]
    WriteFailed,
    /// A thin store has no room left.
    #[error("no space")]
    NoSpace,
    /// The store may not be written.
    #[error("read-only")]
    ReadOnly,
    /// The store is shorter than the caller believed.
    #[error("out of range")]
    OutOfRange,
    /// No memory for the moment; the same operation may succeed later.
    #[error("no memory")]
    NoMemory,
    /// The store cannot do that.
    #[error("not supported")]
    Unsupported,
}

/// What a store is like. Read at every use: a store may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size in bytes.
    pub bytes: u64,
    /// Smallest unit of every operation, in bytes (512 or 4096).
    pub block: u32,
    /// Most bytes of one read or write.
    pub transfer_max: u32,
    /// Unmapped ranges cost no space and read as zeros.
    pub thin: bool,
    /// Writes are refused.
    pub read_only: bool,
}

/// How a store fares: what changes without any operation of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes that are allocated, if that is known.
    pub used: Option<u64>,
    /// Bytes that could still be allocated, if that is known.
    pub available: Option<u64>,
}

/// What became of a submitted operation.
#[derive(Debug)]
pub enum Submitted {
    /// Done at once; there will be no completion in `poll`.
    Done(Done),
    /// Under way; `poll` will say.
    Queued,
    /// The queue is full: the operation comes back, to be submitted again after a `poll`.
    Full(Op),
}

/// A core's handle to a store. Several cores may have handles to the same bytes; a handle is used by its own core only.
pub trait Store {
    /// What it is like now.
    fn geometry(&self) -> Geometry;

    /// Starts an operation, which owns its buffers from now on. Never waits.
    fn submit(&mut self, tag: Tag, op: Op) -> Submitted;

    /// Appends the operations that completed since the last call. Never waits. Returns how many there were.
    fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize;

    /// Called once after the core has submitted all that a turn of its loop brought up, to hand a batch to the kernel.
    fn commit(&mut self) {}

    /// Looks after what the store lies on, and brings [`Store::geometry`] up to date. Called about once a second on one
    /// core; a system call or two, but nothing that waits.
    fn inspect(&mut self) -> Health {
        Health { bytes: self.geometry().bytes, used: None, available: None }
    }

    /// Whether something waits for another core, of which no descriptor tells: the core must not sleep.
    fn must_poll(&self) -> bool {
        false
    }

    /// When `poll` will have something to say of which no descriptor tells.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// A lease of the pages that reads lend, for one who has to know when nobody looks into them any more; each is a
    /// new one. `None` if what a read returns stays as it is, whatever is written.
    fn lease(&self) -> Option<Lease> {
        None
    }

    /// A descriptor that becomes readable when `poll` has something to say, for a core that goes to sleep.
    fn wake_fd(&self) -> Option<RawFd> {
        None
    }
}
