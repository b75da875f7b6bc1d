// SPDX-License-Identifier: GPL-2.0-or-later
//! The description of a key: its meaning, its values, and what applies without it. The reader refuses what no table
//! has, and the reference (`configs/reference.toml`, `docs/configuration.md`) is made of the tables.

use std::fmt;
use std::time::Duration;

/// What a value may be.
#[derive(Clone, Copy)]
pub enum ValueKind {
    /// A string that means this.
    Text(&'static str),
    /// One of these strings.
    Word(&'static [&'static str]),
    /// A whole number in this range.
    Number(u64, u64),
    /// Yes or no.
    Flag,
    /// A size in bytes, in this range.
    Size(u64, u64),
    /// A time up to this one.
    Time(Duration),
    /// A list of whole numbers up to this one.
    Numbers(u64),
    /// A list of strings, each of which means this.
    Texts(&'static str),
    /// A table.
    Table(&'static Table),
    /// A list of such tables.
    Tables(&'static Table),
}

/// What holds when a key is not given.
#[derive(Clone, Copy)]
pub enum Absent {
    /// It must be given.
    Required,
    /// This value, in TOML.
    Is(&'static str),
    /// Something that depends.
    Means(&'static str),
}

/// A key of a table.
#[derive(Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Another spelling of the name; empty if there is none.
    pub alias: &'static str,
    /// What it may be.
    pub kind: ValueKind,
    /// What holds without it.
    pub absent: Absent,
    /// A value for the reference, in TOML; empty for the default.
    pub example: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// A key; see [`Key`].
pub const fn key(
    name: &'static str,
    kind: ValueKind,
    absent: Absent,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, alias: "", kind, absent, example, doc }
}

/// The same keys with other examples for some of them, by name: what is one table's cannot always be another's, too.
pub const fn with_examples<const N: usize>(keys: &[Key], examples: &[(&str, &'static str)]) -> [Key; N] {
    assert!(keys.len() == N, "all keys");
    let mut all = [keys[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = keys[at];
        let mut other = 0;
        while other < examples.len() {
            if is_same(keys[at].name, examples[other].0) {
                all[at].example = examples[other].1;
            }
            other += 1;
        }
        at += 1;
    }
    all
}

/// The same keys, and what holds when that one is not given.
pub const fn with_absent<const N: usize>(mut keys: [Key; N], name: &str, absent: Absent) -> [Key; N] {
    let mut at = 0;
    while at < N {
        if is_same(keys[at].name, name) {
            keys[at].absent = absent;
        }
        at += 1;
    }
    keys
}

/// Whether two names are the same, for constants.
const fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

impl Key {
    /// The same with another spelling.
    pub const fn or(self, alias: &'static str) -> Self {
        Self { alias, ..self }
    }

    /// What it may be in a table of that name, which is empty for the file itself.
    pub fn allowed(&self, table: &str) -> String {
        match self.kind {
            ValueKind::Table(_) => format!("the table [{}]", below(table, self.name)),
            ValueKind::Tables(_) => format!("a list of tables [[{}]]", below(table, self.name)),
            kind => kind.to_string(),
        }
    }
}

/// A key of a table as it is written from the root: `target.iscsi`.
pub fn below(table: &str, key: &str) -> String {
    match (table, key) {
        (table, "") | ("", table) => table.to_owned(),
        (table, key) => format!("{table}.{key}"),
    }
}

/// A table, which is named by the key that holds it.
pub struct Table {
    /// What it means.
    pub doc: &'static str,
    /// Its keys. What several tables have in common is a group, which each of them names.
    pub groups: &'static [&'static [Key]],
}

impl Table {
    /// All its keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.groups.iter().copied().flatten()
    }

    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name || !name.is_empty() && key.alias == name)
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(what) => f.write_str(what),
            Self::Word(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                f.write_str(&words.join(" or "))
            }
            Self::Number(low, high) => write!(f, "a whole number from {low} to {high}"),
            Self::Flag => f.write_str("true or false"),
            Self::Size(low, high) => {
                write!(f, "a size from {} to {}, such as \"1GiB\" or \"500MB\"", Size(*low), Size(*high))
            }
            Self::Time(max) => write!(f, "a time up to {max:?}, such as \"50us\", \"10ms\" or \"30s\""),
            Self::Numbers(high) => write!(f, "a list of whole numbers from 0 to {high}"),
            Self::Texts(each) => write!(f, "a list, each entry {each}"),
            Self::Table(_) => f.write_str("a table"),
            Self::Tables(_) => f.write_str("a list of tables"),
        }
    }
}

/// Bytes as they are written in the file.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units =
            [(1 << 60, "EiB"), (1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{} bytes", self.0),
        }
    }
}
