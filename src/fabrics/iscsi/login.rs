// SPDX-License-Identifier: GPL-2.0-or-later
//! The login phase (RFC 7143 6.3): names, security stage, operational stage.

use std::sync::Arc;

use super::chap::{Chap, Said};
use super::datamover::UNEXPECTED_MAX;
use super::framing::Pdu;
use super::negotiate::{LoginKind, Negotiation, Repeated, in_order};
use super::parameters::{Negotiated, Parameters};
use super::{
    Admission, ConnectionOrigin, Denial, Directory, LoginRefusal, LoginRequest, LoginStatus, Visitor,
};
use crate::wire::PeerText;
use crate::wire::iscsi::{
    LoginRequestHeader, LoginStage, NAME_MAX, PduHeader, claimed_name, normal_name, pairs, push_pair,
};

/// Most bytes of a login data segment, in both directions (RFC 7143 13.12).
pub(super) const LOGIN_SEGMENT_MAX: usize = 8192;

/// Most bytes of text of one login, all PDUs together.
const LOGIN_TEXT_MAX: usize = 64 << 10;

/// Most PDUs of one login.
const LOGIN_PDUS_MAX: u32 = 64;

const SECURITY: LoginStage = LoginStage::SECURITY;
const OPERATIONAL: LoginStage = LoginStage::OPERATIONAL;
const FULL_FEATURE: LoginStage = LoginStage::FULL_FEATURE;

/// A login response to be sent.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// The stage of the request.
    pub(super) stage: LoginStage,
    /// The stage that the login goes on to.
    pub(super) next_stage: Option<LoginStage>,
    pub(super) text: Vec<u8>,
    /// Everything is agreed on: the owner decides before this reply goes out.
    pub(super) wanted: Option<LoginRequest>,
}

/// One login under way.
pub(super) struct Login {
    parameters: Arc<Parameters>,
    stage: Option<LoginStage>,
    pdus: u32,
    pub(super) isid: [u8; 6],
    pub(super) cid: u16,
    /// The session that the connection is to be added to; 0 for a new one.
    pub(super) tsih: u16,
    itt: u32,
    text: Vec<u8>,
    text_total: usize,
    initiator: Option<PeerText>,
    target: Option<String>,
    discovery: bool,
    admission: Option<Admission>,
    /// The names have been looked at.
    introduced: bool,
    declared: bool,
    negotiation: Negotiation,
    /// Begun when the initiator agrees to it.
    chap: Option<Chap>,
    /// The initiator has shown who it is, or needs not.
    authorized: bool,
    /// Where a login that is sent elsewhere has to go.
    pub(super) moved: Option<String>,
}

impl Login {
    pub(super) fn new(parameters: Arc<Parameters>) -> Self {
        Self {
            parameters,
            stage: None,
            pdus: 0,
            isid: [0; 6],
            cid: 0,
            tsih: 0,
            itt: 0,
            text: Vec::new(),
            text_total: 0,
            initiator: None,
            target: None,
            discovery: false,
            admission: None,
            introduced: false,
            declared: false,
            negotiation: Negotiation::default(),
            chap: None,
            authorized: false,
            moved: None,
        }
    }

    /// It is over a datamover that moves data by tags.
    pub(super) fn tagged(&mut self) {
        self.negotiation.tagged = true;
    }

    fn kind(&self) -> LoginKind {
        match (self.discovery, self.tsih) {
            (true, _) => LoginKind::Discovery,
            (false, 0) => LoginKind::Leading,
            (false, _) => LoginKind::Joining,
        }
    }

    /// Who logs in, as far as it is known.
    pub(super) fn initiator(&self) -> Option<&PeerText> {
        self.initiator.as_ref()
    }

