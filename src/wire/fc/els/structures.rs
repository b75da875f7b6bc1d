// SPDX-License-Identifier: GPL-2.0-or-later
//! The other payloads of extended link services. Their first byte is the code, or a word with it:
//! [`ElsRequest`](super::ElsRequest) and [`ElsReply`](super::ElsReply) look after that.

use smallvec::SmallVec;

use super::super::field::{Emit, Field, Malformed, Parse, bits, codes, head, layout};
use super::super::header::RCtl;
use super::super::name::{FcId, WorldWideName};

/// A payload of the code and nothing else: RTV; LS_ACC of LOGO, RRQ, SCR, RSCN (FC-LS, "Read Timeout Value (RTV)",
/// "LS_ACC").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ElsEmpty;

impl Parse<'_> for ElsEmpty {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        head(bytes, 4, "ELS", "code").map(|_| Self)
    }
}

impl Emit for ElsEmpty {
    fn buffer_len(&self) -> usize {
        4
    }

    fn emit(&self, out: &mut [u8]) {
        out[..4].fill(0);
    }
}

codes! {
    /// Why a request was rejected (FC-LS, "LS_RJT reason codes").
    LsRjtReason(u8) {
        INVALID_COMMAND = 0x01,
        LOGICAL_ERROR = 0x03,
        LOGICAL_BUSY = 0x05,
        PROTOCOL_ERROR = 0x07,
        UNABLE_TO_PERFORM = 0x09,
        NOT_SUPPORTED = 0x0b,
        COMMAND_IN_PROGRESS = 0x0e,
        FIP_ERROR = 0x20,
        VENDOR = 0xff,
    }
}

codes! {
    /// Why, in more detail (FC-LS, "LS_RJT reason code explanations").
    LsRjtExplanation(u8) {
        NONE = 0x00,
        SERVICE_PARAMETER_OPTIONS = 0x01,
        SERVICE_PARAMETER_INITIATOR_CONTROL = 0x03,
        SERVICE_PARAMETER_RECIPIENT_CONTROL = 0x05,
        RECEIVE_SIZE = 0x07,
        CONCURRENT_SEQUENCES = 0x09,
        CREDIT = 0x0b,
        INVALID_PORT_NAME = 0x0d,
        INVALID_NODE_OR_FABRIC_NAME = 0x0e,
        COMMON_PARAMETERS = 0x0f,
        INVALID_ASSOCIATION_HEADER = 0x11,
        ASSOCIATION_HEADER_REQUIRED = 0x13,
        INVALID_ORIGINATOR = 0x15,
        INVALID_OX_ID_RX_ID = 0x17,
        REQUEST_IN_PROGRESS = 0x19,
        PLOGI_REQUIRED = 0x1e,
        INVALID_N_PORT_ID = 0x1f,
        INSUFFICIENT_RESOURCES = 0x29,
        UNABLE_TO_SUPPLY_DATA = 0x2a,
        NOT_SUPPORTED = 0x2c,
        INVALID_PAYLOAD_LENGTH = 0x2d,
        INVALID_PORT_OR_NODE_NAME = 0x44,
        AUTHENTICATION_REQUIRED = 0x48,
        FIP_MAC_ADDRESSING_MODE = 0x60,
        FIP_MAC_ADDRESS_FORMAT = 0x61,
        FIP_NOT_A_NEIGHBOUR = 0x62,
    }
}

layout! {
    /// A rejected request (FC-LS, "LS_RJT").
    LsRjt, "LS_RJT", 8 bytes {
        /// Why.
        [5] reason: LsRjtReason,
        /// Why, in more detail.
        [6] explanation: LsRjtExplanation,
        /// What the vendor says of it.
        [7] vendor: u8,
    }
}

impl LsRjt {
    /// For these reasons.
    pub const fn new(reason: LsRjtReason, explanation: LsRjtExplanation) -> Self {
        Self { reason, explanation, vendor: 0 }
    }
}

layout! {
    /// Logout (FC-LS, "Logout (LOGO)").
    Logo, "LOGO", 16 bytes {
        /// Who logs out.
        [5] n_port_id: FcId,
        /// Its name.
        [8] port_name: WorldWideName,
    }
}

