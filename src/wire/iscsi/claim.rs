// SPDX-License-Identifier: GPL-2.0-or-later
//! What an initiator may call itself.

use crate::wire::is_printable;

/// Whether somebody may give this as the name of a node at login, and if not, why: a type and something printable
/// without spaces (RFC 7143 4.2.7.2, RFC 3722 6). Not refused is what initiators are seen to send although the RFC has
/// no room for it: capital letters, `_` and other punctuation of ASCII, a type in capitals, an authority that is no
/// domain.
pub fn claimed_name(name: &str) -> Result<(), &'static str> {
    /// RFC 3722 6.2 and tables B.1 and C.6 to C.8 of RFC 3454, as far as these are printable.
    const fn is_barred(c: char) -> bool {
        matches!(
            c,
            '\u{340}' | '\u{341}' | '\u{34f}' | '\u{180b}'..='\u{180d}' | '\u{2ff0}'..='\u{2ffb}' | '\u{3002}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{fffc}' | '\u{fffd}' | '\u{e0100}'..='\u{e01ef}'
        )
    }
    let typed = |kind: &str| name.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind));
    if name.chars().any(|c| c.is_whitespace()) {
        return Err("the initiator's name has a space");
    }
    if name.chars().any(|c| !is_printable(c) || is_barred(c)) {
        return Err("the initiator's name has a character that iSCSI names may not have");
    }
    match ["iqn.", "eui.", "naa."].into_iter().any(typed) {
        true if name.len() > 4 => Ok(()),
        _ => Err("the initiator's name does not begin with \"iqn.\", \"eui.\" or \"naa.\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::HOSTILE;

    #[test]
    fn names_of_real_initiators_are_taken() {
        for name in [
            "iqn.1993-08.org.debian:01:5ff6a1e0b1c",
            "iqn.1994-05.com.redhat:host_1",
            "iqn.1991-05.com.microsoft:WIN-2F5.corp.example",
            "iqn.1998-01.com.vmware:esx1-6f2a77c9",
            "iqn.2008-11.org.linux-kvm:9d0cfa1d-3a2c-4f5a-8a65-6f1f4d3b9c55",
            "iqn.2010-04.org.ipxe:00000000-0000-0000-0000-000000000000",
            "IQN.2007-10.com.github:sahlberg:libiscsi:iscsi-test",
            "iqn.2000-04.com.qlogic:qla4010.c0",
            "eui.02004567A425678D",
            "naa.52004567BA64678D",
            "iqn.2026-11.com.example:größe",
            "iqn.2026-11.com.example:北京",
        ] {
            assert_eq!(claimed_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in
            ["", "iqn.", "x", "iqn", "host1", "iqn.a b", "iqn.a\u{3000}b", "iqn.a\u{3002}b", "iqn.a\u{fe0f}"]
        {
            assert!(claimed_name(name).is_err(), "{name:?}");
        }
        for (text, _) in HOSTILE {
            assert!(claimed_name(&format!("iqn.2026-11.com.example:{text}")).is_err(), "{text:?}");
        }
    }
}
