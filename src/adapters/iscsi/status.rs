// SPDX-License-Identifier: GPL-2.0-or-later
//! What the status of the daemon says of iSCSI: its targets and sessions, for machines and for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::report::{ConnectionReport, SessionReport};
use super::target_options::TargetOptions;
use super::topology::Portal;
use crate::counters::{CounterSet, by_name};
use crate::fabrics::iscsi::Negotiated;

/// What the status says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IscsiStatus {
    /// Under which names units are served.
    pub targets: Vec<TargetStatus>,
    /// To whom, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Vec<SessionStatus>>,
}

/// An iSCSI target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// Its iSCSI name.
    pub name: String,
    /// Its alias.
    pub alias: Option<String>,
    /// Where it is reached.
    pub portals: Vec<PortalStatus>,
    /// What it exports.
    pub luns: Vec<ExportedUnit>,
}

/// An address of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalStatus {
    /// Its name.
    pub name: String,
    /// Address and TCP port.
    pub address: String,
    /// Target portal group tag.
    pub group: u16,
    /// Nobody reaches it: the device of its port is gone.
    #[serde(default)]
    pub down: bool,
}

/// A logical unit of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedUnit {
    /// Its number.
    pub lun: u16,
    /// Name of the logical unit, of whatever kind.
    pub disk: String,
}

/// An initiator's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// iSCSI name of the initiator.
    pub initiator: String,
    /// iSCSI name of the target; none for a discovery session.
    pub target: Option<String>,
    /// The CHAP account by which the initiator has authenticated itself.
    pub user: Option<String>,
    /// Initiator's part of the session identifier, in hexadecimal.
    pub isid: String,
    /// Target session identifying handle.
    pub tsih: u16,
    /// Number of the reactor that it lives on.
    pub reactor: usize,
    /// Its connections.
    pub connections: Vec<ConnectionStatus>,
}

/// A connection of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// The initiator's number for it.
    pub cid: u16,
    /// Name of the portal that it came in at.
    pub portal: String,
    /// Our address.
    pub local: String,
    /// The initiator's address.
    pub peer: String,
    /// What was negotiated, by the names of RFC 7143 13.
    pub negotiated: BTreeMap<String, String>,
    /// Commands under way.
    pub in_flight: usize,
    /// What was counted.
    pub counters: BTreeMap<String, u64>,
}

impl IscsiStatus {
    /// Targets as they are configured. `is_down` knows the ports whose device is gone.
    pub fn of(targets: &[TargetOptions], is_down: &dyn Fn(&str) -> bool) -> Self {
        let targets = targets.iter().map(|target| TargetStatus::of(target, is_down));
        Self { targets: targets.collect(), sessions: None }
    }

    /// Its part of a status.
    pub fn of_status(status: &Map<String, Value>) -> serde_json::Result<Self> {
        serde_json::from_value(Value::Object(status.clone()))
    }

    /// The same as part of a status.
    pub fn into_map(self) -> Map<String, Value> {
        let Ok(Value::Object(map)) = serde_json::to_value(self) else { unreachable!("it is plain data") };
        map
    }

    /// As text, with an empty line before each target.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let sessions = |of: Option<&String>| -> Option<Vec<&SessionStatus>> {
            Some(self.sessions.as_ref()?.iter().filter(|session| session.target.as_ref() == of).collect())
        };
        for target in &self.targets {
            one_target(&mut out, target, sessions(Some(&target.name)).as_deref());
        }
        if let Some(discovery) = sessions(None).filter(|discovery| !discovery.is_empty()) {
            out.push_str("\nDiscovery sessions\n");
            discovery.iter().for_each(|session| one_session(&mut out, session));
        }
        out
    }
}

impl TargetStatus {
    fn of(target: &TargetOptions, is_down: &dyn Fn(&str) -> bool) -> Self {
        let portals = target.portals.iter().map(|portal| {
            let Portal { name, address, group, port, .. } = &**portal;
            let (name, address) = ((**name).to_owned(), address.to_string());
            PortalStatus { name, address, group: *group, down: is_down(port) }
        });
        let luns = target.luns.iter().map(|(lun, unit)| ExportedUnit { lun: *lun, disk: unit.clone() });
        Self {
            name: target.name.clone(),
            alias: target.alias.clone(),
            portals: portals.collect(),
            luns: luns.collect(),
        }
    }
}

