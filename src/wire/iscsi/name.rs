// SPDX-License-Identifier: GPL-2.0-or-later
//! iSCSI names (RFC 7143 4.2.7): what is one, and the one spelling by which they are compared. Whatever takes a name in
//! brings it into that spelling: the configuration, logins, SendTargets, TransportIDs.

/// Longest name in bytes (RFC 7143 4.2.7.1).
pub const NAME_MAX: usize = 223;

/// The spelling of a name by which it is compared, stored and told: in lower case (RFC 3722; the digits of `eui.` and
/// `naa.` names are hexadecimal).
pub fn normal_name(name: &str) -> String {
    name.to_lowercase()
}

/// Whether that is an iSCSI name in its normal spelling, and if not, why.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.len() > NAME_MAX {
        return Err("it is longer than 223 bytes");
    }
    match name.split_once('.') {
        Some(("iqn", rest)) => iqn(rest),
        Some(("eui", digits)) if hexadecimal(digits) && digits.len() == 16 => Ok(()),
        Some(("eui", _)) => Err("16 hexadecimal digits follow \"eui.\""),
        Some(("naa", digits)) if hexadecimal(digits) && matches!(digits.len(), 16 | 32) => Ok(()),
        Some(("naa", _)) => Err("16 or 32 hexadecimal digits follow \"naa.\""),
        _ => Err("it begins with \"iqn.\", \"eui.\" or \"naa.\""),
    }
}

fn hexadecimal(digits: &str) -> bool {
    digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The part of an iqn. name after the type: a month, a domain in reverse, and after a colon what its owner likes.
fn iqn(rest: &str) -> Result<(), &'static str> {
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    let month = |text: &str| digits(text, 2) && text.parse().is_ok_and(|month: u8| (1..=12).contains(&month));
    let (date, authority) = rest.split_once('.').unwrap_or((rest, ""));
    if !date.split_once('-').is_some_and(|(y, m)| digits(y, 4) && month(m)) {
        return Err("a month such as \"2026-11\" follows \"iqn.\"");
    }
    let domain = authority.split(':').next().unwrap_or_default();
    if domain.split('.').any(|label| label.is_empty() || label.starts_with('-') || label.ends_with('-')) {
        return Err("a domain in reverse such as \"com.example\" follows the month");
    }
    // Beyond ASCII, RFC 3722 has more to say than this checks.
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b':');
    if !authority.bytes().all(allowed) {
        return Err("it has other characters than letters from a to z, digits, '.', '-' and ':'");
    }
    Ok(())
}
