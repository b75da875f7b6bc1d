// SPDX-License-Identifier: GPL-2.0-or-later
//! Reading tables of a TOML document so that every error is kept, with its place, and reading goes on.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Line, from 1; 0 if the file could not be read at all.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Which key, as in `target[0].luns[1].lun`; empty for an error of syntax.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What is allowed, or what to do.
    pub help: String,
}

/// Diagnostics as a person wants to read them, with the lines that they are about.
pub fn render(path: &Path, text: &str, diagnostics: &[Diagnostic]) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let path = path.display();
    for Diagnostic { line, column, key, message, help } in diagnostics {
        let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
        _ = writeln!(out, "{path}:{line}:{column}: {key}{message}");
        if let Some(source) = line.checked_sub(1).and_then(|line| text.lines().nth(line)) {
            _ = writeln!(out, "{line:>5} | {source}");
            _ = writeln!(out, "      | {:>width$}", '^', width = *column);
        }
        if !help.is_empty() {
            _ = writeln!(out, "      = {help}");
        }
    }
    out
}

/// What is wrong so far.
pub(super) struct Errors<'a> {
    text: &'a str,
    found: RefCell<Vec<Diagnostic>>,
}

impl<'a> Errors<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, found: RefCell::new(Vec::new()) }
    }

    pub(super) fn add(
        &self,
        span: Range<usize>,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let before = &self.text[..span.start.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let (key, message, help) = (key.to_owned(), message.into(), help.into());
        self.found.borrow_mut().push(Diagnostic { line, column, key, message, help });
    }

    /// All of them, in the order of the file.
    pub(super) fn finish(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|d| (d.line, d.column));
        found.dedup();
        found
    }
}

