// SPDX-License-Identifier: GPL-2.0-or-later
//! How much payload an initiator may make the target hold: a pool that all its sessions with a target share, on
//! whichever core they live, and a little for each session, so that small commands need not wait for others.
//!
//! There are two kinds of it. What the initiator may send unasked was promised with the command window: that is
//! reserved when a session begins, and its window is as wide as the reservation. What is asked for (R2T) and read is
//! taken when a command begins; a command for which there is nothing left waits.
//!
//! A session takes no more than it leaves, so that there is something for the next one though it may be stuck, and all
//! come to have the same share. One that holds nothing may take all that it needs for a command; if that is not there,
//! it waits, and those that wait have their turn in the order in which they came. One that holds something tries again
//! when a command of its own has ended. So nobody waits for ever: what is taken belongs to commands that have begun,
//! whose data finds its place whatever comes before it on the connection. A session takes from the pool in large steps,
//! so that a command seldom touches what is shared.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// What a session has beside the pool, and what it takes from that at a time.
const STEP: u64 = 64 << 10;

/// More than a session uses goes back when it is more than this.
const SLACK: u64 = 1 << 20;

/// Most bytes that a command holds in each direction: devices move data in chunks, one at a time, of which stores make
/// none larger.
const CHUNK_MAX: u32 = 1 << 20;

/// A new session reserves at most this share of what is left for promises, so that there is some for the next ones.
const SHARE: u64 = 4;

/// A session whose next command waits.
#[derive(Debug)]
struct Waiter {
    ticket: u64,
    need: u64,
    session: Waker,
    /// It was told that there is enough, and has not looked yet.
    told: bool,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<Waiter>,
    last_ticket: u64,
}

