// SPDX-License-Identifier: GPL-2.0-or-later
//! Other ports, and how far each has come in logging in.

use crate::time::Instant;
use crate::wire::fc::{FcHeader, ServicePage, WorldWideName};

/// Most other ports that log in at a time.
pub const PEERS_MAX: usize = 64;

/// A request of ours that has no answer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnRequest {
    pub(super) ox_id: u16,
    pub(super) deadline: Instant,
}

/// How far the login with another port has come (FC-LS). Of two ports the one with the higher name sends PLOGI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginState {
    /// Nothing has been said, or it is over.
    LoggedOut,
    /// FLOGI was sent.
    Flogi(OwnRequest),
    /// The other one is to send PLOGI.
    AwaitsPlogi,
    /// PLOGI was sent.
    Plogi(OwnRequest),
    /// PLOGI was accepted.
    LoggedIn,
}

/// Another port.
pub(super) struct FcPeer {
    pub(super) port_name: WorldWideName,
    pub(super) state: LoginState,
    /// Most data in a frame to it.
    pub(super) frame_size: usize,
    /// Its session, if it has one.
    pub(super) session: Option<usize>,
    /// A PRLI that waits for the end of a session.
    pub(super) waiting: Option<(FcHeader, ServicePage)>,
}

impl FcPeer {
    pub(super) fn new(port_name: WorldWideName) -> Self {
        Self { port_name, state: LoginState::LoggedOut, frame_size: 0, session: None, waiting: None }
    }

    /// The request of ours that is answered by this.
    pub(super) fn own_request(&self) -> Option<OwnRequest> {
        match self.state {
            LoginState::Flogi(request) | LoginState::Plogi(request) => Some(request),
            _ => None,
        }
    }
}
