// SPDX-License-Identifier: GPL-2.0-or-later
//! FIP, by which FCoE ports find each other, log in, and keep alive (FC-BB-6, "FCoE Initialization Protocol (FIP)").

mod descriptor;

use smallvec::SmallVec;

use super::field::{Defect, Emit, Malformed, Parse, bits, head, layout};
use super::name::{FcMap, MacAddress, WorldWideName};
use descriptor::{FipDescriptorType as Type, kind_name};

pub use descriptor::{
    FabricDescriptor, Fc4Attributes, FipDescriptor, FipDescriptorType, FipEls, FipElsBody, FkaAdvPeriod,
    VxPort,
};

/// Ethertype of FIP (FC-BB-6, "FIP frame format").
pub const ETHERTYPE_FIP: u16 = 0x8914;

bits! {
    /// Flags of a message (FC-BB-6, "FIP frame format").
    FipFlags(u16; 2) {
        /// FP: addresses from the fabric, FPMA, are supported, or granted.
        FPMA = 0x8000,
        /// SP: addresses from the node, SPMA, are supported, or granted.
        SPMA = 0x4000,
        /// REC: VN2VN probe: the identifier is one that the port had before.
        RECORDED = 0x0008,
        /// P2P: VN2VN claim and beacon: a point-to-point port.
        POINT_TO_POINT = 0x0008,
        /// A: can be logged in to.
        AVAILABLE = 0x0004,
        /// S: was asked for.
        SOLICITED = 0x0002,
        /// F: from an FCF.
        FCF = 0x0001,
    }
}

layout! {
    /// What is before the descriptors (FC-BB-6, "FIP frame format").
    FipHeader, "FIP message", 10 bytes {
        /// Version 1 in its high four bits.
        [0] version: u8,
        /// What the message is about.
        [2] operation: u16,
        /// What it says of that.
        [5] subcode: u8,
        /// Length of the descriptors in words.
        [6] words: u16,
        /// Flags.
        [8] flags: FipFlags,
    }
}

/// What a port that claims an identifier says more of itself (FC-BB-6, "FIP VN2VN operations").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VnClaim {
    /// Which FC-4s it has.
    pub attributes: Fc4Attributes,
    /// The longest FCoE frame that it receives, from behind the ethertype.
    pub max_fcoe_size: u16,
}

/// A message of VN2VN (FC-BB-6, "FIP VN2VN operations").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vn2VnMessage {
    /// Has anybody this identifier?
    ProbeRequest,
    /// I have.
    ProbeReply,
    /// It is mine from now on.
    ClaimNotification(VnClaim),
    /// Seen, and this is mine. Sent as long as the shorter of the longest frames, to see that these get through.
    ClaimResponse(VnClaim),
    /// I am still here.
    Beacon,
}

/// What a message says (FC-BB-6, "FIP operations").
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FipMessage<'a> {
    /// Which FCFs are there?
    Solicitation {
        /// The asker's address.
        mac: MacAddress,
        /// Its node.
        name: WorldWideName,
        /// The longest FCoE frame that it receives, from behind the ethertype.
        max_fcoe_size: u16,
    },
    /// An FCF is here. If it was asked for it is sent as long as the longest frame, to see that this gets through.
    Advertisement {
        /// Which of several FCFs to log in to: the lowest.
        priority: u8,
        /// The FCF's address.
        mac: MacAddress,
        /// Its switch.
        name: WorldWideName,
        /// Its fabric.
        fabric: FabricDescriptor,
        /// How often it says so.
        period: FkaAdvPeriod,
    },
    /// FLOGI, FDISC, LOGO, or what answers one.
    LinkService {
        /// The request or the answer.
        els: FipEls<'a>,
        /// The address of the port: what it asks for, or what it gets. A reject has none.
        mac: Option<MacAddress>,
        /// Answer: to which address FCoE goes, if not to the FCF's.
        fcoe_mac: Option<MacAddress>,
    },
    /// A node, or one of its ports, is still here.
    KeepAlive {
        /// The node's address.
        mac: MacAddress,
        /// The port, if it is one's.
        port: Option<VxPort>,
    },
    /// An FCF logs ports out.
    ClearVirtualLinks {
        /// The FCF's address.
        mac: MacAddress,
        /// Its switch.
        name: WorldWideName,
        /// The ports; none are all.
        ports: SmallVec<[VxPort; 1]>,
    },
    /// On which VLANs is FCoE?
    VlanRequest {
        /// The asker's address.
        mac: MacAddress,
        /// Its node, if it tells.
        name: Option<WorldWideName>,
    },
    /// FCoE is on these VLANs.
    VlanNotification {
        /// Whether it is VN2VN.
        vn2vn: bool,
        /// The answerer's address.
        mac: MacAddress,
        /// The VLANs, at least one; 0 is none.
        vlans: SmallVec<[u16; 4]>,
    },
    /// VN2VN.
    Vn2Vn {
        /// What it says.
        message: Vn2VnMessage,
        /// The address of the port before it has an identifier.
        mac: MacAddress,
        /// Its node.
        name: WorldWideName,
        /// The port with the identifier that it is about.
        port: VxPort,
    },
}

