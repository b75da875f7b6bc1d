// SPDX-License-Identifier: GPL-2.0-or-later
//! Link services between ports: logins, and what ports ask each other (FC-LS, "Extended Link Services").

use super::peer::LoginState;
use super::port::{FcoePort, millis};
use super::{E_D_TOV, R_A_TOV};
use crate::wire::fc::{
    Adisc, BaRjt, BaRjtExplanation, BaRjtReason, ClassOptions, ElsCode, ElsEmpty, ElsReply, ElsRequest,
    ExchangeId, FcHeader, FcId, FcType, FcpServiceParameters, LoginParameters, LsRjt, LsRjtExplanation,
    LsRjtReason, PageFlags, PageResponse, Parse, ProcessLogin, RCtl, RtvAcc, ServicePage, TimeoutQualifier,
};

/// An answer, or why there is none but a refusal.
type Answered<'a> = Result<ElsReply<'a>, LsRjt>;

const fn rejected(reason: LsRjtReason, explanation: LsRjtExplanation) -> LsRjt {
    LsRjt::new(reason, explanation)
}

const PLOGI_REQUIRED: LsRjt = rejected(LsRjtReason::UNABLE_TO_PERFORM, LsRjtExplanation::PLOGI_REQUIRED);
const NOT_SUPPORTED: LsRjt = rejected(LsRjtReason::NOT_SUPPORTED, LsRjtExplanation::NOT_SUPPORTED);
const UNKNOWN_EXCHANGE: LsRjt = rejected(LsRjtReason::LOGICAL_ERROR, LsRjtExplanation::INVALID_OX_ID_RX_ID);

impl FcoePort {
    pub(super) fn els_request(&mut self, header: &FcHeader, payload: &[u8]) {
        let answer = match ElsRequest::parse(payload) {
            Ok(ElsRequest::Prli(ProcessLogin(page))) => return self.process_login(header, page),
            Ok(request) => self.answer(header, &request),
            Err(_) => Err(rejected(LsRjtReason::PROTOCOL_ERROR, LsRjtExplanation::INVALID_PAYLOAD_LENGTH)),
        };
        self.reply(header, answer);
    }

    fn reply(&mut self, header: &FcHeader, answer: Answered<'_>) {
        self.control.fc(header.reply(RCtl::ELS_REPLY), &answer.unwrap_or_else(ElsReply::Reject));
    }

