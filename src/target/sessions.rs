// SPDX-License-Identifier: GPL-2.0-or-later
//! All sessions of the daemon, whichever core they live on: one per initiator name, ISID and target portal group
//! (RFC 7143 4.4.3). Touched at login and at the end of a session only, so a mutex serves.

use std::collections::{HashMap, HashSet};
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
    },
    /// An older session of that name lives on `core`; the caller is put on its list and told when it has ended.
    Held {
        /// Where it lives.
        core: usize,
        /// What it is.
        nexus: NexusId,
    },
    /// There are too many sessions.
    Full,
}

#[derive(Debug)]
struct Held {
    nexus: NexusId,
    tsih: u16,
    core: usize,
    waiters: Vec<Waiter>,
}

#[derive(Debug, Default)]
struct Inner {
    named: HashMap<SessionName, Held>,
    handles: HashSet<u16>,
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
            if self.handles.insert(self.last_handle) {
                return Some(self.last_handle);
            }
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
    pub fn claim(&self, name: &SessionName, waiter: Waiter) -> Claim {
        let mut inner = self.lock();
        if name.target.is_some()
            && let Some(held) = inner.named.get_mut(name)
        {
            if !held.waiters.contains(&waiter) {
                held.waiters.push(waiter);
            }
            return Claim::Held { core: held.core, nexus: held.nexus };
        }
        let Some(tsih) = inner.handle() else { return Claim::Full };
        inner.last_nexus += 1;
        let nexus = NexusId(inner.last_nexus);
        if name.target.is_some() {
            inner.named.insert(name.clone(), Held { nexus, tsih, core: waiter.core, waiters: Vec::new() });
        }
        Claim::Granted { nexus, tsih }
    }

    /// A session has ended, and so have its tasks. Returns who waits for that.
    pub fn release(&self, name: &SessionName, nexus: NexusId, tsih: u16) -> Vec<Waiter> {
        let mut inner = self.lock();
        inner.handles.remove(&tsih);
        match inner.named.get(name) {
            Some(held) if held.nexus == nexus => {
                debug_assert_eq!(held.tsih, tsih);
                inner.named.remove(name).map(|held| held.waiters).unwrap_or_default()
            }
            _ => Vec::new(),
        }
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

    #[test]
    fn an_old_session_is_waited_for() {
        let sessions = Sessions::default();
        let first = Waiter { core: 0, connection: 1 };
        let second = Waiter { core: 1, connection: 2 };
        let Claim::Granted { nexus, tsih } = sessions.claim(&name(1), first) else { panic!("free") };
        assert!(matches!(sessions.claim(&name(2), second), Claim::Granted { .. }), "another ISID");
        assert_eq!(sessions.claim(&name(1), second), Claim::Held { core: 0, nexus });
        assert_eq!(sessions.claim(&name(1), second), Claim::Held { core: 0, nexus });
        assert_eq!(sessions.release(&name(1), nexus, tsih), [second]);
        assert!(
            matches!(sessions.claim(&name(1), second), Claim::Granted { nexus: new, .. } if new != nexus)
        );
    }

    #[test]
    fn discovery_sessions_are_never_the_same() {
        let sessions = Sessions::default();
        let discovery = SessionName { target: None, ..name(1) };
        let waiter = Waiter { core: 0, connection: 1 };
        let Claim::Granted { tsih: a, .. } = sessions.claim(&discovery, waiter) else { panic!("free") };
        let Claim::Granted { tsih: b, .. } = sessions.claim(&discovery, waiter) else { panic!("free") };
        assert_ne!(a, b);
    }

    #[test]
    fn handles_run_out() {
        let sessions = Sessions::default();
        let discovery = SessionName { target: None, ..name(1) };
        let waiter = Waiter { core: 0, connection: 1 };
        for _ in 0..SESSIONS_MAX {
            assert!(matches!(sessions.claim(&discovery, waiter), Claim::Granted { .. }));
        }
        assert_eq!(sessions.claim(&discovery, waiter), Claim::Full);
        sessions.release(&discovery, NexusId(1), 1);
        assert!(matches!(sessions.claim(&discovery, waiter), Claim::Granted { .. }));
        assert_eq!(sessions.claim(&discovery, waiter), Claim::Full);
    }
}
