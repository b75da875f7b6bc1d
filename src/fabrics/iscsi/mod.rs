// SPDX-License-Identifier: GPL-2.0-or-later
//! iSCSI target (RFC 7143): a [`Session`] with a [`Connection`] per byte stream, without I/O or clock.
//!
//! The owner feeds it received segments, asks it for PDUs to send and for [`Event`]s, and hands its
//! [`Transport`](crate::scsi::Transport) side to the task manager once it is in the full feature phase. Payload is
//! never copied: Data-Out bytes are slices of the received segments, Data-In PDUs are a header block of the arena
//! before the device's own segments.
//!
//! A connection goes through these states:
//!
//! ```text
//! Login --LoginWanted--> Admitting --accept_login--> FullFeature --logout--> Closing
//!   '--- refused ----------- refuse_login ------------------------------------^
//!   '--- any state: a violation, a time-out, the peer's FIN, close() ----------'
//! ```
//!
//! A login goes through its stages like this; the initiator asks for a transition with the T bit, and may skip what it
//! does not need. Any request that does not fit ends it with a status:
//!
//! ```text
//!  first request: names, session type, admission by the Directory
//!         |CSG=0                          |CSG=1
//!   +-----v------+  T, NSG=1   +----------v-----+  T, NSG=3
//!   |  security  |------------>|  operational   |-------------+
//!   | AuthMethod |             |  all other keys|             v
//!   +-----+------+             +----------------+        LoginWanted
//!         |T, NSG=3                                           ^
//!         +---------------------------------------------------+
//! ```
//!
//! What the initiator can make us keep is bounded: payload by an [`Allowance`], of which a part is promised with the
//! command window and commands wait for the rest, an unfinished PDU by MaxRecvDataSegmentLength, answers that it does
//! not read by the window and by numbers (`*_MAX` in the files). When all connections of a session have ended
//! ([`Session::is_over`]), no request follows, and what the task manager still says is ignored: the owner takes the
//! nexus down.
//!
//! A command's data and status travel on the connection that brought it (its allegiance, RFC 7143 4.2.5); what is
//! common to all connections is the command window. Errors end a connection and its commands (ErrorRecoveryLevel=0).
//!
//! # The datamover
//!
//! RFC 5047 divides iSCSI from what moves its PDUs and data, the datamover. TCP is one; another moves data between
//! registered memory and buffers that the initiator advertises ([`Session::tagged`], [`Movement`]), as iSER does. The
//! services between both are listed in `datamover`. Above the line: `login`, `negotiate`, `chap`, `text`, `requests`,
//! `session`, `shared`, `fence`, and who has which place in `command_slots`. Below it, of TCP alone: `framing`, digests
//! and padding (`assemble`), the R2T and Data-In arms of `command_pdu`, `data_out`.
//!
//! Four things hold both sides together:
//!
//! * Status may travel in the last Data-In PDU of the stream; by tags it has always a PDU of its own.
//! * StatSN, ExpCmdSN and MaxCmdSN are those of the moment at which a PDU leaves, so it is made when the datamover asks
//!   for it.
//! * A response waits until the initiator has sent what it may send (`CommandPhase::Draining`), or until the data is
//!   here that the datamover gets. So does the answer to a task management request whose tasks still move data.
//! * What a command brings with it, `scsi_command` measures by keys of the connection; what is still to come is got
//!   from behind that.

mod chap;
mod command;
mod command_slots;
mod connection;
mod data_out;
mod datamover;
mod fence;
mod framing;
mod functions;
mod incoming;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the scripts of tests say more than the load generator does")
)]
pub(crate) mod initiator;
mod login;
mod memory;
mod movements;
mod negotiate;
mod outbox;
mod parameters;
mod requests;
mod session;
mod shared;
mod text;
mod text_exchange;
mod transmit;

use std::net::SocketAddr;
use std::sync::Arc;

pub use chap::{Account, Algorithm, Authentication, SECRET_MAX, SECRET_MIN, Secret};
pub use connection::{Connection, ConnectionCounters};
pub use datamover::{ControlMessage, Movement, MovementId, TaggedBuffer};
pub use memory::{Allowance, Pool};
pub use parameters::{DigestOffer, Negotiated, Parameters};
pub use session::Session;
pub use shared::CommandWindow;

use crate::wire::PeerText;

