// SPDX-License-Identifier: GPL-2.0-or-later
//! All sessions of the daemon, whichever core they live on: one per initiator name, ISID and target portal group
//! (RFC 7143 4.4.3). Touched at login and at the end of a session only, so a mutex serves.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::scsi::NexusId;

/// Most sessions of the daemon, limited by the 16 bits of a TSIH of which 0 is reserved.
pub const SESSIONS_MAX: usize = 65_000;

/// What makes a session the same one (RFC 7143 6.3.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionName {
    /// iSCSI name of the initiator.
    pub initiator: String,
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
    /// Bytes of data that one initiator may send without being asked, in all its sessions.
    pub initiator_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 4096,
            connections: 8192,
            initiator_sessions: 1024,
            initiator_connections: 2048,
            initiator_commands: 65536,
            initiator_memory: 32 << 30,
        }
    }
}

/// What a new session would like to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Commands under way.
    pub commands: u32,
    /// Unsolicited bytes of each.
    pub burst: u32,
}

/// What sessions use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    sessions: u32,
    connections: u32,
    commands: u32,
    memory: u64,
}

impl Use {
    fn add(&mut self, more: Self) {
        self.sessions += more.sessions;
        self.connections += more.connections;
        self.commands += more.commands;
        self.memory += more.memory;
    }

