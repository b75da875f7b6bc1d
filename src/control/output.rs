// SPDX-License-Identifier: GPL-2.0-or-later
//! What the command line writes, and text of JSON. What it says may come from a peer, a file or a target, so only
//! printable lines go out; a test makes sure that nothing else prints.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde::Serialize;

use crate::wire::{Shown, is_printable};

/// Writes lines to stdout. A reader that has seen enough, such as head, is no failure.
pub fn print(text: &str) {
    _ = io::stdout().write_all(lines(text).as_bytes());
}

/// Writes a message, of one line or several, to stderr.
pub fn tell(message: &str) {
    _ = writeln!(io::stderr(), "{}", lines(message));
}

/// Shows how far something has come, on a line of the terminal that the next call and the next message write over.
pub fn show_progress(text: &str) {
    _ = write!(io::stderr(), "\r{}", Shown(text));
}

/// Takes that line away.
pub fn clear_progress() {
    show_progress(&format!("{:79}", ""));
    show_progress("");
}

/// Text as it may go out: whatever is not printable is escaped, but for the ends of lines.
fn lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| Shown(line).to_string()).collect();
    lines.join("\n")
}

/// Text with a capital letter at its beginning.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A value as JSON: on one line, or indented and with a line feed at its end.
pub fn json(value: &impl Serialize, indented: bool) -> String {
    let text = match indented {
        true => serde_json::to_string_pretty(value).map(|text| text + "\n"),
        false => serde_json::to_string(value),
    };
    let text = text.expect("what is written as JSON is plain data");
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if is_printable(c) => out.push(c),
            // In a string, as JSON has such characters nowhere else; those of ASCII are escaped already, but for DEL.
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| _ = write!(out, "\\u{unit:04x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::tests::{HOSTILE, is_clean};

    #[test]
    fn lines_are_printable() {
        for (text, shown) in HOSTILE {
            let said = lines(&format!("a {text}\nb"));
            assert!(is_clean(said.as_bytes()), "{said:?}");
            if !text.contains('\n') {
                assert_eq!(said, format!("a {shown}\nb"));
            }
        }
    }

    #[test]
    fn json_is_printable_and_says_the_same() {
        for (text, _) in HOSTILE {
            let value = json!({ *text: [text, { "é": "北" }] });
            for indented in [false, true] {
                let said = json(&value, indented);
                assert!(is_clean(said.as_bytes()), "{said:?}");
                assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), value);
            }
            assert!(!json(&value, false).contains('\n'));
        }
    }
}
