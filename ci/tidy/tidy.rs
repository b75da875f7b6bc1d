// SPDX-License-Identifier: GPL-2.0-or-later
//! The rules of the house that the compiler does not know: who may import whom, rooms without sockets and clocks,
//! licence lines, length of files, links that lead somewhere, no paths of somebody's machine. They read the source, and
//! need no build of it.
#![cfg(test)]

mod cycles;
mod dependencies;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each room of `src/` and the rooms that it may import.
const ROOMS: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("wire", &[]),
    ("options", &["wire"]),
    ("time", &[]),
    ("activity", &[]),
    ("counters", &[]),
    ("machine", &["sys"]),
    ("memory", &["counters", "sys"]),
    ("reactor", &["counters", "memory", "sys", "time"]),
    ("io", &["memory", "options", "time"]),
    ("formats", &["wire"]),
    ("scsi", &["wire", "io", "memory", "time"]),
    ("devices", &["options", "formats", "scsi", "wire", "io", "memory", "time"]),
    ("stores", &["options", "wire", "io", "memory", "reactor", "sys", "time"]),
    ("fabrics", &["activity", "counters", "options", "scsi", "wire", "io", "memory", "time"]),
    ("net", &["counters", "memory", "time", "wire"]),
    ("ports", &["counters", "machine", "options", "net", "memory", "reactor", "sys", "time"]),
    (
        "engine",
        &[
            "activity", "counters", "options", "scsi", "devices", "stores", "reactor", "io", "memory",
            "time", "wire",
        ],
    ),
    (
        "adapters",
        &[
            "activity", "counters", "machine", "options", "engine", "fabrics", "scsi", "net", "ports",
            "reactor", "io", "memory", "time", "sys", "wire",
        ],
    ),
    (
        "control",
        &[
            "adapters", "activity", "counters", "machine", "options", "engine", "devices", "fabrics", "scsi",
            "stores", "ports", "net", "reactor", "io", "memory", "sys", "wire",
        ],
    ),
    (
        "runtime",
        &[
            "adapters", "control", "counters", "engine", "devices", "scsi", "stores", "ports", "net",
            "reactor", "io", "memory", "sys", "wire",
        ],
    ),
    (
        "bench",
        &[
            "adapters", "control", "counters", "engine", "devices", "fabrics", "scsi", "stores", "ports",
            "net", "reactor", "io", "memory", "time", "sys", "wire",
        ],
    ),
    ("image", &["control", "formats", "options", "sys", "wire"]),
    (
        "sim",
        &[
            "adapters", "control", "counters", "engine", "devices", "fabrics", "scsi", "stores", "ports",
            "net", "reactor", "io", "memory", "time", "sys", "wire", "bench", "formats",
        ],
    ),
];

/// Rooms that get time and bytes as arguments, and what they therefore never name.
const PURE: &[&str] = &["wire", "io", "formats", "scsi", "devices", "fabrics", "adapters", "engine", "net"];
const IMPURE: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "std::fs",
    "std::thread",
    "std::time::Instant",
    "Instant::now",
    "SystemTime",
    "unsafe ",
    "libc::",
    "process::Command",
];

/// What writes to a terminal, and the files that may: all others go through `control::output` or the log, which let
/// nothing through that a terminal would obey.
const PRINTS: &[&str] =
    &["print!(", "println!(", "dbg!(", "io::stdout()", "io::stderr().write", "io::stderr().lock"];
const PRINTERS: &[&str] = &["src/control/output.rs", "src/control/logging.rs"];

const LINES_MAX: usize = 900;

/// Files that still name each other in a circle. None may be added.
const CIRCLES: &[&[&str]] = &[
    &["src/bench/inprocess/adapter.rs", "src/bench/inprocess/frames.rs", "src/bench/inprocess/streams.rs"],
    &["src/memory/arena.rs", "src/memory/loan.rs", "src/memory/seg.rs"],
    &["src/net/host.rs", "src/net/host/cookies.rs", "src/net/host/flows.rs", "src/net/host/handover.rs"],
    &["src/ports/dpdk/device.rs", "src/ports/dpdk/rings.rs"],
    &["src/sim/forger.rs", "src/sim/peer.rs"],
    &["src/sim/session/link.rs", "src/sim/session/mod.rs"],
];