impl SessionStatus {
    /// A session of a reactor.
    pub fn of(reactor: usize, session: &SessionReport) -> Self {
        Self {
            initiator: str::to_owned(&session.initiator),
            target: session.target.clone(),
            user: session.user.clone(),
            isid: session.isid.iter().map(|byte| format!("{byte:02x}")).collect(),
            tsih: session.tsih,
            reactor,
            connections: session.connections.iter().map(ConnectionStatus::of).collect(),
        }
    }

    /// The same as part of a status.
    pub fn into_value(self) -> Value {
        serde_json::to_value(self).expect("it is plain data")
    }
}

impl ConnectionStatus {
    fn of(connection: &ConnectionReport) -> Self {
        Self {
            cid: connection.cid,
            portal: (*connection.origin.portal).to_owned(),
            local: connection.origin.local.to_string(),
            peer: connection.origin.peer.to_string(),
            negotiated: negotiated(&connection.negotiated),
            in_flight: connection.in_flight,
            counters: by_name(connection.counters.counted()),
        }
    }
}

/// By the names of RFC 7143 13. MaxRecvDataSegmentLength is each side's own.
fn negotiated(agreed: &Negotiated) -> BTreeMap<String, String> {
    let digest = |on| if on { "CRC32C" } else { "None" }.to_owned();
    let yes = |on| if on { "Yes" } else { "No" }.to_owned();
    let values = [
        ("HeaderDigest", digest(agreed.header_digest)),
        ("DataDigest", digest(agreed.data_digest)),
        ("InitiatorMaxRecvDataSegmentLength", agreed.max_xmit_data_segment_length.to_string()),
        ("TargetMaxRecvDataSegmentLength", agreed.max_recv_data_segment_length.to_string()),
        ("MaxBurstLength", agreed.max_burst_length.to_string()),
        ("FirstBurstLength", agreed.first_burst_length.to_string()),
        ("MaxOutstandingR2T", agreed.max_outstanding_r2t.to_string()),
        ("InitialR2T", yes(agreed.initial_r2t)),
        ("ImmediateData", yes(agreed.immediate_data)),
        ("MaxConnections", agreed.max_connections.to_string()),
        ("ErrorRecoveryLevel", "0".to_owned()),
        ("TaskReporting", if agreed.fast_abort { "FastAbort" } else { "RFC3720" }.to_owned()),
        ("DefaultTime2Wait", agreed.time2wait.to_string()),
        ("DefaultTime2Retain", agreed.time2retain.to_string()),
    ];
    values.map(|(name, value)| (name.to_owned(), value)).into()
}

fn one_target(out: &mut String, target: &TargetStatus, sessions: Option<&[&SessionStatus]>) {
    let alias = target.alias.as_ref().map(|alias| format!(" ({alias})")).unwrap_or_default();
    _ = writeln!(out, "\nTarget {}{alias}", target.name);
    for portal in &target.portals {
        let PortalStatus { name, address, group, down } = portal;
        let down = if *down { ": down, its device is gone" } else { "" };
        _ = writeln!(out, "  at {address} (portal {name}, group {group}){down}");
    }
    for unit in &target.luns {
        _ = writeln!(out, "  LUN {}: {}", unit.lun, unit.disk);
    }
    if sessions.is_some_and(<[_]>::is_empty) {
        out.push_str("  no sessions\n");
    }
    sessions.unwrap_or_default().iter().for_each(|session| one_session(out, session));
}

fn one_session(out: &mut String, session: &SessionStatus) {
    let SessionStatus { initiator, user, isid, tsih, reactor, connections, .. } = session;
    let user = user.as_ref().map(|user| format!("account {user:?}, ")).unwrap_or_default();
    _ = writeln!(out, "  session of {initiator} ({user}ISID {isid}, TSIH {tsih}) on reactor {reactor}");
    for connection in connections {
        _ = writeln!(
            out,
            "    {} -> {} (portal {}), {} commands in flight",
            connection.peer, connection.local, connection.portal, connection.in_flight
        );
        let agreed: Vec<String> =
            connection.negotiated.iter().map(|(key, value)| format!("{key}={value}")).collect();
        for line in agreed.chunks(3) {
            _ = writeln!(out, "      {}", line.join(", "));
        }
    }
}
