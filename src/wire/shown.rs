// SPDX-License-Identifier: GPL-2.0-or-later
//! Text as it may be shown in a log or on a terminal. What a peer has said is a [`PeerText`], which cannot be shown
//! otherwise; where text of any origin goes out, it goes through [`Shown`].

use std::fmt::{self, Write};
use std::ops::Deref;

/// Text that is shown with everything escaped that is no printable character: controls, line feeds, formats such as
/// those that turn the direction of what follows, private and unassigned characters.
#[derive(Clone, Copy)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| !is_printable(c)) {
            f.write_str(&rest[..at])?;
            c.escape_debug().try_for_each(|c| f.write_char(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        f.write_str(rest)
    }
}

/// Whether a character may be shown as it is.
pub fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\0'..='\x7f' => false,
        _ => {
            // The tables of the standard library, which escapes what is no letter, number, punctuation or symbol; marks
            // only where there is nothing that they are on.
            let mut text = *b"a\0\0\0\0";
            let len = 1 + c.encode_utf8(&mut text[1..]).len();
            std::str::from_utf8(&text[..len]).is_ok_and(|text| text.escape_debug().nth(2).is_none())
        }
    }
}

/// What a peer has said. It is compared and sent as it is, and shown as [`Shown`].
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerText(String);

impl<T: Into<String>> From<T> for PeerText {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl Deref for PeerText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.0).fmt(f)
    }
}

impl fmt::Debug for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes in the binary unit that leaves at most four digits before the point.
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let bytes = self.0;
        if bytes < 1024 {
            return write!(f, "{bytes} B");
        }
        let unit = (bytes.ilog2() / 10).min(6);
        let whole = 1_u64 << (10 * unit);
        // Tenths, cut rather than rounded: a disk never looks larger than it is.
        let tenths = u128::from(bytes) * 10 / u128::from(whole);
        write!(f, "{}", tenths / 10)?;
        if tenths % 10 != 0 {
            write!(f, ".{}", tenths % 10)?;
        }
        write!(f, " {}", UNITS[unit as usize - 1])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What nobody wants on a terminal or in a log, and how it is to be shown.
    pub(crate) const HOSTILE: &[(&str, &str)] = &[
        ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
        ("\x1b[2J", "\\u{1b}[2J"),
        ("x\n<0>forged", "x\\n<0>forged"),
        ("x\r\n", "x\\r\\n"),
        ("a\tb\x08\x7f", "a\\tb\\u{8}\\u{7f}"),
        ("nul\0", "nul\\0"),
        ("\u{9b}31m", "\\u{9b}31m"),
        ("\u{85}\u{2028}\u{2029}", "\\u{85}\\u{2028}\\u{2029}"),
        ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
        ("\u{feff}\u{200b}\u{e0041}", "\\u{feff}\\u{200b}\\u{e0041}"),
        ("\u{e000}\u{10ffff}", "\\u{e000}\\u{10ffff}"),
    ];

    /// Whether bytes may go to a terminal: lines of text without controls.
    pub(crate) fn is_clean(bytes: &[u8]) -> bool {
        std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(|c| c == '\n' || is_printable(c)))
    }

    #[test]
    fn what_is_not_printable_is_escaped() {
        for (text, shown) in HOSTILE {
            assert_eq!(Shown(text).to_string(), *shown);
            assert_eq!(PeerText::from(*text).to_string(), *shown);
            assert!(is_clean(format!("{:?}", PeerText::from(*text)).as_bytes()), "{text:?}");
        }
        for plain in ["", "iqn.2026-11.com.example:a", "a \\ \"b\" 'c'", "größe 北京 ½ € हिन्दी o\u{308}"]
        {
            assert_eq!(Shown(plain).to_string(), plain);
        }
    }

    #[test]
    fn no_character_gets_through_that_a_terminal_obeys() {
        let all = (0..=u32::from(char::MAX)).filter_map(char::from_u32);
        for c in all.filter(|&c| is_printable(c)) {
            assert!(!c.is_control(), "{c:?}");
            assert!(c == ' ' || !c.is_whitespace(), "{c:?}");
        }
        let bidi = ['\u{61c}', '\u{200e}', '\u{200f}'].into_iter();
        for c in bidi.chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}') {
            assert!(!is_printable(c), "{c:?}");
        }
    }
}
