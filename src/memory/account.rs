// SPDX-License-Identifier: GPL-2.0-or-later
//! How much of a core's memory each peer may make us hold: a tree of accounts, from the core over whoever has not
//! logged in, addresses, names and sessions to connections. What an account holds counts at all above it.
//!
//! **The rule**: an account may hold as much as [`WEIGHT`] times what its parent has left. So there is always something
//! left for newcomers, at every level: one peer alone gets about half of all, many get the same each, however much they
//! ask for. Whoever holds little more than a header is never refused, nor who holds less than half of what all would
//! have if they had the same: what others hold beyond their share is no reason for it to wait. Who has come first may
//! have more than its share when others come: if it makes no progress, its owner ends it.
//!
//! The hot path touches the balance of the connection only, which draws credit from its parents in steps. Nothing here
//! is shared between cores.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::{Rc, Weak};

/// How many times what its parent has left an account may hold.
const WEIGHT: u64 = 2;

/// What a connection draws from its parents at a time, and keeps when it needs less, as long as there is plenty. What
/// it needs goes up and down: it gives more back only when that is more than [`SPARE`] and half of its credit.
const STEP: u64 = 256 << 10;

/// As much as a window of TCP, which may be all that some commands wait for, and come and go with.
const SPARE: u64 = 4 * STEP;

/// There is plenty when an account may have so many steps more.
const PLENTY: u64 = 4;

/// What every account may hold, however little there is: a header, and a text or a block with it.
const FLOOR: u64 = 8 << 10;

/// What a connection of a session may: about a receive window, which TCP has promised. What it brings is asked for, and
/// its place is on the account of its command: without it commands would keep that for ever.
const STREAM_FLOOR: u64 = 1 << 20;

struct AccountNode {
    parent: Option<MemoryAccount>,
    /// By which its parent knows it.
    name: Option<Box<str>>,
    /// Most that it ever holds.
    limit: u64,
    /// What it may hold however little there is.
    floor: u64,
    used: Cell<u64>,
    /// What it has drawn from its parent; for the root the limit.
    credit: Cell<u64>,
    /// Up to which that which it does not use is not looked at.
    spare_max: u64,
    /// It holds more than it may.
    over: Cell<bool>,
    /// What it has given back so far.
    given: Cell<u64>,
    /// Of the root: how often somebody was refused, and what the least of them held since
    /// [`MemoryAccount::take_refused`].
    refusals: Cell<u64>,
    refused: Cell<Option<u64>>,
    children: RefCell<HashMap<Box<str>, Weak<Self>>>,
    /// How many of them have no limit of their own.
    heirs: Cell<u64>,
}

impl Drop for AccountNode {
    fn drop(&mut self) {
        debug_assert!(self.used.get() == 0 || std::thread::panicking(), "dropped with something on it");
        let Some(parent) = &self.parent else { return };
        parent.give(self.credit.get());
        if let Some(name) = &self.name {
            parent.0.children.borrow_mut().remove(name);
            parent.0.heirs.set(parent.0.heirs.get() - u64::from(self.limit == u64::MAX));
        }
    }
}

/// See the module. Cloning makes another handle to the same account.
#[derive(Clone)]
pub struct MemoryAccount(Rc<AccountNode>);

impl MemoryAccount {
    fn new(parent: Option<Self>, name: Option<Box<str>>, limit: u64, floor: u64) -> Self {
        let credit = Cell::new(if parent.is_some() { 0 } else { limit });
        let spare_max = if name.is_some() { 0 } else { SPARE };
        let (used, given, over) = (Cell::new(0), Cell::new(0), Cell::new(false));
        let (refusals, refused, children, heirs) = Default::default();
        Self(Rc::new(AccountNode {
            parent,
            name,
            limit,
            floor,
            used,
            credit,
            spare_max,
            over,
            given,
            refusals,
            refused,
            children,
            heirs,
        }))
    }

    /// A tree of its own, with so many bytes for all.
    pub fn root(bytes: u64) -> Self {
        Self::new(None, None, bytes, FLOOR)
    }

    /// The account of that name below this one, which is made if there is none. It is gone with its last handle.
    pub fn child(&self, name: &str) -> Self {
        self.limited(name, u64::MAX)
    }

