// SPDX-License-Identifier: GPL-2.0-or-later
//! A port, and another on the same wire that says what a test wants.

mod chaos;
mod fcp;
mod golden;
mod login;
mod vn2vn;

use std::time::Duration;

use super::session::FcpSession;
use super::vn2vn::PortIdentity;
use super::{FcoePort, FcoePortEvent, FcoePortOptions, ReceivedFrame};
use crate::memory::Arena;
use crate::time::Instant;
use crate::wire::fc::{
    Body, ETHERTYPE_FCOE, ETHERTYPE_FIP, ElsCode, ElsReply, ElsRequest, Emit, Eof, FCtl, Fc4Attributes,
    Fc4Features, Fc4Types, FcHeader, FcId, FcMap, FcType, FcoeFrame, FcpServiceParameters, FipEls,
    FipElsBody, FipFlags, FipFrame, FipMessage, LoginParameters, MacAddress, PageFlags, Parse, ProcessLogin,
    RCtl, ServicePage, Sof, Vn2VnMessage, VnClaim, VxPort, WorldWideName,
};
use crate::wire::rewrite::written;

/// MTU of the wire, and the data of a frame.
const MTU: u16 = 1500;
const FRAME: usize = 1452;

pub(super) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn name(text: &str) -> WorldWideName {
    text.parse().expect("a name")
}

/// A port of that last byte, which is its identifier, too.
pub(super) fn identity(last: u8) -> PortIdentity {
    PortIdentity {
        port_name: name(&format!("20:00:02:fc:00:00:00:{last:02x}")),
        node_name: name(&format!("10:00:02:fc:00:00:00:{last:02x}")),
        mac: MacAddress([2, 0xfc, 0, 0, 0, last]),
    }
}

/// The one that is tested has an identifier in the middle.
const OWN: u8 = 0x50;
const LOWER: u8 = 0x0a;
const HIGHER: u8 = 0xaa;

fn id(last: u8) -> FcId {
    FcId::new(last.into())
}

fn vn_mac(last: u8) -> MacAddress {
    MacAddress::of_vn_port(FcMap::VN2VN, id(last))
}

/// A frame that was sent.
#[derive(Clone, Debug)]
pub(super) struct SentFrame {
    to: MacAddress,
    from: MacAddress,
    ethertype: u16,
    body: Vec<u8>,
}

