// SPDX-License-Identifier: GPL-2.0-or-later
//! An N_Port: what comes in goes to FIP, link services or a session; and who is logged in.

use std::collections::{BTreeMap, VecDeque};

use slab::Slab;

use super::control::{ControlFrame, ControlFrames, vn_addresses};
use super::exchange::Direction;
use super::peer::{FcPeer, LoginState, OwnRequest, PEERS_MAX};
use super::session::FcpSession;
use super::vn2vn::{PortIdentity, Vn2Vn, Vn2VnEvent};
use super::{FcoeCounters, R_A_TOV};
use crate::counters::CounterSet;
use crate::memory::{Arena, Seg, Sg};
use crate::time::Instant;
use crate::wire::fc::{
    Body, ETHERTYPE_FCOE, ETHERTYPE_FIP, ElsReply, ElsRequest, Eof, FCtl, FcHeader, FcId, FcMap, FcType,
    FcoeFrame, FcoePacket, FipDescriptorType, FipEls, FipElsBody, FipFlags, FipFrame, FipMessage,
    LoginFeatures, LoginParameters, Logo, LsRjt, LsRjtExplanation, LsRjtReason, MacAddress, PAYLOAD_MAX,
    Parse, RCtl, Sof, WorldWideName,
};

/// What a port is made of.
pub struct FcoePortOptions {
    /// Who it is.
    pub identity: PortIdentity,
    /// Bytes behind the ethertype that the Ethernet port carries.
    pub mtu: u16,
    /// The initiators that may log in; everybody if there is no list.
    pub initiators: Option<Vec<WorldWideName>>,
}

/// A frame that has come in.
#[derive(Clone, Copy)]
pub struct ReceivedFrame<'a> {
    /// To whom.
    pub to: MacAddress,
    /// From whom.
    pub from: MacAddress,
    /// Its ethertype.
    pub ethertype: u16,
    /// What is behind the ethertype.
    pub body: &'a [u8],
}

/// A frame to be sent.
pub struct OutgoingFrame {
    /// To whom.
    pub to: MacAddress,
    /// From whom.
    pub from: MacAddress,
    /// Its ethertype.
    pub ethertype: u16,
    /// What is behind the ethertype.
    pub body: Sg,
}

/// What the owner of a port has to know. Sessions have numbers, each of which is free again after
/// [`FcoePort::session_ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FcoePortEvent {
    /// Frames to this address are the port's from now on, besides those to the Ethernet port's own and to the groups of
    /// VN2VN; to none without one.
    Address(Option<MacAddress>),
    /// An initiator has logged in.
    Joined(usize),
    /// A session is over. Its transport is gone; [`FcoePort::session_ended`] is to follow when its tasks are.
    Left(usize),
}

/// A session, or what is left of it until its tasks have ended.
enum SessionPlace {
    Live(Box<FcpSession>),
    Ending(WorldWideName),
}

/// See the module.
pub struct FcoePort {
    pub(super) identity: PortIdentity,
    pub(super) frame_size: usize,
    pub(super) initiators: Option<Vec<WorldWideName>>,
    arena: Arena,
    vn2vn: Vn2Vn,
    pub(super) control: ControlFrames,
    pub(super) peers: BTreeMap<FcId, FcPeer>,
    sessions: Slab<SessionPlace>,
    /// The session whose turn it is to send.
    turn: usize,
    events: VecDeque<FcoePortEvent>,
    pub(super) counters: FcoeCounters,
    /// When somebody who has no session was told so last.
    told_at: Option<Instant>,
    next_ox_id: u16,
    pub(super) stopping: bool,
    pub(super) now: Instant,
}

impl FcoePort {
    /// A port that begins to look for an identifier.
    pub fn new(options: FcoePortOptions, arena: &Arena, now: Instant) -> Self {
        let FcoePortOptions { identity, mtu, initiators } = options;
        let room = usize::from(mtu).saturating_sub(FcoePacket::OVERHEAD) & !3;
        let frame_size = room.min(PAYLOAD_MAX);
        let max_fcoe_size = u16::try_from(frame_size + FcoePacket::OVERHEAD).expect("it is short");
        Self {
            identity,
            frame_size,
            initiators,
            arena: arena.clone(),
            vn2vn: Vn2Vn::new(identity, max_fcoe_size, now),
            control: ControlFrames::default(),
            peers: BTreeMap::new(),
            sessions: Slab::new(),
            turn: 0,
            events: VecDeque::new(),
            counters: FcoeCounters::default(),
            told_at: None,
            next_ox_id: 0,
            stopping: false,
            now,
        }
    }

