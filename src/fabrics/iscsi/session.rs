// SPDX-License-Identifier: GPL-2.0-or-later
//! A session as its owner sees it.

use std::collections::VecDeque;
use std::sync::Arc;

use slab::Slab;
use smallvec::SmallVec;

use super::command_slots::CommandSlots;
use super::connection::{Connection, RECEIVE_MAX, State};
use super::datamover::{ControlMessage, Movement, MovementId};
use super::memory::Allowance;
use super::shared::{ActiveConnection, CommandWindow, OutOfOrderRequest, Shared, Waiting};
use super::{
    CloseReason, ConnectionCounters, ConnectionKey, ConnectionOrigin, Directory, Event, LoginStatus,
    Negotiated, Parameters,
};
use crate::memory::{Arena, MemoryAccount, Seg, Sg, prefetch};
use crate::scsi::NexusId;
use crate::time::Instant;
use crate::wire::{PeerText, Shown};

/// See [`super`]. A stream that comes in begins as a session of its own with one connection, which `join`
/// moves into an older session if it turns out to belong there.
pub struct Session {
    pub(super) shared: Shared,
    pub(super) connections: Slab<Connection>,
}

impl Session {
    /// A session whose only connection is in the login phase. `parameters` hold until the target is known, and in
    /// discovery sessions.
    pub fn new(
        parameters: Arc<Parameters>,
        arena: Arena,
        origin: ConnectionOrigin,
        now: Instant,
    ) -> (Self, ConnectionKey) {
        let connection = Connection::new(parameters.clone(), origin, now);
        Self::beginning(connection, parameters, arena, now)
    }

    /// The same over a datamover that moves data by tags: what it hears it tells with [`Self::control_notify`], and it
    /// does what [`Self::poll_movement`] says.
    pub fn tagged(
        parameters: Arc<Parameters>,
        arena: Arena,
        origin: ConnectionOrigin,
        now: Instant,
    ) -> (Self, ConnectionKey) {
        let connection = Connection::new(parameters.clone(), origin, now).tagged();
        Self::beginning(connection, parameters, arena, now)
    }

    fn beginning(
        connection: Connection,
        parameters: Arc<Parameters>,
        arena: Arena,
        now: Instant,
    ) -> (Self, ConnectionKey) {
        let mut connections = Slab::with_capacity(1);
        let key = ConnectionKey(connections.insert(connection));
        let shared = Shared {
            parameters,
            arena,
            discovery: false,
            negotiated: Negotiated::default(),
            nexus: NexusId::default(),
            initiator: PeerText::default(),
            target: None,
            user: None,
            isid: [0; 6],
            tsih: 0,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
            out_of_order: Vec::new(),
            commands: CommandSlots::default(),
            answering: 0,
            task_management: Slab::new(),
            unanswered: 0,
            fence: None,
            requests: VecDeque::new(),
            events: VecDeque::new(),
            live: 1,
            cids: SmallVec::new(),
            ending: SmallVec::new(),
            waiting: Vec::new(),
            now,
        };
        (Self { shared, connections }, key)
    }

    /// Asks for what a session points to and needs for every PDU of a connection.
    pub fn prefetch(&self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get(key.0) {
            prefetch(connection);
        }
        self.shared.commands.prefetch();
    }

    /// A connection; `None` if it was removed.
    pub fn connection(&self, key: ConnectionKey) -> Option<&Connection> {
        self.connections.get(key.0)
    }

