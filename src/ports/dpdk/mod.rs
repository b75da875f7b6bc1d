// SPDX-License-Identifier: GPL-2.0-or-later
//! Queues of Ethernet devices that DPDK drives: network adapters by PCI address, and virtual devices.
//!
//! The layers: [`Eal`] (the environment, once per process) - `Pool` and `Mbuf` (buffers; dropping one frees it, sending
//! one gives it away) - [`Found`] and `Running` (a device before and after its start) - [`Queue`] (one core's share of
//! it, `Send` and used by one core) - [`Dpdk`] (a queue as a frame port). Each holds what it stands on, so that the end
//! goes in order: payload, device, pools, environment.

mod device;
mod eal;
mod guard;
mod memory;
mod pool;
mod rings;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::ptr::NonNull;
use std::time::Duration;

use dpdk_sys as dpdk;
use smallvec::SmallVec;

pub use device::{DeviceConfig, Found, Queue};
pub use eal::{Eal, EalConfig};
pub use rings::{FarEnd, RingCounts};

use super::QueueCounters;
use crate::counters::{Counted, CounterSet};
use crate::memory::{Arena, Lender, Region};
use crate::net::{FrameCaps, FramePort, RxChecksum, RxFrame, TxFrame};
use crate::time::Instant;
use device::HEADER_MAX;
use eal::Registered;
use guard::Guards;
use memory::Reach;
use pool::Mbuf;

/// Frames taken per turn and queue.
const BURST_MAX: usize = 64;

/// Frames made for the device and not yet taken by it.
const STAGED_MAX: usize = 64;

/// Frames whose payload the device reads where it lies.
const GUARDS: u32 = 2048;

/// Received buffers that are lent on; beyond it frames are copied, so that a slow store does not starve the queue.
const LENT_MAX: usize = device::FRAMES as usize / 4;

/// Payload up to this size is copied behind its header: cheaper than to point at it.
const SMALL: usize = 256;

/// How soon an idle core looks again: there is no descriptor that would wake it. Longer when it has been idle for long.
const NAPS: [(Duration, Duration); 2] =
    [(Duration::from_millis(20), Duration::from_micros(50)), (Duration::MAX, Duration::from_micros(500))];

/// How long the core with the only queue waits for the others to end.
const SERVE_TIME: Duration = Duration::from_secs(15);

/// Longest Ethernet frame that is made of several buffers: a whole IP packet.
const FRAME_MAX: usize = 68 << 10;

/// Bytes that DPDK needs besides the buffers.
pub const ENVIRONMENT_MEMORY: usize = 64 << 20;

/// Bytes of buffers that a port with so many queues needs.
pub fn buffer_memory(mtu: u16, queues: usize) -> usize {
    device::memory(mtu, queues)
}

/// See the module.
pub struct Dpdk {
    // In the order in which they go: what is staged, then the device, then what it may have held, then the thread.
    staged: Vec<Mbuf>,
    /// How many of them the device has prepared.
    prepared: usize,
    /// Received frames on their way to other cores.
    outbound: Vec<Vec<Mbuf>>,
    lender: Lender,
    queue: Queue,
    guards: Guards,
    reach: Reach,
    arena: Arena,
    now: Cell<Instant>,
    last_work: Instant,
    counters: QueueCounters,
    _thread: Registered,
}

impl Dpdk {
    /// Makes a queue this core's port. `regions`: all that payload may lie in.
    pub fn new(mut queue: Queue, arena: Arena, regions: &[Region]) -> io::Result<Self> {
        let thread = Registered::new(&queue.device.eal)?;
        queue.opened = true;
        let reach = queue.device.register(regions);
        let frames = queue.pools.frames.clone();
        let lender = Lender::new(move |buffer: NonNull<u8>| {
            let _pool = &frames;
            // SAFETY: the buffer was received by this core, and this was its only owner.
            drop(unsafe { Mbuf::own(buffer.as_ptr().cast()) });
        });
        let cores = queue.device.spread.as_ref().map_or(0, |spread| spread.received.len());
        Ok(Self {
            staged: Vec::with_capacity(STAGED_MAX),
            prepared: 0,
            outbound: (0..cores).map(|_| Vec::with_capacity(BURST_MAX)).collect(),
            lender,
            queue,
            guards: Guards::new(GUARDS),
            reach,
            arena,
            now: Cell::new(Instant::ZERO),
            last_work: Instant::ZERO,
            counters: QueueCounters::default(),
            _thread: thread,
        })
    }

