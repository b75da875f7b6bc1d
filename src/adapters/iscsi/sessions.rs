// SPDX-License-Identifier: GPL-2.0-or-later
//! All sessions of the daemon, whichever core they live on: one per initiator name, ISID and target portal group (RFC
//! 7143 4.4.3); and how many streams each core has. Touched when a stream begins, at login and at the end only, so a
//! mutex serves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fabrics::iscsi::{Allowance, Pool};
use crate::options::Absent::Is;
use crate::options::ValueKind::{Number, Size};
use crate::options::{Section, Table, key};
use crate::scsi::NexusId;
use crate::wire::PeerText;

/// Most sessions of the daemon, limited by the 16 bits of a TSIH of which 0 is reserved.
pub const SESSIONS_MAX: usize = 65_000;

/// What makes a session the same one (RFC 7143 6.3.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionName {
    /// iSCSI name of the initiator.
    pub initiator: PeerText,
    /// Initiator's part of the session identifier.
    pub isid: [u8; 6],
    /// iSCSI name of the target; `None` for a discovery session, which is never the same as another.
    pub target: Option<String>,
    /// Target portal group.
    pub portal_group: u16,
}

/// How much of a target there is for its initiators. A session counts until its last task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions.
    pub sessions: u32,
    /// Connections, of all sessions.
    pub connections: u32,
    /// Sessions of one initiator.
    pub initiator_sessions: u32,
    /// Connections of one initiator.
    pub initiator_connections: u32,
    /// Commands that one initiator may have under way, in all its sessions.
    pub initiator_commands: u32,
    /// Bytes that the commands of one initiator may make the target hold, in all its sessions.
    pub initiator_memory: u64,
}

impl Limits {
    /// Its table of keys.
    pub const TABLE: &Table = &Table {
        doc: "Limits of a target. A login beyond them is refused with \"out of resources\" or \"too many \
             connections\"; a session gets what is left of the commands.",
        groups: &[&[
            key("sessions", Number(1, 65000), Is("4096"), "", "Sessions."),
            key("connections", Number(1, 65000), Is("8192"), "", "Connections of all sessions."),
            key("initiator_sessions", Number(1, 65000), Is("1024"), "", "Sessions of an initiator."),
            key("initiator_connections", Number(1, 65000), Is("2048"), "", "Connections of an initiator."),
            key(
                "initiator_commands",
                Number(1, 1_000_000),
                Is("65536"),
                "",
                "Commands that an initiator may have in flight in all its sessions.",
            ),
            key(
                "initiator_memory",
                Size(1 << 20, 1 << 40),
                Is("\"128MiB\""),
                "",
                "Payload that the commands of an initiator may make the target hold, in all its sessions, \
                 plus 64KiB for each session: the length of each command, up to 1MiB. Commands wait until \
                 there is enough, and sessions take turns. The same amount again covers unsolicited data: \
                 a command window is only as wide as that allows.",
            ),
        ]],
    };

    /// Reads them.
    pub fn read(s: Section<'_>) -> Option<Self> {
        let limits = (
            s.number("sessions"),
            s.number("connections"),
            s.number("initiator_sessions"),
            s.number("initiator_connections"),
            s.number("initiator_commands"),
            s.size("initiator_memory"),
        );
        s.finish();
        Some(Self {
            sessions: limits.0?,
            connections: limits.1?,
            initiator_sessions: limits.2?,
            initiator_connections: limits.3?,
            initiator_commands: limits.4?,
            initiator_memory: limits.5?,
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 4096,
            connections: 8192,
            initiator_sessions: 1024,
            initiator_connections: 2048,
            initiator_commands: 65536,
            initiator_memory: 128 << 20,
        }
    }
}

/// What sessions use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    sessions: u32,
    connections: u32,
    commands: u32,
}

impl Use {
    fn add(&mut self, more: Self) {
        self.sessions += more.sessions;
        self.connections += more.connections;
        self.commands += more.commands;
    }

    fn sub(&mut self, less: Self) {
        self.sessions -= less.sessions;
        self.connections -= less.connections;
        self.commands -= less.commands;
    }
}

/// A connection that waits for an older session to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Core of the connection.
    pub core: usize,
    /// Its number there.
    pub connection: u64,
}