/// A message with its flags (FC-BB-6, "FIP frame format"). Some are sent longer than they are: who sends them puts
/// zeros behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FipFrame<'a> {
    /// Flags.
    pub flags: FipFlags,
    /// What it says.
    pub message: FipMessage<'a>,
}

/// The descriptors of a message, each where it belongs.
#[derive(Default)]
struct DescriptorList<'a> {
    /// What the message is called in an error.
    title: &'static str,
    priority: Option<u8>,
    mac: Option<MacAddress>,
    fcoe_mac: Option<MacAddress>,
    fc_map: Option<FcMap>,
    name: Option<WorldWideName>,
    fabric: Option<FabricDescriptor>,
    max_fcoe_size: Option<u16>,
    els: Option<FipEls<'a>>,
    period: Option<FkaAdvPeriod>,
    attributes: Option<Fc4Attributes>,
    ports: SmallVec<[VxPort; 1]>,
    vlans: SmallVec<[u16; 4]>,
}

impl<'a> DescriptorList<'a> {
    /// All of them, of which those may be there that are `allowed`, and those that are not critical.
    fn new(title: &'static str, allowed: &[Type], mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut found = Self { title, ..Self::default() };
        while !bytes.is_empty() {
            let (descriptor, rest) = FipDescriptor::first(bytes)?;
            let kind = descriptor.kind();
            if kind.is_critical() && !allowed.contains(&kind) {
                return Err(Malformed::value(title, "descriptor type", kind.raw()));
            }
            if found.add(descriptor) {
                return Err(found.repeated(kind));
            }
            bytes = rest;
        }
        Ok(found)
    }

    /// Takes one. Returns whether it was there before, and must not be.
    fn add(&mut self, descriptor: FipDescriptor<'a>) -> bool {
        match descriptor {
            FipDescriptor::Priority(priority) => self.priority.replace(priority).is_some(),
            FipDescriptor::MacAddress(mac) if self.mac.is_some() && self.els.is_some() => {
                self.fcoe_mac.replace(mac).is_some()
            }
            FipDescriptor::MacAddress(mac) => self.mac.replace(mac).is_some(),
            FipDescriptor::FcMap(map) => self.fc_map.replace(map).is_some(),
            FipDescriptor::Name(name) => self.name.replace(name).is_some(),
            FipDescriptor::Fabric(fabric) => self.fabric.replace(fabric).is_some(),
            FipDescriptor::MaxFcoeSize(size) => self.max_fcoe_size.replace(size).is_some(),
            FipDescriptor::Els(els) => self.els.replace(els).is_some(),
            FipDescriptor::FkaAdvPeriod(period) => self.period.replace(period).is_some(),
            FipDescriptor::Fc4Attributes(attributes) => self.attributes.replace(attributes).is_some(),
            FipDescriptor::VxPort(port) => {
                self.ports.push(port);
                false
            }
            FipDescriptor::Vlan(vlan) => {
                self.vlans.push(vlan);
                false
            }
            FipDescriptor::VendorId(_) | FipDescriptor::Other(..) => false,
        }
    }