    fn answer<'a>(&mut self, header: &FcHeader, request: &ElsRequest<'a>) -> Answered<'a> {
        let id = header.s_id;
        let logged_in = self.peers.get(&id).is_some_and(|peer| peer.state == LoginState::LoggedIn);
        match request {
            ElsRequest::Plogi(login) => self.port_login(id, login),
            ElsRequest::Logo(_) => {
                self.log_out(id);
                Ok(ElsReply::Accept(ElsEmpty))
            }
            ElsRequest::Echo(data) => Ok(ElsReply::Echo(*data)),
            _ if !logged_in => Err(PLOGI_REQUIRED),
            ElsRequest::Prlo(ProcessLogin(page)) => {
                self.end_session(id);
                let flags = PageFlags::default().with_response(PageResponse::EXECUTED);
                let page = ServicePage { flags, parameters: FcpServiceParameters::default(), ..*page };
                Ok(ElsReply::Prli(ProcessLogin(page)))
            }
            ElsRequest::Adisc(_) => Ok(ElsReply::Adisc(Adisc {
                hard_address: FcId::UNASSIGNED,
                port_name: self.identity.port_name,
                node_name: self.identity.node_name,
                n_port_id: header.d_id,
            })),
            ElsRequest::Rtv(_) => Ok(ElsReply::Rtv(RtvAcc {
                r_a_tov: millis(R_A_TOV),
                e_d_tov: millis(E_D_TOV),
                qualifier: TimeoutQualifier::default(),
            })),
            ElsRequest::Rrq(exchange) => self.reinstate(id, exchange),
            ElsRequest::Rec(exchange) => self.read_exchange(id, exchange),
            _ => Err(NOT_SUPPORTED),
        }
    }

    /// PLOGI. Who was logged in is not any more.
    fn port_login(&mut self, id: FcId, login: &LoginParameters) -> Answered<'static> {
        let refused = self.check_login(login).err();
        let crossing = self.peers.get(&id).is_some_and(|peer| matches!(peer.state, LoginState::Plogi(_)));
        let refused = refused.or_else(|| {
            // Both have sent one: that of the higher name counts.
            let ours = crossing && self.identity.port_name > login.port_name;
            ours.then_some(rejected(LsRjtReason::COMMAND_IN_PROGRESS, LsRjtExplanation::NONE))
        });
        if let Some(refused) = refused {
            self.counters.refused_logins += 1;
            return Err(refused);
        }
        if !self.meet(id, login.port_name) {
            self.counters.refused_logins += 1;
            return Err(rejected(LsRjtReason::LOGICAL_BUSY, LsRjtExplanation::INSUFFICIENT_RESOURCES));
        }
        self.log_out(id);
        self.logged_in(id, login);
        let (own, size) = (self.identity, self.receive_size());
        let accept = LoginParameters::plogi(own.port_name, own.node_name, size, millis(E_D_TOV));
        Ok(ElsReply::Login(accept))
    }

    fn check_login(&self, login: &LoginParameters) -> Result<(), LsRjt> {
        if self.stopping {
            return Err(rejected(LsRjtReason::UNABLE_TO_PERFORM, LsRjtExplanation::NONE));
        }
        if !login.class_3.options.contains(ClassOptions::VALID) {
            return Err(rejected(LsRjtReason::LOGICAL_ERROR, LsRjtExplanation::COMMON_PARAMETERS));
        }
        if frame_size(login).is_none() {
            return Err(rejected(LsRjtReason::LOGICAL_ERROR, LsRjtExplanation::RECEIVE_SIZE));
        }
        Ok(())
    }

    /// PLOGI is accepted, by one side or the other.
    fn logged_in(&mut self, id: FcId, login: &LoginParameters) {
        let own = self.frame_size;
        if let (Some(peer), Some(size)) = (self.peers.get_mut(&id), frame_size(login)) {
            peer.state = LoginState::LoggedIn;
            peer.frame_size = usize::from(size).min(own);
        }
    }

    /// An answer to a PLOGI of ours; to others nobody waits for one.
    pub(super) fn els_reply(&mut self, header: &FcHeader, payload: &[u8]) {
        let id = header.s_id;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let LoginState::Plogi(request) = peer.state else { return };
        if request.ox_id != header.ox_id {
            return;
        }
        match ElsReply::parse(ElsCode::PLOGI, payload) {
            Ok(ElsReply::Login(login))
                if frame_size(&login).is_some() && login.port_name == peer.port_name =>
            {
                self.logged_in(id, &login);
            }
            Ok(ElsReply::Reject(LsRjt { reason: LsRjtReason::COMMAND_IN_PROGRESS, .. })) => {
                peer.state = LoginState::AwaitsPlogi;
            }
            _ => peer.state = LoginState::LoggedOut,
        }
    }

    /// PRLI. It is answered when the tasks of an earlier session of the same initiator have ended.
    pub(super) fn process_login(&mut self, header: &FcHeader, page: ServicePage) {
        let id = header.s_id;
        let Some(port_name) = self.peers.get(&id).filter(|peer| peer.state == LoginState::LoggedIn) else {
            return self.reply(header, Err(PLOGI_REQUIRED));
        };
        let port_name = port_name.port_name;
        let allowed = self.initiators.as_ref().is_none_or(|allowed| allowed.contains(&port_name));
        let initiates = page.parameters.contains(FcpServiceParameters::INITIATOR);
        let refusal = match () {
            () if page.fc_type != FcType::FCP => Some(NOT_SUPPORTED),
            () if self.stopping || !allowed || !initiates => {
                Some(rejected(LsRjtReason::UNABLE_TO_PERFORM, LsRjtExplanation::NONE))
            }
            () => None,
        };
        if let Some(refusal) = refusal {
            self.counters.refused_logins += 1;
            return self.reply(header, Err(refusal));
        }
        let wanted = page.flags.contains(PageFlags::ESTABLISH_IMAGE_PAIR);
        if wanted {
            self.end_session(id);
        }
        if wanted && self.is_ending(port_name) {
            self.peers.entry(id).and_modify(|peer| peer.waiting = Some((*header, page)));
            return;
        }
        let confirmed = FcpServiceParameters::CONFIRMED_COMPLETION;
        let confirms = page.parameters.contains(confirmed);
        let mut parameters = FcpServiceParameters::TARGET.with(FcpServiceParameters::READ_XFER_RDY_DISABLED);
        if confirms {
            parameters = parameters.with(confirmed);
        }
        let established = if wanted { PageFlags::ESTABLISH_IMAGE_PAIR } else { PageFlags::default() };
        let flags = established.with_response(PageResponse::EXECUTED);
        if wanted {
            self.join(id, confirms);
        }
        let accept = ProcessLogin(ServicePage::fcp(flags, parameters));
        self.reply(header, Ok(ElsReply::Prli(accept)));
    }

    fn reinstate(&mut self, id: FcId, exchange: &ExchangeId) -> Answered<'static> {
        let number = self.peers.get(&id).and_then(|peer| peer.session);
        let session = number.and_then(|number| self.session(number));
        let rested = session.is_some_and(|session| session.reinstate(exchange));
        if rested { Ok(ElsReply::Accept(ElsEmpty)) } else { Err(UNKNOWN_EXCHANGE) }
    }

    fn read_exchange(&mut self, id: FcId, exchange: &ExchangeId) -> Answered<'static> {
        let number = self.peers.get(&id).and_then(|peer| peer.session);
        let session = number.and_then(|number| self.session(number));
        let status = session.and_then(|session| session.status_of(exchange));
        status.map(ElsReply::Rec).ok_or(UNKNOWN_EXCHANGE)
    }

    /// ABTS of one who has no session.
    pub(super) fn unknown_abort(&mut self, header: &FcHeader) {
        self.counters.aborts += 1;
        let (reason, explanation) = (BaRjtReason::LOGICAL_ERROR, BaRjtExplanation::INVALID_OX_ID_RX_ID);
        self.control.fc(header.reply(RCtl::BA_RJT), &BaRjt { reason, explanation, vendor: 0 });
    }

    /// SRR: nothing is sent again.
    pub(super) fn refuse_fc4(&mut self, header: &FcHeader) {
        self.control.fc(header.reply(RCtl::FC4_REPLY), &ElsReply::Reject(NOT_SUPPORTED));
    }
}

/// The longest payload that another port takes in class 3, if what it says is legal.
fn frame_size(login: &LoginParameters) -> Option<u16> {
    Some(login.receive_size.legal()?.min(login.class_3.receive_size.legal()?))
}