/// What there is for the sessions of an initiator.
#[derive(Debug)]
pub struct Pool {
    pub(super) bytes: u64,
    left: AtomicU64,
    /// As much again for what is promised.
    unpromised: AtomicU64,
    /// Length of the queue, in which a session is only when it found too little: nobody else looks into it.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

impl Pool {
    /// A pool of so many bytes.
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            left: AtomicU64::new(bytes),
            unpromised: AtomicU64::new(bytes),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
        })
    }

    /// Takes that much if at least `rest` is left then.
    fn take(&self, bytes: u64, rest: u64) -> bool {
        let take = |left: u64| left.checked_sub(bytes).filter(|&left| left >= rest);
        self.left.fetch_update(SeqCst, SeqCst, take).is_ok()
    }

    /// Who gives looks at the queue behind what it gives, and who waits at what is left behind the place that it takes
    /// in the queue: one of the two sees the other.
    fn give(&self, bytes: u64) {
        self.left.fetch_add(bytes, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.wake_first(&mut self.queue());
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whose turn it is, if there is enough.
    fn wake_first(&self, queue: &mut Queue) {
        if let Some(first) = queue.waiters.front_mut()
            && first.need <= self.left()
            && !std::mem::replace(&mut first.told, true)
        {
            first.session.wake_by_ref();
        }
    }

    /// Bytes that nobody has taken.
    pub fn left(&self) -> u64 {
        self.left.load(SeqCst)
    }
}

/// What a session may hold. What is of the pool goes back when it is dropped.
#[derive(Debug)]
pub struct Allowance {
    pool: Arc<Pool>,
    /// All that there is in it: every command asks for that, and the pool's cache line is shared between cores.
    most: u64,
    granted: u64,
    used: u64,
    promised: u64,
    /// How the session is told that it is its turn.
    session: Waker,
    /// It is in the queue.
    ticket: Option<u64>,
}

impl Default for Allowance {
    /// With an empty pool.
    fn default() -> Self {
        Self::of(&Pool::new(0))
    }
}

impl Allowance {
    /// For a session that shares a pool.
    pub fn of(pool: &Arc<Pool>) -> Self {
        let session = Waker::noop().clone();
        Self {
            pool: pool.clone(),
            most: pool.bytes,
            granted: STEP,
            used: 0,
            promised: 0,
            session,
            ticket: None,
        }
    }

    /// Says how the session is told that there is what it waits for:
    /// [`Transport::poll_request`](crate::scsi::Transport) is to be called then.
    pub fn wakes(&mut self, session: Waker) {
        self.session = session;
    }

    /// Reserves what a session is promised with a command window: so many bytes for each command. Returns how many
    /// commands that is enough for, of those wished for; one at least.
    pub(super) fn promise(&mut self, commands: u32, each: u64) -> u32 {
        let mut granted = commands;
        let reserve = |left: u64| {
            let most = (left / SHARE / each.max(1)).max(1);
            granted = commands.min(u32::try_from(most).unwrap_or(u32::MAX));
            Some(left.saturating_sub(each * u64::from(granted)))
        };
        if let Ok(left) = self.pool.unpromised.fetch_update(SeqCst, SeqCst, reserve) {
            self.promised += left.min(each * u64::from(granted));
        }
        granted
    }

    /// Takes what a command needs; `false` if there is not so much, or others wait for it. The session is to try again
    /// when a command of its own has ended. If it has none it waits until it is woken, or [withdraws](Self::withdraw).
    #[inline]
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        self.take_or_grow(bytes, true)
    }

    /// Takes what a command needs, or leaves it.
    #[inline]
    pub(super) fn take_now(&mut self, bytes: u64) -> bool {
        self.take_or_grow(bytes, false)
    }

    #[inline]
    fn take_or_grow(&mut self, bytes: u64, waits: bool) -> bool {
        // No command waits for more than there is.
        let used = self.used + bytes.min(self.most);
        if used > self.granted && !self.grow(used, waits) {
            return false;
        }
        self.used = used;
        true
    }

    /// Takes from the pool what nobody else waits for, and no more than it leaves but for its first command.
    fn take_free(&self, bytes: u64) -> bool {
        let rest = if self.used == 0 { 0 } else { self.granted - STEP + bytes };
        self.ticket.is_none() && self.pool.waiting.load(SeqCst) == 0 && self.pool.take(bytes, rest)
    }

    /// Has more granted from the pool, for so much to be used.
    #[cold]
    fn grow(&mut self, used: u64, waits: bool) -> bool {
        let more = (used - self.granted).next_multiple_of(STEP);
        let granted = self.take_free(more) || waits && self.used == 0 && self.take_in_turn(more);
        self.granted += if granted { more } else { 0 };
        granted
    }

    fn take_in_turn(&mut self, bytes: u64) -> bool {
        let pool = &*self.pool;
        let mut queue = pool.queue();
        let ticket = *self.ticket.get_or_insert_with(|| {
            queue.last_ticket += 1;
            let (ticket, session) = (queue.last_ticket, self.session.clone());
            queue.waiters.push_back(Waiter { ticket, need: bytes, session, told: false });
            pool.waiting.store(queue.waiters.len(), SeqCst);
            ticket
        });
        for waiter in queue.waiters.iter_mut().filter(|waiter| waiter.ticket == ticket) {
            (waiter.need, waiter.told) = (bytes, false);
        }
        let first = queue.waiters.front().is_some_and(|waiter| waiter.ticket == ticket);
        let taken = first && pool.take(bytes, 0);
        drop(queue);
        if taken {
            self.withdraw();
        }
        taken
    }

    /// Waits no longer.
    pub(super) fn withdraw(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut queue = self.pool.queue();
        queue.waiters.retain(|waiter| waiter.ticket != ticket);
        self.pool.waiting.store(queue.waiters.len(), SeqCst);
        self.pool.wake_first(&mut queue);
    }

    /// Gives back what [`Self::take`] has taken.
    #[inline]
    pub(super) fn give(&mut self, bytes: u64) {
        self.used -= bytes.min(self.most);
        if self.granted > STEP {
            self.shrink();
        }
    }

    #[cold]
    fn shrink(&mut self) {
        let keep = self.used.next_multiple_of(STEP).max(STEP);
        let unused = self.granted - keep;
        // What is not used is kept for the next command, unless it is others' turn to have more.
        if unused > 0 && (self.used == 0 || unused > SLACK || self.granted - STEP > self.pool.left()) {
            self.granted = keep;
            self.pool.give(unused);
        }
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.withdraw();
        self.pool.unpromised.fetch_add(self.promised, SeqCst);
        self.pool.give(self.granted - STEP);
    }
}

