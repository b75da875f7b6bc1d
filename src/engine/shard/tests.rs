// SPDX-License-Identifier: GPL-2.0-or-later
//! What wakes a core.

use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use super::*;
use crate::io::{Done, Geometry, Op, Store, Submitted, Tag};
use crate::memory::Arena;
use crate::reactor::mailboxes;
use crate::scsi::UnitKeys;
use crate::scsi::primary::MissingLun;
use crate::sys::{EventFd, wait_readable};

/// A store whose operations end when somebody else says so, of which a descriptor of its own tells.
struct SlowStore {
    wake: EventFd,
    under_way: Vec<Tag>,
    ended: Vec<Tag>,
}

impl SlowStore {
    fn end_all(&mut self) {
        self.ended.append(&mut self.under_way);
        self.wake.raise();
    }
}

struct SlowHandle(Rc<RefCell<SlowStore>>);

impl Store for SlowHandle {
    fn geometry(&self) -> Geometry {
        Geometry { bytes: 1 << 20, block: 512, transfer_max: 1 << 20, thin: false, read_only: false }
    }

    fn submit(&mut self, tag: Tag, _: Op) -> Submitted {
        self.0.borrow_mut().under_way.push(tag);
        Submitted::Queued
    }

    fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
        let slow = &mut *self.0.borrow_mut();
        slow.wake.lower();
        done.extend(slow.ended.drain(..).map(|tag| (tag, Done::Finished)));
        done.len()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.0.borrow().wake.as_raw_fd())
    }
}

/// Whether a sleep of this core would end at once.
fn is_woken(shard: &Shard) -> bool {
    let (mut fds, mut scratch) = (Vec::new(), Vec::new());
    shard.wake_fds(&mut fds);
    wait_readable(&fds, &mut scratch, Some(Duration::ZERO));
    scratch.iter().any(|fd| fd.revents != 0)
}

#[test]
fn what_ends_in_a_store_wakes_its_core() {
    let context = CoreContext::alone(Arena::new(2 << 20, false).unwrap());
    let mut tasks = TaskManager::new(&context, Box::new(MissingLun));
    let slow = || {
        Rc::new(RefCell::new(SlowStore { wake: EventFd::new().unwrap(), under_way: vec![], ended: vec![] }))
    };
    // Several, as each has a descriptor of its own.
    let (mut keys, stores) = (UnitKeys::default(), [slow(), slow(), slow()]);
    for store in &stores {
        tasks.add_unit(keys.allocate(), Box::new(MissingLun), Some(Box::new(SlowHandle(store.clone()))));
    }
    let (peers, mailboxes) = mailboxes(1).unwrap();
    let mailbox = mailboxes.into_iter().next().unwrap();
    let left = Arc::new(AtomicUsize::new(1));
    let fabrics = Vec::new();
    let links = PeerLinks::new(&context, Vec::new());
    let mut shard = Shard::new(Parts { context, fabrics, tasks, mailbox, peers: peers.clone(), left, links });
    // At its end a core flushes all stores.
    peers[0].send(Message::Drain);
    for _ in 0..4 {
        shard.turn(Instant::ZERO);
    }
    for (at, store) in stores.iter().enumerate() {
        assert_eq!((store.borrow().under_way.len(), is_woken(&shard)), (1, false), "store {at}");
        store.borrow_mut().end_all();
        assert!(is_woken(&shard), "store {at}");
        assert!(!shard.finished());
        shard.turn(Instant::ZERO);
    }
    shard.turn(Instant::ZERO);
    assert!(shard.finished() && !is_woken(&shard));
}
