// SPDX-License-Identifier: GPL-2.0-or-later
//! The tables of the configuration and their keys, from the root.

use std::time::Duration;

use crate::adapters;
use crate::adapters::iscsi::sessions::Limits;
use crate::adapters::iscsi::topology::{AccessRule, Redirect};
use crate::engine::units;
use crate::fabrics::iscsi::{Account, Authentication, Parameters};
use crate::options::Absent::{Is, Means, Required};
use crate::options::ValueKind::{Flag, Number, Numbers, Tables, Text, Texts, Time, Word};
use crate::options::{Table, ValueKind, key};

const ADDRESS: &str = "an address with a prefix length such as \"10.77.0.2/24\" or \"fd77::2/64\"";
const ISCSI_NAME: &str = "an iSCSI name such as \"iqn.2026-11.com.example:disks\"";
const SOCKET: &str =
    "an address and a TCP port such as \"10.77.0.2:3260\", \"[fd77::2]:3260\" or \"[fe80::2%eth0]:3260\"";

/// The file itself.
pub(super) const ROOT: &Table = &Table {
    doc: "",
    groups: &[
        &[
            key("daemon", ValueKind::Table(DAEMON), Means("all defaults"), "", "The process."),
            key("dpdk", ValueKind::Table(DPDK), Means("all defaults"), "", "DPDK's environment."),
            key("port", Tables(PORT), Means("an error"), "", "Where initiators come in."),
            key("portal", Tables(PORTAL), Means("an error"), "", "Addresses."),
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
            key("target", Tables(TARGET), Means("an error"), "", "What initiators log in to."),
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

/// `portal`
const PORTAL: &Table = &Table {
    doc: "An address at which initiators may connect.",
    groups: &[&[
        key("name", Text("a name"), Required, "\"main\"", "What targets call it."),
        key("port", Text("the name of a [[port]]"), Required, "\"lab0\"", "The port that has the address."),
        key(
            "address",
            Text(SOCKET),
            Required,
            "\"10.77.0.2:3260\"",
            "One of the port's addresses; for the driver kernel an address of the host, or 0.0.0.0 or [::] for \
                 all of its IPv4 or IPv6 addresses. A link-local address of the host names its network device \
                 behind a %. No two portals share an address.",
        ),
        key("group", Number(1, 65535), Is("1"), "", "Target portal group tag."),
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

/// `target`
const TARGET: &Table = &Table {
    doc: "An iSCSI target.",
    groups: &[&[
        key(
            "name",
            Text(ISCSI_NAME),
            Required,
            "\"iqn.2026-11.com.example.ptgt:reference\"",
            "Its iSCSI name (RFC 7143 4.2.7). Names compare without regard to case and are reported in lower \
             case.",
        ),
        key(
            "alias",
            Text("a string of at most 255 bytes"),
            Means("none"),
            "\"the lab's disks\"",
            "A name for people.",
        ),
        key(
            "portals",
            Texts("the name of a [[portal]]"),
            Means("all of them"),
            "[\"main\"]",
            "Through which portals it is reached.",
        ),
        key(
            "port_ids",
            Tables(PORT_IDS),
            Is("[]"),
            "",
            "Relative target port identifiers of its portal groups, a table each, as in `port_ids = [{ group = 1, id = 7 }]`.",
        ),
        key(
            "luns",
            Tables(LUNS),
            Is("[]"),
            "[{ lun = 0, unit = \"thin0\" }]",
            "Its logical units, a table each.",
        ),
        key(
            "chap",
            ValueKind::Table(Authentication::OF_TARGET),
            Means("nobody needs to"),
            "",
            "How initiators authenticate themselves.",
        ),
        key(
            "access",
            Tables(AccessRule::TABLE),
            Is("[]"),
            "",
            "Who may use what of it; everybody everything if there is none.",
        ),
        key("redirect", Tables(Redirect::TABLE), Is("[]"), "", "Where initiators are sent instead."),
        key("limits", ValueKind::Table(Limits::TABLE), Means("all defaults"), "", "How much it serves."),
        key("iscsi", ValueKind::Table(Parameters::TABLE), Means("all defaults"), "", "What it negotiates."),
    ]],
};

/// `target.port_ids`
const PORT_IDS: &Table = &Table {
    doc: "The number of a target port, which is a portal group of a target, among all target ports of the daemon. Initiators may \
          keep it. A port that is given none has the lowest free one when it first comes up, and keeps it (`state_dir`); that of a \
          port that is gone is given to no other but by this table.",
    groups: &[&[
        key("group", Number(1, 65535), Required, "1", "The portal group tag, as in `group` of [[portal]]."),
        key(
            "id",
            Number(1, 65535),
            Required,
            "1",
            "Its relative target port identifier, which no other target port has.",
        ),
    ]],
};

/// `target.luns`
const LUNS: &Table = &Table {
    doc: "A logical unit, as in `luns = [{ lun = 0, unit = \"thin0\" }]`.",
    groups: &[&[
        key("lun", Number(0, 16383), Required, "0", "Its number."),
        key("unit", Text("the name of a [[disk]]"), Required, "\"thin0\"", "What it is.").or("disk"),
    ]],
};
