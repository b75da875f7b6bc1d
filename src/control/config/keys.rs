// SPDX-License-Identifier: GPL-2.0-or-later
//! The tables of the configuration and their keys, from the root.

use std::time::Duration;

use crate::adapters;
use crate::adapters::iscsi::options::TargetOptions;
use crate::adapters::iscsi::topology::Portal;
use crate::engine::units;
use crate::fabrics::iscsi::{Account, Authentication};
use crate::options::Absent::{Is, Means, Required};
use crate::options::ValueKind::{Flag, Number, Numbers, Tables, Text, Texts, Time, Word};
use crate::options::{Table, ValueKind, key};

const ADDRESS: &str = "an address with a prefix length such as \"10.77.0.2/24\" or \"fd77::2/64\"";

/// The file itself.
pub(super) const ROOT: &Table = &Table {
    doc: "",
    groups: &[
        &[
            key("daemon", ValueKind::Table(DAEMON), Means("all defaults"), "", "The process."),
            key("dpdk", ValueKind::Table(DPDK), Means("all defaults"), "", "DPDK's environment."),
            key("port", Tables(PORT), Means("an error"), "", "Where initiators come in."),
            key("portal", Tables(Portal::TABLE), Means("an error"), "", "Addresses."),
            key("port_group", Tables(PORT_GROUP), Means("none"), "", "Asymmetric access."),
        ],
        &units::KEYS,
        adapters::KEYS,
        &[
            key("account", Tables(Account::TABLE), Means("none"), "", "Names and secrets."),
            key(
                "discovery",
                ValueKind::Table(Authentication::OF_DISCOVERY),
                Means("nobody needs to"),
                "",
                "Who may discover targets.",
            ),
            key("target", Tables(TargetOptions::TABLE), Means("an error"), "", "What initiators log in to."),
        ],
    ],
};

/// `daemon`
const DAEMON: &Table = &Table {
    doc: "The process.",
    groups: &[&[
        key(
            "reactors",
            Numbers(1023),
            Means("one reactor, on any processor"),
            "[0, 1]",
            "The processors that serve, one polling loop each. Connections are spread over them.",
        ),
        key(
            "memory",
            ValueKind::Size(16 << 20, 1 << 40),
            Is("\"256MiB\""),
            "",
            "Payload memory of each reactor, which all its peers share. When it is short, commands wait and \
                 connections are not read; then the sessions that hold most and give nothing back are ended.",
        ),
        key(
            "hugepages",
            Word(&["auto", "require", "never"]),
            Is("\"auto\""),
            "",
            "Whether that memory comes from the kernel's pool of huge pages: if there are enough of them, always \
                 (the daemon does not start without), or never.",
        ),
        key(
            "idle",
            Word(&["adaptive", "spin"]),
            Is("\"adaptive\""),
            "",
            "What a reactor does when there is nothing to do: poll for a while, then sleep until something \
                 happens; or poll on, which costs a whole processor and saves the wake-up.",
        ),
        key("spin", Time(Duration::from_secs(1)), Is("\"50us\""), "", "How long an adaptive reactor polls."),
        key(
            "control_socket",
            Text("a path"),
            Is("\"/run/ptgt/control.sock\""),
            "",
            "The socket that `ptgt status` asks. Its directory is created if missing. Each daemon needs its own.",
        ),
        key(
            "state_dir",
            Text("a path"),
            Is("\"/var/lib/ptgt/state\""),
            "",
            "Directory for what disks remember over a restart, apart from their blocks: persistent reservations \
                 (APTPL), saved mode pages, identifying information, and that there is an image (`create`), below the UUID of \
                 the disk; which UUID each image has (`images`); and the identifiers of target ports (`port_ids`). It is made \
                 when there is something to remember.",
        ),
        key(
            "management_url",
            Text("a URL of at most 255 ASCII characters such as \"https://lab.example/ptgt\""),
            Means("none"),
            "\"https://lab.example/ptgt\"",
            "Where this daemon is managed: disks report it to initiators that ask (Management Network \
             Addresses page).",
        ),
        key(
            "drop_privileges",
            Flag,
            Is("true"),
            "",
            "Once everything is open, keep only CAP_NET_ADMIN, CAP_NET_RAW and CAP_IPC_LOCK (and what DPDK's \
             ports need), \
                 with no_new_privs. `false` keeps everything, for instance for a debugger.",
        ),
        key(
            "log",
            Text("a level: \"error\", \"warn\", \"info\" or \"debug\""),
            Is("\"info\""),
            "",
            "What is written to stderr. The environment variable RUST_LOG overrides it.",
        ),
    ]],
};

