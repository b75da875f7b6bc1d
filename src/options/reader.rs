// SPDX-License-Identifier: GPL-2.0-or-later
//! Reading tables of a TOML document so that every error is kept, with its place, and reading goes on. What a key may
//! be and what holds without it its [`Table`] says.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Absent, Key, Table, ValueKind, below};
use crate::wire::{Shown, is_printable};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    /// Line, from 1; 0 if the file could not be read at all.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// How many characters of that line it is about.
    pub width: usize,
    /// Which key, as in `target[0].luns[1].lun`; empty for an error of syntax.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What is allowed, or what to do.
    pub help: String,
}

impl Diagnostic {
    /// The file as a whole is wrong, or what it needs: a thing by that name, or the file itself.
    pub fn of_file(key: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        let (key, message, help) = (key.into(), message.into(), help.into());
        Self { line: 0, column: 0, width: 0, key, message, help }
    }
}

/// Diagnostics as a person wants to read them, with the lines that they are about.
pub fn render(path: &Path, text: &str, diagnostics: &[Diagnostic]) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let path = path.display();
    for Diagnostic { line, column, width, key, message, help } in diagnostics {
        let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
        let place = if *line == 0 { String::new() } else { format!(":{line}:{column}") };
        _ = writeln!(out, "{path}{place}: {}{message}", Shown(&key));
        if let Some(source) = line.checked_sub(1).and_then(|line| text.lines().nth(line)) {
            // A tab is one column wide, here as in the count.
            let source: String = source.chars().map(|c| if is_printable(c) { c } else { ' ' }).collect();
            let source = without_secret(&source);
            _ = writeln!(out, "{line:>5} | {source}");
            _ = writeln!(out, "      | {}{}", " ".repeat(column - 1), "^".repeat(*width));
        }
        if !help.is_empty() {
            _ = writeln!(out, "      = {help}");
        }
    }
    out
}

/// A line of a configuration as it may be shown: a secret is in it only as stars.
fn without_secret(line: &str) -> String {
    let Some(at) = line.find("secret") else { return line.to_owned() };
    let (before, after) = line.split_at(at);
    let mut quote = None;
    let masked = after.chars().map(|c| match (c, quote) {
        ('"' | '\'', None) => {
            quote = Some(c);
            c
        }
        (c, Some(open)) if c == open => {
            quote = None;
            c
        }
        (_, Some(_)) => '*',
        (c, None) => c,
    });
    before.chars().chain(masked.collect::<Vec<_>>()).collect()
}

/// What is wrong so far.
pub struct Errors<'a> {
    text: &'a str,
    found: RefCell<Vec<Diagnostic>>,
}

impl<'a> Errors<'a> {
    /// Nothing yet is wrong with a file of that text.
    pub fn new(text: &'a str) -> Self {
        Self { text, found: RefCell::new(Vec::new()) }
    }

    /// The line of a place in the file, from 1.
    pub fn line(&self, place: usize) -> usize {
        self.text[..self.text.floor_char_boundary(place)].matches('\n').count() + 1
    }

    /// Something at a place is wrong: with that key, what, and what to do.
    pub fn add(&self, span: Range<usize>, key: &str, message: impl Into<String>, help: impl Into<String>) {
        let (before, after) = self.text.split_at(self.text.floor_char_boundary(span.start));
        let line = self.line(span.start);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let about = after.lines().next().unwrap_or_default();
        let about = &about[..about.floor_char_boundary(span.len())];
        let width = about.chars().count().max(1);
        let (key, message, help) = (key.to_owned(), message.into(), help.into());
        self.found.borrow_mut().push(Diagnostic { line, column, width, key, message, help });
    }

    /// All of them, in the order of the file.
    pub fn finish(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        found.sort();
        found.dedup();
        found
    }
}