    /// The same, for an account that has a limit of its own.
    pub fn limited(&self, name: &str, limit: u64) -> Self {
        let known = self.0.children.borrow().get(name).and_then(Weak::upgrade);
        known.map(Self).unwrap_or_else(|| {
            let child = Self::new(Some(self.clone()), Some(name.into()), limit, FLOOR);
            self.0.children.borrow_mut().insert(name.into(), Rc::downgrade(&child.0));
            self.0.heirs.set(self.0.heirs.get() + u64::from(limit == u64::MAX));
            child
        })
    }

    /// A new account below this one, without a name: a connection, which takes credit in steps.
    pub fn connection(&self) -> Self {
        Self::new(Some(self.clone()), None, u64::MAX, FLOOR)
    }

    /// The same for a connection of a session, which is to go on receiving what its commands have asked for.
    pub fn stream(&self) -> Self {
        Self::new(Some(self.clone()), None, u64::MAX, STREAM_FLOOR)
    }

    /// A connection's account for what it sends, beside this one for what it receives: nothing was promised there.
    pub fn for_sending(&self) -> Self {
        self.0.parent.as_ref().unwrap_or(self).connection()
    }

    /// Bytes that it holds.
    pub fn used(&self) -> u64 {
        self.0.used.get()
    }

    /// Whether it holds no more than anybody may, however little there is.
    pub fn is_small(&self) -> bool {
        self.used() <= FLOOR
    }

    /// Most that it ever may hold.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Bytes that it has given back so far, wrapping.
    pub fn given(&self) -> u64 {
        self.0.given.get()
    }

    /// The account of the core.
    fn core(&self) -> &Self {
        self.0.parent.as_ref().map_or(self, Self::core)
    }

    /// How often somebody was refused, at any account of the core.
    pub fn refusals(&self) -> u64 {
        self.core().0.refusals.get()
    }

    /// What whoever of those that were refused since the last call held that had least.
    pub fn take_refused(&self) -> Option<u64> {
        self.core().0.refused.take()
    }

    /// Somebody waits for memory who holds so much.
    pub fn waits(&self, held: u64) {
        let core = &self.core().0;
        core.refusals.set(core.refusals.get() + 1);
        core.refused.set(Some(core.refused.get().map_or(held, |least| least.min(held))));
    }

    /// What those below it may hold beside what they do.
    pub fn left(&self) -> u64 {
        self.most().saturating_sub(self.used())
    }

    /// Most that it may hold now.
    fn most(&self) -> u64 {
        let share = self.0.parent.as_ref().map_or(u64::MAX, |parent| WEIGHT.saturating_mul(parent.left()));
        self.0.limit.min(share)
    }

    /// What it would hold if all had the same.
    fn equal_share(&self) -> u64 {
        let Some(parent) = &self.0.parent else { return self.0.limit };
        self.0.limit.min(parent.equal_share() / parent.0.heirs.get().max(1))
    }

    /// Whether it may hold so much more however little there is.
    fn is_assured(&self, more: u64) -> bool {
        self.0.credit.get() + more <= self.0.floor || self.has_little(more)
    }

    /// Whether it would hold less than half of what all would have if they had the same, with so much more. What is of
    /// one session has one share.
    pub fn has_little(&self, more: u64) -> bool {
        let sharing = self.0.parent.as_ref().filter(|_| self.0.name.is_none()).unwrap_or(self);
        sharing.used() + more <= sharing.equal_share() / 2
    }

    /// Whether memory of the core is getting short: idle accounts keep nothing then.
    fn is_tight(&self) -> bool {
        let core = self.core();
        core.used() > core.0.limit / 2
    }

    /// Takes `bytes`; `false` if that is more than it may hold.
    #[inline]
    pub fn take(&self, bytes: u64) -> bool {
        let used = self.used() + bytes;
        if used > self.0.credit.get() && !self.may_draw(used - self.0.credit.get()) {
            return false;
        }
        self.0.used.set(used);
        true
    }

    #[cold]
    fn may_draw(&self, need: u64) -> bool {
        let may = self.draw(need, false);
        if !may && self.0.name.is_none() {
            self.waits(self.used());
        }
        may
    }

    /// Takes what is here already, whether it may or not. Whether it may is what [`Self::is_overdrawn`] tells.
    #[inline]
    pub fn hold(&self, bytes: u64) {
        let used = self.used() + bytes;
        if used > self.0.credit.get() {
            self.must_draw(used - self.0.credit.get());
        }
        self.0.used.set(used);
    }