layout! {
    /// Discover Address, and what accepts it: who somebody is (FC-LS, "Discover Address (ADISC)").
    Adisc, "ADISC", 28 bytes {
        /// The hard address, of a loop.
        [5] hard_address: FcId,
        /// The port.
        [8] port_name: WorldWideName,
        /// The node.
        [16] node_name: WorldWideName,
        /// The identifier.
        [25] n_port_id: FcId,
    }
}

bits! {
    /// In which units timeouts are (FC-LS, "Read Timeout Value (RTV)").
    TimeoutQualifier(u32; 4) {
        /// E_D_TOV is in nanoseconds, rather than milliseconds.
        E_D_TOV_NANOSECONDS = 0x0400_0000,
        /// R_T_TOV is 100 microseconds, rather than 100 milliseconds.
        R_T_TOV_SHORT = 0x0008_0000,
    }
}

layout! {
    /// Timeouts: what accepts RTV (FC-LS, "Read Timeout Value (RTV)").
    RtvAcc, "RTV LS_ACC", 16 bytes {
        /// R_A_TOV in milliseconds.
        [4] r_a_tov: u32,
        /// E_D_TOV.
        [8] e_d_tov: u32,
        /// In which units.
        [12] qualifier: TimeoutQualifier,
    }
}

layout! {
    /// Which exchange: payload of RRQ and REC (FC-LS, "Reinstate Recovery Qualifier (RRQ)", "Read Exchange Concise
    /// (REC)").
    ExchangeId, "RRQ or REC", 12 bytes {
        /// Who has begun it.
        [5] originator: FcId,
        /// As who began it calls it.
        [8] ox_id: u16,
        /// As the other one calls it.
        [10] rx_id: u16,
    }
}

layout! {
    /// Sequence Retransmission Request (FCP-4, "Sequence Retransmission Request (SRR)"). It is an FC-4 link service:
    /// R_CTL 32h, TYPE 08h.
    Srr, "SRR", 16 bytes {
        /// The exchange, as who began it calls it.
        [4] ox_id: u16,
        /// The exchange, as the other one calls it.
        [6] rx_id: u16,
        /// From where on to send again.
        [8] relative_offset: u32,
        /// Which information unit to send again.
        [12] r_ctl: RCtl,
    }
}

bits! {
    /// State of an exchange (FC-FS, "Exchange status block", E_STAT).
    ExchangeStatus(u32; 4) {
        /// Who answers is the exchange's responder.
        RESPONDER = 0x8000_0000,
        /// Who answers holds the sequence initiative.
        SEQUENCE_INITIATIVE = 0x4000_0000,
        /// It is complete.
        COMPLETE = 0x2000_0000,
        /// It ended abnormally.
        ABNORMAL = 0x1000_0000,
        /// There is a recovery qualifier.
        RECOVERY_QUALIFIER = 0x0400_0000,
        /// OX_ID means nothing.
        OX_ID_INVALID = 0x0080_0000,
        /// RX_ID means nothing.
        RX_ID_INVALID = 0x0040_0000,
    }
}

layout! {
    /// State of an exchange: what accepts REC (FC-LS, "Read Exchange Concise (REC)").
    RecAcc, "REC LS_ACC", 24 bytes {
        /// As who began it calls it.
        [4] ox_id: u16,
        /// As the other one calls it.
        [6] rx_id: u16,
        /// Who has begun it.
        [9] originator: FcId,
        /// The other one.
        [13] responder: FcId,
        /// What the FC-4 makes of it; FCP: bytes that were moved.
        [16] fc4_value: u32,
        /// Its state.
        [20] status: ExchangeStatus,
    }
}

layout! {
    /// Whose errors are asked for (FC-LS, "Read Link Error Status Block (RLS)").
    Rls, "RLS", 8 bytes {
        /// The port.
        [5] port_id: FcId,
    }
}