/// What a command with these expected lengths makes us hold at a time, beside what it was promised.
pub(super) fn charge(data_in: u32, data_out: u32, promised: u64) -> u64 {
    u64::from(data_in.min(CHUNK_MAX)) + u64::from(data_out.min(CHUNK_MAX)).saturating_sub(promised)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    use super::*;

    /// How often a session was woken.
    #[derive(Default)]
    struct Bell(AtomicU32);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn session(pool: &Arc<Pool>) -> (Allowance, Arc<Bell>) {
        let (mut session, bell) = (Allowance::of(pool), Arc::new(Bell::default()));
        session.wakes(bell.clone().into());
        (session, bell)
    }

    fn rings(bell: &Bell) -> u32 {
        bell.0.swap(0, SeqCst)
    }

    #[test]
    fn sessions_share_a_pool_and_give_all_of_it_back() {
        let pool = Pool::new(8 * STEP);
        let ((mut one, _), (mut two, _)) = (session(&pool), session(&pool));
        // Small commands one after the other do not touch the pool.
        assert!(one.take(4096) && one.take(8192));
        assert_eq!(pool.left(), 8 * STEP);
        assert!(one.take(4 * STEP), "rounded up");
        assert_eq!(pool.left(), 4 * STEP);
        assert!(!one.take(STEP) && !one.take_now(STEP), "no more than it leaves");
        assert!(two.take(STEP), "its own");
        assert!(two.take(2 * STEP) && !two.take_now(STEP));
        one.give(STEP);
        assert_eq!(pool.left(), 3 * STEP, "as it has more than it leaves");
        assert!(!one.take(STEP));
        two.give(2 * STEP);
        assert_eq!(pool.left(), 3 * STEP, "used again soon, perhaps");
        one.give(3 * STEP);
        one.give(12_288);
        two.give(STEP);
        assert_eq!(pool.left(), 8 * STEP, "idle");
        assert!(two.take(8 * STEP), "one command may have all");
        drop((one, two));
        assert_eq!(pool.left(), 8 * STEP);
    }

    #[test]
    fn what_was_much_does_not_stay() {
        let pool = Pool::new(64 << 20);
        let (mut one, _) = session(&pool);
        assert!(one.take(charge(0, u32::MAX, 0)) && one.take(charge(u32::MAX, 8 << 20, 0)) && one.take(512));
        assert_eq!(pool.left(), 61 << 20);
        one.give(2 << 20);
        one.give(1 << 20);
        assert!(pool.left() >= 62 << 20, "never idle, but with less");
    }

    /// However much the first has taken when the others come, and whether it has any need of it.
    #[test]
    fn all_come_to_have_the_same_share() {
        const UNIT: u64 = 1 << 20;
        let pool = Pool::new(128 * UNIT);
        let mut all: Vec<_> = (0..4).map(|_| (session(&pool).0, 0)).collect();
        let fill = |all: &mut [(Allowance, u64)]| {
            for (one, has) in all {
                while one.take(UNIT) {
                    *has += 1;
                }
            }
        };
        fill(&mut all[..1]);
        assert_eq!(all[0].1, 64);
        fill(&mut all);
        assert!(all.iter().all(|(_, has)| *has > 6), "{all:?}");
        for _ in 0..200 {
            for (one, has) in &mut all {
                one.give(UNIT);
                *has -= 1;
            }
            fill(&mut all);
        }
        assert!(all.iter().all(|(_, has)| (24..=28).contains(has)), "{all:?}");
    }

    #[test]
    fn sessions_wait_in_the_order_in_which_they_came() {
        let pool = Pool::new(8 * STEP);
        let ((mut one, first), (mut two, second), (mut three, third)) =
            (session(&pool), session(&pool), session(&pool));
        assert!(one.take(7 * STEP));
        assert!(!two.take(8 * STEP) && !three.take(2 * STEP));
        // Who has something does not pass them, though there is as much, and who waits longer comes first.
        assert!(!one.take(STEP) && !three.take(2 * STEP));
        assert_eq!((pool.left(), pool.waiting.load(SeqCst)), (2 * STEP, 2));
        assert_eq!(
            (rings(&first), rings(&second), rings(&third)),
            (0, 0, 0),
            "too little for the first of them"
        );
        one.give(7 * STEP);
        assert_eq!((rings(&first), rings(&second), rings(&third)), (0, 1, 0));
        assert!(!three.take(2 * STEP) && !one.take(2 * STEP) && two.take(8 * STEP));
        assert_eq!((rings(&first), rings(&second), rings(&third)), (0, 0, 1), "the next one is told");
        assert!(three.take(2 * STEP) && !one.take(2 * STEP));
        // Who is gone, or has nothing to wait for any more, is in nobody's way.
        two.give(8 * STEP);
        assert_eq!(rings(&first), 1);
        assert!(one.take(2 * STEP) && !two.take(8 * STEP));
        three.give(2 * STEP);
        assert!(!three.take(5 * STEP));
        two.withdraw();
        assert_eq!((rings(&second), rings(&third)), (1, 1));
        drop(three);
        assert!(two.take(2 * STEP));
        drop((one, two));
        assert_eq!((pool.left(), pool.waiting.load(SeqCst)), (8 * STEP, 0));
    }

    #[test]
    fn nothing_waits_for_more_than_there_is() {
        let pool = Pool::new(8 * STEP);
        let (mut one, _) = session(&pool);
        assert!(one.take(2 * STEP));
        assert!(!one.take(100 * STEP), "what it has comes first");
        one.give(2 * STEP);
        assert!(one.take(100 * STEP));
        one.give(100 * STEP);
        assert_eq!(pool.left(), 8 * STEP);
    }

    #[test]
    fn promises_leave_something_for_the_next_session() {
        let pool = Pool::new(128 << 20);
        let mut all: Vec<_> = (0..1024).map(|_| session(&pool).0).collect();
        let windows: Vec<u32> = all.iter_mut().map(|one| one.promise(128, 256 << 10)).collect();
        assert_eq!(windows[..8], [128, 96, 72, 54, 40, 30, 23, 17]);
        assert_eq!(windows.iter().min(), Some(&1));
        // One for each is beside what there is.
        let promised: u64 = windows.iter().map(|&commands| u64::from(commands) * (256 << 10)).sum();
        assert!(promised <= (128 << 20) + 1024 * (256 << 10), "{promised}");
        drop(all);
        assert_eq!(pool.unpromised.load(SeqCst), 128 << 20);
        assert_eq!(session(&pool).0.promise(64, 512), 64);
    }
}
