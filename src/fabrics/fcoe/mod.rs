// SPDX-License-Identifier: GPL-2.0-or-later
//! Fibre Channel over Ethernet: an N_Port with an FCP target, without I/O or clock.
//!
//! The owner gives [`FcoePort`] the frames that come in, asks it for those that go out, and hears by [`FcoePortEvent`]
//! which initiators come and go. Each of them is an [`FcpSession`], which the task manager sees as a
//! [`Transport`](crate::scsi::Transport).
//!
//! ```text
//! FIP:   vn2vn: an identifier, neighbours       --beacon--> FLOGI, LOGO (in FIP)
//! ELS:   port, services: PLOGI --> logged in    --PRLI----> a session
//! FCP:   session, exchange: FCP_CMND, FCP_XFER_RDY, FCP_DATA, FCP_RSP; ABTS
//! ```
//!
//! It speaks class 3, where nothing is acknowledged and what is lost is found by who waits for it:
//!
//! * An exchange is known by its peer and the peer's OX_ID; those that this port begins have a table of their own.
//! * Data of a WRITE has to come in order. If a frame is missing, or nothing comes within [`E_D_TOV`], the command ends
//!   with a sense key that has it tried again.
//! * An ABTS is answered when the task manager has done with the command, so no write of it follows the answer. Its
//!   identifiers rest until RRQ or [`R_A_TOV`].
//! * A process login is answered when the last nexus of the same initiator has ended, for the same reason.
//!
//! What others can make it keep is bounded: [`NEIGHBOURS_MAX`], [`PEERS_MAX`], [`EXCHANGES_MAX`], [`GRANTED_MAX`].

#[cfg(any(test, feature = "sim"))]
pub(crate) mod any;
mod control;
mod exchange;
mod peer;
mod port;
mod sequence;
mod services;
mod session;
mod vn2vn;

use std::time::Duration;

use crate::counters::counter_set;

pub use peer::PEERS_MAX;
pub use port::{FcoePort, FcoePortEvent, FcoePortOptions, OutgoingFrame, ReceivedFrame};
pub use session::{BURST_MAX, EXCHANGES_MAX, FcpSession, GRANTED_MAX};
pub use vn2vn::{NEIGHBOURS_MAX, PortIdentity};

/// How long a frame of an exchange may be on its way.
pub const R_A_TOV: Duration = Duration::from_secs(4);

/// How long the next frame of a sequence is waited for.
pub const E_D_TOV: Duration = Duration::from_secs(2);

counter_set! {
    /// What an FCoE port counts.
    pub struct FcoeCounters {
        /// Initiators that are logged in.
        fcp_sessions: Gauge of Sessions,
        /// Logins of initiators (PRLI).
        fcp_logins: Counter of Sessions,
        /// Logins (PLOGI, PRLI) that were refused.
        refused_logins: Counter of Requests,
        /// Commands and task management functions.
        exchanges: Counter of Commands,
        /// Of these, those under way.
        open_exchanges: Gauge of Commands,
        /// ABTS received.
        aborts: Counter of Requests,
        /// Exchanges ended because the initiator did not send what was asked for in time.
        exchange_timeouts: Counter of Commands,
        /// Frames dropped because they are damaged or make no sense.
        bad_frames: Counter of Frames,
        /// Frames dropped because nothing that is known waits for them.
        stray_frames: Counter of Frames,
    }
}

#[cfg(test)]
mod tests;
