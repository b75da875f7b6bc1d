// SPDX-License-Identifier: GPL-2.0-or-later
//! What `ci/deny.toml` holds the dependencies to, looked at without cargo-deny: licences, sources, versions. And that
//! `docs/dependencies.md` knows all of them that are wanted directly.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;

fn read(name: &str) -> String {
    fs::read_to_string(super::root().join(name)).expect(name)
}

fn rules() -> toml::Table {
    read("ci/deny.toml").parse().expect("ci/deny.toml is TOML")
}

fn cargo(arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).args(["--all-features", "--locked"]);
    let output = command.current_dir(super::root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The packages that a build for one of the targets takes, with all features, tests and tools.
fn packages(rules: &toml::Table) -> Vec<Value> {
    // The metadata has also what no feature that is on wants; the tree does not.
    let mut taken = BTreeSet::new();
    for target in rules["graph"]["targets"].as_array().expect("a list") {
        let target = target.as_str().expect("a name");
        let tree = cargo(&["tree", "--edges=all", "--prefix=none", "--format={p}", "--target", target]);
        for line in std::str::from_utf8(&tree).expect("names").lines().filter(|line| !line.is_empty()) {
            let mut words = line.split(' ');
            let (name, version) = words.next().zip(words.next()).expect("name and version");
            taken.insert((name.to_owned(), version.trim_start_matches('v').to_owned()));
        }
    }
    let mut metadata: Value =
        serde_json::from_slice(&cargo(&["metadata", "--format-version=1"])).expect("metadata is JSON");
    let Value::Array(all) = metadata["packages"].take() else { panic!("packages are a list") };
    let word = |package: &Value, key: &str| package[key].as_str().expect("a string").to_owned();
    all.into_iter()
        .filter(|package| taken.contains(&(word(package, "name"), word(package, "version"))))
        .collect()
}

/// Whether an SPDX expression can be met with licences of the list. Knows AND, OR, the older `/`, and parentheses.
fn is_met(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let (met, rest) = any(&words, allowed);
    assert!(rest.is_empty(), "{expression}: not understood from {rest:?} on");
    met
}

fn any<'a>(words: &'a [&'a str], allowed: &dyn Fn(&str) -> bool) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = all(words, allowed);
    while let ["OR", more @ ..] = rest {
        let (also, behind) = all(more, allowed);
        (met, rest) = (met | also, behind);
    }
    (met, rest)
}

fn all<'a>(words: &'a [&'a str], allowed: &dyn Fn(&str) -> bool) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = one(words, allowed);
    while let ["AND", more @ ..] = rest {
        let (also, behind) = one(more, allowed);
        (met, rest) = (met & also, behind);
    }
    (met, rest)
}

fn one<'a>(words: &'a [&'a str], allowed: &dyn Fn(&str) -> bool) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => match any(inner, allowed) {
            (met, [")", rest @ ..]) => (met, rest),
            (_, rest) => panic!("a parenthesis is not closed before {rest:?}"),
        },
        [name, "WITH", exception, rest @ ..] => (allowed(&format!("{name} WITH {exception}")), rest),
        [name, rest @ ..] => (allowed(name), rest),
        [] => panic!("a licence is missing"),
    }
}

fn name(package: &Value) -> &str {
    package["name"].as_str().expect("a name")
}

