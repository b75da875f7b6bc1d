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

/// A number, decimal or hexadecimal (RFC 7143 6.1).
pub fn number(value: &str) -> Option<u32> {
    let (digits, radix) = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (value, 10),
    };
    // `from_str_radix` takes a sign, which the format does not have.
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// A binary value of at most `max` bytes, in hexadecimal or base64 (RFC 7143 6.1). An odd number of hexadecimal digits
/// lacks a leading zero.
pub fn binary(value: &str, max: usize) -> Option<Vec<u8>> {
    let (prefix, digits) = value.split_at_checked(2)?;
    let bytes = match prefix {
        "0x" | "0X" if digits.len() <= 2 * max => hexadecimal(digits.as_bytes())?,
        "0b" | "0B" if digits.len() <= max.div_ceil(3) * 4 => base64(digits.as_bytes())?,
        _ => return None,
    };
    (bytes.len() <= max).then_some(bytes)
}

fn hexadecimal(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let values: Vec<u8> = digits.iter().map(digit).collect::<Option<_>>()?;
    let (odd, pairs) = values.split_at(values.len() % 2);
    Some(odd.iter().copied().chain(pairs.chunks(2).map(|pair| pair[0] << 4 | pair[1])).collect())
}

/// RFC 4648 4, with its padding.
fn base64(digits: &[u8]) -> Option<Vec<u8>> {
    let padding = digits.iter().rev().take_while(|&&b| b == b'=').count();
    if !digits.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let digit = |&b: &u8| {
        Some(match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    let values: Vec<u8> = digits[..digits.len() - padding].iter().map(digit).collect::<Option<_>>()?;
    let groups = values.chunks(4).flat_map(|group| {
        let bits = group.iter().fold(0, |bits, &six| bits << 6 | u32::from(six)) << (6 * (4 - group.len()));
        let [_, bytes @ ..] = bits.to_be_bytes();
        bytes.into_iter().take(group.len() - 1)
    });
    Some(groups.collect())
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

    #[test]
    fn binary_values() {
        for (value, expected) in [
            ("0x00ff10", Some(&[0, 255, 16][..])),
            ("0XABC", Some(&[0x0a, 0xbc][..])),
            ("0x", Some(&[][..])),
            ("0bAP8Q", Some(&[0, 255, 16][..])),
            ("0bAP8=", Some(&[0, 255][..])),
            ("0BAA==", Some(&[0][..])),
            ("0x0g", None),
            ("0bAP8", None),
            ("0bA===", None),
            ("0b=AAA", None),
            ("00ff", None),
            ("0", None),
            ("", None),
            ("0x01020304", None),
            ("0bAAECAw==", None),
        ] {
            assert_eq!(binary(value, 3).as_deref(), expected, "{value}");
        }
        assert_eq!(
            [number("0x1F"), number("31"), number("-1"), number("")],
            [Some(31), Some(31), None, None]
        );
    }

    proptest! {
        #[test]
        fn any_value_is_answered(value in "0[xXbB]?[ -~]{0,40}") {
            assert!(binary(&value, 8).is_none_or(|bytes| bytes.len() <= 8));
        }

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