    #[cold]
    fn must_draw(&self, need: u64) {
        if !self.may_draw(need) {
            self.0.over.set(true);
            self.draw(need, true);
        }
    }

    /// Gives back what was taken.
    #[inline]
    pub fn give(&self, bytes: u64) {
        let used = self.used() - bytes;
        self.0.used.set(used);
        self.0.given.set(self.0.given.get().wrapping_add(bytes));
        if used == 0 || self.0.credit.get() > used + self.0.spare_max || self.0.over.get() {
            self.has_less();
        }
    }

    /// It is idle, has much credit that it does not use, or may no longer be over.
    #[cold]
    fn has_less(&self) {
        if self.0.spare_max == 0 {
            return self.settle(0);
        }
        let used = self.used();
        // Idle ones keep nothing when others may need it.
        let (keep, most) = match self.is_tight() {
            true if used == 0 => (0, 0),
            true => (STEP, STEP),
            false => (STEP, used.max(self.0.spare_max)),
        };
        if self.0.credit.get() > used + most || self.0.over.get() {
            self.settle(keep);
        }
    }

    /// Whether it holds more than it may: nothing more is to be taken in for it.
    #[inline]
    pub fn is_overdrawn(&self) -> bool {
        self.0.over.get() && {
            self.settle(0);
            self.0.over.get()
        }
    }

    /// Gives back credit that it does not use, if there is little.
    pub fn trim(&self) {
        if self.is_tight() {
            self.settle(0);
        }
    }

    /// Raises the credit. `must`: whatever the rule says.
    #[cold]
    fn draw(&self, need: u64, must: bool) -> bool {
        let Some(parent) = &self.0.parent else { return must };
        let credit = self.0.credit.get();
        let most = self.most();
        if credit + need > most && !must && !self.is_assured(need) {
            return false;
        }
        let step = need.next_multiple_of(STEP);
        let in_steps = self.0.name.is_none() && credit + PLENTY * step <= most && !self.is_tight();
        let drawn = if in_steps && parent.take(step) {
            step
        } else if parent.take(need) {
            need
        } else if must || self.is_assured(need) {
            parent.hold(need);
            need
        } else {
            return false;
        };
        self.0.credit.set(credit + drawn);
        true
    }

    /// Returns credit beyond what it uses and `keep`, and looks whether what it has is what it may have.
    #[cold]
    fn settle(&self, keep: u64) {
        let Some(parent) = &self.0.parent else { return };
        let credit = self.0.credit.get();
        let back = credit.saturating_sub(self.used() + if self.0.over.get() { 0 } else { keep });
        if back > 0 {
            self.0.credit.set(credit - back);
            parent.give(back);
        }
        let over = self.0.over.get() && self.used() > self.most() && !self.is_assured(0);
        self.0.over.set(over);
    }
}

impl fmt::Debug for MemoryAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryAccount({} of {} bytes)", self.used(), self.0.credit.get())
    }
}

/// Bytes that somebody holds on an account, until it is dropped.
#[derive(Debug)]
pub struct MemoryCharge {
    account: MemoryAccount,
    bytes: u64,
}

impl MemoryCharge {
    /// Nothing, on an account.
    pub fn on(account: &MemoryAccount) -> Self {
        Self { account: account.clone(), bytes: 0 }
    }