/// What is wrong with packages by the rules.
fn wrong(packages: &[Value], rules: &toml::Table) -> Vec<String> {
    let strings = |value: &toml::Value| -> Vec<String> {
        value.as_array().expect("a list").iter().map(|it| it.as_str().expect("a string").into()).collect()
    };
    let (licences, sources) = (&rules["licenses"], strings(&rules["sources"]["allow-registry"]));
    let everywhere = strings(&licences["allow"]);
    let exceptions = licences["exceptions"].as_array().expect("a list");
    let mut found = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        let name = name(package);
        versions.entry(name).or_default().push(package["version"].as_str().expect("a version"));
        let own = exceptions.iter().find(|exception| exception["crate"].as_str() == Some(name));
        let own = own.map(|exception| strings(&exception["allow"])).unwrap_or_default();
        let allowed = |licence: &str| everywhere.iter().chain(&own).any(|allowed| allowed == licence);
        match package["license"].as_str() {
            Some(licence) if is_met(licence, &allowed) => {}
            licence => found.push(format!("{name}: licence {licence:?}")),
        }
        let source = package["source"].as_str();
        if source.is_some_and(|source| !sources.iter().any(|allowed| source == format!("registry+{allowed}")))
        {
            found.push(format!("{name}: source {source:?}"));
        }
    }
    let skipped: Vec<&str> = rules["bans"]["skip"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|it| it["crate"].as_str())
        .collect();
    for (name, versions) in versions {
        let skipped = |version: &&&str| {
            let of =
                |skip: &&str| skip.strip_prefix(name)?.strip_prefix('@').map(|start| format!("{start}."));
            skipped.iter().filter_map(of).any(|start| version.starts_with(&start))
        };
        if versions.iter().filter(|version| !skipped(version)).count() > 1 {
            found.push(format!("{name}: versions {versions:?}"));
        }
    }
    found
}

#[test]
fn licences_sources_and_versions_are_allowed() {
    let rules = rules();
    let mut packages = packages(&rules);
    assert!(packages.len() > 50, "the dependencies are found");
    let found = wrong(&packages, &rules);
    assert!(found.is_empty(), "see ci/deny.toml:\n{}", found.join("\n"));
    for (key, value, wanted) in [
        ("license", "Apache-2.0", "slab: licence Some(\"Apache-2.0\")"),
        (
            "license",
            "(MIT OR Apache-2.0) AND OpenSSL",
            "slab: licence Some(\"(MIT OR Apache-2.0) AND OpenSSL\")",
        ),
        ("source", "git+https://example.com/slab", "slab: source Some(\"git+https://example.com/slab\")"),
    ] {
        let slab = packages.iter_mut().find(|package| name(package) == "slab").expect("slab");
        let right = std::mem::replace(&mut slab[key], value.into());
        assert_eq!(wrong(&packages, &rules), [wanted]);
        packages.iter_mut().find(|package| name(package) == "slab").expect("slab")[key] = right;
    }
    let mut older = packages.iter().find(|package| name(package) == "slab").expect("slab").clone();
    older["version"] = "0.3.9".into();
    packages.push(older);
    assert!(wrong(&packages, &rules).concat().starts_with("slab: versions "));
}

/// The words of the first column of all tables of the page.
fn described() -> BTreeSet<String> {
    let page = read("docs/dependencies.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next().map(str::to_owned));
    rows.flat_map(|cell| cell.split(", ").map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn each_direct_dependency_is_described() {
    let described = described();
    let mut wanted = BTreeSet::new();
    for manifest in ["Cargo.toml", "ffi/dpdk-sys/Cargo.toml"] {
        let manifest: toml::Table = read(manifest).parse().expect("a manifest is TOML");
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let table = manifest.get(kind).and_then(toml::Value::as_table);
            wanted.extend(table.into_iter().flat_map(|table| table.keys().cloned()));
        }
    }
    let setup = read("ci/setup.sh");
    let packages = setup.split("echo ").skip(1).filter_map(|rest| rest.split(";;").next());
    let words = packages.take(4).flat_map(str::split_whitespace).filter(|word| *word != "\\");
    wanted.extend(words.map(|word| word.trim_end_matches(';').to_owned()));
    assert!(wanted.contains("smoltcp") && wanted.contains("bindgen") && wanted.contains("valgrind"));
    assert!(wanted.contains("xfsprogs") && wanted.contains("tshark"), "{wanted:?}");
    let missing: Vec<_> = wanted.difference(&described).collect();
    assert!(missing.is_empty(), "docs/dependencies.md says nothing of {missing:?}");
    let known = ["Crate", "Library", "Package", "glibc", "DPDK 22.11"].map(str::to_owned);
    let gone: Vec<_> = described.difference(&wanted).filter(|name| !known.contains(name)).collect();
    assert!(gone.is_empty(), "docs/dependencies.md describes {gone:?}, which nothing wants");
}
