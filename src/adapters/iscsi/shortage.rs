// SPDX-License-Identifier: GPL-2.0-or-later
//! What becomes of peers when memory is short: those for whom too much is held are not read.

use std::net::IpAddr;
use std::time::Duration;

use super::{IscsiFabric, SessionEntry, Stream};
use crate::fabrics::iscsi::ConnectionKey;

/// How soon those that were not read are looked at again.
const UNREAD_RETRY: Duration = Duration::from_millis(1);

impl IscsiFabric {
    /// A session that begins has an account of its own, below those of its initiator's address and name, which is only
    /// a claim.
    pub(super) fn bill(&mut self, index: usize, key: ConnectionKey, peer: IpAddr, tsih: u16) {
        let SessionEntry { iscsi, streams, account, established, .. } = &mut self.sessions[index];
        let name = established.as_ref().map_or("", |session| &session.name.initiator);
        let address = self.parts.context.arena().budget().child(&peer.to_string());
        *account = address.child(name).child(&tsih.to_string());
        let connection = account.stream();
        iscsi.bill(key, &connection, Some(&account.connection()));
        if let Some(Some(stream)) = streams.get(key.0) {
            self.parts.hosts[stream.host].1.bill(stream.id, &connection);
        }
    }

    /// Too much is held for a connection: what comes in stays where it is until there is less, or more for all.
    #[cold]
    pub(super) fn leave_unread(&mut self, index: usize, key: ConnectionKey) {
        let Some(Some(stream)) = self.sessions[index].streams.get_mut(key.0) else { return };
        if !std::mem::replace(&mut stream.unread, true) {
            log::trace!("a connection is not read for want of memory");
            self.unread.connections.push((index, key));
            self.unread.retry = self.now + UNREAD_RETRY;
        }
    }

    /// Commands of a session wait for memory, of its initiator or its account: it is looked at again soon.
    #[cold]
    pub(super) fn try_again(&mut self, index: usize) {
        if self.unread.is_empty() {
            self.unread.retry = self.now + UNREAD_RETRY;
        }
        if !std::mem::replace(&mut self.sessions[index].waiting, true) {
            self.unread.waiting.push(index);
        }
    }

    /// Looks again at those that were not served, when it is time.
    pub(super) fn read_again(&mut self) {
        if self.unread.next_deadline().is_some_and(|retry| retry <= self.now) {
            self.read_unread();
        }
    }

    #[cold]
    fn read_unread(&mut self) {
        for index in std::mem::take(&mut self.unread.waiting) {
            if let Some(entry) = self.sessions.get_mut(index) {
                entry.waiting = false;
                self.touch(index);
            }
        }
        for (index, key) in std::mem::take(&mut self.unread.connections) {
            let Some(SessionEntry { iscsi, streams, account, .. }) = self.sessions.get_mut(index) else {
                continue;
            };
            let Some(Some(stream @ Stream { unread: true, .. })) = streams.get_mut(key.0) else { continue };
            stream.unread = false;
            if iscsi.holds_too_much(key) {
                account.waits(account.used());
                self.leave_unread(index, key);
            } else {
                self.touch(index);
                self.receive(index, key);
            }
        }
    }
}