    /// Hands a received frame on: lent where it is in one buffer, else put together in a block of the arena.
    fn hand_on(&mut self, frame: &dpdk::ptgt_rx, burst: &mut Vec<RxFrame>) {
        // SAFETY: the device has given the frame to this core.
        let Some(mbuf) = (unsafe { Mbuf::own(frame.mbuf) }) else { return };
        let checksum = if frame.good != 0 { RxChecksum::Good } else { RxChecksum::Unknown };
        let len = frame.len as usize;
        if len == 0 {
            self.counters.dropped_no_memory += 1;
            return;
        }
        let lendable = frame.pieces == 1 && len > SMALL && self.lender.out() < LENT_MAX;
        if let Some(data) = NonNull::new(frame.data).filter(|_| lendable) {
            self.counters.received_lent += 1;
            // SAFETY: the bytes of the only buffer of the frame, which nobody writes until it is freed.
            let data = unsafe { self.lender.lend(mbuf.into_raw().cast(), data, frame.len) };
            burst.push(RxFrame { data, checksum });
            return;
        }
        let Some(mut block) = self.arena.alloc_reserved(len.min(FRAME_MAX)) else {
            self.counters.dropped_no_memory += 1;
            return;
        };
        let room = u32::try_from(block.len()).unwrap_or(0);
        let raw = frame.mbuf;
        // SAFETY: the block is writable for `room` bytes; the frame is ours until `mbuf` is dropped.
        let copied = unsafe { dpdk::ptgt_copy_out(raw, block.bytes_mut().as_mut_ptr(), room) };
        block.set_len(copied as usize);
        burst.push(RxFrame { data: block.freeze(), checksum });
    }

    /// Takes a burst from the device and keeps or spreads it.
    fn take_burst(&mut self, queue: u16, burst: &mut Vec<RxFrame>) -> usize {
        let mut frames = [dpdk::ptgt_rx::default(); BURST_MAX];
        let port = self.queue.device.port;
        // SAFETY: room for as many frames; the queue is this core's alone.
        let count = unsafe { dpdk::ptgt_rx_burst(port, queue, frames.as_mut_ptr(), BURST_MAX as u16) };
        let frames = &frames[..usize::from(count)];
        if self.queue.device.spread.is_none() {
            frames.iter().for_each(|frame| self.hand_on(frame, burst));
            return frames.len();
        }
        for frame in frames {
            // SAFETY: the first buffer of the frame is ours, and as long as it says.
            let head = unsafe { std::slice::from_raw_parts(frame.data, usize::from(frame.first).min(64)) };
            match core_of(head, self.outbound.len()) {
                0 => self.hand_on(frame, burst),
                // SAFETY: the device has given the frame to this core.
                core => self.outbound[core].extend(unsafe { Mbuf::own(frame.mbuf) }),
            }
        }
        if let Some(spread) = &self.queue.device.spread {
            for (ring, frames) in spread.received.iter().zip(&mut self.outbound) {
                if !frames.is_empty() {
                    ring.put(frames);
                    self.counters.dropped_overrun += frames.len() as u64;
                    frames.clear();
                }
            }
        }
        frames.len()
    }

