// SPDX-License-Identifier: GPL-2.0-or-later
//! A change that every core makes or none does, in two phases: each makes ready what the change brings to it and votes;
//! if all agree, each puts its share in force, else each gives it up. Without I/O: whoever asks sends what is said
//! here.
//!
//! A core that has agreed is bound until it hears what was decided. The decision falls once, with the last vote that
//! agrees, the first that does not, or when the asker does not wait any longer; what comes later changes nothing.

/// Names a change. Later ones have greater numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What becomes of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Every core has agreed.
    Commit,
    /// Why not.
    Abort(String),
}

/// The votes on a change.
#[derive(Debug)]
pub struct Ballot {
    ticket: Ticket,
    /// By core: whether it has agreed.
    agreed: Vec<bool>,
    decision: Option<Decision>,
}

impl Ballot {
    /// No core has voted yet.
    pub fn new(ticket: Ticket, cores: usize) -> Self {
        Self { ticket, agreed: vec![false; cores], decision: None }
    }

    /// A core votes on the change of that name. Returns what is decided, if anything is.
    pub fn vote(&mut self, core: usize, ticket: Ticket, vote: Result<(), String>) -> Option<&Decision> {
        if ticket == self.ticket && self.decision.is_none() {
            match vote {
                Ok(()) => self.agreed[core] = true,
                Err(why) => self.decision = Some(Decision::Abort(why)),
            }
            if self.agreed.iter().all(|agreed| *agreed) {
                self.decision = Some(Decision::Commit);
            }
        }
        self.decision.as_ref()
    }

    /// Votes that have not come are not waited for any longer. Returns what is decided now, if it was not before.
    pub fn give_up(&mut self, why: &str) -> &Decision {
        self.decision.get_or_insert_with(|| Decision::Abort(why.to_owned()))
    }
}

/// One core's part: at most one share that is ready, and of which nothing is decided yet.
#[derive(Debug)]
pub struct Party<T> {
    ready: Option<(Ticket, T)>,
    /// The last change that was decided.
    decided: Ticket,
    /// Why nothing is made ready any more.
    closed: Option<&'static str>,
}

impl<T> Default for Party<T> {
    fn default() -> Self {
        Self { ready: None, decided: Ticket::default(), closed: None }
    }
}

impl<T> Party<T> {
    /// Makes a share ready. Returns this core's vote.
    pub fn prepare(
        &mut self,
        ticket: Ticket,
        make: impl FnOnce() -> Result<T, String>,
    ) -> Result<(), String> {
        if let Some(why) = self.closed {
            return Err(why.to_owned());
        }
        if ticket <= self.decided {
            return Err("it was given up".to_owned());
        }
        if self.ready.is_some() {
            return Err("another change is under way".to_owned());
        }
        self.ready = Some((ticket, make()?));
        Ok(())
    }

    /// All have agreed, or not. Returns this core's share, if it has one.
    pub fn decide(&mut self, ticket: Ticket) -> Option<T> {
        self.decided = self.decided.max(ticket);
        self.ready.take_if(|(ready, _)| *ready == ticket).map(|(_, share)| share)
    }