/// Names that several types still share. None may be added.
const SHARED_NAMES: &str = "\
    Action Admission Answer Arguments Begun Block Check Command Config Connection Directory Disk End Ending \
    Failure Fate Faults Flight Flow Found Initiator Inner Job Latencies Limits Link Load Machine Medium \
    Memory Op Order Out Outcome Packet Pages Pair Peer Piece Place Pool Port PortGroup Queue Range \
    Registration Request Reservations Ring Row Run Running Scope Segment Sent Server Session Shape Shared Slot \
    Span Stage State Status Step Stop Stream Table Tally Target Unit Verdict Verify Waiter Waiting Wire World";

/// Most bytes of a file.
const BYTES_MAX: u64 = 512 << 10;

/// First parts of the absolute paths that any Debian machine has.
const SYSTEM: &[&str] =
    &["bin", "boot", "dev", "etc", "lib", "proc", "run", "sbin", "srv", "sys", "usr", "var"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// All text files of the source tree, by their path below its root.
fn files() -> Vec<(String, String)> {
    let (mut found, mut directories) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root().join(&directory)).expect("readable directory") {
            let entry = entry.expect("readable entry");
            let path = directory.join(entry.file_name());
            let name = path.to_str().expect("names in UTF-8").to_owned();
            let kind = entry.file_type().expect("file type");
            let skipped = name == "target"
                || [".git", "__pycache__"].contains(&name.rsplit('/').next().unwrap_or(&name));
            if kind.is_dir() && !skipped {
                directories.push(path);
            } else if kind.is_file()
                && name != ".git"
                && let Ok(text) = fs::read_to_string(root().join(&path))
            {
                found.push((name, text));
            }
        }
    }
    assert!(found.len() > 50, "the source tree is found");
    found.sort();
    found
}

/// A line of Rust without its comment.
fn code(line: &str) -> &str {
    line.find("//").map_or(line, |at| &line[..at])
}

/// The lines of a file that are not its `#[cfg(test)]` part, with their numbers.
fn shipped(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut before = "";
    let until_tests = text.lines().take_while(move |line| {
        let tests = before.trim() == "#[cfg(test)]" && line.starts_with("mod ") && line.ends_with('{');
        before = line;
        !tests
    });
    until_tests.enumerate().map(|(at, line)| (at + 1, code(line)))
}

fn is_test(name: &str) -> bool {
    name.split('/').any(|part| matches!(part, "tests" | "tests.rs"))
}

/// Room and path of each file of `src/` that is part of the daemon.
fn sources(files: &[(String, String)]) -> impl Iterator<Item = (&str, &str, &str)> {
    let rust = files.iter().filter(|(name, _)| name.ends_with(".rs") && !is_test(name));
    rust.filter_map(|(name, text)| {
        let room = name.strip_prefix("src/")?.split(['/', '.']).next()?;
        Some((room, name.as_str(), text.as_str()))
    })
}

/// The rooms that a line names: `crate::a::..`, `crate::{a::.., b}`.
fn imports(line: &str) -> Vec<&str> {
    let word =
        |text: &'_ str| text.len() - text.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let parts = list.split(|c| {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                c == ',' && depth == 0
            });
            found.extend(parts.map(str::trim_start).map(|part| &part[..word(part)]));
        } else {
            found.push(&rest[..word(rest)]);
        }
    }
    found
}

/// What breaks the import direction.
fn wrong_imports(files: &[(String, String)]) -> Vec<String> {
    let known: BTreeSet<&str> = ROOMS.iter().map(|room| room.0).collect();
    let mut wrong = Vec::new();
    for (room, name, text) in sources(files) {
        let Some((_, allowed)) = ROOMS.iter().find(|rule| rule.0 == room) else { continue };
        for (number, line) in shipped(text) {
            for import in imports(line) {
                if import != room && known.contains(import) && !allowed.contains(&import) {
                    wrong.push(format!("{name}:{number}: {room} may not import {import}"));
                }
            }
        }
    }
    wrong
}

