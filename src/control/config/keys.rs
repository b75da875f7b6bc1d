// SPDX-License-Identifier: GPL-2.0-or-later
//! The tables of the configuration and their keys, from the root.

use std::time::Duration;

use crate::adapters::FABRICS;
use crate::engine::units;
use crate::options::Absent::{Is, Means, Required};
use crate::options::ValueKind::{Flag, Number, Numbers, Tables, Text, Time, Word};
use crate::options::{Key, Table, ValueKind, key};
use crate::ports::{ConfiguredPort, EnvironmentOptions};

/// The file itself.
pub(super) const ROOT: &Table = &Table { doc: "", groups: &GROUPS };

/// Its tables: the daemon's, those of logical units, and those of each fabric.
const GROUPS: [&[Key]; FABRICS.len() + 2] = {
    let mut groups: [&[Key]; FABRICS.len() + 2] = [&units::KEYS; FABRICS.len() + 2];
    groups[0] = OWN;
    let mut i = 0;
    while i < FABRICS.len() {
        groups[i + 2] = FABRICS[i].keys;
        i += 1;
    }
    groups
};

const OWN: &[Key] = &[
    key("daemon", ValueKind::Table(DAEMON), Means("all defaults"), "", "The process."),
    key(
        "dpdk",
        ValueKind::Table(EnvironmentOptions::TABLE),
        Means("all defaults"),
        "",
        "DPDK's environment.",
    ),
    key("port", Tables(ConfiguredPort::TABLE), Means("an error"), "", "Where initiators come in."),
    key("port_group", Tables(PORT_GROUP), Means("none"), "", "Asymmetric access."),
];

/// `daemon`
const DAEMON: &Table = &Table {
    doc: "The process.",
    groups: &[&[
        key(
            "reactors",
            Numbers(1023),
            Means("one reactor, on any processor"),
            "[0, 1]",
            "The processors to serve on, one polling loop each. Connections are spread over them.",
        ),
        key(
            "memory",
            ValueKind::Size(16 << 20, 1 << 40),
            Is("\"256MiB\""),
            "",
            "Payload memory of each reactor, shared by all its peers. When it runs short, commands wait \
             and connections are not read; then the sessions that hold most and release nothing are \
             ended.",
        ),
        key(
            "hugepages",
            Word(&["auto", "require", "never"]),
            Is("\"auto\""),
            "",
            "Whether payload memory, disks in memory and DPDK's buffers use the kernel's pool of huge \
             pages. `auto`: if it has enough. `require`: the daemon does not start unless payload memory \
             is in huge pages. `never`: they do not. `ptgt doctor` says how many are needed.",
        ),
        key(
            "idle",
            Word(&["adaptive", "spin"]),
            Is("\"adaptive\""),
            "",
            "What an idle reactor does. `adaptive`: it polls for a while, then sleeps until something \
             happens. `spin`: it keeps polling, which costs a whole processor and saves the wake-up.",
        ),
        key("spin", Time(Duration::from_secs(1)), Is("\"50us\""), "", "How long an adaptive reactor polls."),
        key(
            "control_socket",
            Text("a path"),
            Is("\"/run/ptgt/control.sock\""),
            "",
            "The socket that `ptgt status` connects to. Its directory is created if missing. Each daemon \
             needs its own.",
        ),
        key(
            "state_dir",
            Text("a path"),
            Is("\"/var/lib/ptgt/state\""),
            "",
            "Directory for what logical units remember across restarts, apart from their data: persistent \
             reservations (APTPL), saved mode pages, identifying information and that there is an image \
             (`create`), each below the unit's UUID; the UUID of each image (`images`); the identifiers \
             of target ports (`port_ids`). It is created when there is something to remember.",
        ),
        key(
            "management_url",
            Text("a URL of at most 255 ASCII characters such as \"https://lab.example/ptgt\""),
            Means("none"),
            "\"https://lab.example/ptgt\"",
            "Where this daemon is managed. Initiators can read it (Management Network Addresses page).",
        ),
        key(
            "drop_privileges",
            Flag,
            Is("true"),
            "",
            "Once everything is open, keep only CAP_NET_ADMIN, CAP_NET_RAW and CAP_IPC_LOCK (and what \
             DPDK's ports need), and set no_new_privs. `false` keeps everything, for instance for a \
             debugger.",
        ),
        key(
            "log",
            Text("a level: \"error\", \"warn\", \"info\" or \"debug\""),
            Is("\"info\""),
            "",
            "The level of the log, which goes to stderr. The environment variable RUST_LOG overrides it.",
        ),
    ]],
};

/// `port_group`
const PORT_GROUP: &Table = &Table {
    doc: "A target port group (ALUA): all target ports with a portal group tag. Without one, the ports of \
         a tag are a group that is active/optimized.",
    groups: &[&[
        key("name", Text("a name"), Required, "\"first\"", "Its name for `ptgt port-group`."),
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
            "Its asymmetric access state after each start. `ptgt port-group` and SET TARGET PORT GROUPS \
             change it.",
        ),
        key("preferred", Flag, Is("false"), "", "Initiators should prefer it (PREF bit)."),
    ]],
};