    /// Makes buffers of a frame. `None` when something is exhausted: it is tried again.
    fn stage(&mut self, frame: &mut TxFrame) -> Option<()> {
        let abilities = self.queue.device.abilities;
        let header = &frame.header;
        let mut tx = dpdk::ptgt_tx {
            header: header.as_ptr(),
            pieces: std::ptr::null(),
            header_len: u16::try_from(header.len()).ok()?,
            ..Default::default()
        };
        if let Some(offload) = frame.offload {
            tx.l2 = 14;
            tx.l3 = offload.csum_start - 14;
            tx.l4 = u16::from(header[usize::from(offload.csum_start) + 12] >> 4) * 4;
            tx.segment = offload.segment.unwrap_or(0);
            tx.ipv6 = offload.ipv6;
            tx.ip_sum = abilities.ip_checksum;
        }
        let pools = &self.queue.pools;
        let mut pieces: SmallVec<[dpdk::ptgt_piece; 32]> = SmallVec::new();
        let in_place = frame.payload.len() > SMALL
            && header.len() <= HEADER_MAX
            && frame.payload.segs().len() < abilities.buffers_max
            && frame
                .payload
                .segs()
                .iter()
                .all(|seg| self.reach.resolve(seg, abilities.buffers_max - 1, &mut pieces))
            && !(abilities.even && pieces.iter().rev().skip(1).any(|piece| piece.len % 2 != 0));
        let made = if in_place {
            let number = self.guards.vacant()?;
            (tx.pieces, tx.count) = (pieces.as_ptr(), u16::try_from(pieces.len()).ok()?);
            let (headers, externals) = (pools.headers.as_ptr(), pools.externals.as_ptr());
            // SAFETY: header and pieces are readable; the pieces stay so until the guard's last reference is gone,
            // since the payload is held below.
            let made = unsafe {
                dpdk::ptgt_tx_chain(
                    headers,
                    externals,
                    &raw const tx,
                    self.guards.shared(number),
                    abilities.checksum,
                )
            };
            if !made.is_null() {
                self.guards.hold(number, std::mem::take(&mut frame.payload));
                self.counters.sent_in_place += 1;
            }
            made
        } else {
            pieces.clear();
            pieces.extend(frame.payload.segs().iter().map(|seg| dpdk::ptgt_piece {
                addr: seg.as_ptr().cast(),
                iova: 0,
                len: u32::try_from(seg.len()).unwrap_or(0),
            }));
            (tx.pieces, tx.count) = (pieces.as_ptr(), u16::try_from(pieces.len()).ok()?);
            // SAFETY: header and pieces are readable during the call.
            let made =
                unsafe { dpdk::ptgt_tx_copy(pools.frames.as_ptr(), &raw const tx, abilities.checksum) };
            self.counters.sent_copied += u64::from(!made.is_null() && !frame.payload.is_empty());
            made
        };
        // SAFETY: a chain that has just been made for us.
        self.staged.push(unsafe { Mbuf::own(made) }?);
        Some(())
    }

    /// Gives the device what is staged, as much as it takes.
    fn flush(&mut self) {
        let port = self.queue.device.port;
        // Another core's queue does not prepare, but its driver's function is the same.
        let queue = self.queue.own().unwrap_or(0);
        while self.prepared < self.staged.len() {
            let rest = &mut self.staged[self.prepared..];
            let count = u16::try_from(rest.len()).unwrap_or(u16::MAX);
            // SAFETY: as many frames of ours.
            let ready = unsafe { dpdk::ptgt_tx_prepare(port, queue, pool::as_raw(rest), count) };
            self.prepared += usize::from(ready);
            if ready < count {
                // The device says that it can never send this one.
                self.staged.remove(self.prepared);
                self.counters.dropped_refused += 1;
            }
        }
        if self.staged.is_empty() {
            return;
        }
        let taken = match (&self.queue.device.spread, self.queue.core) {
            (Some(spread), 1..) => spread.sent.put(&mut self.staged),
            _ => {
                let count = u16::try_from(self.staged.len()).unwrap_or(u16::MAX);
                // SAFETY: as many frames, of which those taken are the device's.
                let taken =
                    unsafe { dpdk::ptgt_tx_burst(port, queue, pool::as_raw(&mut self.staged), count) };
                pool::consumed(&mut self.staged, usize::from(taken));
                usize::from(taken)
            }
        };
        self.prepared -= taken.min(self.prepared);
        self.guards.collect();
    }

    /// Where one queue serves all cores: takes what the others have to send.
    fn take_others(&mut self) -> usize {
        let Some(spread) = self.queue.device.spread.as_ref().filter(|_| self.queue.core == 0) else {
            return 0;
        };
        let mut count = 0;
        if self.prepared == self.staged.len() {
            let room = STAGED_MAX.saturating_sub(self.staged.len());
            let staged = &mut self.staged;
            count = spread.sent.take(room, |frame| staged.push(frame));
            // Prepared by the core that has made them.
            self.prepared += count;
        }
        if !self.staged.is_empty() {
            self.flush();
        }
        count
    }
}

