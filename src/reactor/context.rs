// SPDX-License-Identifier: GPL-2.0-or-later
//! What the parts of one core have in common.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use crate::memory::{Arena, Region, RegionRef};

struct CoreParts {
    core: usize,
    cores: usize,
    arena: Arena,
    regions: RefCell<Vec<RegionRef>>,
    shared: RefCell<Vec<Box<dyn Any>>>,
}

/// What stores, ports, fabrics and the engine of one core get from it when they are made on its thread. A clone is the
/// same one.
#[derive(Clone)]
pub struct CoreContext(Rc<CoreParts>);

impl CoreContext {
    /// For the core of that number, of so many, with its payload memory.
    pub fn new(core: usize, cores: usize, arena: Arena) -> Self {
        Self(Rc::new(CoreParts {
            core,
            cores,
            arena,
            regions: RefCell::default(),
            shared: RefCell::default(),
        }))
    }

    /// For the only core that there is.
    pub fn alone(arena: Arena) -> Self {
        Self::new(0, 1, arena)
    }

    /// The number of the core.
    pub fn core(&self) -> usize {
        self.0.core
    }

    /// How many cores the daemon has.
    pub fn cores(&self) -> usize {
        self.0.cores
    }

    /// Its payload memory.
    pub fn arena(&self) -> &Arena {
        &self.0.arena
    }

    /// Says that segments of this core may lie in a region. Stores and fabrics do so when they are made; ports and
    /// fabrics that are made later have it registered.
    pub fn add_region(&self, region: &Region) {
        let mut added = self.0.regions.borrow_mut();
        added.retain(|region| region.upgrade().is_some());
        added.push(region.downgrade());
    }

    /// All memory that segments of this core may lie in and that devices may be told of: its arena, and what was added
    /// and is still there.
    pub fn regions(&self) -> Vec<Region> {
        let added = self.0.regions.borrow();
        let added = added.iter().filter_map(RegionRef::upgrade);
        [self.arena().region().clone()].into_iter().chain(added).collect()
    }

    /// What there is once on a core for all who use a thing of this type, such as one io_uring for all files: whoever
    /// asks first makes it.
    pub fn shared<T: Clone + 'static>(&self, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let known = self.0.shared.borrow().iter().find_map(|part| part.downcast_ref::<T>().cloned());
        known.map_or_else(
            || {
                let made = make()?;
                self.0.shared.borrow_mut().push(Box::new(made.clone()));
                Ok(made)
            },
            Ok,
        )
    }
}

impl Drop for CoreParts {
    /// The devices of a core have stopped before: see [`Region`] for the order.
    fn drop(&mut self) {
        if self.arena.region().is_registered() && !std::thread::panicking() {
            log::error!("reactor {}: a device has not given its memory up: it stays mapped", self.core);
            debug_assert!(false, "a core ends before its devices");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring<T: 'static>(context: &CoreContext, number: T) -> Rc<T> {
        context.shared(|| Ok(Rc::new(number))).unwrap()
    }

    #[test]
    fn the_parts_of_a_core_share_one_thing_of_each_type() {
        let arena = || Arena::new(2 << 20, false).unwrap();
        let context = CoreContext::new(1, 2, arena());
        assert!(context.shared::<Rc<u32>>(|| Err(io::ErrorKind::Other.into())).is_err());
        assert_eq!(
            (*ring(&context, 7_u32), *ring(&context.clone(), 8_u32)),
            (7, 7),
            "the first who asks makes it"
        );
        assert_eq!(*ring(&context, 9_u64), 9, "another type");
        assert_eq!(*ring(&CoreContext::alone(arena()), 8_u32), 8, "another core");
    }
}