    fn repeated(&self, kind: Type) -> Malformed {
        Malformed { structure: self.title, field: kind_name(kind), defect: Defect::Repeated }
    }

    /// One that must be there.
    fn must<T>(&self, found: Option<T>, kind: Type) -> Result<T, Malformed> {
        found.ok_or_else(|| Malformed::missing(self.title, kind_name(kind)))
    }

    fn mac(&self) -> Result<MacAddress, Malformed> {
        self.must(self.mac, Type::MAC_ADDRESS)
    }

    fn name(&self) -> Result<WorldWideName, Malformed> {
        self.must(self.name, Type::NAME_IDENTIFIER)
    }

    fn max_fcoe_size(&self) -> Result<u16, Malformed> {
        self.must(self.max_fcoe_size, Type::MAX_FCOE_SIZE)
    }

    /// The port, of which there is at most one.
    fn port(&self) -> Result<Option<VxPort>, Malformed> {
        match self.ports[..] {
            [] => Ok(None),
            [port] => Ok(Some(port)),
            _ => Err(self.repeated(Type::VX_PORT_IDENTIFICATION)),
        }
    }
}

impl<'a> FipMessage<'a> {
    fn parse(operation: (u16, u8), bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (protocol, subcode) = operation;
        match operation {
            (1, 1) => Self::solicitation(bytes),
            (1, 2) => Self::advertisement(bytes),
            (2, 1 | 2) => Self::link_service(subcode, bytes),
            (3, 1) => Self::keep_alive(bytes),
            (3, 2) => Self::clear_virtual_links(bytes),
            (4, 1) => Self::vlan_request(bytes),
            (4, 2 | 3) => Self::vlan_notification(subcode, bytes),
            (5, 1) => Self::probe(Vn2VnMessage::ProbeRequest, bytes),
            (5, 2) => Self::probe(Vn2VnMessage::ProbeReply, bytes),
            (5, 3) => Self::claim(Vn2VnMessage::ClaimNotification, bytes),
            (5, 4) => Self::claim(Vn2VnMessage::ClaimResponse, bytes),
            (5, 5) => Self::probe(Vn2VnMessage::Beacon, bytes),
            _ => {
                let code = u64::from(protocol) << 8 | u64::from(subcode);
                Err(Malformed::value("FIP message", "operation and subcode", code))
            }
        }
    }

    /// FIP Discovery Solicitation.
    fn solicitation(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let allowed = [Type::MAC_ADDRESS, Type::FC_MAP, Type::NAME_IDENTIFIER, Type::MAX_FCOE_SIZE];
        let found = DescriptorList::new("FIP Discovery Solicitation", &allowed, bytes)?;
        let (mac, name, max_fcoe_size) = (found.mac()?, found.name()?, found.max_fcoe_size()?);
        Ok(Self::Solicitation { mac, name, max_fcoe_size })
    }

    /// FIP Discovery Advertisement.
    fn advertisement(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let allowed =
            [Type::PRIORITY, Type::MAC_ADDRESS, Type::NAME_IDENTIFIER, Type::FABRIC, Type::FKA_ADV_PERIOD];
        let found = DescriptorList::new("FIP Discovery Advertisement", &allowed, bytes)?;
        Ok(Self::Advertisement {
            priority: found.must(found.priority, Type::PRIORITY)?,
            mac: found.mac()?,
            name: found.name()?,
            fabric: found.must(found.fabric, Type::FABRIC)?,
            period: found.must(found.period, Type::FKA_ADV_PERIOD)?,
        })
    }

    /// FIP Virtual Link Instantiation Request or Reply.
    fn link_service(subcode: u8, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let allowed = [Type::FLOGI, Type::FDISC, Type::LOGO, Type::MAC_ADDRESS];
        let found = DescriptorList::new("FIP Virtual Link message", &allowed, bytes)?;
        let (mac, fcoe_mac) = (found.mac, found.fcoe_mac);
        let els = found.els.ok_or_else(|| Malformed::missing(found.title, "ELS descriptor"))?;
        match (subcode, &els.body) {
            (1, FipElsBody::Request(_)) | (2, FipElsBody::Reply(_)) => {}
            _ => return Err(Malformed::value(found.title, "subcode", subcode)),
        }
        Ok(Self::LinkService { els, mac, fcoe_mac })
    }