impl Drop for Dpdk {
    /// The core with the only queue serves the others until they have ended, too.
    fn drop(&mut self) {
        let Some(queue) = self.queue.own().filter(|_| self.queue.device.spread.is_some()) else { return };
        let end = std::time::Instant::now() + SERVE_TIME;
        let mut mine = Vec::new();
        while self.queue.device.others() > 0 && std::time::Instant::now() < end {
            if self.take_burst(queue, &mut mine) + self.take_others() == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
            mine.clear();
        }
        while self.take_others() > 0 {}
    }
}

/// Which core serves a frame, where one queue serves all: TCP by its addresses and ports, the rest by the first.
fn core_of(frame: &[u8], cores: usize) -> usize {
    const ETHERNET: usize = 14;
    let key = match frame.get(12..14) {
        Some([0x08, 0x00]) if frame.get(23) == Some(&6) => {
            let tcp = ETHERNET + usize::from(frame[ETHERNET] & 0x0f) * 4;
            frame.get(26..34).zip(frame.get(tcp..tcp + 4))
        }
        Some([0x86, 0xdd]) if frame.get(20) == Some(&6) => frame.get(22..54).zip(frame.get(54..58)),
        _ => None,
    };
    let Some((addresses, ports)) = key else { return 0 };
    // FNV-1a, whose last bytes reach its lower bits well and its upper ones hardly; the product has all of them at the
    // top.
    let hash = addresses.iter().chain(ports).fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let spread = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from((spread * cores as u64) >> 32).unwrap_or(0)
}

impl FramePort for Dpdk {
    fn caps(&self) -> FrameCaps {
        let abilities = self.queue.device.abilities;
        // A device that takes whole frames only gets a copy, which has no limit to its pieces.
        let gather_max = if abilities.buffers_max > 1 { abilities.buffers_max - 1 } else { 256 };
        FrameCaps { mtu: abilities.mtu, segment_max: abilities.segment_max, gather_max }
    }

    fn mac(&self) -> [u8; 6] {
        self.queue.device.abilities.mac
    }

    fn receive(&mut self, now: Instant, burst: &mut Vec<RxFrame>) -> usize {
        self.now.set(now);
        let mut work = self.take_others();
        work += match self.queue.own() {
            Some(queue) => self.take_burst(queue, burst),
            None => {
                let mut frames: SmallVec<[Mbuf; BURST_MAX]> = SmallVec::new();
                if let Some(spread) = &self.queue.device.spread {
                    spread.received[self.queue.core].take(BURST_MAX, |frame| frames.push(frame));
                }
                let count = frames.len();
                for frame in frames {
                    let mut described = dpdk::ptgt_rx::default();
                    // SAFETY: the frame is ours, and hand_on() takes it over.
                    unsafe { dpdk::ptgt_describe(frame.into_raw().as_ptr(), &raw mut described) };
                    self.hand_on(&described, burst);
                }
                count
            }
        };
        if work > 0 {
            self.last_work = now;
        } else if self.guards.collect() == 0
            && self.guards.out() > 0
            && let Some(queue) = self.queue.own()
        {
            // Nothing to do: the device may let go of what it has sent. Not every driver can be asked.
            // SAFETY: the queue is this core's.
            unsafe { dpdk::rte_eth_tx_done_cleanup(self.queue.device.port, queue, 0) };
        }
        work
    }

    fn transmit(&mut self, now: Instant, burst: &mut VecDeque<TxFrame>) {
        self.now.set(now);
        while let Some(frame) = burst.front_mut() {
            if self.staged.len() >= STAGED_MAX {
                self.flush();
                if self.staged.len() >= STAGED_MAX {
                    return;
                }
            }
            if self.stage(frame).is_none() {
                if self.staged.is_empty() && self.guards.out() == 0 {
                    // Nothing is under way whose end would help: the frame cannot be made.
                    self.counters.dropped_refused += 1;
                    burst.pop_front();
                    continue;
                }
                break;
            }
            burst.pop_front();
        }
        self.flush();
    }

