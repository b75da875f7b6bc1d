// SPDX-License-Identifier: GPL-2.0-or-later
//! Two Ethernet ports in memory and the wire between them, for tests: it loses, repeats, overtakes, corrupts and delays
//! frames as a seed decides, and knows no other clock than the one that its ports are told.
//!
//! The wire carries what a device would put on it: payload gathered, checksums computed, and large frames cut into
//! segments, unless both ends can cut and so take them whole, as two devices of one machine do. A frame that is read
//! back says nothing of the memory that it was sent from.
//!
//! One seed is one run: the same calls with the same times bring the same frames.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::memory::Arena;
use crate::net::{FrameCaps, FramePort, RxChecksum, RxFrame, TxFrame, cut_in_software, finish_in_software};
use crate::time::Instant;

/// Frames taken per turn.
const BURST_MAX: usize = 32;

/// What a wire does to frames in one direction. The default does nothing: no loss, no delay, no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// Share of frames that are lost, 0 to 1.
    pub loss: f64,
    /// Share of frames that arrive twice.
    pub duplicate: f64,
    /// Share of frames that take up to `reorder_time` longer than others, and so are overtaken.
    pub reorder: f64,
    /// See `reorder`.
    pub reorder_time: Duration,
    /// Share of frames with a bit flipped behind the Ethernet header.
    pub corrupt: f64,
    /// How long a frame is under way.
    pub delay: Duration,
    /// Bytes per second; `None`: any number at once.
    pub rate: Option<u64>,
    /// Bytes that may wait for the wire or be under way; frames beyond are lost.
    pub queue: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_time: Duration::ZERO,
            corrupt: 0.0,
            delay: Duration::ZERO,
            rate: None,
            queue: 64 << 20,
        }
    }
}

/// What has happened to frames in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireCounters {
    /// Frames that were put on the wire, cut to what it carries.
    pub sent: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Lost by chance, or by the filter.
    pub lost: u64,
    /// Lost because the queue was full.
    pub overrun: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Held back to be overtaken.
    pub reordered: u64,
    /// Sent with a bit flipped.
    pub corrupted: u64,
}

/// Random numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll().checked_rem(limit).unwrap_or(0)
    }

    /// Whether something happens that does so in this share of cases, 0 to 1.
    pub fn chance(&mut self, share: f64) -> bool {
        // The upper 53 bits are a fraction that a double holds exactly.
        share > 0.0 && ((self.roll() >> 11) as f64) < share * (1_u64 << 53) as f64
    }
}

/// Under way.
struct Frame {
    due: Instant,
    /// Frames that are due at the same time arrive in the order in which they were sent.
    order: u64,
    bytes: Vec<u8>,
    checksum: RxChecksum,
}

