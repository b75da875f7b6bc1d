// SPDX-License-Identifier: GPL-2.0-or-later
//! The initiators' side of CHAP, in both directions (RFC 7143 12.1.3).

use crate::fabrics::iscsi::{Account, Algorithm, Authentication, Secret};
use crate::wire::iscsi::{binary, pairs};

/// The account of all initiators.
pub(super) const NAME: &str = "world";
const SECRET: &[u8] = b"as many bytes as it takes";
const TARGET_SECRET: &[u8] = b"those of the other side";

/// Our challenge: any will do here.
const CHALLENGE: [u8; 16] = [0x5a; 16];
const IDENTIFIER: u8 = 9;

/// What the target wants.
pub(super) fn authentication() -> Authentication {
    let account =
        |name: &str, secret| Account { name: name.into(), secret: Secret::new(secret).expect("long enough") };
    Authentication {
        accounts: vec![account(NAME, SECRET)],
        own: Some(account("target", TARGET_SECRET)),
        algorithms: Algorithm::ALL.to_vec(),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The answer to a challenge, with our own: pairs to be sent.
pub(super) fn answer(text: &[u8]) -> Result<Vec<(&'static str, String)>, String> {
    let value = |key: &str| {
        let found = pairs(text).flatten().find(|pair| pair.key == key);
        found.map(|pair| pair.value).ok_or_else(|| format!("a challenge without {key}"))
    };
    let identifier = value("CHAP_I")?.parse().map_err(|e| format!("CHAP_I: {e}"))?;
    let challenge = binary(value("CHAP_C")?, 1024).ok_or("CHAP_C is no number")?;
    if value("CHAP_A")? != "7" {
        return Err("another algorithm than the one offered".into());
    }
    let response = Algorithm::Sha256.response(identifier, SECRET, &challenge);
    Ok(vec![
        ("CHAP_N", NAME.into()),
        ("CHAP_R", hexadecimal(&response)),
        ("CHAP_I", IDENTIFIER.to_string()),
        ("CHAP_C", hexadecimal(&CHALLENGE)),
    ])
}

/// Whether the target has shown that it knows its own secret.
pub(super) fn is_proved(text: &[u8]) -> bool {
    let wanted = Algorithm::Sha256.response(IDENTIFIER, TARGET_SECRET, &CHALLENGE);
    pairs(text).flatten().any(|pair| pair.key == "CHAP_R" && pair.value == hexadecimal(&wanted))
}
