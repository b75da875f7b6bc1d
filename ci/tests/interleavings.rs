// SPDX-License-Identifier: GPL-2.0-or-later
//! What threads share, in many orders of their steps: a scheduler (shuttle) has the word at every atomic operation and
//! every lock, and finds the order in which somebody waits for ever, or is let in where he must not be.
//!
//! The code is that of the daemon, file by file; in place of `crate::sys::sync` it finds the scheduler's types. What is
//! shared by threads is little, and all of it is here: mailboxes with their way to sleep, and the gate of exclusive
//! store operations. (Rings between cores are a crate's. Segments of memory and their leases never leave their thread,
//! which the compiler sees to, but to be copied.)

#![expect(unreachable_pub, reason = "modules of the library are modules of a test here")]

use ptgt::{io, memory};
use shuttle::thread;

/// In the place of the daemon's.
mod sys {
    use std::collections::HashMap;
    use std::os::fd::{AsRawFd, RawFd};
    use std::sync::{LazyLock, atomic};

    use sync::{Arc, Mutex};

    pub mod sync {
        pub use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
        pub use shuttle::sync::{Arc, Condvar, Mutex};
        pub use std::sync::PoisonError;
    }

    type Raised = Arc<(Mutex<bool>, sync::Condvar)>;

    /// By number. Held for moments in which nobody else has the word.
    static ALL: LazyLock<std::sync::Mutex<HashMap<RawFd, Raised>>> = LazyLock::new(Default::default);

    pub struct EventFd(RawFd);

    fn of(number: RawFd) -> Raised {
        ALL.lock().unwrap()[&number].clone()
    }

    impl EventFd {
        pub fn new() -> std::io::Result<Self> {
            static NEXT: atomic::AtomicI32 = atomic::AtomicI32::new(0);
            let number = NEXT.fetch_add(1, atomic::Ordering::Relaxed);
            ALL.lock().unwrap().insert(number, Arc::new((Mutex::new(false), sync::Condvar::new())));
            Ok(Self(number))
        }

        pub fn raise(&self) {
            let raised = of(self.0);
            *raised.0.lock().unwrap() = true;
            raised.1.notify_all();
        }

        pub fn lower(&self) {
            *of(self.0).0.lock().unwrap() = false;
        }
    }

    impl AsRawFd for EventFd {
        fn as_raw_fd(&self) -> RawFd {
            self.0
        }
    }

    /// Sleeps until it is raised: without a limit, so that a wake-up that is lost is a deadlock.
    pub fn wait(number: RawFd) {
        let raised = of(number);
        let mut guard = raised.0.lock().unwrap();
        while !*guard {
            guard = raised.1.wait(guard).unwrap();
        }
    }
}

#[path = "../../src/reactor/mailbox.rs"]
mod mailbox;

#[path = "../../src/stores/exclusive.rs"]
mod exclusive;

/// Orders that are tried of each test.
const ORDERS: usize = 20_000;

#[test]
fn a_sleeper_misses_no_message() {
    let run = || {
        let (sender, mut mailbox) = mailbox::mailbox().unwrap();
        for first in [0, 10] {
            let sender = sender.clone();
            thread::spawn(move || (first..first + 2).for_each(|n| sender.send(n)));
        }
        let mut taken = Vec::new();
        while taken.len() < 4 {
            if let Some(n) = mailbox.take() {
                taken.push(n);
                continue;
            }
            if mailbox.announce_sleep() {
                sys::wait(mailbox.wake_fd());
            }
            mailbox.awake();
        }
        let of = |first| taken.iter().copied().filter(|n| n / 10 * 10 == first).collect::<Vec<i32>>();
        assert_eq!((of(0), of(10)), (vec![0, 1], vec![10, 11]), "in the order of each sender");
    };
    shuttle::check_random(run, ORDERS);
    shuttle::check_pct(run, ORDERS, 3);
}

/// What lies in a ring is in no mailbox, and its receiver is woken all the same. The ring is a count here.
#[test]
fn a_sleeper_misses_nothing_in_a_ring() {
    use sys::sync::{Arc, AtomicUsize, Ordering};

    let run = || {
        let (sender, mut mailbox) = mailbox::mailbox::<()>().unwrap();
        let put: Arc<AtomicUsize> = Arc::default();
        let ring = put.clone();
        thread::spawn(move || {
            for n in 1..4 {
                ring.store(n, Ordering::Release);
                sender.wake();
            }
        });
        while put.load(Ordering::Acquire) < 3 {
            let seen = put.load(Ordering::Acquire);
            if mailbox.announce_sleep() && put.load(Ordering::Acquire) == seen && seen < 3 {
                sys::wait(mailbox.wake_fd());
            }
            mailbox.awake();
        }
    };
    shuttle::check_random(run, ORDERS);
    shuttle::check_pct(run, ORDERS, 3);
}