layout! {
    /// Errors of a link, as FCoE counts them: what accepts RLS (FC-LS, "Read Link Error Status Block (RLS)"; FC-BB-6,
    /// "FCoE Link Error Status Block").
    RlsAcc, "RLS LS_ACC", 28 bytes {
        /// Link failures.
        [4] link_failures: u32,
        /// Failures of virtual links.
        [8] virtual_link_failures: u32,
        /// Advertisements that did not come.
        [12] missed_advertisements: u32,
        /// Symbol errors of Ethernet.
        [16] symbol_errors: u32,
        /// Errored blocks of Ethernet.
        [20] errored_blocks: u32,
        /// Wrong frame check sequences.
        [24] fcs_errors: u32,
    }
}

/// Data to be sent back: ECHO, and what accepts it; TEST (FC-LS, "Echo (ECHO)").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo<'a>(pub &'a [u8]);

impl<'a> Parse<'a> for Echo<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        head(bytes, 4, "ECHO", "code").map(|code| Self(&bytes[code.len()..]))
    }
}

impl Emit for Echo<'_> {
    fn buffer_len(&self) -> usize {
        4 + self.0.len()
    }

    fn emit(&self, out: &mut [u8]) {
        out[..4].fill(0);
        out[4..4 + self.0.len()].copy_from_slice(self.0);
    }
}

codes! {
    /// Which identification data is asked for (FC-LS, "Request Node Identification Data (RNID)").
    RnidFormat(u8) {
        COMMON = 0x00,
        GENERAL_TOPOLOGY = 0xdf,
    }
}

layout! {
    /// Request for identification data (FC-LS, "Request Node Identification Data (RNID)").
    Rnid, "RNID", 8 bytes {
        /// Which data.
        [4] format: RnidFormat,
    }
}

layout! {
    /// Identification data of a node by its place in a topology (FC-LS, "General Topology Specific Identification
    /// Data").
    GeneralTopology, "general topology data", 52 bytes {
        /// What the vendor says.
        [0] vendor: [u8; 16],
        /// What is attached.
        [16] associated_type: u32,
        /// The port.
        [20] physical_port: u32,
        /// How many nodes are attached.
        [24] attached_nodes: u32,
        /// How it is managed.
        [28] management: u8,
        /// Version of the Internet Protocol at `ip_address`; 0 is none.
        [29] ip_version: u8,
        /// UDP or TCP port.
        [30] ip_port: u16,
        /// Address.
        [32] ip_address: [u8; 16],
        /// Flags of the discovery of topologies.
        [50] flags: u16,
    }
}

/// Identification data: what accepts RNID (FC-LS, "Request Node Identification Data (RNID)").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RnidAcc {
    /// The names of port and node, if they are told.
    pub names: Option<(WorldWideName, WorldWideName)>,
    /// Format DFh.
    pub topology: Option<GeneralTopology>,
}

impl RnidAcc {
    const NAME: &'static str = "RNID LS_ACC";
    const NAMES: usize = 16;
}

impl<'a> Parse<'a> for RnidAcc {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fixed = head(bytes, 8, Self::NAME, "specific length")?;
        let names_len = match fixed[5] {
            0 => 0,
            16 => Self::NAMES,
            other => return Err(Malformed::value(Self::NAME, "common length", other)),
        };
        let names = &head(bytes, 8 + names_len, Self::NAME, "common data")?[8..];
        let specific = match (RnidFormat::new(fixed[4]), fixed[7]) {
            (RnidFormat::COMMON, 0) => 0,
            (RnidFormat::GENERAL_TOPOLOGY, 52) => GeneralTopology::LEN,
            (RnidFormat::COMMON | RnidFormat::GENERAL_TOPOLOGY, other) => {
                return Err(Malformed::value(Self::NAME, "specific length", other));
            }
            (other, _) => return Err(Malformed::value(Self::NAME, "format", other.raw())),
        };
        let specific = &head(bytes, 8 + names_len + specific, Self::NAME, "specific data")?[8 + names_len..];
        Ok(Self {
            names: names.split_at_checked(8).map(|(port, node)| (Field::get(port), Field::get(node))),
            topology: (!specific.is_empty()).then(|| Field::get(specific)),
        })
    }
}

impl Emit for RnidAcc {
    fn buffer_len(&self) -> usize {
        8 + self.names.map_or(0, |_| Self::NAMES) + self.topology.map_or(0, |_| GeneralTopology::LEN)
    }

