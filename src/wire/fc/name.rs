// SPDX-License-Identifier: GPL-2.0-or-later
//! Who is who: addresses in a fabric, names in the world, addresses on Ethernet.

use std::str::FromStr;

use super::field::{arrays, number, shown_in_hex};

number! {
    /// An address identifier: domain, area and port, or one of the well-known ones (FC-FS, "Address identifiers").
    FcId(u32; 3)
}

impl FcId {
    /// Of nobody yet: what a port says it is before FLOGI.
    pub const UNASSIGNED: Self = Self(0);
    /// All ports.
    pub const BROADCAST: Self = Self(0xff_ffff);
    /// The F_Port that a port is connected to, which takes FLOGI, FDISC and LOGO.
    pub const F_PORT: Self = Self(0xff_fffe);
    /// The Fabric Controller: SCR, RSCN.
    pub const FABRIC_CONTROLLER: Self = Self(0xff_fffd);
    /// The Directory Service, that is, the name server.
    pub const DIRECTORY_SERVICE: Self = Self(0xff_fffc);
    /// The Management Service.
    pub const MANAGEMENT_SERVICE: Self = Self(0xff_fffa);

    /// The controller of a domain.
    pub const fn domain_controller(domain: u8) -> Self {
        Self(0xff_fc00 | domain as u32)
    }

    /// Domain, area and port.
    pub const fn to_bytes(self) -> [u8; 3] {
        let [_, domain, area, port] = self.0.to_be_bytes();
        [domain, area, port]
    }

    /// Whether it is an address that no port of a fabric has: a service, a domain controller, everybody.
    pub const fn is_well_known(self) -> bool {
        self.0 >= 0xff_fc00
    }
}

/// A Name_Identifier of 64 bits: the name of a port, a node, a fabric (FC-FS, "Name_Identifier formats").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorldWideName([u8; 8]);

/// What a [`WorldWideName`] is made of, by its Network Address Authority (FC-FS, "Name_Identifier formats").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NaaName {
    /// NAA 1, IEEE 48-bit: a MAC address.
    Ieee48(MacAddress),
    /// NAA 2, IEEE extended: a MAC address and 12 bits of whoever owns that.
    Extended {
        /// The 12 bits.
        vendor: u16,
        /// The address.
        mac: MacAddress,
    },
    /// NAA 3, locally assigned: 60 bits.
    Local(u64),
    /// NAA 5, IEEE registered.
    Registered {
        /// The 24 bits of a company (OUI).
        company: u32,
        /// 36 bits of that company.
        serial: u64,
    },
    /// What is none of these. NAA 6, with which a name of 128 bits begins, is one: [`RegisteredExtendedName`].
    Other([u8; 8]),
}

impl WorldWideName {
    /// From its bytes.
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// The Network Address Authority.
    pub const fn naa(self) -> u8 {
        self.0[0] >> 4
    }

    /// What it is made of.
    pub fn naa_name(self) -> NaaName {
        let [a, b, mac @ ..] = self.0;
        let number = u64::from_be_bytes(self.0);
        match self.naa() {
            1 if u16::from_be_bytes([a, b]) == 0x1000 => NaaName::Ieee48(MacAddress(mac)),
            2 => NaaName::Extended { vendor: u16::from_be_bytes([a & 0xf, b]), mac: MacAddress(mac) },
            3 => NaaName::Local(number & (u64::MAX >> 4)),
            5 => {
                let company = (number >> 36) as u32 & 0xff_ffff;
                NaaName::Registered { company, serial: number & (u64::MAX >> 28) }
            }
            _ => NaaName::Other(self.0),
        }
    }
}

impl From<NaaName> for WorldWideName {
    /// Bits of a part beyond those that it has do not count.
    fn from(name: NaaName) -> Self {
        let with = |a: u16, MacAddress(mac): MacAddress| {
            let ([a, b], [c, d, e, f, g, h]) = (a.to_be_bytes(), mac);
            Self([a, b, c, d, e, f, g, h])
        };
        match name {
            NaaName::Ieee48(mac) => with(0x1000, mac),
            NaaName::Extended { vendor, mac } => with(0x2000 | vendor & 0xfff, mac),
            NaaName::Local(number) => Self((3 << 60 | number & (u64::MAX >> 4)).to_be_bytes()),
            NaaName::Registered { company, serial } => {
                let company = u64::from(company & 0xff_ffff) << 36;
                Self((5 << 60 | company | serial & (u64::MAX >> 28)).to_be_bytes())
            }
            NaaName::Other(bytes) => Self(bytes),
        }
    }
}

