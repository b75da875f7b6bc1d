// SPDX-License-Identifier: GPL-2.0-or-later
//! Descriptors: what FIP messages are made of (FC-BB-6, "FIP descriptors").

use super::super::ct::{Fc4Features, Fc4Types};
use super::super::els::{ElsCode, ElsReply, ElsRequest};
use super::super::field::{Emit, Field, Malformed, Parse, codes, head, layout};
use super::super::header::{FcHeader, RCtl};
use super::super::name::{FcId, FcMap, MacAddress, WorldWideName};

codes! {
    /// What a descriptor is. Below 128 it is critical: who does not know it must not use the message (FC-BB-6, "FIP
    /// descriptors").
    FipDescriptorType(u8) {
        PRIORITY = 1,
        MAC_ADDRESS = 2,
        FC_MAP = 3,
        NAME_IDENTIFIER = 4,
        FABRIC = 5,
        MAX_FCOE_SIZE = 6,
        FLOGI = 7,
        FDISC = 8,
        LOGO = 9,
        ELP = 10,
        VX_PORT_IDENTIFICATION = 11,
        FKA_ADV_PERIOD = 12,
        VENDOR_ID = 13,
        VLAN = 14,
        FC4_ATTRIBUTES = 15,
        CLEAR_VIRTUAL_LINKS_REASON = 128,
    }
}

impl FipDescriptorType {
    /// Whether a message must not be used by who does not know it.
    pub const fn is_critical(self) -> bool {
        self.raw() < 128
    }
}

layout! {
    /// Which fabric (FC-BB-6, "FIP Fabric descriptor").
    FabricDescriptor, "FIP Fabric descriptor", 16 bytes {
        /// The virtual fabric; 0 is none.
        [2] vf_id: u16,
        /// What addresses of its ports begin with.
        [5] fc_map: FcMap,
        /// Its name.
        [8] name: WorldWideName,
    }
}

layout! {
    /// A virtual port (FC-BB-6, "FIP Vx_Port Identification descriptor").
    VxPort, "FIP Vx_Port Identification descriptor", 20 bytes {
        /// Its address on Ethernet.
        [2] mac: MacAddress,
        /// Its identifier.
        [9] id: FcId,
        /// Its name.
        [12] port_name: WorldWideName,
    }
}

layout! {
    /// How often an FCF advertises, and wants to hear from its nodes (FC-BB-6, "FIP FKA_ADV_Period descriptor").
    FkaAdvPeriod, "FIP FKA_ADV_Period descriptor", 8 bytes {
        /// Bit 0: it does not want to hear from them.
        [3] flags: u8,
        /// Milliseconds.
        [4] period: u32,
    }
}

impl FkaAdvPeriod {
    /// Whether keep-alives are wanted.
    pub const fn wants_keep_alives(&self) -> bool {
        self.flags & 1 == 0
    }
}

layout! {
    /// Which FC-4s a port has, and what it is in them (FC-BB-6, "FIP FC-4 Attributes descriptor").
    Fc4Attributes, "FIP FC-4 Attributes descriptor", 164 bytes {
        /// Which.
        [4] types: Fc4Types,
        /// What it is in them.
        [36] features: Fc4Features,
    }
}

/// A request or an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FipElsBody<'a> {
    /// A request.
    Request(ElsRequest<'a>),
    /// What answers it.
    Reply(ElsReply<'a>),
}

/// An extended link service in a descriptor: header and payload, neither delimiters nor CRC (FC-BB-6, "FIP FLOGI
/// descriptor", "FIP FDISC descriptor", "FIP LOGO descriptor").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FipEls<'a> {
    /// Which: [`FipDescriptorType::FLOGI`], `FDISC` or `LOGO`, in an answer that of the request.
    pub kind: FipDescriptorType,
    /// The header.
    pub header: FcHeader,
    /// The payload.
    pub body: FipElsBody<'a>,
}

impl<'a> FipEls<'a> {
    const NAME: &'static str = "FIP ELS descriptor";

    fn parse(kind: FipDescriptorType, code: ElsCode, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let end = 4 + FcHeader::LEN;
        let header = FcHeader::get(&head(bytes, end, Self::NAME, "FC header")?[4..]);
        let payload = &bytes[end..];
        let body = match header.r_ctl {
            RCtl::ELS_REQUEST => {
                let request = ElsRequest::parse(payload)?;
                if request.code() != code {
                    return Err(Malformed::value(Self::NAME, "ELS code", request.code().raw()));
                }
                FipElsBody::Request(request)
            }
            RCtl::ELS_REPLY => FipElsBody::Reply(ElsReply::parse(code, payload)?),
            other => return Err(Malformed::value(Self::NAME, "R_CTL", other.raw())),
        };
        Ok(Self { kind, header, body })
    }