    /// Its identifier, once it has one.
    pub fn id(&self) -> Option<FcId> {
        self.vn2vn.has_id().then(|| self.vn2vn.id())
    }

    /// What there is to be known.
    pub fn poll_event(&mut self) -> Option<FcoePortEvent> {
        self.events.pop_front()
    }

    /// A session that has not left.
    pub fn session(&mut self, number: usize) -> Option<&mut FcpSession> {
        match self.sessions.get_mut(number)? {
            SessionPlace::Live(session) => Some(session),
            SessionPlace::Ending(_) => None,
        }
    }

    /// All of them, with their numbers.
    pub fn sessions(&self) -> impl Iterator<Item = (usize, &FcpSession)> {
        self.sessions.iter().filter_map(|(number, place)| match place {
            SessionPlace::Live(session) => Some((number, &**session)),
            SessionPlace::Ending(_) => None,
        })
    }

    fn sessions_mut(&mut self) -> impl Iterator<Item = &mut FcpSession> {
        self.sessions.iter_mut().filter_map(|(_, place)| match place {
            SessionPlace::Live(session) => Some(&mut **session),
            SessionPlace::Ending(_) => None,
        })
    }

    /// How many sessions have left whose tasks have not ended.
    pub fn ending(&self) -> usize {
        self.sessions.len() - self.sessions().count()
    }

    /// What was counted.
    pub fn counters(&self) -> FcoeCounters {
        let mut all = self.counters;
        for (_, session) in self.sessions() {
            all.add(&session.counters);
            all.fcp_sessions += 1;
            all.open_exchanges += session.exchanges() as u64;
        }
        all
    }

