// SPDX-License-Identifier: GPL-2.0-or-later
//! What an operation costs that no clock has to measure: requests to the allocator.

use std::cell::Cell;

use super::*;
use crate::bench::pattern::Pattern;
use crate::sys::counting::{Counts, counts};

/// Operations until everything has the size that it needs, and those that are counted.
const WARM: u64 = 6000;
const COUNTED: u64 = 4000;

/// Requests of queues and of spare lists that have not been as long before; they are fewer the longer it goes on.
const GROWTH_MAX: u64 = COUNTED / 50;

/// Requests to the allocator, of target and load together, in the steady state.
fn requests(depth: Depth, store: StoreKind, block: u32, reads: u32) -> u64 {
    let setup = Setup { depth, store, size: 64 << 20, sessions: 2, queue: 16, huge: false, mtu: 1500 };
    let spec = Spec {
        block,
        reads,
        pattern: Pattern::Random,
        verify: false,
        first: 0,
        blocks: setup.size / u64::from(block),
        streams: setup.sessions,
        count: Some(WARM + COUNTED + 1000),
        seed: 1,
    };
    let ticks = Cell::new(0);
    let clock = || {
        ticks.set(ticks.get() + 10_000);
        Instant::from_nanos(ticks.get())
    };
    let mut seen: [Option<Counts>; 2] = [None; 2];
    let mut progress = |tally: &Tally| {
        for (seen, at) in seen.iter_mut().zip([WARM, WARM + COUNTED]) {
            if tally.total >= at {
                seen.get_or_insert_with(counts);
            }
        }
    };
    let window = |now| Window { from: now, end: None };
    let tally = run(&setup, &spec, window, &clock, &mut progress).unwrap().tally;
    assert_eq!((tally.failed, tally.wrong), (0, 0));
    let [Some(first), Some(last)] = seen else { panic!("{} operations", tally.total) };
    last.requests - first.requests
}

#[test]
fn an_operation_asks_the_allocator_for_nothing() {
    // In memory, where the file store never waits for the kernel's threads.
    let image = std::path::PathBuf::from(format!("/dev/shm/ptgt-allocations-{}.img", std::process::id()));
    let mut wrong = Vec::new();
    for depth in [Depth::Scsi, Depth::Iscsi, Depth::Tcp] {
        let file = [StoreKind::File(image.clone()), StoreKind::Mapped(image.clone())];
        for store in [StoreKind::Null, StoreKind::Ram].into_iter().chain(file) {
            for block in [4096, 65_536] {
                for reads in [100, 0, 50] {
                    let requests = requests(depth, store.clone(), block, reads);
                    if requests > GROWTH_MAX {
                        wrong.push(format!(
                            "{depth:?} {store:?} {block} bytes, {reads} % reads: {requests} requests"
                        ));
                    }
                }
            }
        }
    }
    _ = std::fs::remove_file(&image);
    assert!(wrong.is_empty(), "of {COUNTED} operations: {wrong:#?}");
}