impl SentFrame {
    fn fip(&self) -> FipFrame<'_> {
        assert_eq!(self.ethertype, ETHERTYPE_FIP);
        FipFrame::parse(&self.body).expect("a FIP message")
    }

    fn fcoe(&self) -> FcoeFrame<'_> {
        assert_eq!(self.ethertype, ETHERTYPE_FCOE);
        FcoeFrame::parse(&self.body).expect("an FCoE frame")
    }

    fn header(&self) -> FcHeader {
        self.fcoe().header
    }

    fn unit(&self) -> Body<'_> {
        let frame = self.fcoe();
        Body::parse(&frame.header, frame.data().expect("data")).expect("an information unit")
    }

    fn vn2vn(&self) -> Vn2VnMessage {
        match self.fip().message {
            FipMessage::Vn2Vn { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    /// An answer to that ELS request.
    fn reply(&self, request: ElsCode) -> ElsReply<'_> {
        let Body::ElsReply(payload) = self.unit() else { panic!("no answer: {:?}", self.unit()) };
        ElsReply::parse(request, payload).expect("an answer")
    }
}

pub(super) struct FcoeRig {
    port: FcoePort,
    arena: Arena,
    now: Instant,
}

impl FcoeRig {
    fn with(options: FcoePortOptions) -> Self {
        let arena = Arena::new(8 << 20, false).expect("memory");
        let now = Instant::ZERO;
        Self { port: FcoePort::new(options, &arena, now), arena, now }
    }

    fn new() -> Self {
        Self::with(FcoePortOptions { identity: identity(OWN), mtu: MTU, initiators: None })
    }

    /// One that has its identifier.
    fn up() -> Self {
        let mut rig = Self::new();
        rig.pass(millis(1000));
        rig.drain();
        rig
    }

    /// Time passes, and all is done that is due in it.
    fn pass(&mut self, time: Duration) -> Vec<SentFrame> {
        let (end, mut caught) = (self.now + time, Vec::new());
        loop {
            let due = self.port.next_deadline().max(self.now);
            self.now = due.min(end);
            self.port.poll(self.now);
            caught.extend(self.catch());
            if due > end {
                return caught;
            }
        }
    }

    /// What it sends now.
    fn catch(&mut self) -> Vec<SentFrame> {
        let frames = std::iter::from_fn(|| self.port.poll_frame());
        let caught = frames.map(|frame| SentFrame {
            to: frame.to,
            from: frame.from,
            ethertype: frame.ethertype,
            body: frame.body.to_vec(),
        });
        caught.collect()
    }

    fn drain(&mut self) -> Vec<FcoePortEvent> {
        std::iter::from_fn(|| self.port.poll_event()).collect()
    }

    fn give(&mut self, (to, from): (MacAddress, MacAddress), ethertype: u16, body: &[u8]) -> Vec<SentFrame> {
        self.port.receive(self.now, ReceivedFrame { to, from, ethertype, body });
        self.catch()
    }

    /// A message of VN2VN from the port of that last byte, about that identifier.
    fn say(&mut self, last: u8, about: FcId, message: Vn2VnMessage, flags: FipFlags) -> Vec<SentFrame> {
        let PortIdentity { port_name, node_name, mac } = identity(last);
        let port = VxPort { mac: MacAddress::of_vn_port(FcMap::VN2VN, about), id: about, port_name };
        let message = FipMessage::Vn2Vn { message, mac, name: node_name, port };
        let body = written(&FipFrame { flags, message });
        self.give((MacAddress::ALL_VN2VN, mac), ETHERTYPE_FIP, &body)
    }

    /// A link service in FIP.
    fn fip_els(&mut self, els: FipEls<'_>, last: u8) -> Vec<SentFrame> {
        let message = FipMessage::LinkService { els, mac: Some(vn_mac(last)), fcoe_mac: None };
        let body = written(&FipFrame { flags: FipFlags::default(), message });
        self.give((identity(OWN).mac, identity(last).mac), ETHERTYPE_FIP, &body)
    }

    /// A frame from the port of that last byte.
    fn frame(&mut self, last: u8, header: FcHeader, payload: &[u8]) -> Vec<SentFrame> {
        let mut payload = payload.to_vec();
        let fill = payload.len().next_multiple_of(4) - payload.len();
        payload.resize(payload.len() + fill, 0);
        let header = FcHeader { f_ctl: header.f_ctl.with_fill(fill), ..header };
        let sof = if header.seq_cnt == 0 { Sof::SOF_I3 } else { Sof::SOF_N3 };
        let whole = header.f_ctl.contains(FCtl::END_SEQUENCE);
        let eof = if whole { Eof::EOF_T } else { Eof::EOF_N };
        let body = written(&FcoeFrame { sof, header, payload: &payload, eof });
        self.give((vn_mac(OWN), vn_mac(last)), ETHERTYPE_FCOE, &body)
    }

    fn els(&mut self, last: u8, ox_id: u16, request: &ElsRequest<'_>) -> Vec<SentFrame> {
        let header = FcHeader::request(RCtl::ELS_REQUEST, FcType::ELS, id(last), id(OWN), ox_id);
        self.frame(last, header, &written(request))
    }

    fn plogi(&mut self, last: u8) -> Vec<SentFrame> {
        self.els(last, 0x100, &ElsRequest::Plogi(plogi(last)))
    }

    fn prli(&mut self, last: u8) -> Vec<SentFrame> {
        let initiator = FcpServiceParameters::new(0x1a2);
        let page = ServicePage::fcp(PageFlags::ESTABLISH_IMAGE_PAIR, initiator);
        self.els(last, 0x101, &ElsRequest::Prli(ProcessLogin(page)))
    }

    /// One with a session, which has that number.
    fn logged_in(last: u8) -> (Self, usize) {
        let mut rig = Self::up();
        rig.plogi(last);
        rig.prli(last);
        let [FcoePortEvent::Joined(number)] = rig.drain()[..] else { panic!("nobody has joined") };
        (rig, number)
    }

    fn session(&mut self, number: usize) -> &mut FcpSession {
        self.port.session(number).expect("it is there")
    }
}

fn plogi(last: u8) -> LoginParameters {
    let PortIdentity { port_name, node_name, .. } = identity(last);
    LoginParameters::plogi(port_name, node_name, 2112, 2000)
}

fn claim() -> VnClaim {
    let attributes = Fc4Attributes { types: Fc4Types::default(), features: Fc4Features::default() };
    VnClaim { attributes, max_fcoe_size: 2158 }
}

fn els_body(
    last: u8,
    request: ElsRequest<'static>,
    kind: crate::wire::fc::FipDescriptorType,
) -> FipEls<'static> {
    let header = FcHeader::request(RCtl::ELS_REQUEST, FcType::ELS, id(last), id(OWN), 7);
    FipEls { kind, header, body: FipElsBody::Request(request) }
}

fn bytes(what: &dyn Emit) -> Vec<u8> {
    written(what)
}