/// A table whose keys are asked for one by one; what was not asked for is unknown.
pub(super) struct Section<'a> {
    table: Option<&'a DeTable<'a>>,
    span: Range<usize>,
    path: String,
    errors: &'a Errors<'a>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        table: Option<&'a DeTable<'a>>,
        span: Range<usize>,
        path: String,
        errors: &'a Errors<'a>,
    ) -> Self {
        Self { table, span, path, errors, asked: RefCell::default() }
    }

    /// Where the table begins.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn error(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        let span = self.table.and_then(|table| table.get(key)).map_or_else(|| self.span(), Spanned::span);
        self.errors.add(span, &self.key(key), message, help);
    }

    fn get(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.borrow_mut().insert(key);
        self.table?.get(key)
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.errors.add(value.span(), &self.key(key), format!("is a {found}"), format!("give {wanted}"));
    }

    /// A string.
    pub(super) fn text(&self, key: &'static str, wanted: &str) -> Option<String> {
        let value = self.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, wanted);
        }
        text.map(str::to_owned)
    }

    /// A string that means something.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(key, wanted)?;
        let value = parse(&text);
        if value.is_none() {
            self.error(key, format!("{text:?} is not {wanted}"), format!("give {wanted}"));
        }
        value
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let wanted = format!("one of {}", list(&words));
        let text = self.text(key, &wanted)?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            self.error(
                key,
                format!("{text:?} is unknown"),
                nearest(&text, &words, &format!("give {wanted}")),
            );
        }
        found
    }

    /// A whole number in a range.
    pub(super) fn number(&self, key: &'static str, low: u64, high: u64) -> Option<u64> {
        let value = self.get(key)?;
        let wanted = format!("a whole number from {low} to {high}");
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, &wanted);
            return None;
        };
        let digits = integer.as_str().replace('_', "");
        let number = u64::from_str_radix(&digits, integer.radix()).ok().filter(|n| (low..=high).contains(n));
        if number.is_none() {
            self.error(key, format!("{} is out of range", integer.as_str()), format!("give {wanted}"));
        }
        number
    }

    /// Yes or no.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        flag
    }

    /// A size in bytes, in a range: a number, or a string with a unit.
    pub(super) fn size(&self, key: &'static str, low: u64, high: u64) -> Option<u64> {
        const WANTED: &str = "a size such as 4096, \"512KiB\", \"1GiB\" or \"2TB\"";
        let value = self.get(key)?;
        let size = match value.get_ref() {
            DeValue::Integer(integer) => integer.as_str().replace('_', "").parse().ok(),
            DeValue::String(text) => size(text),
            _ => {
                self.wrong_type(key, value, WANTED);
                return None;
            }
        };
        match size {
            None => self.error(key, "is not a size", format!("give {WANTED}")),
            Some(size) if !(low..=high).contains(&size) => {
                self.error(
                    key,
                    format!("{size} bytes is out of range"),
                    format!("give {low} to {high} bytes"),
                );
            }
            Some(_) => return size,
        }
        None
    }

    /// A time, as a string with a unit.
    pub(super) fn duration(&self, key: &'static str, max: Duration) -> Option<Duration> {
        let wanted = format!("a time up to {max:?} such as \"50us\", \"10ms\" or \"30s\"");
        self.parsed(key, &wanted, |text| duration(text).filter(|d| *d <= max))
    }

    /// Strings that mean something, each with its place.
    pub(super) fn texts<T>(
        &self,
        key: &'static str,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<(T, Range<usize>)>> {
        let value = self.get(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, &format!("a list, each entry {wanted}"));
            return None;
        };
        let entries = array.iter().enumerate().filter_map(|(i, entry)| {
            let parsed = entry.get_ref().as_str().and_then(&parse);
            if parsed.is_none() {
                let path = self.key(&format!("{key}[{i}]"));
                self.errors.add(entry.span(), &path, format!("is not {wanted}"), format!("give {wanted}"));
            }
            parsed.map(|parsed| (parsed, entry.span()))
        });
        Some(entries.collect())
    }

    /// Whole numbers.
    pub(super) fn numbers(&self, key: &'static str, high: u64) -> Option<Vec<u64>> {
        let value = self.get(key)?;
        let wanted = format!("a list of whole numbers up to {high}");
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, &wanted);
            return None;
        };
        let entries = array.iter().enumerate().filter_map(|(i, entry)| {
            let number = entry.get_ref().as_integer().and_then(|n| n.as_str().parse().ok());
            let number = number.filter(|n| *n <= high);
            if number.is_none() {
                let path = self.key(&format!("{key}[{i}]"));
                self.errors.add(entry.span(), &path, "is not such a number", format!("give {wanted}"));
            }
            number
        });
        Some(entries.collect())
    }

    /// A table inside this one.
    pub(super) fn section(&self, key: &'static str) -> Self {
        let path = self.key(key);
        match self.get(key) {
            None => Self::new(None, self.span(), path, self.errors),
            Some(value) => {
                let table = value.get_ref().as_table();
                if table.is_none() {
                    self.wrong_type(key, value, "a table");
                }
                Self::new(table, value.span(), path, self.errors)
            }
        }
    }

    /// The tables of a list.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, &format!("a list of tables: [[{key}]]"));
            return Vec::new();
        };
        let entries = array.iter().enumerate().map(|(i, entry)| {
            let path = self.key(&format!("{key}[{i}]"));
            let table = entry.get_ref().as_table();
            if table.is_none() {
                self.errors.add(entry.span(), &path, "is not a table", "give { key = value, ... }");
            }
            Self::new(table, entry.span(), path, self.errors)
        });
        entries.collect()
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        let asked: Vec<&str> = self.asked.borrow().iter().copied().collect();
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if !asked.contains(&name) {
                let help = nearest(name, &asked, &format!("known here: {}", list(&asked)));
                self.errors.add(key.span(), &self.key(name), "unknown key", help);
            }
        }
    }
}

fn list(words: &[&str]) -> String {
    words.join(", ")
}

/// Points at the known word that was probably meant.
pub(super) fn nearest(word: &str, known: &[&str], otherwise: &str) -> String {
    let close = known.iter().map(|known| (distance(word, known), known)).min();
    match close {
        Some((d, known)) if d <= 1 + word.len() / 4 => format!("did you mean {known:?}?"),
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

pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = quantity(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
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
