// SPDX-License-Identifier: GPL-2.0-or-later
//! Who talks to whom, by names that outlive a session: TransportIDs (SPC-5 7.6.4), target ports and I_T nexuses (SAM-5
//! 4.5 and 4.6).

use std::fmt;
use std::sync::Arc;

use crate::wire::Shown;
use crate::wire::iscsi::{NAME_MAX, normal_name};
use crate::wire::scsi::{DataIn, be16};

/// PROTOCOL IDENTIFIER of iSCSI (SPC-5 7.6.1).
const ISCSI: u8 = 0x05;
/// FORMAT CODE of a TransportID of iSCSI that names an initiator port, not all ports of an initiator.
const PORT_FORMAT: u8 = 0x40;
/// What parts name and ISID of an initiator port's name (RFC 7143 4.4.1).
const ISID_MARK: &str = ",i,0x";
/// Length of the TransportIDs of all protocols but iSCSI.
const PLAIN_LEN: usize = 24;

/// An initiator port's TransportID. Two of the same port are equal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransportId(Arc<[u8]>);

impl TransportId {
    /// The longest: an iSCSI initiator port with the longest name.
    pub const LEN_MAX: usize = 4 + (NAME_MAX + ISID_MARK.len() + 12 + 1).next_multiple_of(4);

    /// The iSCSI initiator port of that name and ISID. A name that is too long is cut.
    pub fn iscsi(name: &str, isid: [u8; 6]) -> Self {
        let isid = isid.iter().fold(0, |all, &byte| all << 8 | u64::from(byte));
        let name: String = normal_name(name).chars().take(NAME_MAX).collect();
        let text = format!("{name}{ISID_MARK}{isid:012x}");
        let len = (text.len() + 1).next_multiple_of(4).max(20);
        let [high, low] = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
        let mut bytes = vec![PORT_FORMAT | ISCSI, 0, high, low];
        bytes.extend(text.as_bytes());
        bytes.resize(4 + len, 0);
        Self(bytes.into())
    }

    /// The TransportID at the beginning of `bytes`, and its length; `None` if it is none, or names all ports of an iSCSI
    /// initiator, which no target can know.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let first = *bytes.first()?;
        if first & 0x0f != ISCSI {
            return (first & 0xf0 == 0 && bytes.len() >= PLAIN_LEN)
                .then(|| (Self(bytes[..PLAIN_LEN].into()), PLAIN_LEN));
        }
        let len = 4 + usize::from(be16(bytes, 2));
        let body = bytes.get(4..len).filter(|body| body.len() >= 20 && body.len() % 4 == 0)?;
        let text = std::str::from_utf8(&body[..body.iter().position(|&b| b == 0)?]).ok()?;
        let (name, isid) = text.split_once(ISID_MARK)?;
        let digits = isid.len() <= 12 && isid.bytes().all(|b| b.is_ascii_hexdigit());
        let isid = u64::from_str_radix(isid, 16).ok().filter(|_| digits)?;
        let [_, _, isid @ ..] = isid.to_be_bytes();
        let usable = first & 0xc0 == PORT_FORMAT && (1..=NAME_MAX).contains(&name.len());
        usable.then(|| (Self::iscsi(name, isid), len))
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0[0] & 0x0f == ISCSI {
            let text = &self.0[4..];
            let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
            return Shown(&String::from_utf8_lossy(&text[..end])).fmt(f);
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// PIV and association of a designator.
const PORT: u8 = 0x90;
const DEVICE: u8 = 0xa0;

/// A designation descriptor with an iSCSI name.
fn write_name(association: u8, name: &str, data: &mut DataIn) {
    const UTF_8: u8 = ISCSI << 4 | 3;
    const NAME: u8 = 8;
    let len = (name.len() + 1).next_multiple_of(4);
    data.u8(UTF_8).u8(association | NAME).u8(0).u8(u8::try_from(len).unwrap_or(u8::MAX));
    let end = data.len() + len;
    data.bytes(name.as_bytes()).pad_to(end);
}

/// A SCSI target port: for iSCSI, a target portal group of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetPort {
    /// Its relative target port identifier, not 0 (SPC-5 3.1: unique in the daemon).
    pub relative: u16,
    /// Name of the SCSI target device.
    pub device: String,
    /// Its own name, as `iqn.2026-11.com.example:a,t,0x0001`.
    pub name: String,
    /// The target port group to which it belongs.
    pub group: u16,
}

impl TargetPort {
    /// The iSCSI target port of that target and portal group tag, which is its target port group, too.
    pub fn iscsi(relative: u16, target: &str, tag: u16) -> Self {
        Self { relative, device: target.into(), name: Self::iscsi_name(target, tag), group: tag }
    }