    fn emit(&self, out: &mut [u8]) {
        out[..8].fill(0);
        let mut at = 8;
        if let Some((port, node)) = self.names {
            out[5] = 16;
            port.put(&mut out[at..at + 8]);
            node.put(&mut out[at + 8..at + 16]);
            at += Self::NAMES;
        }
        if let Some(topology) = self.topology {
            (out[4], out[7]) = (RnidFormat::GENERAL_TOPOLOGY.raw(), 52);
            topology.put(&mut out[at..at + GeneralTopology::LEN]);
        }
    }
}

codes! {
    /// Which changes are to be told (FC-LS, "State Change Registration (SCR)").
    ScrFunction(u8) {
        FABRIC = 1,
        N_PORT = 2,
        FULL = 3,
        CLEAR = 0xff,
    }
}

layout! {
    /// State Change Registration (FC-LS, "State Change Registration (SCR)").
    Scr, "SCR", 8 bytes {
        /// Which changes.
        [7] function: ScrFunction,
    }
}

codes! {
    /// How much of an identifier counts (FC-LS, "Registered State Change Notification (RSCN)", address format).
    AddressFormat(u8) {
        PORT = 0,
        AREA = 1,
        DOMAIN = 2,
        FABRIC = 3,
    }
}

/// What has changed (FC-LS, "Registered State Change Notification (RSCN)", affected port ID page).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RscnPage {
    /// What has become of it: event qualifier, four bits.
    pub event: u8,
    /// How much of the identifier counts.
    pub format: AddressFormat,
    /// The identifier.
    pub id: FcId,
}

impl Field for RscnPage {
    const LEN: usize = 4;

    fn get(bytes: &[u8]) -> Self {
        let format = AddressFormat::new(bytes[0] & 3);
        Self { event: bytes[0] >> 2 & 0xf, format, id: Field::get(&bytes[1..]) }
    }

    fn put(&self, out: &mut [u8]) {
        out[0] = (self.event & 0xf) << 2 | self.format.raw() & 3;
        self.id.put(&mut out[1..]);
    }
}

/// Registered State Change Notification (FC-LS, "Registered State Change Notification (RSCN)").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rscn(SmallVec<[RscnPage; 4]>);

impl Rscn {
    const NAME: &'static str = "RSCN";
    /// Most pages: a payload has at most 256 bytes.
    pub const PAGES_MAX: usize = 63;

    /// Of these pages, if they are not too many, and not none.
    pub fn new(pages: &[RscnPage]) -> Option<Self> {
        (1..=Self::PAGES_MAX).contains(&pages.len()).then(|| Self(SmallVec::from_slice(pages)))
    }

    /// The pages.
    pub fn pages(&self) -> &[RscnPage] {
        &self.0
    }
}

impl<'a> Parse<'a> for Rscn {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let lengths = head(bytes, 4, Self::NAME, "payload length")?;
        if usize::from(lengths[1]) != RscnPage::LEN {
            return Err(Malformed::value(Self::NAME, "page length", lengths[1]));
        }
        let len = u16::get(&lengths[2..]);
        let pages = usize::from(len).checked_sub(4).filter(|pages| pages.is_multiple_of(RscnPage::LEN));
        let pages = pages.filter(|pages| (1..=Self::PAGES_MAX).contains(&(pages / RscnPage::LEN)));
        let pages = pages.ok_or_else(|| Malformed::value(Self::NAME, "payload length", len))?;
        let pages = &head(bytes, 4 + pages, Self::NAME, "affected port ID page")?[4..];
        Ok(Self(pages.chunks_exact(RscnPage::LEN).map(RscnPage::get).collect()))
    }
}

impl Emit for Rscn {
    fn buffer_len(&self) -> usize {
        4 + RscnPage::LEN * self.0.len()
    }

    fn emit(&self, out: &mut [u8]) {
        let len = u16::try_from(self.buffer_len()).expect("at most Rscn::PAGES_MAX pages");
        (out[0], out[1]) = (0, 4);
        len.put(&mut out[2..4]);
        for (page, out) in self.0.iter().zip(out[4..].chunks_exact_mut(RscnPage::LEN)) {
            page.put(out);
        }
    }
}