    /// What was agreed on, and the parameters of the target.
    pub(super) fn finish(self) -> (Negotiated, Arc<Parameters>, bool) {
        // By tags, TargetRecvDataSegmentLength says it.
        let declared = self.declared && (self.discovery || !self.negotiation.tagged);
        let mut negotiated = self.negotiation.finish();
        if declared {
            negotiated.max_recv_data_segment_length = self.parameters.max_recv_data_segment_length;
        }
        (negotiated, self.parameters, self.discovery)
    }

    /// Takes one Login Request.
    pub(super) fn handle(
        &mut self,
        pdu: &Pdu,
        origin: &ConnectionOrigin,
        directory: &dyn Directory,
    ) -> Result<Reply, LoginRefusal> {
        let header = LoginRequestHeader::parse(&pdu.bhs);
        let LoginRequestHeader { stage, next_stage: next, transit, .. } = header;
        self.check(&header)?;
        self.text_total += pdu.data.len();
        if self.text_total > LOGIN_TEXT_MAX {
            return Err((LoginStatus::InitiatorError, "too much login text"));
        }
        self.text.extend(pdu.text());
        if header.continues {
            if transit {
                return Err((LoginStatus::InitiatorError, "login request with both T and C"));
            }
            return Ok(Reply { stage, ..Reply::default() });
        }
        let text = std::mem::take(&mut self.text);
        let mut answer = Vec::new();
        self.names(&text)?;
        let visitor = Visitor { initiator: "", origin, user: None };
        if !self.introduced {
            self.introduce(visitor, directory, &mut answer)?;
        }
        self.negotiate(&text, directory, &mut answer)?;
        let authentic = self.authenticated(stage, transit)?;
        if authentic && !self.authorized {
            let user = self.chap.as_ref().and_then(Chap::user);
            let visitor =
                Visitor { initiator: self.initiator.as_deref().unwrap_or_default(), user, ..visitor };
            let target = self.target.as_deref().filter(|_| !self.discovery);
            if !directory.authorize(&visitor, target) {
                let why = "no access rule of the target is for this initiator and its account";
                return Err((LoginStatus::AuthorizationFailure, why));
            }
            self.authorized = true;
        }
        if stage == OPERATIONAL && !self.declared && !self.negotiation.declaration_rejected {
            self.declared = true;
            let (key, ours) = match self.negotiation.tagged && !self.discovery {
                true => ("MaxOutstandingUnexpectedPDUs", UNEXPECTED_MAX),
                false => ("MaxRecvDataSegmentLength", self.parameters.max_recv_data_segment_length),
            };
            push_pair(&mut answer, key, &ours.to_string());
        }
        if answer.len() > LOGIN_SEGMENT_MAX {
            return Err((LoginStatus::InitiatorError, "the answer to all these keys is too long"));
        }
        let mut reply = Reply { stage, next_stage: None, text: answer, wanted: None };
        if transit && authentic {
            if !matches!((stage, next), (SECURITY, OPERATIONAL | FULL_FEATURE) | (OPERATIONAL, FULL_FEATURE))
            {
                return Err((LoginStatus::InitiatorError, "impossible stage transition"));
            }
            reply.next_stage = Some(next);
            self.stage = Some(next);
            if next == FULL_FEATURE {
                if let Some(why) = self.negotiation.unmet(&self.parameters, self.kind()) {
                    return Err((LoginStatus::InitiatorError, why));
                }
                reply.wanted = Some(LoginRequest {
                    initiator: self.initiator.clone().unwrap_or_default(),
                    isid: self.isid,
                    target: self.target.clone().filter(|_| !self.discovery),
                    portal_group: self.admission.as_ref().map_or(0, |a| a.portal_group),
                    user: self.chap.as_ref().and_then(Chap::user).map(str::to_owned),
                    tsih: self.tsih,
                    parameters: self.parameters.clone(),
                });
            }
        }
        Ok(reply)
    }