    /// The tasks of a session that has left have ended.
    pub fn session_ended(&mut self, number: usize) {
        self.sessions.remove(number);
        let waiting = self.peers.iter().filter_map(|(id, peer)| Some((*id, peer.waiting?)));
        let waiting: Vec<_> = waiting.collect();
        for (id, (header, page)) in waiting {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.waiting = None;
                self.process_login(&header, page);
            }
        }
    }

    /// The daemon stops: everybody is logged out, and nobody comes in any more.
    pub fn stop(&mut self) {
        self.stopping = true;
        let ids: Vec<FcId> = self.peers.keys().copied().collect();
        for id in ids {
            if self.peers[&id].state == LoginState::LoggedIn {
                self.send_logo(id);
            }
            self.log_out(id);
        }
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Instant) {
        self.now = now;
        self.vn2vn.poll(now, &mut self.control);
        self.hear_of_neighbours();
        self.sessions_mut().for_each(|session| session.poll(now));
        for peer in self.peers.values_mut() {
            if peer.own_request().is_some_and(|request| now >= request.deadline) {
                // The next beacon of it begins anew.
                peer.state = LoginState::LoggedOut;
            }
        }
    }

    /// When [`Self::poll`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        let sessions = self.sessions().filter_map(|(_, session)| session.next_deadline());
        let requests = self.peers.values().filter_map(|peer| Some(peer.own_request()?.deadline));
        sessions.chain(requests).fold(self.vn2vn.next_deadline(), Instant::min)
    }

    // What goes out.

    /// The next frame to be sent. `None` if there is none, or no memory for it now.
    pub fn poll_frame(&mut self) -> Option<OutgoingFrame> {
        if let Some(frame) = send_control(&mut self.control, &self.arena) {
            return frame;
        }
        let count = self.sessions.len();
        let order = (0..count).map(|step| (self.turn + step) % count.max(1));
        let numbers: smallvec::SmallVec<[usize; 8]> =
            self.sessions.iter().map(|(number, _)| number).collect();
        for place in order {
            let Some(SessionPlace::Live(session)) = self.sessions.get_mut(numbers[place]) else { continue };
            if let Some(frame) = send_control(&mut session.control, &self.arena) {
                return frame;
            }
            if let Some((header, frame)) = session.poll_frame() {
                self.turn = place + 1;
                return Some(between_ports(&header, frame));
            }
        }
        None
    }

    /// Whether frames wait to be sent.
    pub fn is_sending(&self) -> bool {
        self.control.first().is_some() || self.sessions().any(|(_, session)| session.is_sending())
    }

    // What comes in.

    /// Takes a frame. The `to` is one of the addresses that are the port's.
    pub fn receive(&mut self, now: Instant, frame: ReceivedFrame<'_>) {
        self.now = now;
        let taken = match frame.ethertype {
            ETHERTYPE_FIP => self.receive_fip(&frame),
            ETHERTYPE_FCOE => self.receive_fcoe(&frame),
            _ => None,
        };
        if taken.is_none() {
            self.counters.bad_frames += 1;
        }
        self.hear_of_neighbours();
    }

    fn receive_fip(&mut self, frame: &ReceivedFrame<'_>) -> Option<()> {
        let FipFrame { flags, message } = FipFrame::parse(frame.body).ok()?;
        match message {
            FipMessage::Vn2Vn { message, mac, name, port } => {
                let what = (message, mac, name, port);
                self.vn2vn.receive(self.now, flags, what, frame.body.len(), &mut self.control);
            }
            FipMessage::LinkService { els, .. } if self.id() == Some(els.header.d_id) => match els.body {
                FipElsBody::Request(request) => {
                    let reply = self.fip_request(&els.header, &request, frame.from);
                    if let Some(reply) = reply {
                        let header = els.header.reply(RCtl::ELS_REPLY);
                        self.send_fip_els(els.kind, frame.from, header, FipElsBody::Reply(reply));
                    }
                    self.login_goes_on(els.header.s_id);
                }
                FipElsBody::Reply(reply) => self.flogi_answered(&els.header, &reply),
            },
            // Of switches, or for others.
            _ => {}
        }
        Some(())
    }

    /// FLOGI or LOGO of a neighbour.
    fn fip_request(
        &mut self,
        header: &FcHeader,
        request: &ElsRequest<'_>,
        from: MacAddress,
    ) -> Option<ElsReply<'static>> {
        let id = header.s_id;
        let reject = |reason, explanation| Some(ElsReply::Reject(LsRjt::new(reason, explanation)));
        match request {
            ElsRequest::Logo(_) => {
                self.log_out(id);
                Some(ElsReply::Accept(crate::wire::fc::ElsEmpty))
            }
            ElsRequest::Flogi(login) => {
                let known = self.vn2vn.neighbour(id);
                if known.is_none_or(|it| (it.mac, it.port_name) != (from, login.port_name)) {
                    return reject(LsRjtReason::FIP_ERROR, LsRjtExplanation::FIP_NOT_A_NEIGHBOUR);
                }
                if login.features.contains(LoginFeatures::F_PORT) {
                    return reject(LsRjtReason::LOGICAL_ERROR, LsRjtExplanation::COMMON_PARAMETERS);
                }
                if self.stopping || !self.meet(id, login.port_name) {
                    return reject(LsRjtReason::LOGICAL_BUSY, LsRjtExplanation::INSUFFICIENT_RESOURCES);
                }
                // Whoever begins anew has forgotten what was.
                if self.peers[&id].state == LoginState::LoggedIn {
                    self.log_out(id);
                }
                Some(ElsReply::Login(self.flogi()))
            }
            _ => None,
        }
    }

    /// After the answer to a FLOGI of that port: who has the higher name sends PLOGI. If both have sent FLOGI, each
    /// waits for its own answer.
    fn login_goes_on(&mut self, id: FcId) {
        if let Some(FcPeer { state: LoginState::LoggedOut, .. }) = self.peers.get(&id) {
            self.begin_plogi(id);
        }
    }

    fn begin_plogi(&mut self, id: FcId) {
        let Some(port_name) = self.peers.get(&id).map(|peer| peer.port_name) else { return };
        let state = if self.identity.port_name > port_name {
            let request = self.own_request();
            let (PortIdentity { port_name, node_name, .. }, size) = (self.identity, self.receive_size());
            let login = LoginParameters::plogi(port_name, node_name, size, millis(super::E_D_TOV));
            self.send_request(id, request, &ElsRequest::Plogi(login));
            LoginState::Plogi(request)
        } else {
            LoginState::AwaitsPlogi
        };
        self.peers.entry(id).and_modify(|peer| peer.state = state);
    }

    fn flogi_answered(&mut self, header: &FcHeader, reply: &ElsReply<'_>) {
        let Some(peer) = self.peers.get_mut(&header.s_id) else { return };
        let LoginState::Flogi(request) = peer.state else { return };
        if request.ox_id != header.ox_id {
            return;
        }
        match reply {
            ElsReply::Login(login) if !login.features.contains(LoginFeatures::F_PORT) => {
                self.begin_plogi(header.s_id);
            }
            _ => peer.state = LoginState::LoggedOut,
        }
    }

    fn receive_fcoe(&mut self, frame: &ReceivedFrame<'_>) -> Option<()> {
        let fc = FcoeFrame::parse(frame.body).ok()?;
        let header = fc.header;
        let first = fc.sof == Sof::SOF_I3;
        let whole = first && header.f_ctl.contains(FCtl::END_SEQUENCE);
        let class_3 = first || fc.sof == Sof::SOF_N3;
        if !class_3 || ![Eof::EOF_N, Eof::EOF_T].contains(&fc.eof) {
            return None;
        }
        let own = self.id()?;
        if header.d_id != own || frame.from != vn_addresses(&header.reply(header.r_ctl)).0 {
            return None;
        }
        let data = fc.data().ok()?;
        let number = self.peers.get(&header.s_id).and_then(|peer| peer.session);
        let answers = header.f_ctl.contains(FCtl::EXCHANGE_RESPONDER);
        if (header.fc_type, header.r_ctl, answers) == (FcType::FCP, RCtl::FCP_DATA, false) {
            match number.and_then(|number| self.session(number)) {
                Some(session) => session.data(&header, data),
                None => self.counters.stray_frames += 1,
            }
            return Some(());
        }
        if !whole {
            return None;
        }
        if (header.fc_type, header.r_ctl, answers) == (FcType::ELS, RCtl::ELS_REQUEST, false) {
            self.els_request(&header, data);
            return Some(());
        }
        let body = Body::parse(&header, data).ok()?;
        let stopping = self.stopping;
        let session = number.and_then(|number| self.session(number));
        match (body, session) {
            (Body::ElsReply(payload), _) if answers => self.els_reply(&header, payload),
            (Body::FcpCmnd(command), Some(session)) if !answers => session.command(&header, &command),
            (Body::FcpConf, Some(session)) if !answers => session.confirmation(&header),
            (Body::Abts(_), Some(session)) if !answers => session.abort(&header),
            (Body::Abts(_), None) if !answers => self.unknown_abort(&header),
            (Body::Fc4Request(_), _) if !answers => self.refuse_fc4(&header),
            // Who does not know that it is not logged in has to log in again.
            (Body::FcpCmnd(_), None) if !answers && !stopping => self.tell_logged_out(header.s_id),
            _ => self.counters.stray_frames += 1,
        }
        Some(())
    }

    /// Tells somebody that it has no session; not too often.
    fn tell_logged_out(&mut self, id: FcId) {
        self.counters.stray_frames += 1;
        let pause = std::time::Duration::from_millis(100);
        if self.told_at.is_some_and(|told| self.now < told + pause) {
            return;
        }
        self.told_at = Some(self.now);
        self.send_logo(id);
        self.log_out(id);
    }

    // Who is there.

    fn hear_of_neighbours(&mut self) {
        while let Some(event) = self.vn2vn.events.pop_front() {
            match event {
                Vn2VnEvent::Claimed => {
                    let mac = MacAddress::of_vn_port(FcMap::VN2VN, self.vn2vn.id());
                    self.events.push_back(FcoePortEvent::Address(Some(mac)));
                }
                Vn2VnEvent::Lost => {
                    let ids: Vec<FcId> = self.peers.keys().copied().collect();
                    ids.into_iter().for_each(|id| self.forget(id));
                    self.events.push_back(FcoePortEvent::Address(None));
                }
                Vn2VnEvent::Beacon(id) => self.begin_flogi(id),
                Vn2VnEvent::Gone(id) => self.forget(id),
            }
        }
    }

    /// A neighbour can be logged in to.
    fn begin_flogi(&mut self, id: FcId) {
        let Some(neighbour) = self.vn2vn.neighbour(id).copied() else { return };
        if self.stopping || !self.meet(id, neighbour.port_name) {
            return;
        }
        if self.peers[&id].state == LoginState::LoggedOut {
            let request = self.own_request();
            let header = self.request_header(id, request);
            let flogi = FipElsBody::Request(ElsRequest::Flogi(self.flogi()));
            self.send_fip_els(FipDescriptorType::FLOGI, neighbour.mac, header, flogi);
            self.peers.entry(id).and_modify(|peer| peer.state = LoginState::Flogi(request));
        }
    }

    /// That port is a peer from now on. Returns whether there is room for it.
    pub(super) fn meet(&mut self, id: FcId, port_name: WorldWideName) -> bool {
        if self.peers.get(&id).is_some_and(|peer| peer.port_name != port_name) {
            self.forget(id);
        }
        if !self.peers.contains_key(&id) && self.peers.len() >= PEERS_MAX {
            return false;
        }
        self.peers.entry(id).or_insert_with(|| FcPeer::new(port_name));
        true
    }

    /// That port is gone.
    fn forget(&mut self, id: FcId) {
        self.log_out(id);
        self.peers.remove(&id);
    }

    /// The login of that port is over.
    pub(super) fn log_out(&mut self, id: FcId) {
        self.end_session(id);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.state = LoginState::LoggedOut;
            peer.waiting = None;
        }
    }

    /// The session of that port is over.
    pub(super) fn end_session(&mut self, id: FcId) {
        let Some(number) = self.peers.get_mut(&id).and_then(|peer| peer.session.take()) else { return };
        let place = &mut self.sessions[number];
        if let SessionPlace::Live(session) = place {
            self.counters.add(&session.counters);
            *place = SessionPlace::Ending(session.initiator());
            self.events.push_back(FcoePortEvent::Left(number));
        }
    }

    /// Whether tasks of an earlier session of that initiator have not ended.
    pub(super) fn is_ending(&self, port_name: WorldWideName) -> bool {
        self.sessions
            .iter()
            .any(|(_, place)| matches!(place, SessionPlace::Ending(name) if *name == port_name))
    }

    /// A session for that peer, which has none.
    pub(super) fn join(&mut self, id: FcId, confirms: bool) {
        let Some(own) = self.id() else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let direction = Direction { own, peer: id, frame_size: peer.frame_size };
        let session = FcpSession::new(&self.arena, direction, peer.port_name, confirms, self.now);
        let number = self.sessions.insert(SessionPlace::Live(Box::new(session)));
        peer.session = Some(number);
        self.counters.fcp_logins += 1;
        self.events.push_back(FcoePortEvent::Joined(number));
    }

    // Requests of ours.

    pub(super) fn own_request(&mut self) -> OwnRequest {
        let ox_id = self.next_ox_id;
        self.next_ox_id = (ox_id + 1) & 0x7fff;
        OwnRequest { ox_id, deadline: self.now + R_A_TOV }
    }

    fn request_header(&self, to: FcId, request: OwnRequest) -> FcHeader {
        FcHeader::request(RCtl::ELS_REQUEST, FcType::ELS, self.vn2vn.id(), to, request.ox_id)
    }

    fn send_request(&mut self, to: FcId, request: OwnRequest, els: &ElsRequest<'_>) {
        let header = self.request_header(to, request);
        self.control.fc(header, els);
    }

    /// LOGO, for whose answer nobody waits.
    fn send_logo(&mut self, to: FcId) {
        let request = self.own_request();
        let logo = Logo { n_port_id: self.vn2vn.id(), port_name: self.identity.port_name };
        self.send_request(to, request, &ElsRequest::Logo(logo));
    }

    fn send_fip_els(
        &mut self,
        kind: FipDescriptorType,
        to: MacAddress,
        header: FcHeader,
        body: FipElsBody<'_>,
    ) {
        let mac = Some(MacAddress::of_vn_port(FcMap::VN2VN, self.vn2vn.id()));
        let message = FipMessage::LinkService { els: FipEls { kind, header, body }, mac, fcoe_mac: None };
        let message = FipFrame { flags: FipFlags::default(), message };
        self.control.fip((to, self.identity.mac), &message, 0);
    }

    fn flogi(&self) -> LoginParameters {
        let PortIdentity { port_name, node_name, .. } = self.identity;
        LoginParameters::flogi(port_name, node_name, self.receive_size())
    }

    pub(super) fn receive_size(&self) -> u16 {
        u16::try_from(self.frame_size).expect("at most PAYLOAD_MAX")
    }
}

/// A time as login parameters and RTV have it.
pub(super) fn millis(time: std::time::Duration) -> u32 {
    u32::try_from(time.as_millis()).expect("some seconds")
}

/// The next of these frames, if there is one; within, `None` if there is no memory for it.
fn send_control(control: &mut ControlFrames, arena: &Arena) -> Option<Option<OutgoingFrame>> {
    let ControlFrame { to, from, ethertype, ref body } = *control.first()?;
    let frame = Sg::copied_reserved(arena, body).map(|body| OutgoingFrame { to, from, ethertype, body });
    if frame.is_some() {
        control.sent();
    }
    Some(frame)
}

fn between_ports(header: &FcHeader, frame: Seg) -> OutgoingFrame {
    let (to, from) = vn_addresses(header);
    OutgoingFrame { to, from, ethertype: ETHERTYPE_FCOE, body: frame.into() }
}