/// `dpdk`
const DPDK: &Table = &Table {
    doc: "DPDK's environment, which is started if there is a port with the driver dpdk. `hugepages` of [daemon] says \
              where its buffers come from, too.",
    groups: &[&[
        key(
            "arguments",
            Texts("an argument of DPDK's environment abstraction layer"),
            Is("[]"),
            "",
            "More arguments, after those that the daemon gives. What they say wins.",
        ),
        key(
            "memory",
            ValueKind::Size(32 << 20, 1 << 40),
            Means("what the ports need"),
            "\"128MiB\"",
            "Memory for frame buffers if it is of ordinary pages; huge pages are taken as they are needed.",
        ),
    ]],
};

/// `port`
const PORT: &Table = &Table {
    doc: "A place where initiators come in: a network device of our own with our own TCP, or the kernel's \
              sockets.",
    groups: &[&[
        key("name", Text("a name"), Required, "\"lab0\"", "What portals call it."),
        key(
            "driver",
            Word(&["tap", "packet", "dpdk", "kernel"]),
            Required,
            "\"tap\"",
            "Ethernet frames and TCP in the daemon: `tap`: of a TAP device; `packet`: of a network device that the \
                 system has; `dpdk`: of a device that DPDK drives. `kernel`: the kernel's TCP sockets.",
        ),
        key(
            "device",
            Text("a device"),
            Means("the name of the port"),
            "\"ptgt0\"",
            "Driver tap: the TAP device. It is made, and removed at the end, unless an operator has made it \
                 before. Driver packet: a network device that is up. Driver dpdk: a PCI address such as \
                 \"0000:3b:00.0\", or a virtual device of DPDK with its arguments such as \
                 \"net_af_xdp0,iface=eth1\".",
        ),
        key(
            "mtu",
            Number(1280, 65521),
            Means("65521 for the driver tap, the device's own for packet, 1500 for dpdk"),
            "65521",
            "MTU. With a bridge to a real network, that network's MTU, such as 1500 or 9000. Driver packet: not \
                 above the device's own.",
        ),
        key(
            "mac",
            Text("a MAC address such as \"02:00:00:00:00:01\""),
            Means("the device's own; for the driver tap one made from its name"),
            "\"02:70:74:67:74:01\"",
            "The daemon's MAC address. Driver packet: with one that is not the device's own, the kernel leaves the \
                 daemon's frames alone, but not every network lets it through.",
        ),
        key(
            "promiscuous",
            Flag,
            Is("false"),
            "",
            "Drivers packet and dpdk: also receive frames for other addresses.",
        ),
        key(
            "address",
            Texts(ADDRESS),
            Means("an error unless the driver is kernel"),
            "[\"10.77.0.2/24\", \"fd77::2/64\"]",
            "The daemon's addresses, which nobody else has. Not for the driver kernel.",
        ),
        key(
            "host_address",
            Texts(ADDRESS),
            Is("[]"),
            "[\"10.77.0.1/24\", \"fd77::1/64\"]",
            "Driver tap: addresses for the host's side of the device, in the networks of `address`.",
        ),
        key(
            "offload",
            Flag,
            Is("true"),
            "",
            "Leave checksums and segmentation to the device, or to the kernel on its other side. Not for the \
                 driver kernel.",
        ),
    ]],
};

/// `port_group`
const PORT_GROUP: &Table = &Table {
    doc: "A target port group (ALUA): all target ports with that portal group tag. Without it, the ports of a tag are \
              a group that is active/optimized.",
    groups: &[&[
        key("name", Text("a name"), Required, "\"first\"", "What `ptgt port-group` calls it."),
        key("group", Number(1, 65535), Required, "1", "The portal group tag, as in `group` of [[portal]]."),
        key(
            "state",
            Word(&[
                "active/optimized",
                "active/non-optimized",
                "standby",
                "unavailable",
                "offline",
                "transitioning",
            ]),
            Is("\"active/optimized\""),
            "",
            "Its asymmetric access state after the start. `ptgt port-group` and SET TARGET PORT GROUPS change it.",
        ),
        key("preferred", Flag, Is("false"), "", "Initiators are to prefer it when they may choose."),
    ]],
};
