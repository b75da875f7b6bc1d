// SPDX-License-Identifier: GPL-2.0-or-later
//! Names of SCSI ports, each in the form that its transport protocol gives it (SAM-5 annex A), and how parameter data
//! says them: as TransportIDs (SPC-5 7.6.4) and as designation descriptors (SPC-5 7.7.6).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::wire::Shown;
use crate::wire::fc::WorldWideName;
use crate::wire::iscsi::{NAME_MAX, normal_name};
use crate::wire::scsi::{DataIn, be16};

/// PROTOCOL IDENTIFIER (SPC-5 7.6.1) of the transport protocols whose ports have names here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are SPC's")]
pub enum TransportProtocol {
    Fcp = 0x0,
    Srp = 0x4,
    Iscsi = 0x5,
    Sas = 0x6,
}

/// FORMAT CODE of a TransportID of iSCSI that names an initiator port, not all ports of an initiator.
const PORT_FORMAT: u8 = 0x40;
/// What parts name and ISID of an initiator port's name (RFC 7143 4.4.1).
const ISID_MARK: &str = ",i,0x";
/// Length of the TransportIDs of all protocols but iSCSI.
const PLAIN_LEN: usize = 24;
/// Where those of FCP and SRP have the name, and where SAS has it.
const NAME_AT: usize = 8;
const ADDRESS_AT: usize = 4;

/// The name of an iSCSI port in the spelling by which it is compared: that of its node, and what tells it from others
/// there.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IscsiPortName(Arc<str>);

/// The name of an initiator port or a target port. Two of the same port are equal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortName {
    /// Of Fibre Channel: an N_Port_Name.
    Fc(WorldWideName),
    /// Of SRP: an initiator or target port identifier.
    Srp([u8; 16]),
    /// Of iSCSI.
    Iscsi(IscsiPortName),
    /// Of SAS: a SAS address.
    Sas([u8; 8]),
}

impl PortName {
    /// The iSCSI initiator port of that name and ISID. A name that is too long is cut.
    pub fn iscsi_initiator(name: &str, isid: [u8; 6]) -> Self {
        let isid = isid.iter().fold(0, |all, &byte| all << 8 | u64::from(byte));
        let name: String = normal_name(name).chars().take(NAME_MAX).collect();
        Self::Iscsi(IscsiPortName(format!("{name}{ISID_MARK}{isid:012x}").into()))
    }

    /// The iSCSI target port of that target and portal group tag.
    pub fn iscsi_target(target: &str, tag: u16) -> Self {
        Self::Iscsi(IscsiPortName(format!("{},t,0x{tag:04x}", normal_name(target)).into()))
    }

    /// Of which protocol it is.
    pub fn protocol(&self) -> TransportProtocol {
        match self {
            Self::Fc(_) => TransportProtocol::Fcp,
            Self::Srp(_) => TransportProtocol::Srp,
            Self::Iscsi(_) => TransportProtocol::Iscsi,
            Self::Sas(_) => TransportProtocol::Sas,
        }
    }