mod gate {
    use super::exclusive::{Exclusive, ExclusiveGate};
    use super::io::{Done, Geometry, Landing, Op, Store, Submitted, Tag};
    use super::memory::{Arena, Seg, Sg};
    use super::sys::sync::{Arc, AtomicUsize, Ordering};
    use super::{ORDERS, thread};

    /// A block of one number for all handles. Ordinary operations read it, wait, and write one more: together they lose
    /// some, and any that gets in between of an exclusive one is noticed.
    struct Number {
        value: Arc<AtomicUsize>,
        /// Operations that are neither done nor exclusive.
        ordinary: Arc<AtomicUsize>,
        under_way: Option<Tag>,
        arena: Arena,
    }

    fn bytes(arena: &Arena, value: usize) -> Sg {
        let mut block = arena.alloc(8).unwrap();
        block.bytes_mut().copy_from_slice(&value.to_le_bytes());
        block.freeze().into()
    }

    fn number(data: &Sg) -> usize {
        usize::from_le_bytes(data.to_vec().try_into().unwrap())
    }

    impl Store for Number {
        fn geometry(&self) -> Geometry {
            Geometry { bytes: 8, block: 8, transfer_max: 8, thin: false, read_only: false }
        }

        fn submit(&mut self, tag: Tag, op: Op) -> Submitted {
            let Tag(0) = tag else {
                assert_eq!(self.ordinary.load(Ordering::SeqCst), 0, "somebody is in between");
                return Submitted::Done(match op {
                    Op::Read { into: Landing::Own, .. } => {
                        Done::Data(bytes(&self.arena, self.value.load(Ordering::SeqCst)))
                    }
                    Op::Write { data, .. } => {
                        self.value.store(number(&data), Ordering::SeqCst);
                        Done::Finished
                    }
                    other => panic!("{other:?}"),
                });
            };
            self.ordinary.fetch_add(1, Ordering::SeqCst);
            self.under_way = Some(tag);
            Submitted::Queued
        }

        fn poll(&mut self, done: &mut Vec<(Tag, Done)>) -> usize {
            let Some(tag) = self.under_way.take() else { return 0 };
            self.value.fetch_add(1, Ordering::SeqCst);
            self.ordinary.fetch_sub(1, Ordering::SeqCst);
            done.push((tag, Done::Finished));
            1
        }
    }

    fn carry_out(store: &mut Exclusive<Number>, op: Op) -> Done {
        let mut done = Vec::new();
        let mut submitted = store.submit(Tag(0), op);
        loop {
            match submitted {
                Submitted::Done(done) => return done,
                Submitted::Queued => {}
                Submitted::Full(op) => {
                    store.poll(&mut done);
                    submitted = store.submit(Tag(0), op);
                    continue;
                }
            }
            store.poll(&mut done);
            if let Some((_, done)) = done.pop() {
                return done;
            }
            thread::yield_now();
            submitted = Submitted::Queued;
        }
    }

    /// Two handles count up by comparing and writing, while a third writes: every step is in the sum.
    #[test]
    fn nobody_gets_in_between_of_an_exclusive_operation() {
        const STEPS: usize = 2;
        let run = || {
            let (value, ordinary): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
            let gate = Arc::new(ExclusiveGate::default());
            let handle = {
                let (gate, value, ordinary) = (gate.clone(), Arc::clone(&value), Arc::clone(&ordinary));
                move || {
                    let arena = Arena::new(2 << 20, false).unwrap();
                    let (value, ordinary) = (value.clone(), ordinary.clone());
                    Exclusive::new(Number { value, ordinary, under_way: None, arena }, gate.clone())
                }
            };
            let adders: Vec<_> = (0..2)
                .map(|_| {
                    let handle = handle.clone();
                    thread::spawn(move || {
                        let (mut store, arena) = (handle(), Arena::new(2 << 20, false).unwrap());
                        let (mut known, mut steps) = (0, 0);
                        while steps < STEPS {
                            let (compare, data) = (bytes(&arena, known), bytes(&arena, known + 1));
                            match carry_out(
                                &mut store,
                                Op::CompareAndWrite {
                                    at: 0,
                                    compare: Some(Box::new(compare)),
                                    data,
                                    fua: false,
                                },
                            ) {
                                Done::Finished => (known, steps) = (known + 1, steps + 1),
                                // It only goes up.
                                Done::Differs { .. } => known += 1,
                                other => panic!("{other:?}"),
                            }
                        }
                    })
                })
                .collect();
            let mut store = handle();
            for _ in 0..STEPS {
                let data = Seg::from_static(&[0; 8]).into();
                let done = carry_out(&mut store, Op::Write { at: 0, data, fua: false });
                assert!(matches!(done, Done::Finished));
            }
            adders.into_iter().for_each(|adder| adder.join().unwrap());
            let value: &AtomicUsize = &value;
            assert_eq!(value.load(Ordering::SeqCst), 3 * STEPS);
        };
        shuttle::check_random(run, ORDERS / 10);
        shuttle::check_pct(run, ORDERS / 10, 3);
    }
}
