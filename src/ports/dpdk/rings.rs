// SPDX-License-Identifier: GPL-2.0-or-later
//! A device of two rings in memory (DPDK's `net_ring`), and its far end in the same process: the model of an adapter
//! that hands frames over as fast as it is asked, for who wants to know what the driver and all above it cost.
//!
//! With offloads the far end is an adapter that computes checksums and cuts frames: it vouches for what it hands in,
//! and takes frames of up to 64 KiB without sums. Without them it takes nothing but whole frames of one MTU, and looks
//! at their sums. What the driver of an adapter does in its bursts and a ring's has not to do is [`FarEnd::exchange`]:
//! it takes buffers for frames to come, and frees those of frames that have gone.

use std::cell::RefCell;
use std::ffi::CString;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use dpdk_sys as dpdk;

use super::device::{DeviceConfig, Found, Queue, Ring};
use super::eal::{self, Eal};
use super::pool::{Mbuf, Pool};
use crate::memory::{Lease, Seg, SharedMemory};

/// Buffers that the far end has for frames, or that hold frames which the device has not taken: fewer than a ring has
/// room for, so that a frame in a buffer can always be sent.
const DESCRIPTORS: usize = 512;

/// Two rings between a device and its far end; the device holds them as long as it runs.
pub(super) struct Rings {
    to_device: Ring,
    from_device: Ring,
}

// SAFETY: each ring has one user at each end: the queue of the device, and the far end, which stays on its thread.
unsafe impl Send for Rings {}
// SAFETY: as above.
unsafe impl Sync for Rings {}

impl Rings {
    fn new() -> io::Result<Self> {
        let ring = |name| Ring::new(name, -1, true);
        Ok(Self { to_device: ring("ptgt.to_device")?, from_device: ring("ptgt.from_device")? })
    }

    /// Makes the device.
    pub(super) fn device(&self, name: &str) -> io::Result<()> {
        let c_name = CString::new(name).map_err(io::Error::other)?;
        let (mut rx, mut tx) = (self.to_device.as_ptr(), self.from_device.as_ptr());
        // SAFETY: the environment runs; an array of one ring each, which is copied; whoever calls keeps the rings.
        let port = unsafe { dpdk::rte_eth_from_rings(c_name.as_ptr(), &raw mut rx, 1, &raw mut tx, 1, 0) };
        if port < 0 { Err(eal::last("no device of rings")) } else { Ok(()) }
    }
}

/// Buffers of frames that somebody has looked at, to be freed when the driver would.
type Spent = Rc<RefCell<Vec<Mbuf>>>;

/// A frame that the device has sent.
struct Sent {
    frame: Option<Mbuf>,
    spent: Spent,
    // Its buffers are theirs.
    _pool: Arc<Pool>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.spent.borrow_mut().extend(self.frame.take());
    }
}

/// Bytes of such a frame.
struct Piece {
    base: NonNull<u8>,
    len: usize,
    _frame: Rc<Sent>,
}

// SAFETY: the buffer is freed after the frame that is held; it points at memory that its guard keeps until then.
unsafe impl SharedMemory for Piece {
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn len(&self) -> usize {
        self.len
    }
}

/// What went over the rings.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingCounts {
    /// Frames to the device.
    pub received: u64,
    /// Frames of the device's.
    pub sent: u64,
    /// Of them those whose payload lay where it was, behind a buffer of headers.
    pub in_place: u64,
    /// Of them those in one buffer whose checksum was wrong. They are dropped.
    pub wrong_sums: u64,
}

/// See the module.
pub struct FarEnd {
    fresh: Vec<Mbuf>,
    spent: Spent,
    rings: Arc<Rings>,
    pool: Arc<Pool>,
    offload: bool,
    counts: RingCounts,
}

