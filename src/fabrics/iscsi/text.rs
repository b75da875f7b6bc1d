// SPDX-License-Identifier: GPL-2.0-or-later
//! Text requests of the full feature phase (RFC 7143 11.10): discovery, and what may still be negotiated after login.
//! A request may come in several PDUs (C bit) and so may its answer go out; one is under way at a time.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::framing::Pdu;
use super::negotiate::{is_login_key, segment_length};
use super::shared::ActiveConnection;
use super::text_exchange::{TargetList, TextExchange};
use super::{Directory, Visitor};
use crate::memory::Sg;
use crate::wire::iscsi::{
    NO_TAG, PduHeader, RejectReason, ResponseNumbers, TextRequestHeader, TextResponseHeader, normal_name,
    pairs, push_pair,
};

/// Most bytes of text of one request.
const ASKED_MAX: usize = 64 << 10;

/// Bytes of a list of targets that are made at a time: what is beyond them follows when the initiator has them.
const LIST_CHUNK: usize = 64 << 10;

impl ActiveConnection<'_> {
    pub(super) fn text_request(&mut self, pdu: &Pdu, directory: &dyn Directory) {
        let header = TextRequestHeader::parse(&pdu.bhs);
        let (itt, tag) = (header.itt, header.ttt);
        let windowed = !header.immediate;
        if pdu.damaged {
            return self.reject_damaged(&pdu.bhs);
        }
        let text = &mut self.connection.text;
        if tag == NO_TAG {
            // A new exchange, which takes the place of one that the initiator left unfinished.
            *text = TextExchange { tag: text.tag, ..TextExchange::default() };
        } else if text.open != Some(itt) || text.tag != tag {
            return self.reject(&pdu.bhs, RejectReason::PROTOCOL_ERROR);
        }
        if !text.answer.is_empty() || text.list.is_some() {
            // The initiator wants the rest of a long answer, and may not ask anything before it has that.
            return match pdu.data.is_empty() {
                true => self.text_response(windowed, itt, directory),
                false => self.reject(&pdu.bhs, RejectReason::PROTOCOL_ERROR),
            };
        }
        if text.asked.len() + pdu.data.len() > ASKED_MAX {
            return self.violation("text request too long");
        }
        text.asked.extend(pdu.text());
        text.last = header.is_final;
        if header.continues {
            return match text.last {
                true => self.reject(&pdu.bhs, RejectReason::PROTOCOL_ERROR),
                false => self.text_response(windowed, itt, directory),
            };
        }
        let asked = std::mem::take(&mut text.asked);
        match self.text_answer(&asked) {
            Some((answer, list)) => {
                (self.connection.text.answer, self.connection.text.list) = (answer, list);
                self.text_response(windowed, itt, directory);
            }
            None => self.reject(&pdu.bhs, RejectReason::PROTOCOL_ERROR),
        }
    }

    /// Answers a complete text, with a list of targets to come last; `None` if it is malformed or has a key twice.
    fn text_answer(&mut self, asked: &[u8]) -> Option<(Vec<u8>, Option<TargetList>)> {
        let (mut answer, mut list) = (Vec::new(), None);
        let mut seen = HashSet::new();
        for pair in pairs(asked) {
            let pair = pair.ok()?;
            if !seen.insert(pair.key) {
                return None;
            }
            match pair.key {
                "SendTargets" => match self.send_targets(pair.value) {
                    Some(targets) => list = Some(targets),
                    None => push_pair(&mut answer, pair.key, "Reject"),
                },
                "MaxRecvDataSegmentLength" => match segment_length(pair.value) {
                    Some(limit) => self.connection.negotiated.max_xmit_data_segment_length = limit,
                    None => push_pair(&mut answer, pair.key, "Reject"),
                },
                "InitiatorAlias" => {}
                key if is_login_key(key) => push_pair(&mut answer, key, "Reject"),
                key => push_pair(&mut answer, key, "NotUnderstood"),
            }
        }
        Some((answer, list))
    }

    /// Sends as much of the answer as the initiator takes in one PDU.
    fn text_response(&mut self, windowed: bool, itt: u32, directory: &dyn Directory) {
        let max = self.connection.negotiated.max_xmit_data_segment_length as usize;
        if self.connection.text.answer.len() < max
            && let Some(list) = self.connection.text.list.take()
        {
            self.connection.text.list = self.tell_targets(list, directory);
        }
        let text = &mut self.connection.text;
        let rest = text.answer.split_off(text.answer.len().min(max));
        let now = std::mem::replace(&mut text.answer, rest);
        let all = text.answer.is_empty() && text.list.is_none();
        let is_final = all && text.last;
        let ttt = match is_final {
            true => NO_TAG,
            false => {
                text.tag = text.tag.wrapping_add(1) & 0xffff;
                text.tag
            }
        };
        text.open = (!is_final).then_some(itt);
        let numbers = ResponseNumbers::default();
        let header = TextResponseHeader { is_final, continues: !all, lun: 0, itt, ttt, numbers };
        match Sg::copied_reserved(&self.session.arena, &now) {
            Some(data) => self.respond(windowed, header.emit(), data),
            None => self.violation("no memory for a text response"),
        }
    }

    /// SendTargets (RFC 7143 appendix C): in a discovery session `All` or a name, in a normal one the session's own
    /// target, by name or by nothing. `None` for anything else.
    fn send_targets(&self, value: &str) -> Option<TargetList> {
        let value = normal_name(value);
        let only = match (value.as_str(), &self.session.target) {
            ("all", None) => None,
            ("", Some(own)) => Some(own.clone()),
            ("", None) => return None,
            (name, Some(own)) if name != own => return None,
            (_, _) => Some(value),
        };
        Some(TargetList { only, told: 0 })
    }

    /// Appends the next targets of a list to the answer, an address at least; returns what is left of it.
    fn tell_targets(&mut self, list: TargetList, directory: &dyn Directory) -> Option<TargetList> {
        let visitor = Visitor {
            initiator: &self.session.initiator,
            origin: &self.connection.origin,
            user: self.session.user.as_deref(),
        };
        let answer = &mut self.connection.text.answer;
        let end = answer.len() + LIST_CHUNK;
        let TargetList { only, told: before } = list;
        let (mut last, mut at, mut told) = (String::new(), 0, before);
        directory.discover(&visitor, &mut |target, address, group| {
            if only.as_ref().is_some_and(|only| only != target) {
                return;
            }
            at += 1;
            if at > before && answer.len() < end {
                if last != target {
                    push_pair(answer, "TargetName", target);
                }
                // Zones of addresses are ours alone (RFC 4007 11).
                let address = SocketAddr::new(address.ip(), address.port());
                push_pair(answer, "TargetAddress", &format!("{address},{group}"));
                told = at;
            }
            if last != target {
                target.clone_into(&mut last);
            }
        });
        (told < at).then_some(TargetList { only, told })
    }
}
