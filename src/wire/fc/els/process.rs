// SPDX-License-Identifier: GPL-2.0-or-later
//! Process login and logout: PRLI, PRLO, TPRLO, with one page each (FC-LS, "Process Login (PRLI)"; FCP-4, "PRLI").

use super::super::field::{Emit, Field, Malformed, Parse, bits, codes, head, layout};
use super::super::header::FcType;
use super::super::name::FcId;

bits! {
    /// What a page says of itself, and in what accepts it the response (FC-LS, "PRLI service parameter page format").
    PageFlags(u8; 1) {
        /// The originator's process associator is valid.
        ORIGINATOR_ASSOCIATOR = 0x80,
        /// The responder's process associator is valid.
        RESPONDER_ASSOCIATOR = 0x40,
        /// PRLI: an image pair is to be established, or is.
        ESTABLISH_IMAGE_PAIR = 0x20,
        /// TPRLO: a third party's identifier is valid.
        THIRD_PARTY_N_PORT_ID = 0x20,
        /// TPRLO: everybody is logged out.
        GLOBAL_PROCESS_LOGOUT = 0x10,
    }
}

codes! {
    /// What became of a page (FC-LS, "PRLI accept response code").
    PageResponse(u8) {
        EXECUTED = 1,
        NO_RESOURCES = 2,
        INITIALIZATION_INCOMPLETE = 3,
        NO_SUCH_ASSOCIATOR = 4,
        PRECLUDED = 5,
        EXECUTED_CONDITIONALLY = 6,
        MULTIPLE_PAGES_NOT_SUPPORTED = 7,
        INVALID_PARAMETERS = 8,
    }
}

impl PageFlags {
    /// What became of the page, in what accepts it.
    pub const fn response(self) -> PageResponse {
        PageResponse::new(self.raw() & 0xf)
    }

    /// With what became of the page.
    #[must_use]
    pub const fn with_response(self, response: PageResponse) -> Self {
        Self::new(self.raw() & 0xf0 | response.raw() & 0xf)
    }
}

bits! {
    /// Service parameters of FCP (FCP-4, "PRLI FCP Service Parameter page").
    FcpServiceParameters(u32; 4) {
        /// Enhanced discovery.
        ENHANCED_DISCOVERY = 0x0800,
        /// REC is answered.
        REC = 0x0400,
        /// Task retry identification.
        TASK_RETRY_IDENTIFICATION = 0x0200,
        /// Sequences are sent again: SRR.
        RETRY = 0x0100,
        /// FCP_CONF is sent when it is asked for.
        CONFIRMED_COMPLETION = 0x0080,
        /// Data may be sent twice.
        DATA_OVERLAY = 0x0040,
        /// It is an initiator.
        INITIATOR = 0x0020,
        /// It is a target.
        TARGET = 0x0010,
        /// No FCP_XFER_RDY before data is read.
        READ_XFER_RDY_DISABLED = 0x0002,
        /// No FCP_XFER_RDY before the first data that is written.
        WRITE_XFER_RDY_DISABLED = 0x0001,
    }
}

layout! {
    /// A page of PRLI or PRLO, or of what accepts them (FC-LS, "PRLI service parameter page format").
    ServicePage, "service parameter page", 16 bytes {
        /// The FC-4.
        [0] fc_type: FcType,
        /// Which part of the FC-4; 0 for FCP.
        [1] type_extension: u8,
        /// Flags, and in what accepts it the response.
        [2] flags: PageFlags,
        /// The originator's process associator.
        [4] originator_associator: u32,
        /// The responder's process associator.
        [8] responder_associator: u32,
        /// Service parameters; none in PRLO.
        [12] parameters: FcpServiceParameters,
    }
}

impl ServicePage {
    /// A page for FCP.
    pub const fn fcp(flags: PageFlags, parameters: FcpServiceParameters) -> Self {
        Self {
            fc_type: FcType::FCP,
            type_extension: 0,
            flags,
            originator_associator: 0,
            responder_associator: 0,
            parameters,
        }
    }
}

layout! {
    /// A page of TPRLO (FC-LS, "Third Party Process Logout (TPRLO)").
    ThirdPartyPage, "TPRLO logout parameter page", 16 bytes {
        /// The FC-4.
        [0] fc_type: FcType,
        /// Which part of the FC-4; 0 for FCP.
        [1] type_extension: u8,
        /// Flags, and in what accepts it the response.
        [2] flags: PageFlags,
        /// The third party's process associator.
        [4] originator_associator: u32,
        /// The responder's process associator.
        [8] responder_associator: u32,
        /// The third party.
        [13] n_port_id: FcId,
    }
}

/// Payload of PRLI, PRLO, TPRLO, and of what accepts them: a page behind its lengths. What has several pages is refused
/// (response code 7) (FC-LS, "Process Login (PRLI)").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcessLogin<P>(pub P);

/// Length of a page, which is the same for all of them.
const PAGE: u8 = 16;
/// Length of a payload with one page.
const PAYLOAD: u8 = 4 + PAGE;

impl<'a, P: Field> Parse<'a> for ProcessLogin<P> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        const NAME: &str = "PRLI, PRLO or TPRLO";
        let lengths = head(bytes, 4, NAME, "payload length")?;
        if lengths[1] != PAGE {
            return Err(Malformed::value(NAME, "page length", lengths[1]));
        }
        let payload = u16::get(&lengths[2..]);
        if payload != u16::from(PAYLOAD) {
            return Err(Malformed::value(NAME, "payload length", payload));
        }
        Ok(Self(P::get(&head(bytes, PAYLOAD.into(), NAME, "page")?[4..])))
    }
}

impl<P: Field> Emit for ProcessLogin<P> {
    fn buffer_len(&self) -> usize {
        PAYLOAD.into()
    }

    fn emit(&self, out: &mut [u8]) {
        out[..4].copy_from_slice(&[0, PAGE, 0, PAYLOAD]);
        self.0.put(&mut out[4..PAYLOAD.into()]);
    }
}