    /// FIP Keep Alive.
    fn keep_alive(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let allowed = [Type::MAC_ADDRESS, Type::VX_PORT_IDENTIFICATION];
        let found = DescriptorList::new("FIP Keep Alive", &allowed, bytes)?;
        Ok(Self::KeepAlive { mac: found.mac()?, port: found.port()? })
    }

    /// FIP Clear Virtual Links.
    fn clear_virtual_links(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let allowed = [Type::MAC_ADDRESS, Type::NAME_IDENTIFIER, Type::VX_PORT_IDENTIFICATION];
        let found = DescriptorList::new("FIP Clear Virtual Links", &allowed, bytes)?;
        Ok(Self::ClearVirtualLinks { mac: found.mac()?, name: found.name()?, ports: found.ports })
    }

    /// FIP VLAN Request.
    fn vlan_request(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let allowed = [Type::MAC_ADDRESS, Type::NAME_IDENTIFIER];
        let found = DescriptorList::new("FIP VLAN Request", &allowed, bytes)?;
        Ok(Self::VlanRequest { mac: found.mac()?, name: found.name })
    }

    /// FIP VLAN Notification.
    fn vlan_notification(subcode: u8, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let allowed = [Type::MAC_ADDRESS, Type::NAME_IDENTIFIER, Type::VLAN];
        let found = DescriptorList::new("FIP VLAN Notification", &allowed, bytes)?;
        found.must(found.vlans.first(), Type::VLAN)?;
        Ok(Self::VlanNotification { vn2vn: subcode == 3, mac: found.mac()?, vlans: found.vlans })
    }

    /// FIP VN2VN Probe or Beacon.
    fn probe(message: Vn2VnMessage, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let allowed = [Type::MAC_ADDRESS, Type::NAME_IDENTIFIER, Type::VX_PORT_IDENTIFICATION];
        Self::vn2vn(DescriptorList::new("FIP VN2VN Probe or Beacon", &allowed, bytes)?, message)
    }

    /// FIP VN2VN Claim.
    fn claim(message: fn(VnClaim) -> Vn2VnMessage, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let allowed = [
            Type::MAC_ADDRESS,
            Type::NAME_IDENTIFIER,
            Type::VX_PORT_IDENTIFICATION,
            Type::FC4_ATTRIBUTES,
            Type::MAX_FCOE_SIZE,
        ];
        let found = DescriptorList::new("FIP VN2VN Claim", &allowed, bytes)?;
        let attributes = found.must(found.attributes, Type::FC4_ATTRIBUTES)?;
        let claim = VnClaim { attributes, max_fcoe_size: found.max_fcoe_size()? };
        Self::vn2vn(found, message(claim))
    }

    fn vn2vn(found: DescriptorList<'_>, message: Vn2VnMessage) -> Result<Self, Malformed> {
        let port = found.must(found.port()?, Type::VX_PORT_IDENTIFICATION)?;
        Ok(Self::Vn2Vn { message, mac: found.mac()?, name: found.name()?, port })
    }

    const fn operation(&self) -> (u16, u8) {
        match self {
            Self::Solicitation { .. } => (1, 1),
            Self::Advertisement { .. } => (1, 2),
            Self::LinkService { els: FipEls { body: FipElsBody::Request(_), .. }, .. } => (2, 1),
            Self::LinkService { els: FipEls { body: FipElsBody::Reply(_), .. }, .. } => (2, 2),
            Self::KeepAlive { .. } => (3, 1),
            Self::ClearVirtualLinks { .. } => (3, 2),
            Self::VlanRequest { .. } => (4, 1),
            Self::VlanNotification { vn2vn: false, .. } => (4, 2),
            Self::VlanNotification { vn2vn: true, .. } => (4, 3),
            Self::Vn2Vn { message, .. } => match message {
                Vn2VnMessage::ProbeRequest => (5, 1),
                Vn2VnMessage::ProbeReply => (5, 2),
                Vn2VnMessage::ClaimNotification(_) => (5, 3),
                Vn2VnMessage::ClaimResponse(_) => (5, 4),
                Vn2VnMessage::Beacon => (5, 5),
            },
        }
    }

