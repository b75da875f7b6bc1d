// SPDX-License-Identifier: GPL-2.0-or-later
//! What differs between two lists of named tables: what order they have in the files does not matter.

/// Names of things of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigChanges {
    /// Those that are new.
    pub added: Vec<String>,
    /// Those of which something else is said.
    pub changed: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
}

impl ConfigChanges {
    /// What differs between an old list and a new one. Entries with the same name are compared by `same`.
    pub fn of<T>((old, new): (&[T], &[T]), name: impl Fn(&T) -> &str, same: impl Fn(&T, &T) -> bool) -> Self {
        let find = |all: &'_ [T], wanted: &T| all.iter().position(|it| name(it) == name(wanted));
        let mut changes = Self::default();
        for it in new {
            match find(old, it) {
                None => changes.added.push(name(it).to_owned()),
                Some(before) if !same(&old[before], it) => changes.changed.push(name(it).to_owned()),
                Some(_) => {}
            }
        }
        let gone = old.iter().filter(|it| find(new, it).is_none());
        changes.removed.extend(gone.map(|it| name(it).to_owned()));
        changes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    /// Whether something is said of that name that was not said before.
    pub fn is_new(&self, name: &str) -> bool {
        self.added.iter().chain(&self.changed).any(|new| new == name)
    }
}