    /// What that port is called.
    pub fn iscsi_name(target: &str, tag: u16) -> String {
        format!("{target},t,0x{tag:04x}")
    }

    /// The designation descriptors of the port and of its device (SPC-5 7.7.6).
    pub(super) fn write_designators(&self, data: &mut DataIn) {
        const BINARY: u8 = ISCSI << 4 | 1;
        const RELATIVE_PORT: u8 = 4;
        const PORT_GROUP: u8 = 5;
        data.u8(BINARY).u8(PORT | RELATIVE_PORT).u8(0).u8(4).u16(0).u16(self.relative);
        data.u8(BINARY).u8(PORT | PORT_GROUP).u8(0).u8(4).u16(0).u16(self.group);
        write_name(PORT, &self.name, data);
        write_name(DEVICE, &self.device, data);
    }

    /// Its descriptor in the SCSI Ports page (SPC-5 7.7.15).
    pub(super) fn write_port(&self, data: &mut DataIn) {
        data.u16(0).u16(self.relative).u32(0).u16(0);
        let length = data.len();
        data.u16(0);
        write_name(PORT, &self.name, data);
        data.close(length, 2);
    }
}

/// An I_T nexus, the same after the initiator's next login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nexus {
    /// The initiator port.
    pub initiator: TransportId,
    /// The target port.
    pub port: Arc<TargetPort>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_iscsi_port_has_one_form() {
        let id = TransportId::iscsi("iqn.2026-11.test:a", [0x80, 1, 2, 3, 4, 0xfe]);
        let mut wire = vec![0x45, 0, 0, 36];
        wire.extend(b"iqn.2026-11.test:a,i,0x8001020304fe\0");
        assert_eq!(id.bytes(), wire);
        assert_eq!(id.to_string(), "iqn.2026-11.test:a,i,0x8001020304fe");
        let mut other = vec![0x45, 0, 0, 40];
        other.extend(b"IQN.2026-11.test:A,i,0x8001020304FE\0\0\0\0\0abc");
        assert_eq!(TransportId::parse(&other), Some((id, 44)));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        let mut whole = vec![0x05, 0, 0, 20];
        whole.extend(b"iqn.2026-11.test:a\0\0");
        assert_eq!(TransportId::parse(&whole), None, "all ports of an initiator");
        let mut short = vec![0x45, 0, 0, 16];
        short.extend(b"iqn.a:b,i,0x1\0\0\0");
        assert_eq!(TransportId::parse(&short), None);
        assert_eq!(TransportId::parse(&[0; 23]), None);
        assert_eq!(TransportId::parse(&[0; 30]).map(|(_, len)| len), Some(24), "Fibre Channel");
        let longest = TransportId::iscsi(&"a".repeat(300), [0xff; 6]);
        assert_eq!(longest.bytes().len(), TransportId::LEN_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some((id, len)) = TransportId::parse(&bytes) {
                prop_assert!(len <= bytes.len());
                prop_assert_eq!(TransportId::parse(id.bytes()), Some((id.clone(), id.bytes().len())));
            }
        }

        #[test]
        fn iscsi_ports_round_trip(name in "[a-z0-9.:-]{1,223}", isid: [u8; 6]) {
            let id = TransportId::iscsi(&name, isid);
            prop_assert_eq!(TransportId::parse(id.bytes()), Some((id.clone(), id.bytes().len())));
        }
    }
}