/// Text that is no [`WorldWideName`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a world wide name has 16 hex digits: 20:00:02:00:00:00:00:01, naa.2000020000000001 or 0x2000020000000001"
)]
pub struct NotAName;

impl FromStr for WorldWideName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let prefixed = text.strip_prefix("naa.").or_else(|| text.strip_prefix("0x"));
        let digits = match prefixed {
            Some(digits) => digits.to_owned(),
            None if text.len() == 23 && text.bytes().skip(2).step_by(3).all(|byte| byte == b':') => {
                text.split(':').collect()
            }
            None => text.to_owned(),
        };
        let hex = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u64::from_str_radix(&digits, 16).ok().filter(|_| hex);
        number.map(|number| Self(number.to_be_bytes())).ok_or(NotAName)
    }
}

/// A name of 128 bits, NAA 6, IEEE registered extended: no port has one, but a logical unit can (SPC, "NAA IEEE
/// Registered Extended designator format"; FC-FS, "Name_Identifier formats").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RegisteredExtendedName([u8; 16]);

impl RegisteredExtendedName {
    /// From its parts: 24 bits of a company (OUI), 36 bits of that company, 64 more. Bits beyond those do not count.
    pub fn new(company: u32, serial: u64, extension: u64) -> Self {
        let WorldWideName([first, ..]) = NaaName::Registered { company, serial }.into();
        let WorldWideName([_, rest @ ..]) = NaaName::Registered { company, serial }.into();
        let mut bytes = [0; 16];
        bytes[0] = 0x60 | first & 0xf;
        bytes[1..8].copy_from_slice(&rest);
        bytes[8..].copy_from_slice(&extension.to_be_bytes());
        Self(bytes)
    }

    /// From bytes, if they begin with NAA 6.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes[0] >> 4 == 6).then_some(Self(bytes))
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// An address on Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Nobody's: what asks for an address of the fabric's choice in FLOGI.
    pub const ZERO: Self = Self([0; 6]);
    /// All FCoE devices (FC-BB-6, "FIP group addresses").
    pub const ALL_FCOE: Self = Self([0x01, 0x10, 0x18, 0x01, 0x00, 0x00]);
    /// All nodes, ENodes (FC-BB-6, "FIP group addresses").
    pub const ALL_ENODE: Self = Self([0x01, 0x10, 0x18, 0x01, 0x00, 0x01]);
    /// All forwarders, FCFs (FC-BB-6, "FIP group addresses").
    pub const ALL_FCF: Self = Self([0x01, 0x10, 0x18, 0x01, 0x00, 0x02]);
    /// All VN2VN nodes (FC-BB-6, "FIP group addresses").
    pub const ALL_VN2VN: Self = Self([0x01, 0x10, 0x18, 0x01, 0x00, 0x04]);
    /// All point-to-point nodes (FC-BB-6, "FIP group addresses").
    pub const ALL_PT2PT: Self = Self([0x01, 0x10, 0x18, 0x01, 0x00, 0x05]);
    /// Where FCoE goes in a network without FIP.
    pub const FCOE_WITHOUT_FIP: Self = Self([0x0e, 0xfc, 0x00, 0xff, 0xff, 0xfe]);

    /// The address of a VN_Port that is made of its identifier: FPMA (FC-BB-6, "Fabric Provided MAC Addresses"), and in
    /// VN2VN.
    pub const fn of_vn_port(map: FcMap, id: FcId) -> Self {
        let ([_, a, b, c], [d, e, f]) = (map.raw().to_be_bytes(), id.to_bytes());
        Self([a, b, c, d, e, f])
    }

