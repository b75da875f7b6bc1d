// SPDX-License-Identifier: GPL-2.0-or-later
//! `[[fcoe_target]]`: what is exported, at which port, and to whom.

use std::sync::Arc;

use crate::adapters::fabric::KnownParts;
use crate::options::Absent::{Is, Means, Required};
use crate::options::ValueKind::{Number, Tables, Text, Texts};
use crate::options::{Section, Table, key};
use crate::scsi::{PortName, TargetPort};
use crate::wire::fc::{MacAddress, NaaName, WorldWideName};

const NAME_KIND: &str = "a world wide name such as \"20:00:02:00:00:00:00:01\"";

/// A target as the configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FcoeTargetOptions {
    /// Its name in the configuration.
    pub name: String,
    /// The name of its port.
    pub port: String,
    /// The VLAN of its frames.
    pub vlan: Option<u16>,
    /// The name of its N_Port; without one it is made of the MAC address.
    pub port_name: Option<WorldWideName>,
    /// The same of its node.
    pub node_name: Option<WorldWideName>,
    /// Who may log in; everybody without a list.
    pub initiators: Option<Vec<WorldWideName>>,
    /// LUN and name of the logical unit, in ascending order of LUN.
    pub luns: Vec<(u16, String)>,
    /// Its relative target port identifier.
    pub port_id: Option<u16>,
    /// The tag of its target port group.
    pub group: u16,
}

impl FcoeTargetOptions {
    /// Its table of keys.
    pub const TABLE: &Table = &Table {
        doc: "A target of Fibre Channel over Ethernet, at a port with Ethernet frames: see docs/fcoe.md.",
        groups: &[&[
            key("name", Text("a name"), Required, "\"san\"", "What it is called here."),
            key(
                "port",
                Text("the name of a [[port]]"),
                Required,
                "\"lab0\"",
                "The port that has its frames. It may have IP addresses, too, and need not. A port, or a VLAN of it, has \
                 one such target.",
            ),
            key("vlan", Number(1, 4094), Means("no tag"), "100", "The VLAN of its frames."),
            key(
                "port_name",
                Text(NAME_KIND),
                Means("20:00 and the MAC address of the port"),
                "\"20:00:02:00:00:00:00:01\"",
                "The name of its N_Port (WWPN), by which initiators know it. Only with one that is given here REPORT TARGET \
                 PORT GROUPS tells of the port, and persistent reservations at it outlast the daemon.",
            ),
            key(
                "node_name",
                Text(NAME_KIND),
                Means("10:00 and the last six bytes of `port_name`"),
                "\"10:00:02:00:00:00:00:01\"",
                "The name of its node (WWNN).",
            ),
            key(
                "initiators",
                Texts("a world wide name"),
                Means("all"),
                "[\"20:00:52:54:00:77:00:00\"]",
                "The port names of initiators that may log in. Anybody on the network can claim a name.",
            ),
            key(
                "luns",
                Tables(LUNS),
                Is("[]"),
                "[{ lun = 0, unit = \"thin0\" }]",
                "Its logical units, one table each.",
            ),
            key(
                "port_id",
                Number(1, 65535),
                Means("the lowest that is free, and then always that"),
                "32768",
                "Its relative target port identifier. No two target ports of the daemon have the same, those of iSCSI \
                 included.",
            ),
            key("group", Number(1, 65535), Is("1"), "", "The tag of its target port group."),
        ]],
    };

    /// Reads one.
    pub(super) fn read(s: Section<'_>, parts: &KnownParts<'_, '_>) -> Option<Self> {
        let (name, port) = (s.text("name"), parts.frame_port(&s));
        let vlan = s.optional("vlan", |key| s.number(key));
        let wwn = |key| s.optional(key, |key| s.parsed(key, port_name));
        let (wwpn, wwnn) = (wwn("port_name"), wwn("node_name"));
        let initiators = s.optional("initiators", |key| s.texts(key, port_name));
        let (_, luns) = parts.luns(&s);
        let port_id = s.optional("port_id", |key| s.number(key));
        let group = s.number("group");
        s.finish();
        Some(Self {
            name: name?,
            port: port?,
            vlan: vlan?,
            port_name: wwpn?,
            node_name: wwnn?,
            initiators: initiators?.map(|all| all.into_iter().map(|(name, _)| name).collect()),
            luns,
            port_id: port_id?,
            group: group?,
        })
    }
}

impl FcoeTargetOptions {
    /// What its target port is called among all that have identifiers, whatever its MAC address is.
    pub(super) fn key_of_port(&self) -> String {
        format!("fcoe {}", self.name)
    }

    /// The names of port and node, at an Ethernet port with that address. `None` if they are not known without one.
    pub(super) fn names(&self, mac: Option<MacAddress>) -> Option<(WorldWideName, WorldWideName)> {
        let made = mac.map(|mac| NaaName::Extended { vendor: 0, mac }.into());
        let port_name = self.port_name.or(made)?;
        let [_, _, rest @ ..] = port_name.to_bytes();
        let node_name = self.node_name.unwrap_or_else(|| NaaName::Ieee48(MacAddress(rest)).into());
        Some((port_name, node_name))
    }

    /// Its SCSI target port.
    pub(super) fn scsi_port(
        &self,
        (port_name, node_name): (WorldWideName, WorldWideName),
        relative: u16,
    ) -> Arc<TargetPort> {
        let device = format!("naa.{:016x}", u64::from_be_bytes(node_name.to_bytes()));
        Arc::new(TargetPort { relative, device, name: PortName::Fc(port_name), group: self.group })
    }
}

/// A name that a port or a node may have.
fn port_name(text: &str) -> Option<WorldWideName> {
    text.parse().ok().filter(|name: &WorldWideName| name.naa() != 0)
}

/// `fcoe_target.luns`
const LUNS: &Table = &Table {
    doc: "A logical unit, as in `luns = [{ lun = 0, unit = \"thin0\" }]`.",
    groups: &[&[
        key("lun", Number(0, 16383), Required, "0", "Its number."),
        key("unit", Text("the name of a [[disk]] or [[tape]]"), Required, "\"thin0\"", "The logical unit."),
    ]],
};