    /// Header fields: version, and that the PDU belongs to this login.
    fn check(&mut self, header: &LoginRequestHeader) -> Result<(), LoginRefusal> {
        let LoginRequestHeader { stage, isid, tsih, itt, cid, .. } = *header;
        if self.stage.is_none() {
            (self.isid, self.itt, self.cid, self.tsih) = (isid, itt, cid, tsih);
        }
        if header.version_min > 0 {
            return Err((LoginStatus::UnsupportedVersion, "no common protocol version"));
        }
        self.pdus += 1;
        if self.pdus > LOGIN_PDUS_MAX {
            return Err((LoginStatus::InitiatorError, "too many login requests"));
        }
        match self.stage {
            None => {
                if !matches!(stage, SECURITY | OPERATIONAL) {
                    return Err((LoginStatus::InitiatorError, "login begins in an impossible stage"));
                }
                self.stage = Some(stage);
                Ok(())
            }
            Some(_) if (self.isid, self.itt, self.cid) != (isid, itt, cid) || tsih != self.tsih => {
                Err((LoginStatus::InitiatorError, "login request of another login"))
            }
            Some(current) if current != stage => {
                Err((LoginStatus::InitiatorError, "login request of another stage"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Who speaks to whom: looked at before all else, because the target decides what is negotiated.
    /// Bytes of text that are kept.
    pub(super) fn held(&self) -> usize {
        self.text.len()
    }

    fn names(&mut self, text: &[u8]) -> Result<(), LoginRefusal> {
        for pair in pairs(text) {
            let pair = pair.map_err(|_| (LoginStatus::InitiatorError, "malformed login text"))?;
            match pair.key {
                "InitiatorName" => self.claim(pair.value)?,
                "TargetName" => Self::name(&mut self.target, pair.value)?,
                "SessionType" if self.introduced => {
                    return Err((LoginStatus::InitiatorError, "SessionType after the first request"));
                }
                "SessionType" => match pair.value {
                    "Normal" => self.discovery = false,
                    "Discovery" => self.discovery = true,
                    _ => return Err((LoginStatus::SessionTypeNotSupported, "unknown session type")),
                },
                _ => {}
            }
        }
        Ok(())
    }

    fn negotiate(
        &mut self,
        text: &[u8],
        directory: &dyn Directory,
        answer: &mut Vec<u8>,
    ) -> Result<(), LoginRefusal> {
        let kind = self.kind();
        let mut said = Said::default();
        let twice = |Repeated| (LoginStatus::InitiatorError, "key offered twice");
        for pair in in_order(text) {
            match pair.key {
                "InitiatorName" | "TargetName" | "SessionType" | "InitiatorAlias" => {
                    self.negotiation.note(pair.key).map_err(twice)?;
                    continue;
                }
                "AuthMethod" if self.stage == Some(SECURITY) => {
                    self.negotiation.note(pair.key).map_err(twice)?;
                    self.method(pair.value, answer)?;
                    continue;
                }
                "AuthMethod" => {
                    return Err((LoginStatus::InitiatorError, "AuthMethod outside the security stage"));
                }
                _ => {}
            }
            match said.note(pair.key, pair.value) {
                Some(true) if self.stage == Some(SECURITY) => continue,
                Some(true) => return Err((LoginStatus::InitiatorError, "CHAP outside the security stage")),
                Some(false) => return Err((LoginStatus::InitiatorError, "key offered twice")),
                None => {}
            }
            let offered = self.negotiation.offer(&self.parameters, kind, pair.key, pair.value);
            if let Some(value) = offered.map_err(twice)? {
                push_pair(answer, pair.key, &value);
            }
        }
        let required = self.admission.as_ref().and_then(|admission| admission.authentication.as_ref());
        if let (Some(chap), Some(required)) = (&mut self.chap, required) {
            chap.step(required, &said, &mut |bytes| directory.random(bytes), answer)?;
        }
        Ok(())
    }

    /// The authentication method: CHAP if the target wants to know who comes, else none.
    fn method(&mut self, offered: &str, answer: &mut Vec<u8>) -> Result<(), LoginRefusal> {
        let required = self.admission.as_ref().is_some_and(|admission| admission.authentication.is_some());
        let method = if required { "CHAP" } else { "None" };
        if !offered.split(',').any(|offer| offer == method) {
            let why = match required {
                true => "the target requires CHAP, which the initiator does not offer",
                false => "the initiator insists on authentication, which the target does not require",
            };
            return Err((LoginStatus::AuthenticationFailure, why));
        }
        if required {
            self.chap = Some(Chap::new());
        }
        push_pair(answer, "AuthMethod", method);
        Ok(())
    }

    /// Whether the initiator may leave the security stage. It stays there while it authenticates itself, even if it
    /// asks to go on; nobody gets past it who has not begun.
    fn authenticated(&self, stage: LoginStage, transit: bool) -> Result<bool, LoginRefusal> {
        let required = self.admission.as_ref().is_some_and(|admission| admission.authentication.is_some());
        match &self.chap {
            _ if !required => Ok(true),
            Some(chap) if chap.user().is_some() => Ok(true),
            Some(_) if stage == SECURITY => Ok(false),
            None if stage == SECURITY && !transit => Ok(false),
            _ => Err((LoginStatus::AuthenticationFailure, "the target requires CHAP")),
        }
    }

    /// The initiator says who it is. A name that is refused is kept, too, so that it can be told.
    fn claim(&mut self, value: &str) -> Result<(), LoginRefusal> {
        let mut name = None;
        let claim = Self::name(&mut name, value);
        let name = name.unwrap_or_else(|| value.chars().take(NAME_MAX).collect());
        if self.initiator.replace(name.into()).is_some() {
            return Err((LoginStatus::InitiatorError, "name given twice"));
        }
        claim?;
        claimed_name(value).map_err(|why| (LoginStatus::InitiatorError, why))
    }

    fn name(slot: &mut Option<String>, value: &str) -> Result<(), LoginRefusal> {
        if value.is_empty() || value.len() > NAME_MAX {
            return Err((LoginStatus::InitiatorError, "iSCSI name empty or too long"));
        }
        if slot.replace(normal_name(value)).is_some() {
            return Err((LoginStatus::InitiatorError, "name given twice"));
        }
        Ok(())
    }

    /// The first request must say who wants to speak to whom (RFC 7143 6.3.1 and 13.4).
    fn introduce(
        &mut self,
        visitor: Visitor<'_>,
        directory: &dyn Directory,
        answer: &mut Vec<u8>,
    ) -> Result<(), LoginRefusal> {
        self.introduced = true;
        let Some(initiator) = &self.initiator else {
            return Err((LoginStatus::MissingParameter, "no InitiatorName"));
        };
        let target = self.target.as_deref().filter(|_| !self.discovery);
        if target.is_none() && !self.discovery {
            return Err((LoginStatus::MissingParameter, "no TargetName"));
        }
        if self.discovery && self.tsih != 0 {
            return Err((LoginStatus::SessionDoesNotExist, "a discovery session has one connection"));
        }
        let admission = match directory.admit(&Visitor { initiator, ..visitor }, target) {
            Ok(admission) => admission,
            Err(Denial::Refused(status, why)) => return Err((status, why)),
            Err(Denial::Moved { permanently, address }) => {
                self.moved = Some(address);
                return Err(match permanently {
                    true => (LoginStatus::MovedPermanently, "the target has moved permanently"),
                    false => (LoginStatus::MovedTemporarily, "the target has moved temporarily"),
                });
            }
        };
        if target.is_some() {
            push_pair(answer, "TargetPortalGroupTag", &admission.portal_group.to_string());
        }
        if let Some(alias) = &admission.alias {
            push_pair(answer, "TargetAlias", alias);
        }
        self.parameters = admission.parameters.clone();
        self.admission = Some(admission);
        Ok(())
    }
}