    /// From now on it is so much, whether it may be or not.
    #[inline]
    pub fn set(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.account.hold(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.account.give(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// Raises it; `false` if that is more than there may be.
    #[inline]
    pub fn raise(&mut self, bytes: u64) -> bool {
        let may = self.account.take(bytes);
        self.bytes += if may { bytes } else { 0 };
        may
    }

    /// Lowers it.
    #[inline]
    pub fn lower(&mut self, bytes: u64) {
        self.account.give(bytes);
        self.bytes -= bytes;
    }

    /// From now on it is on another account.
    pub fn bill(&mut self, account: &MemoryAccount) {
        let bytes = self.bytes;
        self.set(0);
        self.account = account.clone();
        self.set(bytes);
    }

    /// How much it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The account.
    pub fn account(&self) -> &MemoryAccount {
        &self.account
    }
}

impl Default for MemoryCharge {
    /// On an account of its own, without bounds.
    fn default() -> Self {
        Self::on(&MemoryAccount::root(u64::MAX))
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        self.account.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    /// A connection of a session of a name at an address.
    fn connection(root: &MemoryAccount, address: &str, name: &str, session: &str) -> MemoryAccount {
        root.child(address).child(name).child(session).connection()
    }

    /// Takes as much as it can, in pieces.
    fn greed(account: &MemoryAccount, piece: u64) -> u64 {
        let before = account.used();
        while account.take(piece) {}
        account.used() - before
    }

    #[test]
    fn one_alone_has_half_and_all_of_it_comes_back() {
        let root = MemoryAccount::root(64 * MIB);
        let one = connection(&root, "a", "n", "s");
        let got = greed(&one, 4096);
        assert!((30 * MIB..40 * MIB).contains(&got), "{got}");
        assert_eq!(root.used(), got);
        one.give(got);
        assert!(root.used() <= STEP, "{root:?}");
        drop(one);
        assert_eq!(root.used(), 0);
        assert!(root.0.children.borrow().is_empty(), "the accounts above it are gone, too");
    }

    #[test]
    fn a_stream_goes_on_though_commands_have_all_that_there_is() {
        let root = MemoryAccount::root(64 * MIB);
        let session = root.child("a").child("n").child("s");
        let (stream, commands) = (session.stream(), [(); 8].map(|()| session.connection()));
        commands.iter().for_each(|commands| _ = greed(commands, 4096));
        assert!(!session.connection().take(STREAM_FLOOR), "nothing is left: {session:?}");
        for _ in 0..100 {
            assert!(stream.take(STREAM_FLOOR), "{stream:?}");
            stream.give(STREAM_FLOOR);
        }
        commands.iter().for_each(|commands| commands.give(commands.used()));
    }

    /// Whatever level the greedy ones differ at, a newcomer beside them still gets something, and more when some of
    /// them go.
    #[test]
    fn something_is_left_for_newcomers_at_every_level() {
        let at: [fn(&MemoryAccount, usize) -> MemoryAccount; 4] = [
            |root, n| connection(root, &n.to_string(), "n", "s"),
            |root, n| connection(root, "a", &n.to_string(), "s"),
            |root, n| connection(root, "a", "n", &n.to_string()),
            |root, _| connection(root, "a", "n", "s"),
        ];
        for (level, make) in at.iter().enumerate() {
            let root = MemoryAccount::root(192 * MIB);
            let mut greedy: Vec<MemoryAccount> = (0..200).map(|n| make(&root, n)).collect();
            while greedy.iter().filter(|one| one.take(4096)).count() > 0 {}
            let newcomer = make(&root, 1000);
            let first = greed(&newcomer, 4096);
            assert!(first >= 2 * FLOOR, "level {level}: {first} bytes for a newcomer");
            assert!(root.used() < 192 * MIB);
            for one in greedy.drain(..100) {
                one.give(one.used());
            }
            let more = greed(&newcomer, 4096);
            assert!(more > 256 << 10, "level {level}: {more} more bytes when half of them are gone");
            newcomer.give(newcomer.used());
            for one in greedy {
                one.give(one.used());
            }
        }
    }

    #[test]
    fn what_is_here_already_counts_and_whoever_has_too_much_is_over() {
        let root = MemoryAccount::root(MIB);
        let (one, two) = (connection(&root, "a", "n", "s"), connection(&root, "b", "n", "s"));
        let mut charge = MemoryCharge::on(&one);
        charge.set(2 * MIB);
        assert!(one.is_overdrawn() && root.used() == 2 * MIB);
        assert!(!two.take((256 << 10) + 1) && !two.is_overdrawn(), "nothing is left");
        assert!(two.take(256 << 10), "but for half of an equal share");
        two.give(256 << 10);
        let names: Vec<_> = (0..64).map(|n| connection(&root, "b", &n.to_string(), "s")).collect();
        assert!(!two.take(FLOOR + 1) && two.take(FLOOR), "which may be less than a header");
        two.give(FLOOR);
        drop(names);
        charge.set(600 << 10);
        assert!(one.is_overdrawn(), "still more than the half");
        charge.set(300 << 10);
        assert!(!one.is_overdrawn() && two.take(256 << 10));
        two.give(256 << 10);
        let mut other = MemoryCharge::on(&two);
        other.set(200 << 10);
        charge.bill(&two);
        assert_eq!((one.used(), two.used()), (0, 500 << 10));
        drop((charge, other));
        assert_eq!(two.used(), 0);
    }

    #[test]
    fn steps_are_taken_while_there_is_plenty_and_go_back_when_there_is_not() {
        let root = MemoryAccount::root(16 * MIB);
        let one = connection(&root, "a", "n", "s");
        assert!(one.take(4096));
        let drawn = root.used();
        assert_eq!(drawn, STEP);
        one.give(4096);
        assert!(one.take(8192) && one.take(4096));
        one.give(12_288);
        assert_eq!(root.used(), drawn, "small amounts do not reach the parents");
        one.trim();
        assert_eq!(root.used(), drawn, "there is plenty");
        let greedy = root.limited("all", 15 * MIB);
        greedy.hold(12 * MIB);
        one.trim();
        assert_eq!((root.used(), one.used()), (12 * MIB, 0), "there is not");
        greedy.give(12 * MIB);
    }

    /// A transfer with its headers is a little more than some steps, over and over.
    #[test]
    fn what_goes_up_and_down_by_a_few_steps_does_not_reach_the_parents() {
        let root = MemoryAccount::root(64 * MIB);
        let _many = [12 * STEP, STEP + 48, SPARE, 10 * STEP].map(|most| {
            let one = connection(&root, "a", "n", "s");
            let before = root.used();
            assert!(one.take(most));
            let drawn = root.used();
            for less in [most / 2, STEP.min(most), 48, SPARE.min(most)] {
                one.give(less);
                assert_eq!(root.used(), drawn, "{less} bytes of {most} are kept");
                assert!(one.take(less));
                assert_eq!(root.used(), drawn, "{less} bytes of {most} come from what was kept");
            }
            one.give(most);
            assert!(root.used() - before <= SPARE, "all of it is not kept");
            one
        });
    }

    /// However much others hold already: what is of a session has half of an equal share, and no more.
    #[test]
    fn half_of_an_equal_share_is_assured() {
        let root = MemoryAccount::root(64 * MIB);
        let greedy: Vec<_> = (0..31).map(|n| connection(&root, "a", &n.to_string(), "s")).collect();
        greedy.iter().for_each(|one| one.hold(4 * MIB));
        assert!(greedy.iter().all(|one| !one.take(4096)));
        let session = root.child("a").child("x").child("s");
        let (stream, commands) = (session.stream(), session.connection());
        assert!(commands.take(MIB - (64 << 10)) && stream.take(64 << 10) && !commands.take(64 << 10));
        // Floors are beside that.
        assert!(stream.take(512 << 10) && !commands.take(4096));
        stream.give(stream.used());
        commands.give(512 << 10);
        assert!(commands.take(512 << 10), "it is its own");
        let other = connection(&root, "b", "x", "s");
        assert!(other.take(16 * MIB) && !other.take(4096), "half of the half of another address");
        assert!(!commands.take(4096), "of which this one has less now");
        commands.give(commands.used());
        assert!(!commands.take(768 << 10) && commands.take(512 << 10));
        for one in greedy.iter().chain([&other, &commands]) {
            one.give(one.used());
        }
    }

    #[test]
    fn a_limit_of_its_own_holds() {
        let root = MemoryAccount::root(64 * MIB);
        let few = root.limited("few", MIB);
        let one = few.connection();
        let got = greed(&one, 4096);
        assert!((MIB / 2..=MIB).contains(&got), "{got}");
        one.give(got);
    }

    proptest! {
        /// Whatever is taken and given: each account holds what those below it hold and have drawn, and in the end
        /// nothing.
        #[test]
        fn accounts_add_up(steps in prop::collection::vec((0usize..12, 0u64..400_000, any::<bool>()), 1..300)) {
            let root = MemoryAccount::root(2 * MIB);
            let all: Vec<MemoryAccount> = (0..12)
                .map(|n| connection(&root, &(n / 6).to_string(), &(n / 3).to_string(), &(n / 2).to_string()))
                .collect();
            for (n, bytes, must) in steps {
                let one = &all[n];
                if bytes % 3 == 0 {
                    one.give(one.used().min(bytes));
                } else if must {
                    one.hold(bytes);
                } else {
                    one.take(bytes);
                }
                prop_assert!(one.0.credit.get() >= one.used());
                let drawn: u64 = all.iter().map(|one| one.0.credit.get()).sum();
                prop_assert_eq!(drawn, root.used());
            }
            for one in &all {
                one.give(one.used());
                one.settle(0);
                prop_assert!(!one.is_overdrawn());
            }
            prop_assert_eq!(root.used(), 0);
        }
    }
}
