// SPDX-License-Identifier: GPL-2.0-or-later
//! The header of an FC-2 frame (FC-FS, "Frame_Header").

use super::field::{bits, codes, layout};
use super::name::FcId;

codes! {
    /// R_CTL: what kind of information a frame carries (FC-FS, "Routing control (R_CTL)"; FCP-4, "FCP information
    /// units").
    RCtl(u8) {
        FCP_DATA = 0x01,
        UNSOLICITED_CONTROL = 0x02,
        SOLICITED_CONTROL = 0x03,
        FCP_XFER_RDY = 0x05,
        FCP_CMND = 0x06,
        FCP_RSP = 0x07,
        ELS_REQUEST = 0x22,
        ELS_REPLY = 0x23,
        FC4_REQUEST = 0x32,
        FC4_REPLY = 0x33,
        BLS_NOP = 0x80,
        ABTS = 0x81,
        RMC = 0x82,
        BA_ACC = 0x84,
        BA_RJT = 0x85,
        PRMT = 0x86,
        ACK_1 = 0xc0,
        ACK_0 = 0xc1,
        P_RJT = 0xc2,
        F_RJT = 0xc3,
        P_BSY = 0xc4,
    }
}

codes! {
    /// TYPE: whose information it is (FC-FS, "Data structure type (TYPE)").
    FcType(u8) {
        BLS = 0x00,
        ELS = 0x01,
        IP = 0x05,
        FCP = 0x08,
        CT = 0x20,
        SWITCH_ILS = 0x22,
        NVME = 0x28,
    }
}

bits! {
    /// F_CTL: where in its exchange a frame is (FC-FS, "Frame control (F_CTL)").
    FCtl(u32; 3) {
        /// Sent by the responder of the exchange.
        EXCHANGE_RESPONDER = 0x80_0000,
        /// Sent by the recipient of the sequence.
        SEQUENCE_RECIPIENT = 0x40_0000,
        /// Of the first sequence of the exchange.
        FIRST_SEQUENCE = 0x20_0000,
        /// Of the last sequence of the exchange.
        LAST_SEQUENCE = 0x10_0000,
        /// The last frame of its sequence.
        END_SEQUENCE = 0x08_0000,
        /// CS_CTL is a priority.
        PRIORITY = 0x02_0000,
        /// With [`Self::END_SEQUENCE`]: from now on it is for the other one to send.
        SEQUENCE_INITIATIVE = 0x01_0000,
        /// Of a sequence that is sent again.
        RETRANSMITTED = 0x00_0200,
        /// The parameter field is an offset.
        RELATIVE_OFFSET = 0x00_0008,
    }
}

impl FCtl {
    /// A request that is all of its sequence: ELS, CT, FCP_CMND.
    pub const REQUEST: Self = Self::FIRST_SEQUENCE.with(Self::END_SEQUENCE).with(Self::SEQUENCE_INITIATIVE);
    /// What answers a request, and ends its exchange: FCP_RSP, and what answers ABTS and FLOGI.
    pub const REPLY: Self = Self::EXCHANGE_RESPONDER.with(Self::LAST_SEQUENCE).with(Self::END_SEQUENCE);

    /// How many bytes at the end of the payload are none of it.
    pub const fn fill(self) -> usize {
        (self.raw() & 3) as usize
    }

    /// With so many bytes, 0 to 3, at the end of the payload that are none of it.
    #[must_use]
    pub const fn with_fill(self, fill: usize) -> Self {
        Self(self.raw() & !3 | fill as u32 & 3)
    }
}

codes! {
    /// DF_CTL: which optional headers come before the payload (FC-FS, "Data field control (DF_CTL)").
    DfCtl(u8) {
        NONE = 0x00,
        DEVICE_HEADER_16 = 0x01,
        DEVICE_HEADER_32 = 0x02,
        DEVICE_HEADER_64 = 0x03,
        NETWORK_HEADER = 0x20,
        ESP_HEADER = 0x40,
    }
}

/// RX_ID of an exchange whose responder has not given it one, and OX_ID of none (FC-FS, "Responder Exchange_ID
/// (RX_ID)").
pub const UNASSIGNED_XID: u16 = 0xffff;

layout! {
    /// The header of a frame (FC-FS, "Frame_Header").
    FcHeader, "FC header", 24 bytes {
        /// What kind of information it is.
        [0] r_ctl: RCtl,
        /// To whom.
        [1] d_id: FcId,
        /// Class specific control, or a priority.
        [4] cs_ctl: u8,
        /// From whom.
        [5] s_id: FcId,
        /// Whose information it is.
        [8] fc_type: FcType,
        /// Where in its exchange it is.
        [9] f_ctl: FCtl,
        /// The sequence.
        [12] seq_id: u8,
        /// Optional headers.
        [13] df_ctl: DfCtl,
        /// The place in the sequence.
        [14] seq_cnt: u16,
        /// The exchange, as who began it calls it.
        [16] ox_id: u16,
        /// The exchange, as the other one calls it.
        [18] rx_id: u16,
        /// What `f_ctl` and `r_ctl` make of it: an offset, what to abort.
        [20] parameter: u32,
    }
}

impl FcHeader {
    /// The header of a request that is all of its sequence, the first of an exchange.
    pub const fn request(r_ctl: RCtl, fc_type: FcType, s_id: FcId, d_id: FcId, ox_id: u16) -> Self {
        Self {
            r_ctl,
            d_id,
            cs_ctl: 0,
            s_id,
            fc_type,
            f_ctl: FCtl::REQUEST,
            seq_id: 0,
            df_ctl: DfCtl::NONE,
            seq_cnt: 0,
            ox_id,
            rx_id: UNASSIGNED_XID,
            parameter: 0,
        }
    }

    /// The header of what answers this one, and ends the exchange.
    #[must_use]
    pub const fn reply(&self, r_ctl: RCtl) -> Self {
        Self {
            r_ctl,
            d_id: self.s_id,
            s_id: self.d_id,
            cs_ctl: 0,
            f_ctl: FCtl::REPLY,
            seq_cnt: 0,
            parameter: 0,
            df_ctl: DfCtl::NONE,
            ..*self
        }
    }

    /// The relative offset, if it is there.
    pub fn relative_offset(&self) -> Option<u32> {
        self.f_ctl.contains(FCtl::RELATIVE_OFFSET).then_some(self.parameter)
    }
}