/// The outcome of a claim.
#[derive(Debug)]
pub enum Claim {
    /// The session is the caller's.
    Granted {
        /// Its target session identifying handle.
        tsih: u16,
        /// How many commands it may have under way; at least one.
        commands: u32,
        /// Memory for them.
        memory: Allowance,
    },
    /// An older session of that name lives on `core`; the caller is put on its list and told when it has ended.
    Held {
        /// Where it lives.
        core: usize,
        /// What it is.
        nexus: NexusId,
    },
    /// There is too much already, of this.
    Full(&'static str),
}

#[derive(Debug)]
struct NamedSession {
    nexus: NexusId,
    tsih: u16,
    core: usize,
    uses: Use,
    waiters: Vec<Waiter>,
}

/// An initiator of a target.
#[derive(Debug)]
struct Initiator {
    uses: Use,
    memory: Arc<Pool>,
}

#[derive(Debug, Default)]
struct Inner {
    named: HashMap<SessionName, NamedSession>,
    /// By handle: core and nexus of normal sessions, `None` of discovery sessions.
    handles: HashMap<u16, Option<(usize, NexusId)>>,
    /// By target, and by target and initiator.
    targets: HashMap<String, Use>,
    initiators: HashMap<(String, String), Initiator>,
    last_handle: u16,
    /// How many streams each core has; a core that is not here has none.
    streams: Vec<usize>,
}

impl Inner {
    fn streams(&self, core: usize) -> usize {
        self.streams.get(core).copied().unwrap_or(0)
    }

    fn seat(&mut self, core: usize) {
        if self.streams.len() <= core {
            self.streams.resize(core + 1, 0);
        }
        self.streams[core] += 1;
    }

    fn handle(&mut self) -> Option<u16> {
        if self.handles.len() >= SESSIONS_MAX {
            return None;
        }
        loop {
            self.last_handle = self.last_handle.wrapping_add(1).max(1);
            if !self.handles.contains_key(&self.last_handle) {
                return Some(self.last_handle);
            }
        }
    }

    /// What an initiator uses of a target.
    fn own(&self, target: &str, initiator: &str) -> Use {
        let own = (target.to_owned(), initiator.to_owned());
        self.initiators.get(&own).map(|initiator| initiator.uses).unwrap_or_default()
    }

    /// What a session gets of the commands that it wishes for, and its memory.
    fn grant(
        &mut self,
        target: &str,
        initiator: &str,
        limits: &Limits,
        wish: u32,
    ) -> Result<(Use, Allowance), &'static str> {
        let all = self.targets.get(target).copied().unwrap_or_default();
        let own = self.own(target, initiator);
        if all.sessions >= limits.sessions || all.connections >= limits.connections {
            return Err("the target has too many sessions or connections");
        }
        if own.sessions >= limits.initiator_sessions || own.connections >= limits.initiator_connections {
            return Err("the initiator has too many sessions or connections");
        }
        let commands = wish.min(limits.initiator_commands.saturating_sub(own.commands));
        if commands == 0 {
            return Err("the initiator has too many commands");
        }
        let new = || Initiator { uses: Use::default(), memory: Pool::new(limits.initiator_memory) };
        let initiator = self.initiators.entry((target.to_owned(), initiator.to_owned())).or_insert_with(new);
        Ok((Use { sessions: 1, connections: 1, commands }, Allowance::of(&initiator.memory)))
    }