    fn payload(&self) -> &dyn Emit {
        match &self.body {
            FipElsBody::Request(request) => request,
            FipElsBody::Reply(reply) => reply,
        }
    }
}

/// A descriptor (FC-BB-6, "FIP descriptors").
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FipDescriptor<'a> {
    /// Which of several FCFs to log in to: the lowest.
    Priority(u8),
    /// An address on Ethernet.
    MacAddress(MacAddress),
    /// What addresses of ports begin with.
    FcMap(FcMap),
    /// The name of a node, or of a switch.
    Name(WorldWideName),
    /// Which fabric.
    Fabric(FabricDescriptor),
    /// The longest FCoE frame that is received, from behind the ethertype.
    MaxFcoeSize(u16),
    /// FLOGI, FDISC, LOGO, and their answers.
    Els(FipEls<'a>),
    /// A virtual port.
    VxPort(VxPort),
    /// How often to advertise and to keep alive.
    FkaAdvPeriod(FkaAdvPeriod),
    /// Whose own message it is.
    VendorId([u8; 8]),
    /// A VLAN; 0 is none.
    Vlan(u16),
    /// Which FC-4s.
    Fc4Attributes(Fc4Attributes),
    /// One that is not critical, and not known here.
    Other(FipDescriptorType, &'a [u8]),
}

const NAME: &str = "FIP descriptor";
const LEN: &str = "length";

impl<'a> FipDescriptor<'a> {
    /// The first descriptor of these bytes, and what is behind it.
    ///
    /// # Errors
    /// If it is cut short, has a length that it must not have, or is critical and not known here.
    pub fn first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        let [kind, words] = <[u8; 2]>::get(head(bytes, 2, NAME, LEN)?);
        let len = usize::from(words) * 4;
        let own = head(bytes, len, NAME, LEN)?;
        if own.is_empty() {
            return Err(Malformed::value(NAME, LEN, words));
        }
        Self::of(FipDescriptorType::new(kind), own).map(|descriptor| (descriptor, &bytes[len..]))
    }

    fn of(kind: FipDescriptorType, bytes: &'a [u8]) -> Result<Self, Malformed> {
        if fixed_len(kind).is_some_and(|len| len != bytes.len()) {
            return Err(Malformed::value(kind_name(kind), LEN, bytes[1]));
        }
        Ok(match kind {
            FipDescriptorType::PRIORITY => Self::Priority(bytes[3]),
            FipDescriptorType::MAC_ADDRESS => Self::MacAddress(Field::get(&bytes[2..])),
            FipDescriptorType::FC_MAP => Self::FcMap(Field::get(&bytes[5..])),
            FipDescriptorType::NAME_IDENTIFIER => Self::Name(Field::get(&bytes[4..])),
            FipDescriptorType::FABRIC => Self::Fabric(Field::get(bytes)),
            FipDescriptorType::MAX_FCOE_SIZE => Self::MaxFcoeSize(Field::get(&bytes[2..])),
            FipDescriptorType::FLOGI => Self::Els(FipEls::parse(kind, ElsCode::FLOGI, bytes)?),
            FipDescriptorType::FDISC => Self::Els(FipEls::parse(kind, ElsCode::FDISC, bytes)?),
            FipDescriptorType::LOGO => Self::Els(FipEls::parse(kind, ElsCode::LOGO, bytes)?),
            FipDescriptorType::VX_PORT_IDENTIFICATION => Self::VxPort(Field::get(bytes)),
            FipDescriptorType::FKA_ADV_PERIOD => Self::FkaAdvPeriod(Field::get(bytes)),
            FipDescriptorType::VENDOR_ID => Self::VendorId(Field::get(&bytes[4..])),
            FipDescriptorType::VLAN => Self::Vlan(u16::get(&bytes[2..]) & 0xfff),
            FipDescriptorType::FC4_ATTRIBUTES => Self::Fc4Attributes(Field::get(bytes)),
            other if other.is_critical() => return Err(Malformed::value(NAME, "type", other.raw())),
            other => Self::Other(other, &bytes[2..]),
        })
    }

    /// What it is.
    pub const fn kind(&self) -> FipDescriptorType {
        match self {
            Self::Priority(_) => FipDescriptorType::PRIORITY,
            Self::MacAddress(_) => FipDescriptorType::MAC_ADDRESS,
            Self::FcMap(_) => FipDescriptorType::FC_MAP,
            Self::Name(_) => FipDescriptorType::NAME_IDENTIFIER,
            Self::Fabric(_) => FipDescriptorType::FABRIC,
            Self::MaxFcoeSize(_) => FipDescriptorType::MAX_FCOE_SIZE,
            Self::Els(els) => els.kind,
            Self::VxPort(_) => FipDescriptorType::VX_PORT_IDENTIFICATION,
            Self::FkaAdvPeriod(_) => FipDescriptorType::FKA_ADV_PERIOD,
            Self::VendorId(_) => FipDescriptorType::VENDOR_ID,
            Self::Vlan(_) => FipDescriptorType::VLAN,
            Self::Fc4Attributes(_) => FipDescriptorType::FC4_ATTRIBUTES,
            Self::Other(kind, _) => *kind,
        }
    }
}

