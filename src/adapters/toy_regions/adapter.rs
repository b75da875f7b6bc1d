// SPDX-License-Identifier: GPL-2.0-or-later
//! An adapter that moves bytes between registered memory and buffers of initiators, as one of RDMA does: it is told
//! keys and offsets, never addresses, and does what was posted some time later, in order.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::memory::{Region, RegionPages, Registrar, Seg, SegMut};

/// A buffer of an initiator.
pub(crate) type RemoteBuffer = Arc<Mutex<Vec<u8>>>;

/// What an adapter calls a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LocalKey(pub(crate) u32);

/// What an adapter was told and did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdapterEvent {
    /// Memory of that length has this key from now on.
    Registered(LocalKey, usize),
    /// Memory of that length has none.
    Refused(usize),
    /// So many bytes from there went to an initiator.
    Put(LocalKey, usize, usize),
    /// So many bytes of an initiator came there.
    Got(LocalKey, usize, usize),
    /// It does nothing any more.
    Stopped,
    Unregistered(LocalKey),
}

/// Shared with those who look at it.
pub(crate) type AdapterEvents = Arc<Mutex<Vec<AdapterEvent>>>;

/// What is to be done. It has its memory until it is.
pub(super) enum Posted<T> {
    /// Bytes of registered memory go to a buffer, `at` some byte of it.
    Put { key: LocalKey, offset: usize, held: Seg, to: RemoteBuffer, at: usize },
    /// Bytes of a buffer, from `at` on, come into registered memory.
    Get { key: LocalKey, offset: usize, into: SegMut, from: RemoteBuffer, at: usize, token: T },
    /// Tell when everything before is done.
    Mark(T),
}

/// What is done: a mark, or memory that has been filled.
pub(super) enum Performed<T> {
    Mark(T),
    Got(T, Seg),
}

struct AdapterState<T> {
    /// What it refuses: pages that are not there yet.
    refuses_absent: bool,
    regions: BTreeMap<LocalKey, Region>,
    posted: VecDeque<Posted<T>>,
    stopped: bool,
    events: AdapterEvents,
}

/// See the module.
pub(super) struct RegionAdapter<T>(Rc<RefCell<AdapterState<T>>>);

impl<T> Clone for RegionAdapter<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

fn lock<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> RegionAdapter<T> {
    pub(super) fn new(refuses_absent: bool, events: AdapterEvents) -> Self {
        let (regions, posted) = (BTreeMap::new(), VecDeque::new());
        Self(Rc::new(RefCell::new(AdapterState { refuses_absent, regions, posted, stopped: false, events })))
    }

    pub(super) fn post(&self, work: Posted<T>) {
        self.0.borrow_mut().posted.push_back(work);
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.0.borrow().posted.is_empty()
    }

    /// Does what was posted.
    pub(super) fn work(&self) -> Vec<Performed<T>> {
        let state = &mut *self.0.borrow_mut();
        assert!(!state.stopped);
        let mut done = Vec::new();
        for work in state.posted.drain(..) {
            match work {
                Posted::Put { key, offset, held, to, at } => {
                    // By the key alone: what it holds tells the length.
                    state.regions[&key].copy_to(offset, &mut lock(&to)[at..at + held.len()]);
                    lock(&state.events).push(AdapterEvent::Put(key, offset, held.len()));
                }
                Posted::Get { key, offset, mut into, from, at, token } => {
                    assert!(offset + into.len() <= state.regions[&key].len());
                    let len = into.len();
                    into.bytes_mut().copy_from_slice(&lock(&from)[at..at + len]);
                    lock(&state.events).push(AdapterEvent::Got(key, offset, len));
                    done.push(Performed::Got(token, into.freeze()));
                }
                Posted::Mark(token) => done.push(Performed::Mark(token)),
            }
        }
        done
    }

    /// What is posted is not done any more.
    pub(super) fn stop(&self) {
        let state = &mut *self.0.borrow_mut();
        state.stopped = true;
        state.posted.clear();
        lock(&state.events).push(AdapterEvent::Stopped);
    }
}

impl<T> Registrar for RegionAdapter<T> {
    type Handle = LocalKey;

    fn register(&mut self, region: &Region) -> io::Result<LocalKey> {
        let state = &mut *self.0.borrow_mut();
        let RegionPages { present, .. } = region.pages();
        if state.refuses_absent && !present {
            lock(&state.events).push(AdapterEvent::Refused(region.len()));
            return Err(io::Error::other("its pages are not there yet"));
        }
        // Nothing that could be taken for a number of a region.
        let key = LocalKey(0xabc0_0000 + 7 * u32::try_from(state.regions.len()).expect("few"));
        state.regions.insert(key, region.clone());
        lock(&state.events).push(AdapterEvent::Registered(key, region.len()));
        Ok(key)
    }

    fn unregister(&mut self, _: &Region, key: LocalKey) {
        let state = &mut *self.0.borrow_mut();
        assert!(state.stopped, "memory is taken from a device that is at work");
        state.regions.remove(&key).expect("it was registered");
        lock(&state.events).push(AdapterEvent::Unregistered(key));
    }
}