/// What a connection asks about the world.
pub trait Directory {
    /// Calls `found` with target name, address and portal group tag for all that `visitor` may discover; all addresses
    /// of a target one after the other.
    fn discover(&self, visitor: &Visitor<'_>, found: &mut dyn FnMut(&str, SocketAddr, u16));

    /// Whether `visitor`, who has not authenticated himself yet, may log in to `target`; without one, to a discovery
    /// session.
    fn admit(&self, visitor: &Visitor<'_>, target: Option<&str>) -> Result<Admission, Denial>;

    /// Whether `visitor`, who has been admitted and now authenticated himself if he had to, has access to `target`.
    fn authorize(&self, visitor: &Visitor<'_>, target: Option<&str>) -> bool;

    /// Fills `bytes` from a cryptographic source; `false` if there is none.
    fn random(&self, bytes: &mut [u8]) -> bool;
}

/// Names a connection within its session; free again after [`Session::remove`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub usize);

/// How a connection came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionOrigin {
    /// Name of the portal that accepted it.
    pub portal: Arc<str>,
    /// The address that the initiator connected to.
    pub local: SocketAddr,
    /// The initiator's address.
    pub peer: SocketAddr,
}

/// Who logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor<'a> {
    /// iSCSI name of the initiator, which anybody may claim.
    pub initiator: &'a str,
    /// How its connection came in.
    pub origin: &'a ConnectionOrigin,
    /// The CHAP account by which it has authenticated itself.
    pub user: Option<&'a str>,
}

/// Why a login is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// With this status, for this reason.
    Refused(LoginStatus, &'static str),
    /// The target is elsewhere.
    Moved {
        /// For good.
        permanently: bool,
        /// Host and port, as in TargetAddress (RFC 7143 13.8).
        address: String,
    },
}

/// What a target grants at login.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Target portal group tag of the portal.
    pub portal_group: u16,
    /// The target's alias.
    pub alias: Option<String>,
    /// What the target negotiates.
    pub parameters: Arc<Parameters>,
    /// How the initiator must authenticate itself; `None`: not at all.
    pub authentication: Option<Arc<Authentication>>,
}

/// Status of a refused login, class and detail (RFC 7143 11.13.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[expect(missing_docs, reason = "the names are those of RFC 7143")]
pub enum LoginStatus {
    MovedTemporarily = 0x0101,
    MovedPermanently = 0x0102,
    InitiatorError = 0x0200,
    AuthenticationFailure = 0x0201,
    AuthorizationFailure = 0x0202,
    NotFound = 0x0203,
    UnsupportedVersion = 0x0205,
    TooManyConnections = 0x0206,
    MissingParameter = 0x0207,
    SessionTypeNotSupported = 0x0209,
    SessionDoesNotExist = 0x020a,
    InvalidDuringLogin = 0x020b,
    TargetError = 0x0300,
    ServiceUnavailable = 0x0301,
    OutOfResources = 0x0302,
}

/// A refused login.
type LoginRefusal = (LoginStatus, &'static str);

/// A login that has negotiated everything and waits for [`Session::accept_login`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRequest {
    /// iSCSI name of the initiator.
    pub initiator: PeerText,
    /// Its part of the session identifier.
    pub isid: [u8; 6],
    /// iSCSI name of the target; `None` for a discovery session.
    pub target: Option<String>,
    /// Portal group.
    pub portal_group: u16,
    /// The CHAP account by which the initiator has authenticated itself.
    pub user: Option<String>,
    /// The session that the connection is to be added to; 0 for a new one.
    pub tsih: u16,
    /// What the target negotiates.
    pub parameters: Arc<Parameters>,
}

/// What the owner of a session has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A login wants to add its connection to the session of this TSIH: [`Session::proceed`] if that lives here,
    /// [`Session::hand_over`] if it lives elsewhere, [`Session::refuse_login`] if there is none.
    JoinWanted(ConnectionKey, u16),
    /// A login waits for the owner's word.
    LoginWanted(ConnectionKey, LoginRequest),
    /// A connection has become one of the session's: [`Session::receive`] is to be called.
    Joined(ConnectionKey),
    /// The initiator reads again: [`Session::receive`] is to be called.
    Resumed(ConnectionKey),
    /// A connection is over. Once [`Session::poll_transmit`] has given out the rest, the stream is to be closed; at
    /// once and with a reset if `reset`.
    Closed {
        /// Which one.
        connection: ConnectionKey,
        /// For the log.
        reason: CloseReason,
        /// There is no use in sending anything more.
        reset: bool,
    },
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The initiator logged out.
    Logout,
    /// The initiator closed the stream.
    PeerClosed,
    /// The login was refused.
    LoginRefused(LoginStatus, &'static str),
    /// The initiator broke the protocol.
    Violation(&'static str),
    /// The initiator did not answer in time.
    Timeout(&'static str),
    /// The owner ended it.
    Ended(&'static str),
}

impl CloseReason {
    /// The same without what varies.
    pub fn why(&self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::PeerClosed => "closed",
            Self::LoginRefused(_, why) | Self::Violation(why) | Self::Timeout(why) | Self::Ended(why) => why,
        }
    }
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Logout => f.write_str("logged out"),
            Self::PeerClosed => f.write_str("closed by the initiator"),
            Self::LoginRefused(status, why) => write!(f, "login refused ({:#06x}): {why}", *status as u16),
            Self::Violation(what) => write!(f, "protocol error: {what}"),
            Self::Timeout(what) => write!(f, "timed out: {what}"),
            Self::Ended(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests;
