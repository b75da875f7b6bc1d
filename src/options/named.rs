// SPDX-License-Identifier: GPL-2.0-or-later
//! Lists of tables with names, by which others refer to them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::reader::{Errors, Section, nearest};

/// The entries of a list of named tables, in the order of the file.
pub struct Named<'a, T> {
    errors: &'a Errors<'a>,
    /// One with errors is `None`.
    entries: Vec<Option<T>>,
    /// As diagnostics call them.
    paths: Vec<String>,
    spans: Vec<Range<usize>>,
    /// Also of entries with errors.
    names: BTreeMap<String, usize>,
}

impl<'a, T> Named<'a, T> {
    /// Those of a list of the file.
    pub fn read(root: &Section<'a>, key: &'static str, read: impl Fn(Section<'a>) -> Option<T>) -> Self {
        let mut named = Self::new(root);
        named.add(root, key, &str::to_owned, read);
        named
    }

    /// None of the file.
    pub fn new(root: &Section<'a>) -> Self {
        let (entries, paths, spans, names) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        Self { errors: root.errors(), entries, paths, spans, names }
    }

    /// Adds the entries of a list. Each has a name of its own, also among those that are there; `spelled` is how a name
    /// is spelled, whatever the file says.
    pub fn add(
        &mut self,
        root: &Section<'a>,
        key: &'static str,
        spelled: &dyn Fn(&str) -> String,
        read: impl Fn(Section<'a>) -> Option<T>,
    ) {
        for section in root.sections(key) {
            let index = self.entries.len();
            if let Some(name) = section.text("name").as_deref().map(spelled) {
                if name.is_empty() {
                    section.error("name", "is empty", format!("each [[{key}]] has a name"));
                } else if *self.names.entry(name.clone()).or_insert(index) != index {
                    let help = format!("each [[{key}]] has a name of its own");
                    section.error("name", format!("{name:?} is taken"), help);
                }
            }
            self.paths.push(section.path(""));
            self.spans.push(section.span());
            self.entries.push(read(section));
        }
    }

    /// Whether there is one of that name, be it one with errors.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// An entry, unless it has errors.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.entries[index].as_ref()
    }

    /// All entries, if none has errors.
    pub fn good(self) -> Option<Vec<T>> {
        self.entries.into_iter().collect()
    }

    /// All entries, as far as they have no errors.
    pub fn all(&self) -> impl Iterator<Item = Option<&T>> {
        self.entries.iter().map(Option::as_ref)
    }

    /// Those without errors, with their numbers.
    pub fn known(&self) -> impl Iterator<Item = (usize, &T)> + Clone {
        self.entries.iter().enumerate().filter_map(|(index, entry)| Some((index, entry.as_ref()?)))
    }

    /// Something is wrong with an entry as a whole: what, and what to do.
    pub fn error(&self, index: usize, message: impl Into<String>, help: impl Into<String>) {
        self.errors.add(self.spans[index].clone(), &self.paths[index], message, help);
    }

    /// The line of an entry.
    pub fn line(&self, index: usize) -> usize {
        self.errors.line(self.spans[index].start)
    }

    /// The entry that a name in a table means, which is at that place of a key.
    pub fn look_up(
        &self,
        s: &Section<'_>,
        (key, span): (&str, Range<usize>),
        name: &str,
        what: &str,
    ) -> Option<usize> {
        let found = self.names.get(name).copied();
        if found.is_none() {
            let known: Vec<&str> = self.names.keys().map(String::as_str).collect();
            let help = match known[..] {
                [] => format!("there is none: add a {what}"),
                _ => nearest(name, &known, &format!("known: {}", known.join(", "))),
            };
            s.error_at(span, key, format!("there is no {what} {name:?}"), help);
        }
        found
    }

    /// The entry that the value of a key means; `what` is its list.
    pub fn reference(&self, s: &Section<'_>, key: &'static str, what: &str) -> Option<usize> {
        self.look_up(s, (key, s.span_of(key)), &s.text(key)?, &format!("[[{what}]]"))
    }
}