/// What breaks the purity of rooms.
fn impurities(files: &[(String, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (room, name, text) in sources(files).filter(|source| PURE.contains(&source.0)) {
        for (number, line) in shipped(text) {
            for word in IMPURE.iter().filter(|word| line.contains(*word)) {
                wrong.push(format!("{name}:{number}: {room} may not name {word:?}"));
            }
        }
    }
    wrong
}

/// Rooms that reach fabrics by the rows of `adapters::FABRICS` alone.
const WITHOUT_FABRICS: [&str; 3] = ["engine", "control", "runtime"];

/// Where one of these names a fabric: a module below `fabrics` or `adapters`, unless a device type or a part of the
/// engine is called so, too.
fn named_fabrics(files: &[(String, String)]) -> Vec<String> {
    let below = |room: &str| {
        let prefix = format!("src/{room}/");
        let modules =
            files.iter().filter_map(|(name, _)| name.strip_prefix(&prefix)?.split(['/', '.']).next());
        modules.filter(|module| *module != "mod").map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let others = &below("devices") | &below("engine");
    let fabrics = &(&below("fabrics") | &below("adapters")) - &others;
    let mut wrong = Vec::new();
    for (room, name, text) in sources(files).filter(|source| WITHOUT_FABRICS.contains(&source.0)) {
        for (number, line) in shipped(text) {
            let words = line.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
            for word in words.collect::<BTreeSet<_>>().intersection(&fabrics) {
                wrong.push(format!("{name}:{number}: {room} may not name {word}"));
            }
        }
    }
    wrong
}

/// Lines of the daemon and of its command line that print by themselves. The test world's binary speaks to who tests.
fn printed(files: &[(String, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (_, name, text) in sources(files).filter(|source| source.0 != "sim" && !PRINTERS.contains(&source.1))
    {
        for (number, line) in shipped(text) {
            for word in PRINTS.iter().filter(|word| line.contains(*word)) {
                wrong.push(format!("{name}:{number}: {word} outside src/control/output.rs"));
            }
        }
    }
    wrong
}

/// Paths that exist on one machine only.
fn machine_paths(name: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in line.split(|c: char| c.is_whitespace() || "=(<>|,;:[".contains(c)) {
            let word = word.trim_matches(['"', '\'', '`']);
            let Some((first, rest)) = word.strip_prefix('/').and_then(|path| path.split_once('/')) else {
                continue;
            };
            let plain = !first.is_empty() && first.bytes().all(|b| b.is_ascii_lowercase());
            if plain && !rest.is_empty() && !SYSTEM.contains(&first) {
                wrong.push(format!("{name}:{}: {word}: a path of some machine", number + 1));
            }
        }
    }
    wrong
}

/// Links in Markdown to files that are not there.
fn dead_links(name: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let directory = Path::new(name).parent().unwrap_or_else(|| Path::new(""));
    let targets = text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split([')', '#']).next());
    let local = targets
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"));
    local
        .filter(|target| !exists(&directory.join(target)))
        .map(|target| format!("{name}: no {target}"))
        .collect()
}

/// Files that name each other in a circle, seen in what is shipped.
fn cycles(files: &[(String, String)]) -> Vec<Vec<&str>> {
    let shipped = |text: &str| shipped(text).map(|(_, line)| format!("{line}\n")).collect::<String>();
    let sources =
        files.iter().filter(|(name, _)| name.starts_with("src/") && name.ends_with(".rs") && !is_test(name));
    cycles::Sources::new(sources.map(|(name, text)| (name.as_str(), shipped(text)))).cycles()
}

/// The name of the type that a line defines. What is indented after `type` belongs to a trait.
fn defined_type(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
    let keyword = words.next()?;
    let defines = matches!(keyword, "struct" | "enum" | "trait" | "union")
        || keyword == "type" && !line.starts_with(char::is_whitespace);
    let name = words.next().filter(|_| defines)?.split(|c: char| !c.is_alphanumeric()).next();
    name.filter(|name| !name.is_empty())
}

/// The names that types in different places share, and the places.
fn shared_names(files: &[(String, String)]) -> BTreeMap<&str, Vec<String>> {
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (_, name, text) in sources(files) {
        for (number, line) in shipped(text) {
            if let Some(defined) = defined_type(line) {
                found.entry(defined).or_default().push(format!("{name}:{number}"));
            }
        }
    }
    found.retain(|_, places| places.len() > 1);
    found
}

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn imports_go_one_way() {
    let planted = [("src/devices/x.rs".to_owned(), "use crate::{io::Op, fabrics::iscsi};\n".to_owned())];
    assert_eq!(wrong_imports(&planted), ["src/devices/x.rs:1: devices may not import fabrics"]);
    none(&wrong_imports(&files()));
}

#[test]
fn files_of_a_room_name_each_other_in_one_direction() {
    let file = |name: &str, text: &str| (format!("src/scsi/{name}.rs"), text.to_owned());
    let planted = [
        file("x", "use super::{y::Y, z};\npub struct X;\n"),
        file("y", "pub struct Y(crate::scsi::X);\n"),
        file("z", "use super::x::X;\n#[cfg(test)]\nmod tests {\nuse super::super::y;\n}\n"),
        // A tree names what is in it, and not the file through which it is seen.
        file("w", "use super::{X};\n"),
        file("mod", "mod x;\npub use x::X;\nuse w::W;\n"),
    ];
    assert_eq!(cycles(&planted), [["src/scsi/x.rs", "src/scsi/y.rs", "src/scsi/z.rs"]]);
    let files = files();
    let circles = cycles(&files);
    let known = |circle: &[&str]| CIRCLES.iter().any(|known| circle.iter().all(|name| known.contains(name)));
    let new = circles.iter().filter(|circle| !known(circle)).map(|circle| circle.join(" "));
    none(&new.collect::<Vec<_>>());
    let stays = |name: &str| circles.iter().flatten().any(|other| *other == name);
    let gone = CIRCLES.iter().copied().flatten().filter(|name| !stays(name));
    none(
        &gone
            .map(|name| format!("{name}: is in no circle any more: take it off the list"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn no_two_types_share_a_name() {
    let planted = [
        (
            "src/io/x.rs".to_owned(),
            "pub(super) enum Twin<T> {}\nimpl A for B {\n    type Item = X;\n}\n".to_owned(),
        ),
        (
            "src/io/y.rs".to_owned(),
            "struct Twin;\n    type Item = Y;\n#[cfg(test)]\nmod tests {\n".to_owned(),
        ),
    ];
    let found = shared_names(&planted);
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        [("Twin", vec!["src/io/x.rs:1".into(), "src/io/y.rs:1".into()])]
    );
    let files = files();
    let shared = shared_names(&files);
    let known = || SHARED_NAMES.split_whitespace();
    let new = shared.iter().filter(|(name, _)| !known().any(|known| known == **name));
    none(&new.map(|(name, places)| format!("{name}: {}", places.join(" "))).collect::<Vec<_>>());
    let gone = known().filter(|name| !shared.contains_key(name));
    none(&gone.map(|name| format!("{name} is shared no more: take it off the list")).collect::<Vec<_>>());
}

#[test]
fn pure_rooms_have_no_socket_thread_or_clock() {
    let planted = [("src/scsi/x.rs".to_owned(), "let t = Instant::now(); // now\n".to_owned())];
    assert_eq!(impurities(&planted).len(), 1);
    none(&impurities(&files()));
}

#[test]
fn fabrics_are_named_in_their_rows_alone() {
    let file = |name: &str, text: &str| (format!("src/{name}.rs"), text.to_owned());
    let planted = [
        file("fabrics/srp/mod", ""),
        file("adapters/iscsi", ""),
        file("adapters/toy", ""),
        file("devices/toy/mod", ""),
        file(
            "engine/x",
            "// For srp.\nfn x() { TransportId::iscsi(ISCSI_NAME) }\nfn y() { toy(); srp::z() }\n",
        ),
        file("engine/fabric", "fn fabric() {}\n"),
        file("adapters/fabric", "fn srp() {}\n"),
        file("control/config/x", "use crate::fabrics::srp;\n"),
        file("runtime/x", "use crate::adapters::{FABRICS, iscsi::IscsiFabric};\n"),
        file("runtime/tests", "use crate::adapters::srp;\n"),
    ];
    assert_eq!(
        named_fabrics(&planted),
        [
            "src/engine/x.rs:2: engine may not name iscsi",
            "src/engine/x.rs:3: engine may not name srp",
            "src/control/config/x.rs:1: control may not name srp",
            "src/runtime/x.rs:1: runtime may not name iscsi",
        ]
    );
    none(&named_fabrics(&files()));
}

#[test]
fn what_is_printed_is_made_printable() {
    let planted =
        [("src/engine/x.rs".to_owned(), "fn f(name: &str) {\n    eprintln!(\"{name}\");\n}\n".to_owned())];
    assert_eq!(printed(&planted), ["src/engine/x.rs:2: println!( outside src/control/output.rs"]);
    none(&printed(&files()));
}

#[test]
fn files_carry_their_licence_and_keep_to_one_subject() {
    let mut wrong = Vec::new();
    for (name, text) in files() {
        let code = [".rs", ".sh", ".py", ".c", ".h"].iter().any(|end| name.ends_with(end));
        if code
            && !text.lines().take(2).any(|line| line.ends_with("SPDX-License-Identifier: GPL-2.0-or-later"))
        {
            wrong.push(format!("{name}: no SPDX line at its beginning"));
        }
        if code && text.lines().count() > LINES_MAX {
            wrong.push(format!("{name}: more than {LINES_MAX} lines"));
        }
    }
    none(&wrong);
}

#[test]
fn files_are_small() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git runs");
    let listed = String::from_utf8(listed.stdout).expect("names in UTF-8");
    let size = |name: &&str| fs::metadata(root().join(name)).is_ok_and(|file| file.len() > BYTES_MAX);
    let wrong =
        listed.split_terminator('\0').filter(size).map(|name| format!("{name}: more than {BYTES_MAX} bytes"));
    none(&wrong.collect::<Vec<_>>());
}

#[test]
fn links_lead_somewhere() {
    assert_eq!(dead_links("docs/x.md", "[a](y.md#part) [b](https://z)", |_| false), ["docs/x.md: no y.md"]);
    let files = files();
    let pages = files.iter().filter(|(name, _)| name.ends_with(".md"));
    let wrong: Vec<_> =
        pages.flat_map(|(name, text)| dead_links(name, text, |path| root().join(path).exists())).collect();
    none(&wrong);
}

#[test]
fn no_paths_of_a_machine() {
    let planted = concat!("cd /ho", "me/somebody/src && ls /dev/null");
    assert_eq!(machine_paths("x.sh", planted).len(), 1);
    let files = files();
    let text = files.iter().filter(|(name, _)| !matches!(name.as_str(), "Cargo.lock" | "LICENSE"));
    let wrong: Vec<_> = text.flat_map(|(name, text)| machine_paths(name, text)).collect();
    none(&wrong);
}

/// Names in backticks in the last column of the table behind a heading.
fn named_tests<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let rows =
        text.split(heading).nth(1).unwrap_or_default().lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.flat_map(|row| {
        row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default().split('`').skip(1).step_by(2)
    })
    .collect()
}

#[test]
fn tests_that_the_manual_names_are_there() {
    let files = files();
    let manual = &files.iter().find(|(name, _)| name == "docs/iscsi.md").expect("the manual").1;
    let names = named_tests(manual, "## Holes of tgt that are closed");
    assert!(names.len() > 30, "{names:?}");
    let exists = |test: &str| match test.contains('.') {
        true => files.iter().any(|(name, _)| name.strip_prefix("ci/system/") == Some(test)),
        false => files.iter().any(|(_, text)| {
            text.contains(&format!("#[test]\nfn {test}("))
                || text.contains(&format!("#[test]\n    fn {test}("))
        }),
    };
    let missing: Vec<String> = names.into_iter().filter(|name| !exists(name)).map(str::to_owned).collect();
    none(&missing);
}

/// The messages that a page quotes in backticks in the first column of its tables, from a heading on.
fn quoted_messages<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let tables = page.split_once(heading).map_or("", |(_, rest)| rest);
    let cells =
        tables.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// The parts of a quoted message that the program says so: two words or more, with nothing between them that varies,
/// such as a number, a path, a quoted name, `...` or `PID`.
fn constant_parts(message: &str) -> Vec<String> {
    let varies = |word: &str| {
        let name = word.trim_matches([':', ';', ',', '.']);
        word.contains("...")
            || word.contains(|c: char| c.is_ascii_digit() || "/\"{".contains(c))
            || (name.len() < 5 && !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase()))
    };
    let mut parts = vec![Vec::new()];
    for word in message.split_whitespace() {
        if varies(word) {
            parts.push(Vec::new());
            continue;
        }
        let plain = word.trim_end_matches([':', ';', ',', '.']);
        parts.last_mut().expect("there is one").push(plain);
        if plain != word {
            parts.push(Vec::new());
        }
    }
    parts.into_iter().filter(|words| words.len() > 1).map(|words| words.join(" ")).collect()
}

#[test]
fn messages_that_the_manual_quotes_are_said() {
    let planted = "## A\n| `x y` |\n## B\n| `no such thing: 12 of them at /dev/x` (`or so`) | why |\n";
    let quoted = quoted_messages(planted, "## B");
    assert_eq!(quoted, ["no such thing: 12 of them at /dev/x", "or so"]);
    assert_eq!(constant_parts(quoted[0]), ["no such thing", "of them at"]);
    let files = files();
    let said = |(_, _, text): (&str, &str, &str)| {
        let text = text.replace("\\\n", " ").replace("\\\"", "\"");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let said: Vec<String> = sources(&files).map(said).collect();
    let page = &files.iter().find(|(name, _)| name == "docs/troubleshooting.md").expect("the page").1;
    let quoted = quoted_messages(page, "\n## Start");
    assert!(quoted.len() > 60, "{quoted:?}");
    let unsaid = |part: &String| !said.iter().any(|text| text.contains(part.as_str()));
    let wrong = quoted.iter().flat_map(|message| {
        let parts = constant_parts(message).into_iter().filter(unsaid);
        parts.map(move |part| format!("docs/troubleshooting.md: {part:?} of {message:?} is said nowhere"))
    });
    none(&wrong.collect::<Vec<_>>());
}