impl FarEnd {
    /// A device of one queue, with buffers of the device's MTU, and its far end. The name of the configuration is not
    /// looked at.
    pub fn new(eal: &Arc<Eal>, config: &DeviceConfig) -> io::Result<(Queue, Self)> {
        let rings = Arc::new(Rings::new()?);
        let found = Found::rings(eal, rings.clone())?;
        let queue = found.start(config)?.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let pool = queue.pools.frames.clone();
        let mut far = Self {
            fresh: Vec::with_capacity(DESCRIPTORS),
            spent: Spent::default(),
            rings,
            pool,
            offload: config.offload,
            counts: RingCounts::default(),
        };
        far.exchange();
        Ok((queue, far))
    }

    /// Whether there is room for one more frame.
    pub fn has_room(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Hands a TCP frame over IPv4 in, headers first. False if there is no room: it is lost.
    pub fn send(&mut self, header: &[u8], payload: &[u8]) -> bool {
        let Some(frame) = self.fresh.pop() else { return false };
        let mut frame = [frame];
        let (Ok(header_len), Ok(len)) = (u16::try_from(header.len()), u16::try_from(payload.len())) else {
            return false;
        };
        // SAFETY: the buffer is ours and empty; both runs of bytes are readable.
        let fits = unsafe {
            let raw = *super::pool::as_raw(&mut frame);
            dpdk::ptgt_fill(raw, header.as_ptr(), header_len, payload.as_ptr(), len, self.offload)
        };
        let mut frame = Vec::from(frame);
        let sent = fits && self.rings.to_device.put(&mut frame) == 1;
        self.counts.received += u64::from(sent);
        sent
    }

    /// The next frame that the device has sent, as the bytes of its buffers in order.
    pub fn receive(&mut self, mut add: impl FnMut(Seg)) -> bool {
        let mut next = None;
        self.rings.from_device.take(1, |frame| next = Some(frame));
        let Some(frame) = next else { return false };
        self.counts.sent += 1;
        let raw = frame.into_raw().as_ptr();
        let frame = Rc::new(Sent {
            // SAFETY: it has just been given up.
            frame: unsafe { Mbuf::own(raw) },
            spent: self.spent.clone(),
            _pool: self.pool.clone(),
        });
        // SAFETY: a frame of ours.
        if !self.offload && !unsafe { dpdk::ptgt_sum_is_right(raw) } {
            self.counts.wrong_sums += 1;
            return true;
        }
        let (mut at, mut in_place) = (raw.cast_const(), false);
        while !at.is_null() {
            let (mut piece, mut external) = (dpdk::ptgt_piece::default(), false);
            // SAFETY: a buffer of a frame of ours; here and below.
            at = unsafe { dpdk::ptgt_look(at, &raw mut piece, &raw mut external) };
            in_place |= external;
            let base = NonNull::new(piece.addr.cast_mut().cast());
            if let Some(base) = base.filter(|_| piece.len > 0) {
                let memory = Piece { base, len: piece.len as usize, _frame: frame.clone() };
                add(Lease::new(memory).lend(0, piece.len));
            }
        }
        self.counts.in_place += u64::from(in_place);
        true
    }

    /// The rest of what the driver of an adapter does: frees the buffers of frames that have gone, and takes new ones.
    pub fn exchange(&mut self) {
        self.spent.borrow_mut().clear();
        let missing = DESCRIPTORS - self.fresh.len() - self.rings.to_device.len();
        if missing == 0 {
            return;
        }
        let mut taken = [std::ptr::null_mut(); DESCRIPTORS];
        let count = u16::try_from(missing).unwrap_or(0);
        // SAFETY: room for as many.
        if unsafe { dpdk::ptgt_alloc(self.pool.as_ptr(), taken.as_mut_ptr(), count) } == 0 {
            // SAFETY: the pool has given them up.
            self.fresh.extend(taken[..missing].iter().filter_map(|&raw| unsafe { Mbuf::own(raw) }));
        }
    }

    /// What has gone over the rings.
    pub fn counts(&self) -> RingCounts {
        self.counts
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        // What the device has sent and nobody has taken: its payload goes home.
        while self.rings.from_device.take(64, drop) > 0 {}
    }
}