impl Frame {
    fn key(&self) -> (Instant, u64) {
        (self.due, self.order)
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Frame {}

impl PartialOrd for Frame {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Frame {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// Looks at a frame of the wire and decides whether it passes.
pub type Filter = Box<dyn FnMut(Instant, &[u8]) -> bool>;

/// One direction.
struct Lane {
    faults: Faults,
    dice: Dice,
    filter: Option<Filter>,
    under_way: BinaryHeap<Reverse<Frame>>,
    /// Bytes of those.
    waiting: usize,
    /// When the wire has put out what it was given.
    idle_at: Instant,
    order: u64,
    counters: WireCounters,
    /// Frames arrive whole, however long they are.
    whole: bool,
    mtu: usize,
}

impl Lane {
    fn new(seed: u64, from: &FrameCaps, to: &FrameCaps) -> Self {
        Self {
            faults: Faults::default(),
            dice: Dice::new(seed),
            filter: None,
            under_way: BinaryHeap::new(),
            waiting: 0,
            idle_at: Instant::ZERO,
            order: 0,
            counters: WireCounters::default(),
            whole: from.segment_max > 0 && to.segment_max > 0,
            mtu: usize::from(to.mtu),
        }
    }

    fn send(&mut self, now: Instant, frame: TxFrame) {
        // What a device vouches for is what it has computed, or would have.
        let checksum =
            if self.whole && frame.offload.is_some() { RxChecksum::Good } else { RxChecksum::Unknown };
        let frames = if self.whole { vec![frame] } else { cut_in_software(frame) };
        for mut frame in frames {
            finish_in_software(&mut frame);
            self.put(now, frame.header.into_vec(), checksum);
        }
    }

    fn put(&mut self, now: Instant, mut bytes: Vec<u8>, mut checksum: RxChecksum) {
        const ETHERNET: usize = 14;
        let faults = self.faults;
        self.counters.sent += 1;
        self.counters.bytes += bytes.len() as u64;
        let passes = self.filter.as_mut().is_none_or(|filter| filter(now, &bytes));
        // A frame that its receiver's MTU does not allow is lost like any other.
        let fits = self.whole || bytes.len() <= ETHERNET + self.mtu;
        if !passes || !fits || self.dice.chance(faults.loss) {
            self.counters.lost += 1;
            return;
        }
        if self.waiting + bytes.len() > faults.queue {
            self.counters.overrun += 1;
            return;
        }
        if self.dice.chance(faults.corrupt) && bytes.len() > ETHERNET {
            let bit = self.dice.below((bytes.len() - ETHERNET) as u64 * 8);
            bytes[ETHERNET + usize::try_from(bit / 8).unwrap_or(0)] ^= 1 << (bit % 8);
            checksum = RxChecksum::Unknown;
            self.counters.corrupted += 1;
        }
        let mut due = now;
        if let Some(rate) = faults.rate {
            let nanos = bytes.len() as u64 * 1_000_000_000 / rate.max(1);
            self.idle_at = self.idle_at.max(now) + Duration::from_nanos(nanos);
            due = self.idle_at;
        }
        due = due + faults.delay;
        if self.dice.chance(faults.reorder) {
            let longest = u64::try_from(faults.reorder_time.as_nanos()).unwrap_or(u64::MAX);
            due = due + Duration::from_nanos(self.dice.below(longest) + 1);
            self.counters.reordered += 1;
        }
        if self.dice.chance(faults.duplicate) {
            self.counters.duplicated += 1;
            self.push(due, bytes.clone(), checksum);
        }
        self.push(due, bytes, checksum);
    }

    fn push(&mut self, due: Instant, bytes: Vec<u8>, checksum: RxChecksum) {
        self.waiting += bytes.len();
        self.order += 1;
        self.under_way.push(Reverse(Frame { due, order: self.order, bytes, checksum }));
    }

    fn receive(&mut self, now: Instant, arena: &Arena) -> Option<RxFrame> {
        let Reverse(first) = self.under_way.peek()?;
        if first.due > now {
            return None;
        }
        // Without memory frames stay on the wire, which drops what it has no room for.
        let mut block = arena.alloc_reserved(first.bytes.len())?;
        let Reverse(frame) = self.under_way.pop()?;
        self.waiting -= frame.bytes.len();
        block.bytes_mut().copy_from_slice(&frame.bytes);
        Some(RxFrame { data: block.freeze(), checksum: frame.checksum })
    }
}

/// The wire between two ports. Its ends are numbered 0 and 1; a direction has the number of the end that sends.
#[derive(Clone)]
pub struct Wire(Rc<RefCell<[Lane; 2]>>);

impl Wire {
    /// Changes what happens to frames that end `from` sends from now on.
    pub fn set_faults(&self, from: usize, faults: Faults) {
        self.0.borrow_mut()[from].faults = faults;
    }

    /// Changes what happens to frames in both directions.
    pub fn set_all_faults(&self, faults: Faults) {
        self.set_faults(0, faults);
        self.set_faults(1, faults);
    }

    /// Shows each frame that end `from` sends, as it is on the wire, to `filter` first.
    pub fn set_filter(&self, from: usize, filter: Option<Filter>) {
        self.0.borrow_mut()[from].filter = filter;
    }

    /// What has happened to the frames of end `from`.
    pub fn counters(&self, from: usize) -> WireCounters {
        self.0.borrow()[from].counters
    }

    /// When the next frame arrives at either end.
    pub fn next_deadline(&self) -> Option<Instant> {
        let lanes = self.0.borrow();
        lanes.iter().filter_map(|lane| Some(lane.under_way.peek()?.0.due)).min()
    }
}

/// What a port is.
#[derive(Clone)]
pub struct End {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// What it can do.
    pub caps: FrameCaps,
    /// Where the frames that it receives lie.
    pub arena: Arena,
}

impl End {
    /// A port whose `last` byte of the Ethernet address tells it from others; its device computes and cuts nothing.
    pub fn new(last: u8, mtu: u16, arena: Arena) -> Self {
        let caps = FrameCaps { mtu, segment_max: 0, gather_max: 64 };
        Self { mac: [2, 0, 0, 0, 0, last], caps, arena }
    }

    /// Leaves segmentation to the device, as a TAP device allows.
    #[must_use]
    pub fn with_segmentation(mut self) -> Self {
        self.caps.segment_max = 64_254;
        self
    }
}

/// See the module.
pub struct MemoryPort {
    wire: Wire,
    /// Its number.
    end: usize,
    mac: [u8; 6],
    caps: FrameCaps,
    arena: Arena,
}

/// Two ports and the wire between them. The seed decides everything that chance decides.
pub fn wire(seed: u64, ends: [End; 2]) -> (Wire, [MemoryPort; 2]) {
    let mut seeds = Dice::new(seed);
    let (first, second) = (ends[0].caps, ends[1].caps);
    let lanes = [Lane::new(seeds.roll(), &first, &second), Lane::new(seeds.roll(), &second, &first)];
    let wire = Wire(Rc::new(RefCell::new(lanes)));
    let mut number = 0..;
    let ports = ends.map(|End { mac, caps, arena }| MemoryPort {
        wire: wire.clone(),
        end: number.next().unwrap_or(0),
        mac,
        caps,
        arena,
    });
    (wire, ports)
}

impl FramePort for MemoryPort {
    fn caps(&self) -> FrameCaps {
        self.caps
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn receive(&mut self, now: Instant, burst: &mut Vec<RxFrame>) -> usize {
        let lane = &mut self.wire.0.borrow_mut()[1 - self.end];
        let before = burst.len();
        while burst.len() - before < BURST_MAX {
            match lane.receive(now, &self.arena) {
                Some(frame) => burst.push(frame),
                None => break,
            }
        }
        burst.len() - before
    }

    fn transmit(&mut self, now: Instant, burst: &mut VecDeque<TxFrame>) {
        let lane = &mut self.wire.0.borrow_mut()[self.end];
        for frame in burst.drain(..) {
            debug_assert!(
                frame.payload.segs().len() < self.caps.gather_max,
                "more pieces than the port takes"
            );
            lane.send(now, frame);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        Some(self.wire.0.borrow()[1 - self.end].under_way.peek()?.0.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Seg, Sg};
    use crate::net::TcpOffload;

    const SECOND: u64 = 1_000_000_000;

    fn arena() -> Arena {
        Arena::new(8 << 20, false).expect("memory")
    }

    fn ends() -> [End; 2] {
        [1, 2].map(|last| End::new(last, 1500, arena()))
    }

    /// A frame of a protocol that nobody serves, told from others by its number.
    fn frame(number: u16) -> TxFrame {
        let mut header = smallvec::SmallVec::from_slice(&[0; 60]);
        header[14..16].copy_from_slice(&number.to_be_bytes());
        TxFrame { header, payload: Sg::new(), offload: None }
    }

    /// Sends so many frames, one per microsecond, and returns when which arrived.
    fn run(seed: u64, faults: Faults, count: u16) -> (Vec<(u64, u16)>, WireCounters) {
        let (wire, [mut one, mut two]) = wire(seed, ends());
        wire.set_faults(0, faults);
        let mut arrived = Vec::new();
        let mut collect = |now: Instant, two: &mut MemoryPort| {
            let mut burst = Vec::new();
            while two.receive(now, &mut burst) > 0 {}
            for frame in burst {
                let bytes = frame.data.private().expect("private");
                arrived.push((now.as_nanos(), u16::from_be_bytes([bytes[14], bytes[15]])));
            }
        };
        for number in 0..count {
            let now = Instant::from_nanos(u64::from(number) * 1000);
            one.transmit(now, &mut VecDeque::from([frame(number)]));
            collect(now, &mut two);
        }
        while let Some(at) = two.next_deadline() {
            collect(at, &mut two);
        }
        assert_eq!(wire.next_deadline(), None);
        (arrived, wire.counters(0))
    }

    #[test]
    fn a_perfect_wire_brings_everything_in_order_at_once() {
        let (arrived, counters) = run(1, Faults::default(), 100);
        let wanted: Vec<_> = (0..100).map(|number| (u64::from(number) * 1000, number)).collect();
        assert_eq!(arrived, wanted);
        assert_eq!(counters, WireCounters { sent: 100, bytes: 6000, ..WireCounters::default() });
    }

    #[test]
    fn a_seed_is_a_run() {
        let faults = Faults {
            loss: 0.1,
            duplicate: 0.1,
            reorder: 0.1,
            reorder_time: Duration::from_micros(10),
            corrupt: 0.1,
            delay: Duration::from_millis(1),
            ..Faults::default()
        };
        assert_eq!(run(7, faults, 1000), run(7, faults, 1000));
        assert_ne!(run(7, faults, 1000).0, run(8, faults, 1000).0);
    }

    #[test]
    fn each_fault_comes_at_its_rate_and_alone() {
        let share = 0.1;
        let near = |count: u64| (800..1200).contains(&count);
        let (arrived, counters) = run(3, Faults { loss: share, ..Faults::default() }, 10_000);
        assert!(near(counters.lost) && arrived.len() as u64 + counters.lost == 10_000, "{counters:?}");
        let (arrived, counters) = run(3, Faults { duplicate: share, ..Faults::default() }, 10_000);
        assert!(near(counters.duplicated) && arrived.len() as u64 == 10_000 + counters.duplicated);
        let reorder_time = Duration::from_micros(20);
        let (arrived, counters) =
            run(3, Faults { reorder: share, reorder_time, ..Faults::default() }, 10_000);
        let overtaken = arrived.windows(2).filter(|pair| pair[0].1 > pair[1].1).count() as u64;
        assert!(near(counters.reordered) && arrived.len() == 10_000);
        assert!((500..counters.reordered).contains(&overtaken), "{overtaken} of {counters:?}");
        let (_, counters) = run(3, Faults { corrupt: share, ..Faults::default() }, 10_000);
        assert!(near(counters.corrupted) && counters.lost == 0);
    }

    #[test]
    fn delay_and_rate_say_when_a_frame_arrives() {
        // 60 bytes per frame at 6 MB/s: one per 10 us; the frames come every microsecond.
        let delay = Duration::from_millis(2);
        let faults = Faults { delay, rate: Some(6_000_000), ..Faults::default() };
        let (arrived, _) = run(1, faults, 3);
        assert_eq!(arrived, [(2_010_000, 0), (2_020_000, 1), (2_030_000, 2)]);
        // Room for two frames: the third is lost while the wire is busy.
        let (arrived, counters) = run(1, Faults { queue: 120, ..faults }, 3);
        assert_eq!((arrived.len(), counters.overrun), (2, 1));
    }

    #[test]
    fn the_filter_sees_frames_and_stops_them() {
        let (wire, [mut one, mut two]) = wire(1, ends());
        wire.set_filter(0, Some(Box::new(|_, bytes| bytes[15] != 1)));
        one.transmit(Instant::ZERO, &mut (0..3).map(frame).collect());
        let mut burst = Vec::new();
        two.receive(Instant::ZERO, &mut burst);
        let seen: Vec<_> = burst.iter().map(|frame| frame.data.private().expect("private")[15]).collect();
        assert_eq!((seen, wire.counters(0).lost), (vec![0, 2], 1));
    }

    #[test]
    fn memory_that_is_short_leaves_frames_on_the_wire() {
        let [one, two] = ends();
        let arena = two.arena.clone();
        let (_, [mut one, mut two]) = wire(1, [one, two]);
        let held: Vec<_> = std::iter::from_fn(|| arena.alloc(60)).collect();
        one.transmit(Instant::ZERO, &mut VecDeque::from([frame(5)]));
        let mut burst = Vec::new();
        assert_eq!(two.receive(Instant::ZERO, &mut burst), 0);
        drop(held);
        assert_eq!(two.receive(Instant::from_nanos(SECOND), &mut burst), 1);
    }

    /// A TCP frame whose payload counts up, to be cut into pieces of 1000 bytes.
    fn large(ipv6: bool, len: usize, arena: &Arena) -> (TxFrame, Vec<u8>) {
        let bytes: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        let ip = if ipv6 { 40 } else { 20 };
        let mut header = smallvec::SmallVec::from_elem(0, 14 + ip + 20);
        header[14] = if ipv6 { 0x60 } else { 0x45 };
        header[14 + ip + 4..][..4].copy_from_slice(&u32::MAX.to_be_bytes());
        (header[14 + ip + 12], header[14 + ip + 13]) = (5 << 4, 0x19);
        let csum_start = u16::try_from(14 + ip).expect("short");
        let offload = Some(TcpOffload { csum_start, segment: Some(1000), ipv6 });
        (TxFrame { header, payload: Sg::copied(arena, &bytes).expect("memory"), offload }, bytes)
    }

    #[test]
    fn large_frames_are_cut_for_ends_that_cannot_take_them() {
        for ipv6 in [false, true] {
            let [one, two] = ends();
            let arena = one.arena.clone();
            let (wire, [mut one, mut two]) = wire(1, [one.with_segmentation(), two]);
            let (frame, bytes) = large(ipv6, 2500, &arena);
            one.transmit(Instant::ZERO, &mut VecDeque::from([frame]));
            let mut burst = Vec::new();
            two.receive(Instant::ZERO, &mut burst);
            let tcp = if ipv6 { 54 } else { 34 };
            let mut joined = Vec::new();
            for (number, frame) in (0_u32..).zip(&burst) {
                let data: &[u8] = frame.data.private().expect("private");
                let sequence = u32::from_be_bytes(data[tcp + 4..tcp + 8].try_into().expect("four"));
                assert_eq!(sequence, u32::MAX.wrapping_add(number * 1000), "wraps");
                assert_eq!(
                    data[tcp + 13],
                    if number == 2 { 0x19 } else { 0x10 },
                    "FIN and PSH are the last one's"
                );
                assert_eq!(frame.checksum, RxChecksum::Unknown);
                joined.extend_from_slice(&data[tcp + 20..]);
            }
            assert_eq!((burst.len(), wire.counters(0).sent), (3, 3));
            assert!(joined == bytes);
            drop(burst);
        }
    }

    #[test]
    fn large_frames_stay_whole_between_ends_that_cut() {
        let [one, two] = ends().map(End::with_segmentation);
        let arena = one.arena.clone();
        let (_, [mut one, mut two]) = wire(1, [one, two]);
        one.transmit(Instant::ZERO, &mut VecDeque::from([large(false, 20_000, &arena).0]));
        let mut burst = Vec::new();
        assert_eq!(two.receive(Instant::ZERO, &mut burst), 1);
        assert_eq!((burst[0].data.len(), burst[0].checksum), (20_054, RxChecksum::Good));
        assert_eq!(arena.in_use(), 0, "sent memory is free again");
        let seg: Option<&Seg> = burst.first().map(|frame| &frame.data);
        assert!(seg.is_some_and(|seg| seg.private().is_some()));
    }
}
