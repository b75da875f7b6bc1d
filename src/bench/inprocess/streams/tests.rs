// SPDX-License-Identifier: GPL-2.0-or-later
//! Where the bytes lie that the port is given to send.

use super::super::{Common, StoreKind};
use super::*;
use crate::bench::pattern::Pattern;

const OPERATIONS: u64 = 500;

/// Bytes that the port was given in the store's own memory, and others, for READs of `block` bytes through TCP.
fn sent(store: StoreKind, block: u32) -> (usize, usize) {
    let setup =
        Setup { depth: Depth::Tcp, store, size: 16 << 20, sessions: 1, queue: 16, huge: false, mtu: 1500 };
    let (common, mut places) = Common::new(&setup, 1).unwrap();
    let base = common.base().unwrap();
    let place = places.remove(0);
    let (mut shard, mut ends) = shard(common.world(&setup, block, place).unwrap(), &setup).unwrap();
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
        reads: 100,
        pattern: Pattern::Random,
        verify: false,
        first: 0,
        blocks: setup.size / u64::from(block),
        streams: 1,
        count: Some(OPERATIONS),
        seed: 1,
    };
    let mut load = Load::new(spec, Window { from: clock(), end: None });
    let mut session = Session::new(0, terms, setup.queue, &load);
    let (mut inside, mut elsewhere) = (0, 0);
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
            let place = base.and_then(|base| seg.as_ptr().addr().checked_sub(base));
            match place.is_some_and(|at| at + seg.len() <= setup.size as usize) {
                true => inside += seg.len(),
                false => elsewhere += seg.len(),
            }
            take(&mut session, &seg, &mut load, clock()).unwrap();
        }
        ends.settle();
    }
    assert_eq!(load.tally.failed, 0);
    (inside, elsewhere)
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
