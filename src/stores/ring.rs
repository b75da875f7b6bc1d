// SPDX-License-Identifier: GPL-2.0-or-later
//! One io_uring per core for all its file stores: operations that would wait are started here, handed over in one call
//! per turn, and their ends sorted by the store that asked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use io_uring::{IoUring, opcode, squeue, types};
use slab::Slab;
use smallvec::SmallVec;

use crate::io::Tag;
use crate::memory::{SegMut, Sg};

/// Operations under way on one core; beyond it stores answer `Full`.
const FLIGHTS_MAX: usize = 1024;

/// What the kernel is asked to do. Buffers belong to the flight until its end.
pub(super) enum RingOp {
    Read {
        block: SegMut,
        done: usize,
    },
    /// `repeat`: how many bytes more are to be written with the same data behind it.
    Write {
        data: Sg,
        done: usize,
        repeat: u64,
        dsync: bool,
    },
    Sync,
    Allocate {
        mode: i32,
        len: u64,
    },
}

/// One operation, from its start to its end.
pub(super) struct Flight {
    /// Who asked.
    pub(super) store: usize,
    pub(super) tag: Tag,
    pub(super) fd: RawFd,
    pub(super) at: u64,
    pub(super) work: RingOp,
    pieces: SmallVec<[libc::iovec; 16]>,
}

impl Flight {
    pub(super) fn new(store: usize, tag: Tag, fd: RawFd, at: u64, work: RingOp) -> Self {
        Self { store, tag, fd, at, work, pieces: SmallVec::new() }
    }

    /// The entry for what is still to be done. Its pieces lie in the flight, which does not move until the entry has
    /// been handed over: the slab of flights never grows.
    fn entry(&mut self) -> squeue::Entry {
        let fd = types::Fd(self.fd);
        match &mut self.work {
            RingOp::Read { block, done } => {
                let rest = block.len() - *done;
                // SAFETY: done <= length of the block.
                let to = unsafe { block.as_mut_ptr().add(*done) };
                let len = u32::try_from(rest).expect("blocks are shorter than 4 GiB");
                opcode::Read::new(fd, to, len).offset(self.at + *done as u64).build()
            }
            RingOp::Write { data, done, dsync, .. } => {
                self.pieces.clear();
                // At once, where the list is longer than usual.
                self.pieces.reserve(data.segs().len().min(PIECES_MAX));
                let mut skip = *done;
                for seg in data.segs() {
                    if skip >= seg.len() {
                        skip -= seg.len();
                        continue;
                    }
                    let from = seg.as_ptr().wrapping_add(skip).cast_mut().cast();
                    self.pieces.push(libc::iovec { iov_base: from, iov_len: seg.len() - skip });
                    skip = 0;
                    if self.pieces.len() == PIECES_MAX {
                        break; // the rest is written when this is done
                    }
                }
                let count = u32::try_from(self.pieces.len()).expect("at most PIECES_MAX");
                let flags = if *dsync { libc::RWF_DSYNC } else { 0 };
                opcode::Writev::new(fd, self.pieces.as_ptr(), count)
                    .offset(self.at + *done as u64)
                    .rw_flags(flags)
                    .build()
            }
            RingOp::Sync => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
            RingOp::Allocate { mode, len } => {
                opcode::Fallocate::new(fd, *len).offset(self.at).mode(*mode).build()
            }
        }
    }
}

/// Pieces of one write; the kernel's limit.
const PIECES_MAX: usize = 1024;

/// The end of a flight: what the kernel answered, and the flight with its buffers.
pub(super) type End = (i32, Flight);

struct Ring {
    uring: IoUring,
    flights: Slab<Flight>,
    inboxes: Vec<VecDeque<End>>,
    unsubmitted: usize,
}

/// The ring, shared by the stores of a core.
#[derive(Clone)]
pub(super) struct Shared(Rc<RefCell<Ring>>);

impl Shared {
    pub(super) fn new() -> io::Result<Self> {
        let entries = u32::try_from(FLIGHTS_MAX).expect("small");
        let built = IoUring::builder().build(entries);
        let uring = built.map_err(|e| io::Error::new(e.kind(), format!("io_uring: {e}")))?;
        let flights = Slab::with_capacity(FLIGHTS_MAX);
        Ok(Self(Rc::new(RefCell::new(Ring { uring, flights, inboxes: Vec::new(), unsubmitted: 0 }))))
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.borrow().uring.as_raw_fd()
    }

    /// A number for a store, under which it gets its ends.
    pub(super) fn join(&self) -> usize {
        let inboxes = &mut self.0.borrow_mut().inboxes;
        inboxes.push(VecDeque::new());
        inboxes.len() - 1
    }

    /// Starts a flight with the next [`Self::commit`]; gives it back if there are too many.
    #[expect(clippy::result_large_err, reason = "a refused flight goes back to the store as it was")]
    pub(super) fn start(&self, flight: Flight) -> Result<(), Flight> {
        self.0.borrow_mut().start(flight)
    }

    /// Hands over what was started. One system call, if there is anything.
    pub(super) fn commit(&self) {
        let ring = &mut *self.0.borrow_mut();
        if ring.unsubmitted > 0 && ring.uring.submit().is_ok() {
            ring.unsubmitted = 0;
        }
    }

    /// The next end for a store.
    pub(super) fn next(&self, store: usize) -> Option<End> {
        let ring = &mut *self.0.borrow_mut();
        ring.reap();
        ring.inboxes[store].pop_front()
    }
}

impl Ring {
    #[expect(clippy::result_large_err, reason = "as in Shared::start")]
    fn start(&mut self, flight: Flight) -> Result<(), Flight> {
        if self.flights.len() >= FLIGHTS_MAX {
            return Err(flight);
        }
        let key = self.flights.insert(flight);
        let entry = self.flights[key].entry().user_data(key as u64);
        // SAFETY: buffers and pieces of the entry belong to the flight, which stays in the slab until its end is
        // reaped, also when the ring is dropped: see Drop.
        if unsafe { self.uring.submission().push(&entry) }.is_err() {
            // As many entries as flights: full only when the kernel has not taken the last batch.
            return Err(self.flights.remove(key));
        }
        self.unsubmitted += 1;
        Ok(())
    }

    fn reap(&mut self) {
        while let Some(end) = self.uring.completion().next() {
            let key = usize::try_from(end.user_data()).expect("a slab index");
            let flight = self.flights.remove(key);
            let store = flight.store;
            self.inboxes[store].push_back((end.result(), flight));
        }
    }
}

impl Drop for Ring {
    /// The kernel may write into buffers of flights: they are waited for before the buffers go.
    fn drop(&mut self) {
        while !self.flights.is_empty() {
            if self.uring.submit_and_wait(1).is_err() {
                // Cannot wait: better to leak the buffers than to free them under the kernel's hands.
                std::mem::forget(std::mem::take(&mut self.flights));
                return;
            }
            self.reap();
        }
    }
}