/// A table whose keys are asked for one by one. What was not asked for does not belong there.
pub struct Section<'a> {
    /// `None` if the file does not have it, or has something else in its place.
    table: Option<&'a DeTable<'a>>,
    keys: &'static Table,
    /// As in `target.luns`; empty for the file itself.
    name: String,
    span: Range<usize>,
    path: String,
    errors: &'a Errors<'a>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Section<'a> {
    /// The file itself, which may have these keys.
    pub fn root(table: &'a DeTable<'a>, keys: &'static Table, errors: &'a Errors<'a>) -> Self {
        let (name, path) = (String::new(), String::new());
        Self { table: Some(table), keys, name, span: 0..0, path, errors, asked: RefCell::default() }
    }

    /// A table inside this one.
    fn inside(
        &self,
        table: Option<&'a DeTable<'a>>,
        (key, keys): (&str, &'static Table),
        span: Range<usize>,
        path: String,
    ) -> Self {
        let name = below(&self.name, key);
        Self { table, keys, name, span, path, errors: self.errors, asked: RefCell::default() }
    }

    /// What is wrong with the file so far.
    pub fn errors(&self) -> &'a Errors<'a> {
        self.errors
    }

    /// Where the table is, or what stands in its place.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where the value of a key is, or the table if it is not there.
    pub fn span_of(&self, key: &str) -> Range<usize> {
        self.get(key).map_or_else(|| self.span(), Spanned::span)
    }

    /// A key as diagnostics call it; the table itself if it is empty.
    pub fn path(&self, key: &str) -> String {
        below(&self.path, self.spelling(key))
    }

    /// Something is wrong with a key: what, and what to do.
    pub fn error(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        self.errors.add(self.span_of(key), &self.path(key), message, help);
    }

    /// Something at a place of a key's value is wrong: what, and what to do.
    pub fn error_at(
        &self,
        span: Range<usize>,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.errors.add(span, &self.path(key), message, help);
    }

    fn key(&self, name: &'static str) -> &'static Key {
        let key = self.keys.key(name).expect("only keys of the table are asked for");
        self.asked.borrow_mut().extend([key.name, key.alias].into_iter().filter(|name| !name.is_empty()));
        key
    }

    /// A key as the file spells it.
    fn spelling<'k>(&self, name: &'k str) -> &'k str {
        let has = |name| self.table.is_some_and(|table| table.contains_key(name));
        match self.keys.key(name) {
            Some(key) if !has(key.name) && !key.alias.is_empty() && has(key.alias) => key.alias,
            _ => name,
        }
    }

    fn get(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.and_then(|table| table.get(self.spelling(name)))
    }

    fn give(&self, name: &'static str) -> String {
        format!("give {}", self.key(name).allowed(&self.name))
    }

    /// Whether the file has it.
    pub fn given(&self, name: &'static str) -> bool {
        self.key(name);
        self.get(name).is_some()
    }

    /// A key that need not be there: `Some(None)` without it, else what `read` makes of it.
    pub fn optional<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&'static str) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.given(name) { read(name).map(Some) } else { Some(None) }
    }

    /// The value in the file, else the default.
    fn value(&self, name: &'static str) -> Option<Cow<'a, Spanned<DeValue<'a>>>> {
        let key = self.key(name);
        if let Some(value) = self.get(name) {
            return Some(Cow::Borrowed(value));
        }
        match key.absent {
            Absent::Is(text) => Some(Cow::Owned(DeValue::parse(text).expect("defaults are TOML"))),
            Absent::Means(_) => None,
            Absent::Required => {
                if self.table.is_some() {
                    self.missing(name);
                }
                None
            }
        }
    }

    /// Complains that a key is not there.
    pub fn missing(&self, name: &'static str) {
        self.error(name, "is missing", self.give(name));
    }

    fn wrong_type(&self, name: &'static str, value: &Spanned<DeValue<'_>>) {
        let found = match value.get_ref().type_str() {
            "array" => "a list",
            "integer" => "an integer",
            "boolean" => "true or false",
            "datetime" => "a date or time",
            "float" => "a number with a point",
            "table" => "a table",
            _ => "a string",
        };
        let wanted = self.give(name);
        self.errors.add(value.span(), &self.path(name), format!("is {found}"), wanted);
    }

    /// A string.
    pub fn text(&self, name: &'static str) -> Option<String> {
        let value = self.value(name)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(name, &value);
        }
        text.map(str::to_owned)
    }

    /// A string that means something.
    pub fn parsed<T>(&self, name: &'static str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(&text);
        if value.is_none() {
            self.error(name, format!("{text:?} is not allowed"), self.give(name));
        }
        value
    }

    /// One of a few words; `values` go with those of the key, in their order.
    pub fn word<T: Copy>(&self, name: &'static str, values: &[T]) -> Option<T> {
        let ValueKind::Word(words) = self.key(name).kind else { unreachable!("{name} is not a word") };
        let text = self.text(name)?;
        let found = words.iter().zip(values).find(|(word, _)| **word == text);
        if found.is_none() {
            let help = nearest(&text, words, &format!("give {}", ValueKind::Word(words)));
            self.error(name, format!("{text:?} is unknown"), help);
        }
        found.map(|(_, value)| *value)
    }

    /// A whole number in the key's range.
    pub fn number<T: TryFrom<u64>>(&self, name: &'static str) -> Option<T> {
        let value = self.value(name)?;
        let kind = self.key(name).kind;
        let ValueKind::Number(low, high) = kind else { unreachable!("{name} is not a number") };
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(name, &value);
            return None;
        };
        let number = whole(&value).filter(|number| (low..=high).contains(number));
        if number.is_none() {
            self.error(name, format!("{integer} is out of range"), format!("give {kind}"));
        }
        number.and_then(|number| T::try_from(number).ok())
    }

    /// Yes or no.
    pub fn flag(&self, name: &'static str) -> Option<bool> {
        let value = self.value(name)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(name, &value);
        }
        flag
    }

    /// A size in bytes, in the key's range: a number, or a string with a unit.
    pub fn size<T: TryFrom<u64>>(&self, name: &'static str) -> Option<T> {
        let value = self.value(name)?;
        let kind = self.key(name).kind;
        let ValueKind::Size(low, high) = kind else { unreachable!("{name} is not a size") };
        let size = match value.get_ref() {
            DeValue::Integer(_) => whole(&value),
            DeValue::String(text) => size(text),
            _ => {
                self.wrong_type(name, &value);
                return None;
            }
        };
        let message = match size {
            None => "is not a size",
            Some(size) if !(low..=high).contains(&size) => "is out of range",
            Some(size) => return T::try_from(size).ok(),
        };
        self.error(name, message, format!("give {kind}"));
        None
    }

    /// A time, as a string with a unit, in the key's range.
    pub fn time(&self, name: &'static str) -> Option<Duration> {
        let ValueKind::Time(max) = self.key(name).kind else { unreachable!("{name} is not a time") };
        self.parsed(name, |text| duration(text).filter(|time| *time <= max))
    }

    /// The entries of a list that mean something, each with its place.
    fn list<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&Spanned<DeValue<'_>>) -> Option<T>,
    ) -> Option<Vec<(T, Range<usize>)>> {
        let value = self.value(name)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(name, &value);
            return None;
        };
        let entries = array.iter().enumerate().map(|(i, entry)| {
            let parsed = parse(entry);
            if parsed.is_none() {
                let path = self.path(&format!("{name}[{i}]"));
                let help = match self.key(name).kind {
                    ValueKind::Texts(each) => format!("give {each}"),
                    kind => format!("give {kind}"),
                };
                self.errors.add(entry.span(), &path, "is not allowed", help);
            }
            parsed.map(|parsed| (parsed, entry.span()))
        });
        // All entries are looked at, though one that is wrong spoils the list.
        entries.collect::<Vec<_>>().into_iter().collect()
    }

    /// Strings that mean something.
    pub fn texts<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<(T, Range<usize>)>> {
        self.list(name, |entry| entry.get_ref().as_str().and_then(&parse))
    }

    /// Whole numbers.
    pub fn numbers(&self, name: &'static str) -> Option<Vec<(u64, Range<usize>)>> {
        let ValueKind::Numbers(high) = self.key(name).kind else {
            unreachable!("{name} is not a list of numbers")
        };
        self.list(name, |entry| whole(entry).filter(|number| *number <= high))
    }

    /// A table inside this one. Without it, its defaults hold.
    pub fn section(&self, name: &'static str) -> Self {
        let ValueKind::Table(keys) = self.key(name).kind else { unreachable!("{name} is not a table") };
        let value = self.get(name);
        let table = value.and_then(|value| value.get_ref().as_table());
        if let (Some(value), None) = (value, table) {
            self.wrong_type(name, value);
        }
        let span = value.map_or_else(|| self.span(), Spanned::span);
        self.inside(table, (name, keys), span, self.path(name))
    }

    /// The tables of a list.
    pub fn sections(&self, name: &'static str) -> Vec<Self> {
        let ValueKind::Tables(keys) = self.key(name).kind else {
            unreachable!("{name} is not a list of tables")
        };
        let Some(value) = self.get(name) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(name, value);
            return Vec::new();
        };
        let entries = array.iter().enumerate().map(|(i, entry)| {
            let path = self.path(&format!("{name}[{i}]"));
            let table = entry.get_ref().as_table();
            if table.is_none() {
                self.errors.add(entry.span(), &path, "is not a table", "give { key = value, ... }");
            }
            self.inside(table, (name, keys), entry.span(), path)
        });
        entries.collect()
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        let known: Vec<&str> = self.keys.keys().map(|key| key.name).collect();
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let spelling = self.keys.key(name).map_or(name, |key| self.spelling(key.name));
            if spelling != name {
                let message = format!("is another spelling of `{spelling}`");
                self.errors.add(key.span(), &below(&self.path, name), message, "give one of them");
            }
            if asked.contains(name) {
                continue;
            }
            let (message, help) = match self.keys.key(name) {
                Some(key) => ("does not apply here", key.doc.to_owned()),
                None => ("unknown key", nearest(name, &known, &format!("known here: {}", known.join(", ")))),
            };
            self.errors.add(key.span(), &below(&self.path, name), message, help);
        }
    }
}

fn whole(value: &Spanned<DeValue<'_>>) -> Option<u64> {
    let integer = value.get_ref().as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// Points at the known word that was probably meant.
pub fn nearest(word: &str, known: &[&str], otherwise: &str) -> String {
    let close = known.iter().map(|known| (distance(word, known), known)).min();
    match close {
        Some((d, known)) if d <= 1 + word.len() / 3 => format!("did you mean {known:?}?"),
        _ => otherwise.to_owned(),
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

/// Number and unit of a string such as "10 ms".
fn quantity(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim()))
}

/// Bytes of a text such as "1GiB" or "500MB", as a key of the configuration or an argument gives them.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = quantity(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        "PiB" | "P" => 1 << 50,
        "EiB" | "E" => 1 << 60,
        "KB" | "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = quantity(text)?;
    match unit {
        "us" | "µs" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "min" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}