    fn accept(&mut self, addresses: &[[u8; 6]]) -> io::Result<()> {
        self.queue.device.accept(addresses)
    }

    fn counters(&self) -> Vec<Counted> {
        let counters = QueueCounters {
            sent_waiting: self.guards.out() as u64,
            received_waiting: self.lender.out() as u64,
            ..self.counters
        };
        let mut list: Vec<Counted> = counters.counted().collect();
        if self.queue.core == 0 {
            list.extend(self.queue.device.counters());
        }
        list
    }

    fn next_deadline(&self) -> Option<Instant> {
        let now = self.now.get();
        if !self.staged.is_empty() {
            return Some(now);
        }
        let idle = now - self.last_work;
        NAPS.iter().find(|(until, _)| idle < *until).map(|(_, nap)| now + *nap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::tests::{inside, with_dpdk::device};

    fn frame(ethertype: [u8; 2], ip: &[u8], ports: [u8; 4]) -> Vec<u8> {
        [&[0; 12][..], &ethertype, ip, &ports].concat()
    }

    #[test]
    fn flows_stay_on_their_core_and_spread_over_all() {
        let mut v4 = [0; 20];
        (v4[0], v4[9]) = (0x45, 6);
        let mut v6 = [0; 40];
        (v6[0], v6[6]) = (0x60, 6);
        for (ethertype, ip) in [([0x08, 0x00], &v4[..]), ([0x86, 0xdd], &v6[..])] {
            let mut seen = [0; 3];
            for port in 0..=255 {
                let frame = frame(ethertype, ip, [0x80, port, 0x0c, 0xbc]);
                let core = core_of(&frame, 3);
                assert_eq!(core, core_of(&[&frame[..], b"payload"].concat(), 3));
                seen[core] += 1;
            }
            assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
            // The sessions of one initiator have ports close to each other, and even.
            let cores: Vec<_> = (0..=255)
                .step_by(2)
                .map(|port| core_of(&frame(ethertype, ip, [0x80, port, 0x0c, 0xbc]), 2))
                .collect();
            let alone = cores.windows(8).filter(|eight| eight.iter().all(|core| *core == eight[0])).count();
            assert!(alone <= 3, "{alone} runs of eight on one core");
        }
        // What is not TCP, and what is cut short, is the first core's.
        v4[9] = 1;
        assert_eq!(core_of(&frame([0x08, 0x00], &v4, [1; 4]), 3), 0);
        assert_eq!(core_of(&frame([0x08, 0x06], &[0; 28], [1; 4]), 3), 0);
        v4[9] = 6;
        assert_eq!(core_of(&frame([0x08, 0x00], &v4, [1; 4])[..36], 3), 0);
        assert_eq!(core_of(&[0; 5], 3), 0);
    }

    #[test]
    fn tags_that_a_device_has_taken_off_are_put_back() {
        if !inside("ports::dpdk::tests::tags_that_a_device_has_taken_off_are_put_back", false) {
            return;
        }
        // Its transmit ring is its receive ring.
        let (mut port, _arena) = device("net_ring0");
        let frame = [&[1; 12][..], &[0x81, 0, 0x60, 100, 0x89, 0x06], &[7; 1000]].concat();
        for len in [60, frame.len()] {
            let frame = &frame[..len];
            let tx = dpdk::ptgt_tx {
                header: frame.as_ptr(),
                header_len: u16::try_from(len).unwrap(),
                ..Default::default()
            };
            let pool = port.queue.pools.frames.as_ptr();
            // SAFETY: the pool is there, and the frame is readable.
            unsafe {
                let mut mbuf = dpdk::ptgt_tx_copy(pool, &raw const tx, false);
                assert_eq!(dpdk::ptgt_untag(mbuf), 0);
                assert_eq!(dpdk::ptgt_tx_burst(port.queue.device.port, 0, &raw mut mbuf, 1), 1);
            }
            let mut burst = Vec::new();
            assert_eq!(port.receive(Instant::ZERO, &mut burst), 1);
            assert_eq!(burst[0].data.private().unwrap(), frame);
        }
    }
}
