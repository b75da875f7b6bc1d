// SPDX-License-Identifier: GPL-2.0-or-later
//! Where the bytes lie that the port is given to send.

use std::os::fd::RawFd;
use std::sync::OnceLock;

use super::super::{Common, Place, StoreKind};
use super::*;
use crate::bench::pattern::Pattern;
use crate::io::{Done, Geometry, Health, Landing, Op, Store, Submitted, Tag};
use crate::memory::{BufferSlots, Lease, Region};
use crate::reactor::CoreContext;
use crate::stores::Backing;

const OPERATIONS: u64 = 500;

fn setup(store: StoreKind) -> Setup {
    Setup { depth: Depth::Tcp, store, size: 16 << 20, sessions: 1, queue: 16, huge: false, mtu: 1500 }
}

/// Bytes that the port was given in the store's own memory, and others, for READs of `block` bytes through TCP.
fn sent(store: StoreKind, block: u32) -> (usize, usize) {
    let setup = setup(store);
    let (common, places) = Common::new(&setup, 1).unwrap();
    let lent = common.backing.region().map(|region| region.id());
    let inside = |seg: &Seg| seg.in_region().is_some_and(|(region, _)| Some(region) == lent);
    exchange(&setup, &common, places, (block, 100), inside)
}

/// Bytes that the port was given and for which `inside` is true, and others, for so many READs of 100 operations; of
/// what is written and read, each byte is compared.
fn exchange(
    setup: &Setup,
    common: &Common,
    mut places: Vec<Place>,
    (block, reads): (u32, u32),
    inside: impl Fn(&Seg) -> bool,
) -> (usize, usize) {
    let place = places.remove(0);
    let (mut shard, mut ends) = shard(common.world(setup, block, place).unwrap(), setup).unwrap();
    let clock = || Instant::from_nanos(1_000_000);
    ends.open(0);
    let who = Credentials {
        initiator: format!("{TARGET}-initiator"),
        target: TARGET.into(),
        lun: 0,
        isid: [0x80, 0, 0, 0, 0, 0],
        account: None,
    };
    let mut stream = Pumped { shard: &mut shard, ends: &mut *ends, number: 0, clock: &clock };
    let terms = login::login(&mut stream, &who).unwrap();
    let spec = Spec {
        block,
        reads,
        pattern: Pattern::Random,
        verify: reads < 100,
        first: 0,
        blocks: setup.size / u64::from(block),
        streams: 1,
        count: Some(OPERATIONS),
        seed: 1,
    };
    let mut load = Load::new(spec, Window { from: clock(), end: None });
    let mut session = Session::new(0, terms, setup.queue, &load);
    let (mut within, mut elsewhere) = (0, 0);
    while load.goes_on(clock()) || session.in_flight() > 0 {
        session.fill(&mut load, clock());
        let mut bytes = Vec::new();
        session.output(|piece| {
            bytes.extend_from_slice(piece);
            true
        });
        session.sent(bytes.len());
        ends.send(0, &bytes);
        turn(&mut shard, &mut *ends, clock());
        while let Some(seg) = ends.receive(0) {
            match inside(&seg) {
                true => within += seg.len(),
                false => elsewhere += seg.len(),
            }
            take(&mut session, &seg, &mut load, clock()).unwrap();
        }
        ends.settle();
    }
    assert_eq!((load.tally.failed, load.tally.wrong), (0, 0));
    (within, elsewhere)
}

#[test]
fn what_is_sent_lies_in_the_store() {
    let image = std::path::PathBuf::from(format!("/dev/shm/ptgt-lent-{}.img", std::process::id()));
    for block in [4096, 65_536] {
        for store in [StoreKind::Ram, StoreKind::Mapped(image.clone())] {
            let (inside, elsewhere) = sent(store.clone(), block);
            assert_eq!(inside as u64, OPERATIONS * u64::from(block), "{store:?}");
            assert_eq!(elsewhere as u64, OPERATIONS * 48, "headers: {store:?}");
        }
        // A file that is not mapped is read into payload memory, and that is sent.
        let (inside, elsewhere) = sent(StoreKind::File(image.clone()), block);
        assert_eq!((inside, elsewhere as u64), (0, OPERATIONS * (48 + u64::from(block))));
    }
    _ = std::fs::remove_file(&image);
}

/// A store whose reads all land in memory that it is given, and that is not the arena's.
struct Landings {
    inner: Arc<dyn Backing>,
    slots: OnceLock<Region>,
}

impl Backing for Landings {
    fn attach(&self, context: &CoreContext) -> io::Result<Box<dyn Store>> {
        let slots = BufferSlots::new(64, 65_536, false)?;
        self.slots.set(slots.region().clone()).expect("one core");
        Ok(Box::new(LandingStore { inner: self.inner.attach(context)?, slots }))
    }
}

struct LandingStore {
    inner: Box<dyn Store>,
    slots: BufferSlots,
}

impl Store for LandingStore {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
        self.inner.submit(
            tag,
            match op {
                Op::Read { at, len, .. } => {
                    let into =
                        Landing::Given(self.slots.take(len as usize).expect("slots for what is under way"));
                    Op::Read { at, len, into }
                }
                other => other,
            },
        )
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
        self.inner.poll(done)
    }

    fn commit(&mut self) {
        self.inner.commit();
    }

    fn inspect(&mut self) -> Health {
        self.inner.inspect()
    }

    fn must_poll(&self) -> bool {
        self.inner.must_poll()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        self.inner.wake_fd()
    }

    fn lease(&self) -> Option<Lease> {
        self.inner.lease()
    }
}

/// What a disk reads into memory that is not the arena's goes through iSCSI and TCP from there, whatever the store; it
/// is compared with what was written before.
#[test]
fn what_landed_in_memory_that_was_given_is_sent_from_there() {
    let image = std::path::PathBuf::from(format!("/dev/shm/ptgt-landings-{}.img", std::process::id()));
    let stores = [StoreKind::Ram, StoreKind::File(image.clone()), StoreKind::Mapped(image.clone())];
    for store in stores {
        let setup = setup(store);
        let (mut common, places) = Common::new(&setup, 1).unwrap();
        let landings = Arc::new(Landings { inner: common.backing, slots: OnceLock::new() });
        common.backing = landings.clone();
        let given = |seg: &Seg| {
            let slots = landings.slots.get().map(Region::id);
            seg.in_region().is_some_and(|(region, _)| Some(region) == slots)
        };
        let (within, _) = exchange(&setup, &common, places, (65_536, 50), given);
        assert!(within > 100 * 65_536 && within % 65_536 == 0, "{within} bytes");
        drop(common);
        let slots = Arc::into_inner(landings).unwrap().slots.into_inner().unwrap();
        let mapped = slots.downgrade();
        drop(slots);
        assert!(mapped.upgrade().is_none(), "nothing of it is held any more");
    }
    _ = std::fs::remove_file(&image);
}