    fn account(&mut self, target: &str, initiator: &str, what: impl Fn(&mut Use)) {
        what(self.targets.entry(target.to_owned()).or_default());
        let own = (target.to_owned(), initiator.to_owned());
        let Some(initiator) = self.initiators.get_mut(&own) else { return };
        what(&mut initiator.uses);
        if initiator.uses == Use::default() {
            self.initiators.remove(&own);
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Inner>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a new stream at `core`.
    pub fn seat(self: &Arc<Self>, core: usize) -> Seat {
        self.lock().seat(core);
        Seat { sessions: self.clone(), core }
    }

    /// Counts a new stream at whichever of so many cores has the fewest: at `here`, where it came in, if no other has
    /// fewer. A core that does not take what it is given is given no more than the others have.
    pub fn place(self: &Arc<Self>, here: usize, cores: usize) -> Seat {
        let mut inner = self.lock();
        let fewest = (0..cores).min_by_key(|&core| (inner.streams(core), core != here));
        let core = fewest.unwrap_or(here);
        inner.seat(core);
        drop(inner);
        Seat { sessions: self.clone(), core }
    }

    /// How many streams a core has, those included that are on their way to it.
    pub fn streams(&self, core: usize) -> usize {
        self.lock().streams(core)
    }

    /// Claims the name for a connection that wishes to have so many commands under way, and for its nexus.
    pub fn claim(
        &self,
        name: &SessionName,
        nexus: NexusId,
        waiter: Waiter,
        limits: &Limits,
        wish: u32,
    ) -> Claim {
        let mut inner = self.lock();
        if name.target.is_some()
            && let Some(held) = inner.named.get_mut(name)
        {
            if !held.waiters.contains(&waiter) {
                held.waiters.push(waiter);
            }
            return Claim::Held { core: held.core, nexus: held.nexus };
        }
        let Some(tsih) = inner.handle() else { return Claim::Full("there are too many sessions") };
        let uses = match &name.target {
            Some(target) => inner.grant(target, &name.initiator, limits, wish),
            None => Ok((Use { commands: wish, ..Use::default() }, Allowance::default())),
        };
        let (uses, memory) = match uses {
            Ok(granted) => granted,
            Err(what) => return Claim::Full(what),
        };
        inner.handles.insert(tsih, name.target.is_some().then_some((waiter.core, nexus)));
        if let Some(target) = &name.target {
            inner.account(target, &name.initiator, |all| all.add(uses));
            let held = NamedSession { nexus, tsih, core: waiter.core, uses, waiters: Vec::new() };
            inner.named.insert(name.clone(), held);
        }
        Claim::Granted { tsih, commands: uses.commands, memory }
    }

    /// Core and nexus of the normal session with that handle.
    pub fn find(&self, tsih: u16) -> Option<(usize, NexusId)> {
        self.lock().handles.get(&tsih).copied().flatten()
    }

    /// Another connection joins a session; `Err` if the target or the initiator has too many.
    pub fn join(&self, name: &SessionName, limits: &Limits) -> Result<(), &'static str> {
        let mut inner = self.lock();
        let Some(target) = &name.target else { return Err("a discovery session has one connection") };
        let all = inner.targets.get(target).copied().unwrap_or_default();
        let own = inner.own(target, &name.initiator);
        if all.connections >= limits.connections {
            return Err("the target has too many connections");
        }
        if own.connections >= limits.initiator_connections {
            return Err("the initiator has too many connections");
        }
        let Some(held) = inner.named.get_mut(name) else { return Err("the session is gone") };
        held.uses.connections += 1;
        inner.account(target, &name.initiator, |uses| uses.connections += 1);
        Ok(())
    }

    /// One of several connections has left a session.
    pub fn leave(&self, name: &SessionName) {
        let mut inner = self.lock();
        let Some(target) = &name.target else { return };
        if let Some(held) = inner.named.get_mut(name) {
            held.uses.connections -= 1;
            inner.account(target, &name.initiator, |uses| uses.connections -= 1);
        }
    }

    /// A session has ended, and so have its tasks. Returns who waits for that.
    pub fn release(&self, name: &SessionName, nexus: NexusId, tsih: u16) -> Vec<Waiter> {
        let mut inner = self.lock();
        inner.handles.remove(&tsih);
        if inner.named.get(name).is_none_or(|held| held.nexus != nexus) {
            return Vec::new();
        }
        let (Some(held), Some(target)) = (inner.named.remove(name), &name.target) else { return Vec::new() };
        debug_assert_eq!(held.tsih, tsih);
        inner.account(target, &name.initiator, |all| all.sub(held.uses));
        held.waiters
    }
}

/// A stream in the count of a core, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    sessions: Arc<Sessions>,
    core: usize,
}