    /// Nothing is made ready any more. What is ready already stays until it is decided.
    pub fn close(&mut self, why: &'static str) {
        self.closed = Some(why);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    /// Counts itself while it lives.
    struct CountedShare(Rc<Cell<usize>>);

    impl CountedShare {
        fn new(live: &Rc<Cell<usize>>) -> Self {
            live.set(live.get() + 1);
            Self(live.clone())
        }
    }

    impl Drop for CountedShare {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    #[test]
    fn a_change_is_in_force_when_the_last_has_agreed() {
        let ticket = Ticket(7);
        let mut ballot = Ballot::new(ticket, 3);
        assert_eq!(ballot.vote(2, ticket, Ok(())), None);
        assert_eq!(ballot.vote(2, ticket, Ok(())), None, "it has one vote");
        assert_eq!(ballot.vote(0, Ticket(6), Err("late".into())), None, "another ballot's");
        assert_eq!(ballot.vote(0, ticket, Ok(())), None);
        assert_eq!(ballot.vote(1, ticket, Ok(())), Some(&Decision::Commit));
        assert_eq!(ballot.vote(1, ticket, Err("no".into())), Some(&Decision::Commit), "it is bound");
        assert_eq!(ballot.give_up("too late"), &Decision::Commit);
    }

    #[test]
    fn one_core_that_refuses_is_enough() {
        let ticket = Ticket(1);
        let mut ballot = Ballot::new(ticket, 2);
        ballot.vote(0, ticket, Ok(()));
        let no = Decision::Abort("no memory".into());
        assert_eq!(ballot.vote(1, ticket, Err("no memory".into())), Some(&no));
        assert_eq!(ballot.vote(1, ticket, Ok(())), Some(&no));
        let mut silent = Ballot::new(ticket, 1);
        assert_eq!(silent.give_up("no answer"), &Decision::Abort("no answer".into()));
        assert_eq!(silent.vote(0, ticket, Ok(())), Some(&Decision::Abort("no answer".into())));
    }

    #[test]
    fn a_core_is_bound_by_one_change_at_a_time() {
        let mut party = Party::default();
        assert_eq!(party.prepare(Ticket(1), || Ok('a')), Ok(()));
        assert!(party.prepare(Ticket(2), || Ok('b')).unwrap_err().contains("another"));
        assert_eq!(party.decide(Ticket(2)), None);
        assert_eq!(party.decide(Ticket(1)), Some('a'));
        assert_eq!(party.prepare(Ticket(3), || Err("no".into())), Err("no".into()));
        assert_eq!(party.decide(Ticket(3)), None, "it has nothing");
        // An asker that has given up before the core came to it.
        assert_eq!(party.decide(Ticket(5)), None);
        assert!(party.prepare(Ticket(5), || Ok('c')).unwrap_err().contains("given up"));
        assert_eq!(party.prepare(Ticket(6), || Ok('d')), Ok(()));
        party.close("the daemon is stopping");
        assert_eq!(party.decide(Ticket(6)), Some('d'), "it keeps its word");
        assert_eq!(party.prepare(Ticket(7), || Ok('e')), Err("the daemon is stopping".into()));
    }

    /// What is on its way to a core.
    #[derive(Clone, Copy)]
    enum Letter {
        Prepare(Ticket),
        Decision(Ticket, bool),
        Stop,
    }

    /// What the world does next.
    #[derive(Clone, Copy, Debug)]
    enum Deed {
        /// The asker begins a change, if none is under way.
        Begin,
        /// A core takes a letter; whether it would refuse.
        Turn(usize, bool),
        /// The asker does not wait any longer.
        GiveUp,
        /// The daemon stops.
        Stop,
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let deed = prop_oneof![
            4 => Just(Deed::Begin),
            20 => (0..3_usize, prop::bool::weighted(0.1)).prop_map(|(core, refuses)| Deed::Turn(core, refuses)),
            1 => Just(Deed::GiveUp),
            1 => Just(Deed::Stop),
        ];
        prop::collection::vec(deed, 0..200)
    }

    proptest! {
        /// Whatever comes when: a change is in force on all cores or on none, none before all have agreed, and nothing
        /// that was made ready is forgotten.
        #[test]
        fn all_or_none(deeds in deeds()) {
            let live = Rc::new(Cell::new(0));
            let mut parties: Vec<Party<CountedShare>> = (0..3).map(|_| Party::default()).collect();
            let mut letters: Vec<VecDeque<Letter>> = vec![VecDeque::new(); 3];
            let (mut last, mut open): (u64, Option<Ballot>) = (0, None);
            // By change: who has agreed, and who has put it in force.
            let mut agreed = vec![[false; 3]];
            let mut in_force = vec![[false; 3]];
            let finish = (0..600).map(|turn| Deed::Turn(turn % 3, false));
            for deed in deeds.into_iter().chain([Deed::GiveUp]).chain(finish) {
                let mut decision = None;
                match deed {
                    Deed::Begin if open.is_none() => {
                        last += 1;
                        open = Some(Ballot::new(Ticket(last), 3));
                        agreed.push([false; 3]);
                        in_force.push([false; 3]);
                        letters.iter_mut().for_each(|letters| letters.push_back(Letter::Prepare(Ticket(last))));
                    }
                    Deed::GiveUp => decision = open.as_mut().map(|ballot| ballot.give_up("late").clone()),
                    Deed::Stop => letters.iter_mut().for_each(|letters| letters.push_back(Letter::Stop)),
                    Deed::Turn(core, refuses) => match letters[core].pop_front() {
                        Some(Letter::Prepare(ticket)) => {
                            let make = || if refuses { Err("no".to_owned()) } else { Ok(CountedShare::new(&live)) };
                            let vote = parties[core].prepare(ticket, make);
                            agreed[ticket.0 as usize][core] = vote.is_ok();
                            let ballot = open.as_mut();
                            decision = ballot.and_then(|ballot| ballot.vote(core, ticket, vote).cloned());
                        }
                        Some(Letter::Decision(ticket, commits)) => {
                            let share = parties[core].decide(ticket);
                            prop_assert!(!commits || share.is_some(), "it has agreed");
                            in_force[ticket.0 as usize][core] = commits;
                            if commits {
                                prop_assert_eq!(agreed[ticket.0 as usize], [true; 3]);
                            }
                        }
                        Some(Letter::Stop) => parties[core].close("stop"),
                        None => {}
                    },
                    Deed::Begin => {}
                }
                if let Some(decision) = decision {
                    let letter = Letter::Decision(Ticket(last), decision == Decision::Commit);
                    letters.iter_mut().for_each(|letters| letters.push_back(letter));
                    open = None;
                }
            }
            prop_assert!(letters.iter().all(VecDeque::is_empty));
            for in_force in in_force {
                prop_assert!(in_force == [true; 3] || in_force == [false; 3], "{:?}", in_force);
            }
            prop_assert_eq!(live.get(), 0, "nothing is kept");
        }
    }
}