    /// As records keep it: no two ports have the same, of whichever protocols they are.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Fc(name) => name.to_string().into(),
            Self::Srp(identifier) => format!("{:#034x}", u128::from_be_bytes(*identifier)).into(),
            Self::Iscsi(IscsiPortName(text)) => (&**text).into(),
            Self::Sas(address) => format!("{:#018x}", u64::from_be_bytes(*address)).into(),
        }
    }

    /// The initiator port in the TransportID at the beginning of `bytes`, and the length of that. `None` if it is none,
    /// is of a protocol that is not known, or names all ports of an iSCSI initiator, which no target can know.
    pub fn from_transport_id(bytes: &[u8]) -> Option<(Self, usize)> {
        const FCP: u8 = TransportProtocol::Fcp as u8;
        const SRP: u8 = TransportProtocol::Srp as u8;
        const SAS: u8 = TransportProtocol::Sas as u8;
        let first = *bytes.first()?;
        if first & 0xcf == PORT_FORMAT | TransportProtocol::Iscsi as u8 {
            return iscsi_initiator(bytes);
        }
        let id: &[u8; PLAIN_LEN] = bytes.first_chunk()?;
        let name = match first {
            FCP => Self::Fc(WorldWideName::new(*id[NAME_AT..].first_chunk()?)),
            SRP => Self::Srp(*id[NAME_AT..].first_chunk()?),
            SAS => Self::Sas(*id[ADDRESS_AT..].first_chunk()?),
            _ => return None,
        };
        Some((name, PLAIN_LEN))
    }

    /// The TransportID of an initiator port.
    pub fn transport_id(&self) -> DataIn {
        let (mut data, protocol) = (DataIn::new(), self.protocol() as u8);
        match self {
            Self::Fc(name) => data.u8(protocol).pad_to(NAME_AT).bytes(&name.to_bytes()),
            Self::Srp(identifier) => data.u8(protocol).pad_to(NAME_AT).bytes(identifier),
            Self::Iscsi(IscsiPortName(text)) => {
                let len = (text.len() + 1).next_multiple_of(4).max(20);
                data.u8(PORT_FORMAT | protocol)
                    .u8(0)
                    .u16(0)
                    .bytes(text.as_bytes())
                    .pad_to(4 + len)
                    .close(2, 2)
            }
            Self::Sas(address) => data.u8(protocol).pad_to(ADDRESS_AT).bytes(address),
        };
        data.pad_to(PLAIN_LEN);
        data
    }

    /// The designation descriptor of a target port.
    pub(super) fn write_designator(&self, data: &mut DataIn) {
        const EUI_64: u8 = 2;
        const NAA: u8 = 3;
        let protocol = self.protocol();
        match self {
            Self::Fc(name) => write_binary(protocol, PORT | NAA, &name.to_bytes(), data),
            Self::Srp(identifier) => write_binary(protocol, PORT | EUI_64, identifier, data),
            Self::Iscsi(IscsiPortName(text)) => write_name_string(protocol, PORT, text, data),
            Self::Sas(address) => write_binary(protocol, PORT | NAA, address, data),
        }
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.text()).fmt(f)
    }
}

impl fmt::Debug for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An iSCSI TransportID.
fn iscsi_initiator(bytes: &[u8]) -> Option<(PortName, usize)> {
    let len = 4 + usize::from(be16(bytes, 2));
    let body = bytes.get(4..len).filter(|body| body.len() >= 20 && body.len() % 4 == 0)?;
    let text = std::str::from_utf8(&body[..body.iter().position(|&b| b == 0)?]).ok()?;
    let (name, isid) = text.split_once(ISID_MARK)?;
    let digits = isid.len() <= 12 && isid.bytes().all(|b| b.is_ascii_hexdigit());
    let isid = u64::from_str_radix(isid, 16).ok().filter(|_| digits)?;
    let [_, _, isid @ ..] = isid.to_be_bytes();
    (1..=NAME_MAX).contains(&name.len()).then(|| (PortName::iscsi_initiator(name, isid), len))
}

/// PIV and association of a designator.
pub(super) const PORT: u8 = 0x90;
pub(super) const DEVICE: u8 = 0xa0;

/// A designation descriptor with a designator of bytes. `kind` is the association and the designator type.
pub(super) fn write_binary(protocol: TransportProtocol, kind: u8, designator: &[u8], data: &mut DataIn) {
    const BINARY: u8 = 1;
    data.u8((protocol as u8) << 4 | BINARY).u8(kind).u8(0);
    data.u8(u8::try_from(designator.len()).unwrap_or(u8::MAX)).bytes(designator);
}

/// A designation descriptor with a SCSI name string.
pub(super) fn write_name_string(protocol: TransportProtocol, association: u8, name: &str, data: &mut DataIn) {
    const UTF_8: u8 = 3;
    const NAME: u8 = 8;
    let len = (name.len() + 1).next_multiple_of(4);
    data.u8((protocol as u8) << 4 | UTF_8).u8(association | NAME).u8(0);
    data.u8(u8::try_from(len).unwrap_or(u8::MAX));
    let end = data.len() + len;
    data.bytes(name.as_bytes()).pad_to(end);
}

#[cfg(test)]
pub(crate) mod tests;
