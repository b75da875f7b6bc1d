// SPDX-License-Identifier: GPL-2.0-or-later
//! What the status of the daemon says of FCoE: its targets and sessions, for machines and for people.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::target::FcoeTargetOptions;

/// What the status says of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FcoeStatus {
    /// What is exported.
    #[serde(default)]
    pub fcoe_targets: Vec<FcoeTargetStatus>,
    /// To whom, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fcoe_sessions: Option<Vec<Value>>,
}

/// A target.
#[derive(Debug, Serialize, Deserialize)]
pub struct FcoeTargetStatus {
    /// Its name in the configuration.
    pub name: String,
    /// The name of its port.
    pub port: String,
    /// The VLAN of its frames.
    pub vlan: Option<u16>,
    /// LUN and name of each logical unit.
    pub luns: Vec<(u16, String)>,
}

/// An initiator that is logged in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FcoeSessionStatus {
    /// The name of the target in the configuration.
    pub target: String,
    /// The name of the initiator's port.
    pub initiator: String,
    /// The identifier of that port.
    pub id: String,
    /// Most data in a frame to it.
    pub frame_size: usize,
}

impl FcoeSessionStatus {
    /// The same, at that reactor.
    pub fn to_value(&self, reactor: usize) -> Value {
        let mut value = serde_json::to_value(self).expect("it is plain data");
        value["reactor"] = reactor.into();
        value
    }
}

impl FcoeStatus {
    /// Its part of a status: targets as they are configured.
    pub fn of(targets: &[FcoeTargetOptions], sessions: Option<Vec<Value>>) -> Map<String, Value> {
        let target = |target: &FcoeTargetOptions| {
            let FcoeTargetOptions { name, port, vlan, luns, .. } = target.clone();
            FcoeTargetStatus { name, port, vlan, luns }
        };
        let status = Self { fcoe_targets: targets.iter().map(target).collect(), fcoe_sessions: sessions };
        let Ok(Value::Object(map)) = serde_json::to_value(status) else { unreachable!("it is plain data") };
        map
    }

    /// Its part of a status as text, with an empty line before each target.
    pub fn render(status: &Map<String, Value>) -> serde_json::Result<String> {
        let Self { fcoe_targets, fcoe_sessions } = serde_json::from_value(Value::Object(status.clone()))?;
        let sessions = fcoe_sessions.into_iter().flatten().map(serde_json::from_value);
        let sessions = sessions.collect::<serde_json::Result<Vec<FcoeSessionStatus>>>()?;
        let mut out = String::new();
        for FcoeTargetStatus { name, port, vlan, luns } in fcoe_targets {
            let vlan = vlan.map_or_else(String::new, |vlan| format!(", VLAN {vlan}"));
            _ = writeln!(out, "\nFCoE target {name} (port {port}{vlan})");
            for (lun, unit) in luns {
                _ = writeln!(out, "  LUN {lun}: {unit}");
            }
            for session in sessions.iter().filter(|session| session.target == name) {
                let FcoeSessionStatus { initiator, id, frame_size, .. } = session;
                _ = writeln!(out, "  initiator {initiator} as {id}, {frame_size} bytes of data in a frame");
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_what_machines_are() {
        let session = FcoeSessionStatus {
            target: "san".into(),
            initiator: "20:00:02:fc:00:00:00:0a".into(),
            id: "00.00.0a".into(),
            frame_size: 2112,
        };
        let target = FcoeTargetStatus {
            name: "san".into(),
            port: "lab0".into(),
            vlan: Some(7),
            luns: vec![(0, "thin0".into())],
        };
        let status =
            FcoeStatus { fcoe_targets: vec![target], fcoe_sessions: Some(vec![session.to_value(1)]) };
        let Ok(Value::Object(map)) = serde_json::to_value(status) else { panic!("a map") };
        assert_eq!(map["fcoe_sessions"][0]["reactor"], 1);
        let text = FcoeStatus::render(&map).expect("text");
        assert_eq!(
            text,
            "\nFCoE target san (port lab0, VLAN 7)\n  LUN 0: thin0\n  initiator 20:00:02:fc:00:00:00:0a as 00.00.0a, 2112 bytes \
             of data in a frame\n"
        );
        assert_eq!(FcoeStatus::render(&Map::new()).expect("nothing"), "");
    }
}