    fn sub(&mut self, less: Self) {
        self.sessions -= less.sessions;
        self.connections -= less.connections;
        self.commands -= less.commands;
        self.memory -= less.memory;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The session is the caller's.
    Granted {
        /// Its nexus.
        nexus: NexusId,
        /// Its target session identifying handle.
        tsih: u16,
        /// How many commands it may have under way; at least one.
        commands: u32,
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
struct Held {
    nexus: NexusId,
    tsih: u16,
    core: usize,
    uses: Use,
    waiters: Vec<Waiter>,
}

#[derive(Debug, Default)]
struct Inner {
    named: HashMap<SessionName, Held>,
    /// By handle: core and nexus of normal sessions, `None` of discovery sessions.
    handles: HashMap<u16, Option<(usize, NexusId)>>,
    /// By target, and by target and initiator.
    targets: HashMap<String, Use>,
    initiators: HashMap<(String, String), Use>,
    last_handle: u16,
    last_nexus: u64,
}

impl Inner {
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

    /// What a session gets of what it wishes for.
    fn grant(&self, target: &str, initiator: &str, limits: &Limits, wish: Wish) -> Result<Use, &'static str> {
        let all = self.targets.get(target).copied().unwrap_or_default();
        let own = (target.to_owned(), initiator.to_owned());
        let own = self.initiators.get(&own).copied().unwrap_or_default();
        if all.sessions >= limits.sessions || all.connections >= limits.connections {
            return Err("the target has too many sessions or connections");
        }
        if own.sessions >= limits.initiator_sessions || own.connections >= limits.initiator_connections {
            return Err("the initiator has too many sessions or connections");
        }
        let memory = limits.initiator_memory.saturating_sub(own.memory) / u64::from(wish.burst.max(1));
        let left = limits.initiator_commands.saturating_sub(own.commands);
        let commands = wish.commands.min(left).min(u32::try_from(memory).unwrap_or(u32::MAX));
        match commands {
            0 => Err("the initiator has too many commands or too much memory"),
            _ => Ok(Use {
                sessions: 1,
                connections: 1,
                commands,
                memory: u64::from(commands) * u64::from(wish.burst),
            }),
        }
    }

    fn account(&mut self, target: &str, initiator: &str, what: impl Fn(&mut Use)) {
        what(self.targets.entry(target.to_owned()).or_default());
        let own = (target.to_owned(), initiator.to_owned());
        let uses = self.initiators.entry(own.clone()).or_default();
        what(uses);
        if *uses == Use::default() {
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

    /// Claims the name for a connection.
    pub fn claim(&self, name: &SessionName, waiter: Waiter, limits: &Limits, wish: Wish) -> Claim {
        let mut inner = self.lock();
        if name.target.is_some()
            && let Some(held) = inner.named.get_mut(name)
        {
            if !held.waiters.contains(&waiter) {
                held.waiters.push(waiter);
            }
            return Claim::Held { core: held.core, nexus: held.nexus };
        }
        let uses = match &name.target {
            Some(target) => inner.grant(target, &name.initiator, limits, wish),
            None => Ok(Use { commands: wish.commands, ..Use::default() }),
        };
        let uses = match uses {
            Ok(uses) => uses,
            Err(what) => return Claim::Full(what),
        };
        let Some(tsih) = inner.handle() else { return Claim::Full("there are too many sessions") };
        inner.last_nexus += 1;
        let nexus = NexusId(inner.last_nexus);
        inner.handles.insert(tsih, name.target.is_some().then_some((waiter.core, nexus)));
        if let Some(target) = &name.target {
            inner.account(target, &name.initiator, |all| all.add(uses));
            let held = Held { nexus, tsih, core: waiter.core, uses, waiters: Vec::new() };
            inner.named.insert(name.clone(), held);
        }
        Claim::Granted { nexus, tsih, commands: uses.commands }
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
        let own = (target.clone(), name.initiator.clone());
        let own = inner.initiators.get(&own).copied().unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(isid: u8) -> SessionName {
        SessionName {
            initiator: "iqn.2026-11.test:i".into(),
            isid: [isid; 6],
            target: Some("iqn.2026-11.test:t".into()),
            portal_group: 1,
        }
    }

    const WISH: Wish = Wish { commands: 16, burst: 1000 };
    const LIMITS: Limits = Limits {
        sessions: 4,
        connections: 6,
        initiator_sessions: 3,
        initiator_connections: 4,
        initiator_commands: 40,
        initiator_memory: 35_999,
    };

    #[test]
    fn targets_and_initiators_have_limits() {
        let sessions = Sessions::default();
        let waiter = Waiter { core: 0, connection: 1 };
        let claim = |name: &SessionName| sessions.claim(name, waiter, &LIMITS, WISH);
        let commands = |claim| match claim {
            Claim::Granted { commands, .. } => commands,
            other => panic!("{other:?}"),
        };
        assert_eq!(commands(claim(&name(1))), 16);
        let Claim::Granted { nexus, tsih, commands: 16 } = claim(&name(2)) else { panic!("free") };
        assert_eq!(commands(claim(&name(3))), 3, "what is left of the initiator's memory");
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
        assert_eq!(sessions.find(tsih), Some((0, nexus)));
        sessions.release(&name(2), nexus, tsih);
        assert_eq!(sessions.find(tsih), None);
        assert_eq!(commands(claim(&name(2))), 16, "all of it came back");
    }

    #[test]
    fn an_old_session_is_waited_for() {
        let sessions = Sessions::default();
        let first = Waiter { core: 0, connection: 1 };
        let second = Waiter { core: 1, connection: 2 };
        let Claim::Granted { nexus, tsih, .. } = sessions.claim(&name(1), first, &LIMITS, WISH) else {
            panic!("free")
        };
        assert!(
            matches!(sessions.claim(&name(2), second, &LIMITS, WISH), Claim::Granted { .. }),
            "another ISID"
        );
        assert_eq!(sessions.claim(&name(1), second, &LIMITS, WISH), Claim::Held { core: 0, nexus });
        assert_eq!(sessions.claim(&name(1), second, &LIMITS, WISH), Claim::Held { core: 0, nexus });
        assert_eq!(sessions.release(&name(1), nexus, tsih), [second]);
        assert!(
            matches!(sessions.claim(&name(1), second, &LIMITS, WISH), Claim::Granted { nexus: new, .. } if new != nexus)
        );
    }

    #[test]
    fn discovery_sessions_are_never_the_same() {
        let sessions = Sessions::default();
        let discovery = SessionName { target: None, ..name(1) };
        let waiter = Waiter { core: 0, connection: 1 };
        let Claim::Granted { tsih: a, .. } = sessions.claim(&discovery, waiter, &LIMITS, WISH) else {
            panic!("free")
        };
        let Claim::Granted { tsih: b, .. } = sessions.claim(&discovery, waiter, &LIMITS, WISH) else {
            panic!("free")
        };
        assert_ne!(a, b);
    }

    #[test]
    fn handles_run_out() {
        let sessions = Sessions::default();
        let discovery = SessionName { target: None, ..name(1) };
        let waiter = Waiter { core: 0, connection: 1 };
        for _ in 0..SESSIONS_MAX {
            assert!(matches!(sessions.claim(&discovery, waiter, &LIMITS, WISH), Claim::Granted { .. }));
        }
        assert_eq!(
            sessions.claim(&discovery, waiter, &LIMITS, WISH),
            Claim::Full("there are too many sessions")
        );
        sessions.release(&discovery, NexusId(1), 1);
        assert!(matches!(sessions.claim(&discovery, waiter, &LIMITS, WISH), Claim::Granted { .. }));
        assert_eq!(
            sessions.claim(&discovery, waiter, &LIMITS, WISH),
            Claim::Full("there are too many sessions")
        );
    }
}