impl Seat {
    /// Where it is counted.
    pub fn core(&self) -> usize {
        self.core
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sessions.lock().streams[self.core] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_placed_where_the_fewest_are() {
        let sessions = Arc::new(Sessions::default());
        let counts = || [0, 1, 2].map(|core| sessions.streams(core));
        let mut seats: Vec<Seat> = (0..6).map(|_| sessions.place(1, 3)).collect();
        let cores: Vec<usize> = seats.iter().map(Seat::core).collect();
        assert_eq!(cores, [1, 0, 2, 1, 0, 2], "where it came in, if that has as few as any");
        // Those that cannot be placed count, too.
        let own = sessions.seat(2);
        assert_eq!(counts(), [2, 2, 3]);
        assert_eq!(sessions.place(2, 3).core(), 0);
        assert_eq!(counts(), [2, 2, 3], "that was dropped at once");
        drop(own);
        seats.retain(|seat| seat.core() != 0);
        assert_eq!(counts(), [0, 2, 2]);
        seats.extend([2, 2, 2].map(|here| sessions.place(here, 3)));
        assert_eq!(counts(), [2, 2, 3]);
        drop(seats);
        assert_eq!(counts(), [0, 0, 0]);
    }

    fn name(isid: u8) -> SessionName {
        SessionName {
            initiator: "iqn.2026-11.test:i".into(),
            isid: [isid; 6],
            target: Some("iqn.2026-11.test:t".into()),
            portal_group: 1,
        }
    }

    const NEXUS: NexusId = NexusId::of(1);
    const WISH: u32 = 16;
    const LIMITS: Limits = Limits {
        sessions: 4,
        connections: 6,
        initiator_sessions: 3,
        initiator_connections: 4,
        initiator_commands: 40,
        initiator_memory: 1 << 20,
    };

    #[test]
    fn targets_and_initiators_have_limits() {
        let sessions = Sessions::default();
        let waiter = Waiter { core: 0, connection: 1 };
        let claim = |name: &SessionName| sessions.claim(name, NEXUS, waiter, &LIMITS, WISH);
        let commands = |claim| match claim {
            Claim::Granted { commands, .. } => commands,
            other => panic!("{other:?}"),
        };
        assert_eq!(commands(claim(&name(1))), 16);
        let Claim::Granted { tsih, commands: 16, .. } = claim(&name(2)) else { panic!("free") };
        assert_eq!(commands(claim(&name(3))), 8, "what is left of the initiator's commands");
        let full = |claim| matches!(claim, Claim::Full(_));
        assert!(full(claim(&name(4))), "too many sessions of an initiator");
        let other = |isid| SessionName { initiator: "iqn.2026-11.test:j".into(), ..name(isid) };
        assert_eq!(commands(claim(&other(1))), 16);
        assert!(full(claim(&other(2))), "too many sessions of the target");
        assert_eq!(
            commands(claim(&SessionName { target: Some("iqn.2026-11.test:u".into()), ..name(1) })),
            16
        );
        assert_eq!(sessions.join(&name(1), &LIMITS), Ok(()));
        assert!(sessions.join(&name(1), &LIMITS).is_err(), "too many connections of an initiator");
        assert_eq!(sessions.join(&other(1), &LIMITS), Ok(()));
        assert!(sessions.join(&other(1), &LIMITS).is_err(), "too many connections of the target");
        sessions.leave(&name(1));
        assert_eq!(sessions.join(&other(1), &LIMITS), Ok(()));
        assert_eq!(sessions.find(tsih), Some((0, NEXUS)));
        sessions.release(&name(2), NEXUS, tsih);
        assert_eq!(sessions.find(tsih), None);
        assert_eq!(commands(claim(&name(2))), 16, "all of it came back");
    }

    #[test]
    fn an_old_session_is_waited_for() {
        let sessions = Sessions::default();
        let first = Waiter { core: 0, connection: 1 };
        let second = Waiter { core: 1, connection: 2 };
        let another = NexusId::of(2);
        let Claim::Granted { tsih, .. } = sessions.claim(&name(1), NEXUS, first, &LIMITS, WISH) else {
            panic!("free")
        };
        assert!(
            matches!(sessions.claim(&name(2), another, second, &LIMITS, WISH), Claim::Granted { .. }),
            "another ISID"
        );
        for _ in 0..2 {
            let held = sessions.claim(&name(1), another, second, &LIMITS, WISH);
            assert!(matches!(held, Claim::Held { core: 0, nexus: NEXUS }), "{held:?}");
        }
        assert_eq!(sessions.release(&name(1), NEXUS, tsih), [second]);
        let Claim::Granted { tsih, .. } = sessions.claim(&name(1), another, second, &LIMITS, WISH) else {
            panic!("free again")
        };
        assert_eq!(sessions.find(tsih), Some((1, another)));
    }

    #[test]
    fn discovery_sessions_are_never_the_same() {
        let sessions = Sessions::default();
        let discovery = SessionName { target: None, ..name(1) };
        let waiter = Waiter { core: 0, connection: 1 };
        let Claim::Granted { tsih: a, .. } = sessions.claim(&discovery, NEXUS, waiter, &LIMITS, WISH) else {
            panic!("free")
        };
        let Claim::Granted { tsih: b, .. } = sessions.claim(&discovery, NEXUS, waiter, &LIMITS, WISH) else {
            panic!("free")
        };
        assert_ne!(a, b);
    }

    #[test]
    fn handles_run_out() {
        let sessions = Sessions::default();
        let discovery = SessionName { target: None, ..name(1) };
        let waiter = Waiter { core: 0, connection: 1 };
        let full = || {
            let claim = sessions.claim(&discovery, NEXUS, waiter, &LIMITS, WISH);
            assert!(matches!(claim, Claim::Full("there are too many sessions")), "{claim:?}");
        };
        for _ in 0..SESSIONS_MAX {
            assert!(matches!(
                sessions.claim(&discovery, NEXUS, waiter, &LIMITS, WISH),
                Claim::Granted { .. }
            ));
        }
        full();
        sessions.release(&discovery, NEXUS, 1);
        assert!(matches!(sessions.claim(&discovery, NEXUS, waiter, &LIMITS, WISH), Claim::Granted { .. }));
        full();
    }
}
