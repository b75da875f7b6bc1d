// SPDX-License-Identifier: GPL-2.0-or-later
//! Pools of buffers, and ownership of a buffer.

use std::ffi::CString;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dpdk_sys as dpdk;
use log::{debug, warn};

use super::eal::{self, Eal};

/// Buffers that a thread keeps for itself before they go back to all.
const CACHE: u32 = 256;

/// What a pool is for.
pub(super) struct PoolConfig {
    pub(super) name: String,
    pub(super) count: u32,
    /// Bytes of each buffer, headroom included.
    pub(super) room: u16,
    /// NUMA node; -1: any.
    pub(super) node: i32,
    /// Devices read the buffers by themselves: none lies across the end of a page.
    pub(super) dma: bool,
    /// It is the user memory of an AF_XDP device, which counts on one piece of memory with buffer after buffer, and
    /// keeps some of them to its end and beyond.
    pub(super) umem: bool,
}

/// A pool of mbufs. Buffers may be taken and freed on any thread.
pub(super) struct Pool {
    raw: NonNull<dpdk::rte_mempool>,
    config: PoolConfig,
    eal: Arc<Eal>,
}

// SAFETY: mempools are safe to use from several threads (rte_mempool.h).
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    pub(super) fn new(eal: &Arc<Eal>, config: PoolConfig) -> io::Result<Arc<Self>> {
        let PoolConfig { count, room, node, .. } = config;
        let c_name = CString::new(config.name.as_str()).map_err(io::Error::other)?;
        // SAFETY: the environment runs; the name is copied.
        let raw = unsafe { dpdk::ptgt_pool(c_name.as_ptr(), count, CACHE, room, node, !config.dma) };
        let kib = (u64::from(count) * u64::from(room)) >> 10;
        let raw = NonNull::new(raw).ok_or_else(|| {
            eal::last(&format!(
                "no memory for {count} buffers ({kib} KiB): more huge pages, or a larger [dpdk] memory"
            ))
        })?;
        eal.pools.open.fetch_add(1, Ordering::Relaxed);
        let pool = Self { raw, config, eal: eal.clone() };
        // SAFETY: the pool is there.
        let pieces = unsafe { dpdk::ptgt_pool_pieces(raw.as_ptr()) };
        if pool.config.umem && pieces != 1 {
            // What is in the others would be refused by the kernel, and lost, one buffer at a time.
            return Err(io::Error::other(format!(
                "{count} buffers for AF_XDP ({kib} KiB) have to be in one piece of memory and are in {pieces}: more huge \
                 pages, or a larger [dpdk] memory"
            )));
        }
        Ok(Arc::new(pool))
    }

    pub(super) fn as_ptr(&self) -> *mut dpdk::rte_mempool {
        self.raw.as_ptr()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.eal.pools.open.fetch_sub(1, Ordering::Release);
        // SAFETY: the pool is there until the next line but one.
        let out = unsafe { dpdk::rte_mempool_in_use_count(self.raw.as_ptr()) };
        match out {
            0 => debug!(target: "dpdk", "{}: all buffers were returned", self.config.name),
            out if self.config.umem => {
                debug!(target: "dpdk", "{}: the device has kept {out} buffers", self.config.name);
            }
            // Freeing memory that somebody points into would be worse than to keep it.
            out => {
                self.eal.pools.lost.fetch_add(out as usize, Ordering::Relaxed);
                return warn!(target: "dpdk", "{}: {out} buffers were not returned", self.config.name);
            }
        }
        // SAFETY: nobody has a buffer of it; the device of those that were kept is closed.
        unsafe { dpdk::rte_mempool_free(self.raw.as_ptr()) };
    }
}

/// The right to a frame in one or several buffers, which go back to their pools when it is dropped.
#[repr(transparent)]
pub(super) struct Mbuf(NonNull<dpdk::rte_mbuf>);

impl Mbuf {
    /// # Safety
    /// The caller gives up a chain of buffers that is its own.
    pub(super) unsafe fn own(raw: *mut dpdk::rte_mbuf) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    /// Gives the right up; the buffers are the caller's.
    pub(super) fn into_raw(self) -> NonNull<dpdk::rte_mbuf> {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: the chain is ours, and nobody uses it any more.
        unsafe { dpdk::ptgt_free(self.0.as_ptr()) };
    }
}

/// As DPDK's burst functions want them.
pub(super) fn as_raw(frames: &mut [Mbuf]) -> *mut *mut dpdk::rte_mbuf {
    frames.as_mut_ptr().cast()
}

/// Forgets the first `n` frames: somebody else owns them now.
pub(super) fn consumed(frames: &mut Vec<Mbuf>, n: usize) {
    frames.drain(..n).for_each(std::mem::forget);
}
