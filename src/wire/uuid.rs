// SPDX-License-Identifier: GPL-2.0-or-later
//! UUIDs (RFC 9562).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A UUID. Its text has lower-case digits and hyphens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// One of that version, which replaces six of the bits, as the variant does.
    pub fn new(version: u8, mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | version << 4;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// One of version 8 (5.8) made of a name by a 128-bit FNV-1a hash: stable, and no secret.
    pub fn of_name(name: &str) -> Self {
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let hash = name.bytes().fold(BASIS, |h, b| (h ^ u128::from(b)).wrapping_mul(PRIME));
        Self::new(8, hash.to_be_bytes())
    }

    /// As it is on the wire.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", u128::from_be_bytes(self.0));
        f.write_str(
            &[&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"),
        )
    }
}

/// Text that is no UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct NoUuid;

impl FromStr for Uuid {
    type Err = NoUuid;

    /// As people write it: 32 hexadecimal digits of either case, with or without the four hyphens.
    fn from_str(text: &str) -> Result<Self, NoUuid> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let plain = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number =
            u128::from_str_radix(&digits, 16).ok().filter(|_| plain && matches!(text.len(), 32 | 36));
        number.map(|number| Self(number.to_be_bytes())).ok_or(NoUuid)
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uuid {
    /// Only the text that [`Serialize`] makes.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found = text.parse().ok().filter(|uuid: &Self| uuid.to_string() == text);
        found.ok_or_else(|| de::Error::custom(NoUuid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_as_people_write_it() {
        let text = "123e4567-e89b-12d3-a456-426614174000";
        let uuid = Uuid(0x123e_4567_e89b_12d3_a456_4266_1417_4000_u128.to_be_bytes());
        for spelling in [text, "123E4567-E89B-12D3-A456-426614174000", "123e4567e89b12d3a456426614174000"] {
            assert_eq!(spelling.parse(), Ok(uuid), "{spelling}");
        }
        assert_eq!(uuid.to_string(), text);
        let wrong =
            ["", "iqn.2026-11.test:a/1", "+23e4567e89b12d3a456426614174000", &text[1..], &format!("{text}0")];
        for other in wrong {
            assert_eq!(other.parse::<Uuid>(), Err(NoUuid), "{other}");
        }
    }

    #[test]
    fn a_name_makes_one_that_stays() {
        // Known answers: stability across releases is what initiators rely on.
        assert_eq!(Uuid::of_name("").to_string(), "6c62272e-07bb-8142-a2b8-21756295c58d");
        assert_ne!(Uuid::of_name("a"), Uuid::of_name("b"));
    }

    #[test]
    fn version_and_variant_are_marked() {
        assert_eq!(Uuid::new(4, [0xff; 16]).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(Uuid::new(8, [0; 16]).to_string(), "00000000-0000-8000-8000-000000000000");
    }
}