    /// All connections, those that have ended and were not removed included.
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionKey, &Connection)> {
        self.connections.iter().map(|(key, connection)| (ConnectionKey(key), connection))
    }

    pub(super) fn at(&mut self, key: ConnectionKey) -> Option<ActiveConnection<'_>> {
        let connection = self.connections.get_mut(key.0)?;
        Some(ActiveConnection { session: &mut self.shared, connection, key })
    }

    /// Says that the thread is about this session now, and the last PDU of its first connection: see
    /// [`crate::activity`].
    pub fn note_activity(&self) {
        if let Some(connection) = self.connections.get(0) {
            connection.note_activity();
        }
    }

    /// iSCSI name of the initiator, as far as it is known, or what it gave for it.
    pub fn initiator(&self) -> Shown<'_> {
        let login = || self.connections.iter().find_map(|(_, connection)| connection.logs_in());
        match &*self.shared.initiator {
            "" => Shown(login().map_or("", |name| name)),
            name => Shown(name),
        }
    }

    /// iSCSI name of the target; `None` before the login and in discovery sessions.
    pub fn target(&self) -> Option<&str> {
        self.shared.target.as_deref()
    }

    /// The CHAP account by which the initiator has authenticated itself.
    pub fn user(&self) -> Option<&str> {
        self.shared.user.as_deref()
    }

    /// Initiator's part of the session identifier.
    pub fn isid(&self) -> [u8; 6] {
        self.shared.isid
    }

    /// Target session identifying handle; 0 before the login is accepted.
    pub fn tsih(&self) -> u16 {
        self.shared.tsih
    }

    /// Commands under way on a connection.
    pub fn in_flight(&self, key: ConnectionKey) -> usize {
        self.shared.commands.live_of(key)
    }

    /// Whether all connections have ended.
    pub fn is_over(&self) -> bool {
        self.shared.live == 0
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shared.events.pop_front()
    }

    /// Takes bytes that a connection has received, in any cut, from `next`, while there are some and it is
    /// [receiving](Self::is_receiving), and carries out what they ask for. Payload is sliced out of them: they stay
    /// referenced until the command is done with it. No more than `left` PDUs are carried out, which it lessens by what
    /// that was. Returns whether there may be more: others are to have their turn before.
    #[inline]
    pub fn receive(
        &mut self,
        key: ConnectionKey,
        now: Instant,
        directory: &dyn Directory,
        left: &mut usize,
        mut next: impl FnMut() -> Option<Seg>,
    ) -> bool {
        let Some(connection) = self.connections.get(key.0).filter(|connection| !connection.paused) else {
            return false;
        };
        connection.note_activity();
        if connection.framer.is_ripe() {
            self.shared.now = now;
            self.take_pdus(key, directory, left);
        }
        let (mut taken, mut all) = (0, !self.is_receiving(key));
        while !all
            && *left > 0
            && taken <= RECEIVE_MAX
            && let Some(mut at) = self.at(key)
            && !at.connection.paused
        {
            let more;
            (more, all) = at.receive(now, &mut next);
            taken += more;
            self.take_pdus(key, directory, left);
        }
        self.weigh(key);
        taken > RECEIVE_MAX || *left == 0 && (!all || self.has_ripe(key))
    }

    /// Whether there may be PDUs of a connection that were not carried out yet.
    fn has_ripe(&self, key: ConnectionKey) -> bool {
        self.connection(key).is_some_and(|connection| connection.framer.is_ripe())
    }

    /// Whether what a connection has received is to be given to [`Self::receive`] now: not while its initiator does not
    /// read what is sent. [`Event::Resumed`] tells when it does.
    pub fn is_receiving(&self, key: ConnectionKey) -> bool {
        self.connection(key).is_some_and(|connection| !connection.paused) && !self.holds_too_much(key)
    }

    /// Whether more is held for a connection than there is memory for, and nothing more is to be taken in. What belongs
    /// to commands that have begun has its place, and without it they would never end.
    #[inline]
    pub fn holds_too_much(&self, key: ConnectionKey) -> bool {
        let Some(connection) = self.connection(key) else { return false };
        connection.charge.account().is_overdrawn()
            && !connection.is_closing()
            && (connection.answer_bytes > 0 || !self.shared.commands.awaits_data())
    }

    /// Whether commands wait for memory.
    pub fn waits_for_memory(&self) -> bool {
        self.shared.commands.has_waiting()
    }

    /// Says on which account a connection is from now on; `commands`: that of the commands of the session, if it is
    /// new.
    pub fn bill(&mut self, key: ConnectionKey, account: &MemoryAccount, commands: Option<&MemoryAccount>) {
        if let Some(at) = self.at(key) {
            at.connection.bill(account);
        }
        if let Some(commands) = commands {
            self.shared.commands.bill.bill(commands);
        }
    }

    /// The accounts of the session.
    fn accounts(&self) -> impl Iterator<Item = &MemoryAccount> {
        let connections = self.connections.iter().map(|(_, connection)| connection.charge.account());
        connections.chain([self.shared.commands.bill.account()])
    }

    /// Bytes of memory that it has given back so far, wrapping.
    pub fn given(&self) -> u64 {
        self.accounts().map(MemoryAccount::given).fold(0, u64::wrapping_add)
    }

    /// Gives back credit that it does not use.
    pub fn trim(&self) {
        self.accounts().for_each(MemoryAccount::trim);
    }

    /// Carries out what has come in, up to `left` PDUs, of which it takes away what that was.
    fn take_pdus(&mut self, key: ConnectionKey, directory: &dyn Directory, left: &mut usize) {
        while *left > 0
            && let Some(mut at) = self.at(key)
            && at.take_pdu(directory)
        {
            *left -= 1;
            self.notified(directory);
        }
    }

    /// Does what else has come up with a PDU.
    // Always: it comes with each, and mostly there is nothing.
    #[inline(always)]
    fn notified(&mut self, directory: &dyn Directory) {
        if !self.shared.out_of_order.is_empty() {
            self.deliver_early(directory);
        }
        while let Some(other) = self.shared.ending.pop() {
            if let Some(mut at) = self.at(other) {
                at.logged_out();
            }
        }
        if !self.shared.waiting.is_empty() {
            self.orphans_ended();
        }
    }

    /// A control PDU has come as a message (Control_Notify).
    pub fn control_notify(
        &mut self,
        key: ConnectionKey,
        now: Instant,
        message: ControlMessage,
        directory: &dyn Directory,
    ) {
        if let Some(mut at) = self.at(key) {
            at.connection.note_activity();
            at.control_notify(now, message, directory);
            self.notified(directory);
            self.weigh(key);
        }
    }

    /// What the datamover of a connection is to do next; it asks while it has room.
    pub fn poll_movement(&mut self, key: ConnectionKey) -> Option<Movement> {
        if self.shared.unanswered > 0 {
            self.answer_functions();
        }
        self.at(key)?.poll_movement()
    }

    /// Data is where it was to be put, and its memory may be used for something else.
    pub fn data_put(&mut self, key: ConnectionKey, id: MovementId) {
        if let Some(mut at) = self.at(key) {
            at.data_put(id);
        }
    }

    /// Data that was to be got is here.
    pub fn data_got(&mut self, key: ConnectionKey, id: MovementId, data: Sg) {
        if let Some(mut at) = self.at(key) {
            at.data_got(id, data);
        }
    }

    /// Notes how much is held for a connection.
    fn weigh(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key.0) {
            connection.unbegun = self.shared.unbegun();
            connection.weigh();
        }
    }

    /// Carries out requests whose turn has come, on whichever connection they came.
    fn deliver_early(&mut self, directory: &dyn Directory) {
        while let Some(OutOfOrderRequest { connection, pdu, data, .. }) = self.shared.next_early() {
            let Some(mut at) = self.at(connection) else { continue };
            if let Some(pdu) = pdu {
                at.deliver(pdu, directory);
            }
            for pdu in data {
                if !at.connection.is_closing() {
                    at.data_out(pdu);
                }
            }
        }
    }

    /// The owner accepts the login of a connection that begins a session: the full feature phase begins, with a command
    /// window for `depth` commands and memory for their payload. [`Session::receive`] is to be called next.
    pub fn accept_login(
        &mut self,
        key: ConnectionKey,
        nexus: NexusId,
        tsih: u16,
        depth: u32,
        memory: Allowance,
    ) {
        if let Some(mut at) = self.at(key) {
            at.accept_login(nexus, tsih, depth, memory);
        }
    }

    /// The command window, as it was told last.
    pub fn window(&self) -> CommandWindow {
        CommandWindow { exp_cmd_sn: self.shared.exp_cmd_sn, max_cmd_sn: self.shared.max_cmd_sn }
    }

    /// The session that a login wants to join lives here, and has that window: it goes on.
    pub fn proceed(&mut self, key: ConnectionKey, window: CommandWindow, directory: &dyn Directory) {
        if let Some(mut at) = self.at(key) {
            at.proceed(window, directory);
        }
    }

    /// The session that a login wants to join lives elsewhere: ends the connection without a word and returns all that
    /// it has received, for a new one there.
    pub fn hand_over(&mut self, key: ConnectionKey) -> Vec<u8> {
        self.at(key).map(|mut at| at.hand_over()).unwrap_or_default()
    }

    /// Whether another connection with that CID may join: one of the same CID is replaced.
    pub fn has_room(&self, cid: u16) -> bool {
        let others = self.members().filter(|(other, _)| *other != cid).count();
        others < self.shared.negotiated.max_connections as usize
    }

    /// CIDs of the connections in the full feature phase, and of those that are about to enter it.
    fn members(&self) -> impl Iterator<Item = (u16, ConnectionKey)> {
        let joining = self.shared.waiting.iter().filter(|(_, what)| matches!(what, Waiting::Join));
        let joining = joining.filter_map(|(key, _)| Some((self.connection(*key)?.cid(), *key)));
        self.shared.cids.iter().copied().chain(joining)
    }

    /// Takes a connection whose login is done over from the session that it began as (RFC 7143 6.3.4). One with the
    /// same CID ends, and so do its commands: connection reinstatement at error recovery level 0, an implicit logout.
    /// The login is answered when those have ended, which [`Event::Joined`] tells. Returns the key that the connection
    /// has here.
    pub fn join(&mut self, other: &mut Self, key: ConnectionKey) -> ConnectionKey {
        let connection = other.connections.remove(key.0);
        other.shared.live -= 1;
        let old = self.members().find(|(cid, _)| *cid == connection.cid()).map(|(_, key)| key);
        // The new one is there before the old one ends, lest the session ends with it.
        let key = ConnectionKey(self.connections.insert(connection));
        self.shared.live += 1;
        if let Some(mut at) = old.and_then(|old| self.at(old)) {
            at.close("the initiator has reinstated the connection");
        }
        self.shared.waiting.push((key, Waiting::Join));
        self.orphans_ended();
        key
    }

    /// Tells those who wait for the end of commands of ended connections, if there are none any more.
    pub(super) fn orphans_ended(&mut self) {
        if self.shared.waiting.is_empty() || self.shared.commands.has_orphans() {
            return;
        }
        for (key, what) in std::mem::take(&mut self.shared.waiting) {
            let Some(mut at) = self.at(key) else { continue };
            let windowed = what.is_windowed();
            at.session.answering -= u32::from(windowed);
            match what {
                Waiting::Answer(bhs, _) => at.respond(windowed, bhs, Sg::new()),
                Waiting::Leave(bhs, _) => {
                    at.respond(windowed, bhs, Sg::new());
                    at.logged_out();
                }
                Waiting::Join => at.joined(),
            }
        }
    }

    /// The owner refuses the login of a connection.
    pub fn refuse_login(&mut self, key: ConnectionKey, status: LoginStatus, why: &'static str) {
        if let Some(mut at) = self.at(key) {
            at.refuse(status, why);
        }
    }

    /// The peer will send no more on a connection.
    pub fn peer_finished(&mut self, key: ConnectionKey) {
        if let Some(mut at) = self.at(key) {
            at.peer_finished();
        }
    }

    /// The owner ends all connections.
    pub fn close(&mut self, why: &'static str) {
        self.each(|at| at.close(why));
    }

    fn each(&mut self, mut what: impl FnMut(&mut ActiveConnection<'_>)) {
        for (key, connection) in &mut self.connections {
            what(&mut ActiveConnection { session: &mut self.shared, connection, key: ConnectionKey(key) });
        }
    }

    /// The stream of a connection that has ended is gone.
    pub fn remove(&mut self, key: ConnectionKey) {
        debug_assert!(self.connection(key).is_none_or(Connection::is_closing), "removed before its end");
        self.connections.try_remove(key.0);
    }

    /// The next PDU of a connection, whole: a header block before the payload's own segments. The owner asks while the
    /// stream has room. `None` when there is nothing to send, or no memory for a header at the moment.
    pub fn poll_transmit(&mut self, key: ConnectionKey) -> Option<Sg> {
        if self.shared.unanswered > 0 {
            self.answer_functions();
        }
        self.at(key)?.poll_transmit()
    }

    /// Asks the initiator to log out within `seconds`, after which the connections may be dropped.
    pub fn request_logout(&mut self, seconds: u16) {
        self.each(|at| at.request_logout(seconds));
    }

    /// Ends all connections, and says so.
    pub fn drop_all(&mut self, why: &'static str) {
        self.each(|at| {
            at.announce_end();
            at.end(CloseReason::Ended(why), false);
        });
    }

    /// When [`Session::timeout`] is to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self
            .connections
            .iter()
            .filter_map(|(_, connection)| connection.next_deadline(&self.shared.parameters, self.shared.now));
        deadlines.min()
    }

    /// A deadline may have passed.
    pub fn timeout(&mut self, now: Instant) {
        self.shared.now = now;
        self.each(|at| at.timeout());
    }

    /// Bytes of received data that the session holds: unfinished PDUs, and Data-Out that no task has taken.
    pub fn held(&self) -> usize {
        let unfinished: usize = self.connections.iter().map(|(_, connection)| connection.held()).sum();
        unfinished + self.shared.commands.buffered() + self.shared.early_bytes()
    }

    /// What was agreed on at a connection.
    pub fn negotiated(&self, key: ConnectionKey) -> Option<&Negotiated> {
        Some(self.connection(key)?.negotiated())
    }

    /// What a connection counted.
    pub fn counters(&self, key: ConnectionKey) -> ConnectionCounters {
        self.connection(key).map(Connection::counters).unwrap_or_default()
    }

    /// Whether commands can come on a connection.
    pub fn is_full_feature(&self, key: ConnectionKey) -> bool {
        self.connection(key).is_some_and(|connection| matches!(connection.state, State::FullFeature))
    }
}
