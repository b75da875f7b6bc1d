// SPDX-License-Identifier: GPL-2.0-or-later
//! What all cores share of iSCSI.

use std::any::Any;
use std::mem::take;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::report::{SESSIONS_PER_TURN, SessionReport, SessionsPart, SessionsRequest};
use super::sessions::Sessions;
use super::status::SessionStatus;
use super::topology::{Portal, Target, Topology};
use super::{IscsiFabric, IscsiMessage, IscsiParts, IscsiShare};
use crate::adapters::fabric::{FabricExports, PortsChange};
use crate::engine::fabric::{Fabric, FabricShare};
use crate::net::StreamHosts;
use crate::reactor::{CoreContext, Mailbox, Sender, mailboxes};
use crate::scsi::{TargetPort, UnitKey};

impl FabricExports for Topology {
    fn ports_of(&self, unit: UnitKey) -> Vec<Arc<TargetPort>> {
        let exports = |target: &&Target| target.luns.iter().any(|(_, known)| *known == unit);
        self.targets.iter().filter(exports).flat_map(|target| target.ports.iter().cloned()).collect()
    }

    fn announce(&self) -> Vec<String> {
        let of_target = |target: &Target| {
            let luns: Vec<String> = target.luns.iter().map(|(lun, _)| lun.to_string()).collect();
            let (name, luns) = (target.name.clone(), luns.join(", "));
            let at = move |portal: &Arc<Portal>| {
                let Portal { name: portal, address, group, .. } = &**portal;
                format!("{name}: LUN {luns} at {address} (portal {portal}, group {group})")
            };
            target.portals.iter().map(at).collect::<Vec<_>>()
        };
        self.targets.iter().flat_map(of_target).collect()
    }

    fn share(self: Arc<Self>, cores: usize) -> Result<Vec<Arc<dyn FabricShare>>, String> {
        Ok(vec![Arc::new(SharedIscsi::new(&self, cores)?)])
    }

    fn parts(self: Arc<Self>, ports: &mut PortsChange) -> Vec<Box<dyn Any>> {
        vec![Box::new(IscsiShare { topology: self, ports: take(ports) })]
    }
}

/// What a core takes with it.
struct IscsiEnd {
    topology: Arc<Topology>,
    mailbox: Mailbox<IscsiMessage>,
}

/// What all cores share of it.
struct SharedIscsi {
    sessions: Arc<Sessions>,
    senders: Vec<Sender<IscsiMessage>>,
    /// By core.
    ends: Vec<Mutex<Option<IscsiEnd>>>,
    /// Held by who asks for sessions.
    gathering: Mutex<()>,
}

impl SharedIscsi {
    fn new(topology: &Arc<Topology>, cores: usize) -> Result<Self, String> {
        let (senders, boxes) = mailboxes(cores).map_err(|e| format!("mailbox: {e}"))?;
        let end = |mailbox| Mutex::new(Some(IscsiEnd { topology: topology.clone(), mailbox }));
        let ends = boxes.into_iter().map(end).collect();
        Ok(Self { sessions: Arc::default(), senders, ends, gathering: Mutex::default() })
    }

    fn take_end(&self, core: usize) -> IscsiEnd {
        let end = self.ends[core].lock().unwrap_or_else(PoisonError::into_inner).take();
        end.expect("each core attaches once")
    }

    /// The sessions of a core, of which it tells some per turn, if all of them come in time.
    fn reports(&self, core: usize, left: &dyn Fn() -> Duration) -> Option<Vec<SessionReport>> {
        // Each is asked for one part at a time.
        let _alone = self.gathering.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut sessions, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            sessions.reserve(SESSIONS_PER_TURN);
            let (to, part) = sync_channel(1);
            self.senders[core].send(IscsiMessage::Sessions(SessionsRequest { from, sessions, to }));
            SessionsPart { sessions, next } = part.recv_timeout(left()).ok()?;
        }
        Some(sessions)
    }
}

impl FabricShare for SharedIscsi {
    fn attach(&self, context: &CoreContext) -> Result<Box<dyn Fabric>, String> {
        let IscsiEnd { topology, mailbox } = self.take_end(context.core());
        let hosts = context.shared(|| Ok(StreamHosts::default())).map_err(|e| e.to_string())?;
        Ok(Box::new(IscsiFabric::new(IscsiParts {
            context: context.clone(),
            hosts: hosts.take(),
            topology,
            sessions: self.sessions.clone(),
            mailbox,
            peers: self.senders.clone(),
        })))
    }

    fn sessions(&self, core: usize, left: &dyn Fn() -> Duration) -> Option<Vec<Value>> {
        let sessions = self.reports(core, left)?;
        Some(sessions.iter().map(|session| SessionStatus::of(core, session).into_value()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::thread;

    use serde_json::json;

    use super::*;
    use crate::adapters::iscsi::report::ConnectionReport;
    use crate::fabrics::iscsi::{ConnectionCounters, ConnectionOrigin, Negotiated};

    /// How long an answer may take.
    const LEFT: Duration = Duration::from_secs(10);

    fn session() -> SessionReport {
        let address: SocketAddr = "127.0.0.1:3260".parse().unwrap();
        SessionReport {
            initiator: "iqn.2026-11.test:i".into(),
            target: Some("iqn.2026-11.test:t".into()),
            user: Some("alice".into()),
            isid: [0x80, 0x0a, 0, 0, 0, 1],
            tsih: 7,
            connections: vec![ConnectionReport {
                cid: 1,
                origin: ConnectionOrigin { portal: "l".into(), local: address, peer: address },
                negotiated: Negotiated::default(),
                in_flight: 2,
                counters: ConnectionCounters::default(),
            }],
        }
    }

    fn asked(mailbox: &mut Mailbox<IscsiMessage>) -> SessionsRequest {
        loop {
            match mailbox.take() {
                Some(IscsiMessage::Sessions(request)) => return request,
                Some(_) => panic!("sessions are asked for"),
                None => thread::yield_now(),
            }
        }
    }

    /// Tells of so many sessions, in that many parts and an empty one.
    fn tell(mailbox: &mut Mailbox<IscsiMessage>, count: usize) {
        for part in 0..=count {
            let SessionsRequest { from, mut sessions, to } = asked(mailbox);
            assert_eq!((from, sessions.len()), (part * SESSIONS_PER_TURN, part));
            assert!(sessions.capacity() >= part + SESSIONS_PER_TURN);
            let next = (part < count).then_some((part + 1) * SESSIONS_PER_TURN);
            sessions.extend(next.map(|_| session()));
            _ = to.try_send(SessionsPart { sessions, next });
        }
    }

    #[test]
    fn the_sessions_of_a_core_come_in_parts_and_in_time() {
        let shared = SharedIscsi::new(&Arc::default(), 2).unwrap();
        let mut mailbox = shared.take_end(1).mailbox;
        let core = thread::spawn(move || tell(&mut mailbox, 2));
        let sessions = shared.sessions(1, &|| LEFT).unwrap();
        assert_eq!(sessions.len(), 2);
        core.join().unwrap();
        assert_eq!((&sessions[0]["isid"], &sessions[0]["reactor"]), (&json!("800a00000001"), &json!(1)));
        let connection = &sessions[1]["connections"][0];
        assert_eq!(connection["portal"], "l");
        assert_eq!(connection["negotiated"]["MaxBurstLength"], "262144");
        // The other one does not answer.
        assert!(shared.sessions(0, &|| Duration::from_millis(1)).is_none());
    }
}