    /// Whether it is a group's, or everybody's.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

number! {
    /// FC-MAP: the first half of the addresses that are made of identifiers (FC-BB-6, "Fabric Provided MAC Addresses").
    FcMap(u32; 3)
}

impl FcMap {
    /// That of fabrics, unless the administrator has chosen another one up to 0e:fc:ff.
    pub const DEFAULT: Self = Self(0x0e_fc00);
    /// That of VN2VN.
    pub const VN2VN: Self = Self(0x0e_fd00);
}

arrays!(WorldWideName MacAddress);

shown_in_hex! {
    FcId: ".",
    WorldWideName: ":",
    MacAddress: ":",
    FcMap: ":",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_what_their_authority_says() {
        let mac = MacAddress([0x02, 0xfc, 0, 0, 0, 0x0b]);
        let shown = [
            (NaaName::Ieee48(mac), "10:00:02:fc:00:00:00:0b"),
            (NaaName::Extended { vendor: 0x123, mac }, "21:23:02:fc:00:00:00:0b"),
            (NaaName::Local(0x123_4567_89ab_cdef), "31:23:45:67:89:ab:cd:ef"),
            (NaaName::Registered { company: 0x00_1405, serial: 0xf_edcb_a987 }, "50:01:40:5f:ed:cb:a9:87"),
            (NaaName::Other([0xc0, 0, 0, 0, 0, 0, 0, 1]), "c0:00:00:00:00:00:00:01"),
        ];
        for (name, text) in shown {
            let wwn = WorldWideName::from(name);
            assert_eq!(wwn.to_string(), text);
            assert_eq!(wwn.naa_name(), name);
            assert_eq!(u8::from_str_radix(&text[..1], 16), Ok(wwn.naa()));
            let plain = text.replace(':', "");
            for text in [text.to_owned(), format!("naa.{plain}"), format!("0x{plain}"), plain.clone()] {
                assert_eq!(text.parse(), Ok(wwn), "{text}");
            }
        }
        let long = RegisteredExtendedName::new(0x00_1405, 0xf_edcb_a987, 0x0123_4567_89ab_cdef);
        assert_eq!(u128::from_be_bytes(long.to_bytes()), 0x6001_405f_edcb_a987_0123_4567_89ab_cdef);
        assert_eq!(RegisteredExtendedName::from_bytes(long.to_bytes()), Some(long));
        assert_eq!(RegisteredExtendedName::from_bytes([0x50; 16]), None);
        // An NAA 1 that is more than an address stays what it is.
        let odd = WorldWideName::new([0x12, 0x34, 1, 2, 3, 4, 5, 6]);
        assert_eq!(WorldWideName::from(odd.naa_name()), odd);
    }

    #[test]
    fn text_that_is_no_name_is_none() {
        for text in [
            "",
            "naa.",
            "0x",
            "200002fc0000000",
            "200002fc0000000bb",
            "naa.20:00:02:fc:00:00:00:0b",
            "20:00:02:fc:00:00:00",
            "2000:02:fc:00:00:00:0b0",
            "+00002fc0000000b",
            "20 00 02 fc 00 00 00 0b",
            "200002fc0000000g",
            "éééééééé",
            "20:00:02:fc:00:00:0:00b",
            "ff:ff:ff:ff:ff:ff:ff:f:",
        ] {
            assert_eq!(text.parse::<WorldWideName>(), Err(NotAName), "{text}");
        }
    }

    #[test]
    fn addresses_of_ports_are_made_of_their_identifiers() {
        let id = FcId::new(0xff00_000b);
        assert_eq!((id.to_string(), id.raw()), ("00.00.0b".to_owned(), 0xb));
        assert_eq!(MacAddress::of_vn_port(FcMap::VN2VN, id).to_string(), "0e:fd:00:00:00:0b");
        assert_eq!(MacAddress::of_vn_port(FcMap::DEFAULT, FcId::F_PORT), MacAddress::FCOE_WITHOUT_FIP);
        assert!(MacAddress::ALL_ENODE.is_group() && !MacAddress::FCOE_WITHOUT_FIP.is_group());
        assert_eq!(FcId::domain_controller(7).to_string(), "ff.fc.07");
        assert!(FcId::domain_controller(0).is_well_known() && !FcId::new(0xff_fbff).is_well_known());
    }
}