/// What a descriptor is called in an error.
pub(super) fn kind_name(kind: FipDescriptorType) -> &'static str {
    match kind {
        FipDescriptorType::PRIORITY => "FIP Priority descriptor",
        FipDescriptorType::MAC_ADDRESS => "FIP MAC Address descriptor",
        FipDescriptorType::FC_MAP => "FIP FC-MAP descriptor",
        FipDescriptorType::NAME_IDENTIFIER => "FIP Name_Identifier descriptor",
        FipDescriptorType::FABRIC => "FIP Fabric descriptor",
        FipDescriptorType::MAX_FCOE_SIZE => "FIP Max FCoE Size descriptor",
        FipDescriptorType::FLOGI | FipDescriptorType::FDISC | FipDescriptorType::LOGO => FipEls::NAME,
        FipDescriptorType::VX_PORT_IDENTIFICATION => "FIP Vx_Port Identification descriptor",
        FipDescriptorType::FKA_ADV_PERIOD => "FIP FKA_ADV_Period descriptor",
        FipDescriptorType::VENDOR_ID => "FIP Vendor_ID descriptor",
        FipDescriptorType::VLAN => "FIP VLAN descriptor",
        FipDescriptorType::FC4_ATTRIBUTES => "FIP FC-4 Attributes descriptor",
        _ => NAME,
    }
}

/// How long a descriptor is that always has the same length.
const fn fixed_len(kind: FipDescriptorType) -> Option<usize> {
    Some(match kind {
        FipDescriptorType::PRIORITY | FipDescriptorType::MAX_FCOE_SIZE | FipDescriptorType::VLAN => 4,
        FipDescriptorType::MAC_ADDRESS | FipDescriptorType::FC_MAP => 8,
        FipDescriptorType::NAME_IDENTIFIER | FipDescriptorType::VENDOR_ID => 12,
        FipDescriptorType::FABRIC => FabricDescriptor::LEN,
        FipDescriptorType::VX_PORT_IDENTIFICATION => VxPort::LEN,
        FipDescriptorType::FKA_ADV_PERIOD => FkaAdvPeriod::LEN,
        FipDescriptorType::FC4_ATTRIBUTES => Fc4Attributes::LEN,
        _ => return None,
    })
}

impl Emit for FipDescriptor<'_> {
    fn buffer_len(&self) -> usize {
        let len = match self {
            Self::Els(els) => 4 + FcHeader::LEN + els.payload().buffer_len(),
            Self::Other(_, bytes) => 2 + bytes.len(),
            other => fixed_len(other.kind()).unwrap_or(0),
        };
        len.next_multiple_of(4)
    }

    /// # Panics
    /// Also if it is longer than a descriptor can be, 1020 bytes, which only one of type [`Self::Other`] and an ECHO
    /// can be.
    fn emit(&self, out: &mut [u8]) {
        let out = &mut out[..self.buffer_len()];
        out.fill(0);
        match self {
            Self::Priority(priority) => out[3] = *priority,
            Self::MacAddress(mac) => mac.put(&mut out[2..]),
            Self::FcMap(map) => map.put(&mut out[5..]),
            Self::Name(name) => name.put(&mut out[4..]),
            Self::Fabric(fabric) => fabric.emit(out),
            Self::MaxFcoeSize(size) => size.put(&mut out[2..]),
            Self::Els(els) => {
                els.header.put(&mut out[4..4 + FcHeader::LEN]);
                els.payload().emit(&mut out[4 + FcHeader::LEN..]);
            }
            Self::VxPort(port) => port.emit(out),
            Self::FkaAdvPeriod(period) => period.emit(out),
            Self::VendorId(id) => id.put(&mut out[4..]),
            Self::Vlan(vlan) => (vlan & 0xfff).put(&mut out[2..]),
            Self::Fc4Attributes(attributes) => attributes.emit(out),
            Self::Other(_, bytes) => bytes.emit(&mut out[2..]),
        }
        out[0] = self.kind().raw();
        out[1] = u8::try_from(out.len() / 4).expect("at most 255 words");
    }
}
