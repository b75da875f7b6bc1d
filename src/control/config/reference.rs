// SPDX-License-Identifier: GPL-2.0-or-later
//! The reference: a configuration with every key and its meaning.

use std::fmt::Write;

use super::keys::ROOT;
use crate::control::output::capital;
use crate::options::{Absent, Key, Table, ValueKind, below};

/// Width of the comments.
const WIDTH: usize = 100;

/// A table, its name from the root, and how the file begins it.
struct DescribedTable {
    name: String,
    header: String,
    table: &'static Table,
}

/// All tables, each before those inside it.
fn tables() -> Vec<DescribedTable> {
    fn add(name: &str, table: &Table, found: &mut Vec<DescribedTable>) {
        for key in table.keys() {
            let name = below(name, key.name);
            let (header, table) = match key.kind {
                ValueKind::Table(table) => (format!("[{name}]"), table),
                ValueKind::Tables(table) => (format!("[[{name}]]"), table),
                _ => continue,
            };
            found.push(DescribedTable { name: name.clone(), header, table });
            add(&name, table, found);
        }
    }
    let mut found = Vec::new();
    add("", ROOT, &mut found);
    found
}

/// A configuration that gives every key, most with its default, and tells what it means.
pub fn reference() -> String {
    describe(tables())
}

fn describe(tables: Vec<DescribedTable>) -> String {
    let mut out = String::from(
        "# Every key of a ptgt configuration, most with its default: ptgt check --explain prints this.\n\
         # configs/quickstart.toml is one to begin with.\n",
    );
    for DescribedTable { name, header, table } in tables {
        out.push('\n');
        comment(&mut out, table.doc);
        _ = writeln!(out, "{header}");
        for key in table.keys().filter(|key| !is_table(key)) {
            out.push('\n');
            comment(&mut out, key.doc);
            comment(&mut out, &format!("{}. {}", capital(&key.allowed(&name)), absent(key)));
            _ = writeln!(out, "{} = {}", key.name, value(key));
        }
    }
    out
}

/// Tables have a section of their own.
fn is_table(key: &Key) -> bool {
    matches!(key.kind, ValueKind::Table(_) | ValueKind::Tables(_))
}

fn absent(key: &Key) -> String {
    match key.absent {
        Absent::Required => "Required.".to_owned(),
        Absent::Is(value) => format!("Default: {value}."),
        Absent::Means(what) => format!("Without it: {what}."),
    }
}

fn value(key: &Key) -> &'static str {
    match key.absent {
        Absent::Is(value) if key.example.is_empty() => value,
        _ => key.example,
    }
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            _ = writeln!(out, "{line}");
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::generated::is_current;

    /// The sections of `docs/configuration.md` that describe the keys.
    fn markdown(tables: Vec<DescribedTable>) -> String {
        let mut out = String::new();
        for DescribedTable { name: within, header, table } in tables {
            _ = write!(out, "\n## `{header}`\n\n{}\n\n", table.doc);
            out.push_str("| Key | Meaning | Value | Without it |\n|---|---|---|---|\n");
            for key in table.keys() {
                let (Key { name, alias, doc, .. }, kind) = (key, key.allowed(&within));
                let or = if alias.is_empty() { String::new() } else { format!(" or `{alias}`") };
                let absent = match key.absent {
                    Absent::Required => "an error".to_owned(),
                    Absent::Is(value) => format!("`{value}`"),
                    Absent::Means(what) => what.to_owned(),
                };
                _ = writeln!(out, "| `{name}`{or} | {doc} | {kind} | {absent} |");
            }
        }
        out
    }

    /// Keys of units and fabrics that only tests have.
    const OF_TESTS: [&str; 4] = ["toy", "toy_target", "toy_frame_target", "region_target"];

    /// Whether a table is that of a key of the file, or below it.
    fn is_below(table: &DescribedTable, key: &str) -> bool {
        table.name.split('.').next() == Some(key)
    }

    fn shipped() -> Vec<DescribedTable> {
        tables().into_iter().filter(|table| !OF_TESTS.iter().any(|key| is_below(table, key))).collect()
    }

    #[test]
    fn the_reference_is_current() {
        is_current("configs/reference.toml", &describe(shipped()));
    }

    #[test]
    fn the_page_is_current() {
        const MARK: &str = "<!-- The rest is made from the tables of keys in the source. -->\n";
        let page = include_str!("../../../docs/configuration.md");
        let (written, _) = page.split_once(MARK).expect("the page has the mark");
        is_current("docs/configuration.md", &format!("{written}{MARK}{}", markdown(shipped())));
    }

    #[test]
    fn a_device_type_has_its_page_by_its_tables() {
        let toy = markdown(tables().into_iter().filter(|table| is_below(table, "toy")).collect());
        is_current("src/devices/toy/configuration.md", &format!("# The toy of the tests\n{toy}"));
    }
}
