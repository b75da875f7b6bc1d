// SPDX-License-Identifier: GPL-2.0-or-later
//! Text format: `key=value` pairs, each ended by a zero byte (RFC 7143 6.1).

use thiserror::Error;

/// Longest key name (RFC 7143 6.1).
const KEY_MAX: usize = 63;

/// Why a text is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// A pair has no end, no '=' or an empty key.
    #[error("malformed key=value pair")]
    Malformed,
    /// A key is too long.
    #[error("key name longer than 63 bytes")]
    KeyTooLong,
    /// The text is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
}

/// One `key=value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// Its name.
    pub key: &'a str,
    /// Its value.
    pub value: &'a str,
}

/// The pairs of a complete text. Further zero bytes between and after pairs are skipped, as padding that some
/// initiators count into the data segment.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = Result<Pair<'_>, TextError>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while let [0, more @ ..] = rest {
            rest = more;
        }
        if rest.is_empty() {
            return None;
        }
        let end = rest.iter().position(|&b| b == 0);
        let pair = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&[], |end| &rest[end + 1..]);
        Some(match end {
            // The last pair may lack its zero byte only if it is cut off, and a complete text is never cut off.
            None => Err(TextError::Malformed),
            Some(_) => parse(pair),
        })
    })
}

fn parse(pair: &[u8]) -> Result<Pair<'_>, TextError> {
    let pair = std::str::from_utf8(pair).map_err(|_| TextError::NotUtf8)?;
    let (key, value) = pair.split_once('=').ok_or(TextError::Malformed)?;
    match key.len() {
        0 => Err(TextError::Malformed),
        1..=KEY_MAX => Ok(Pair { key, value }),
        _ => Err(TextError::KeyTooLong),
    }
}

/// Appends a pair to a text.
pub fn push_pair(text: &mut Vec<u8>, key: &str, value: &str) {
    text.extend_from_slice(key.as_bytes());
    text.push(b'=');
    text.extend_from_slice(value.as_bytes());
    text.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_texts() {
        fn first(text: &[u8]) -> Result<Pair<'_>, TextError> {
            pairs(text).next().unwrap()
        }
        assert_eq!(first(b"a=b\0"), Ok(Pair { key: "a", value: "b" }));
        assert_eq!(first(b"a=\0"), Ok(Pair { key: "a", value: "" }));
        assert_eq!(first(b"a=b=c\0"), Ok(Pair { key: "a", value: "b=c" }));
        assert_eq!(first(b"a=b"), Err(TextError::Malformed));
        assert_eq!(first(b"ab\0"), Err(TextError::Malformed));
        assert_eq!(first(b"=b\0"), Err(TextError::Malformed));
        assert_eq!(first(b"a=\xff\0"), Err(TextError::NotUtf8));
        assert_eq!(first([[b'k'; 64].as_slice(), b"=v\0"].concat().as_slice()), Err(TextError::KeyTooLong));
        assert_eq!(pairs(b"\0\0").count(), 0);
    }

    proptest! {
        #[test]
        fn round_trip(list in prop::collection::vec(("[A-Za-z]{1,63}", "[ -~]{0,99}"), 0..9)) {
            let mut text = Vec::new();
            for (key, value) in &list {
                push_pair(&mut text, key, value);
            }
            let back: Vec<_> = pairs(&text).map(|p| p.map(|p| (p.key.to_owned(), p.value.to_owned())).unwrap()).collect();
            prop_assert_eq!(back, list);
        }

        #[test]
        fn any_bytes_are_answered(text in prop::collection::vec(any::<u8>(), 0..300)) {
            assert!(pairs(&text).count() <= text.len());
        }
    }
}