    /// Its descriptors, in the order in which everybody sends them.
    fn descriptors(&self) -> SmallVec<[FipDescriptor<'a>; 5]> {
        let mut list = SmallVec::new();
        match self {
            Self::Solicitation { mac, name, max_fcoe_size } => {
                list.push(FipDescriptor::MacAddress(*mac));
                list.push(FipDescriptor::Name(*name));
                list.push(FipDescriptor::MaxFcoeSize(*max_fcoe_size));
            }
            Self::Advertisement { priority, mac, name, fabric, period } => {
                list.push(FipDescriptor::Priority(*priority));
                list.push(FipDescriptor::MacAddress(*mac));
                list.push(FipDescriptor::Name(*name));
                list.push(FipDescriptor::Fabric(*fabric));
                list.push(FipDescriptor::FkaAdvPeriod(*period));
            }
            Self::LinkService { els, mac, fcoe_mac } => {
                list.push(FipDescriptor::Els(els.clone()));
                list.extend(mac.iter().chain(fcoe_mac).map(|mac| FipDescriptor::MacAddress(*mac)));
            }
            Self::KeepAlive { mac, port } => {
                list.push(FipDescriptor::MacAddress(*mac));
                list.extend(port.iter().map(|port| FipDescriptor::VxPort(*port)));
            }
            Self::ClearVirtualLinks { mac, name, ports } => {
                list.push(FipDescriptor::MacAddress(*mac));
                list.push(FipDescriptor::Name(*name));
                list.extend(ports.iter().map(|port| FipDescriptor::VxPort(*port)));
            }
            Self::VlanRequest { mac, name } => {
                list.push(FipDescriptor::MacAddress(*mac));
                list.extend(name.iter().map(|name| FipDescriptor::Name(*name)));
            }
            Self::VlanNotification { mac, vlans, .. } => {
                list.push(FipDescriptor::MacAddress(*mac));
                list.extend(vlans.iter().map(|vlan| FipDescriptor::Vlan(*vlan)));
            }
            Self::Vn2Vn { message, mac, name, port } => {
                list.push(FipDescriptor::MacAddress(*mac));
                list.push(FipDescriptor::Name(*name));
                list.push(FipDescriptor::VxPort(*port));
                if let Vn2VnMessage::ClaimNotification(claim) | Vn2VnMessage::ClaimResponse(claim) = message {
                    list.push(FipDescriptor::Fc4Attributes(claim.attributes));
                    list.push(FipDescriptor::MaxFcoeSize(claim.max_fcoe_size));
                }
            }
        }
        list
    }
}

impl<'a> Parse<'a> for FipFrame<'a> {
    /// From behind the ethertype. What is behind the descriptors is not looked at: padding.
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let header = FipHeader::parse(bytes)?;
        if header.version >> 4 != 1 {
            return Err(Malformed::value("FIP message", "version", header.version >> 4));
        }
        let end = FipHeader::LEN + 4 * usize::from(header.words);
        let descriptors = &head(bytes, end, "FIP message", "descriptor list")?[FipHeader::LEN..];
        let message = FipMessage::parse((header.operation, header.subcode), descriptors)?;
        Ok(Self { flags: header.flags, message })
    }
}

impl Emit for FipFrame<'_> {
    fn buffer_len(&self) -> usize {
        FipHeader::LEN + self.message.descriptors().iter().map(Emit::buffer_len).sum::<usize>()
    }

    fn emit(&self, out: &mut [u8]) {
        let mut end = FipHeader::LEN;
        for descriptor in self.message.descriptors() {
            descriptor.emit(&mut out[end..]);
            end += descriptor.buffer_len();
        }
        let (operation, subcode) = self.message.operation();
        let words = u16::try_from((end - FipHeader::LEN) / 4).expect("it fits into a frame");
        FipHeader { version: 0x10, operation, subcode, words, flags: self.flags }.emit(out);
    }
}
