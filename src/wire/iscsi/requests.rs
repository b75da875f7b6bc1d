// SPDX-License-Identifier: GPL-2.0-or-later
//! What an initiator sends.

use super::bhs::RequestNumbers;
use super::codes::{IscsiFunction, IscsiTaskAttribute, LoginStage, LogoutReason, SnackType};
use super::pdu::{FINAL, pdu};
use crate::wire::field::bits;

pdu! {
    /// NOP-Out (RFC 7143 11.18): a ping, or the answer to one.
    NopOutHeader: NOP_OUT, [1] = FINAL;
    /// To be delivered at once.
    [0 & 0x40] immediate: bool,
    /// In an answer, what the ping had.
    [8] lun: u64,
    /// [`NO_TAG`](super::NO_TAG) if no answer is wanted.
    [16] itt: u32,
    /// Target transfer tag of the ping that this answers.
    [20] ttt: u32,
    /// CmdSN and ExpStatSN.
    [24] numbers: RequestNumbers,
}

bits! {
    /// Byte 1 of a SCSI Command (RFC 7143 11.3.1), with the attribute: one byte to keep while the command runs.
    ScsiCommandFlags(u8; 1) {
        /// No unsolicited Data-Out follows (F).
        FINAL = 0x80,
        /// The command moves data to the initiator (R).
        READ = 0x40,
        /// The command moves data to the target (W).
        WRITE = 0x20,
    }
}

impl ScsiCommandFlags {
    /// How the command is ordered among others.
    pub const fn attribute(self) -> IscsiTaskAttribute {
        IscsiTaskAttribute::new(self.raw() & 7)
    }

    /// With another order.
    #[must_use]
    pub const fn with_attribute(self, attribute: IscsiTaskAttribute) -> Self {
        Self::new(self.raw() & !7 | attribute.raw() & 7)
    }
}

pdu! {
    /// SCSI Command (RFC 7143 11.3). What else a CDB or a bidirectional command has is in additional header segments.
    ScsiCommandHeader: SCSI_COMMAND;
    /// To be delivered at once.
    [0 & 0x40] immediate: bool,
    /// Directions, order, and whether more follows.
    [1] flags: ScsiCommandFlags,
    /// The logical unit.
    [8] lun: u64,
    /// Initiator task tag.
    [16] itt: u32,
    /// Most bytes of data; of a bidirectional command, to the target.
    [20] expected_len: u32,
    /// CmdSN and ExpStatSN.
    [24] numbers: RequestNumbers,
    /// The command, or the first bytes of it.
    [32] cdb: [u8; 16],
}

pdu! {
    /// Task Management Function Request (RFC 7143 11.5).
    TaskManagementRequestHeader: TASK_MANAGEMENT_REQUEST, [1] = FINAL;
    /// To be delivered at once.
    [0 & 0x40] immediate: bool,
    /// What is to be done.
    [1 & 0x7f] function: IscsiFunction,
    /// The logical unit.
    [8] lun: u64,
    /// Initiator task tag of this request.
    [16] itt: u32,
    /// That of the task to abort or to reassign, else [`NO_TAG`](super::NO_TAG).
    [20] referenced_task_tag: u32,
    /// CmdSN and ExpStatSN.
    [24] numbers: RequestNumbers,
    /// CmdSN of the task to abort.
    [32] ref_cmd_sn: u32,
    /// DataSN from which a reassigned task goes on.
    [36] exp_data_sn: u32,
}

pdu! {
    /// Login Request (RFC 7143 11.12).
    LoginRequestHeader: LOGIN_REQUEST;
    /// To be delivered at once, as all of them are.
    [0 & 0x40] immediate: bool,
    /// To go on to the next stage (T).
    [1 & 0x80] transit: bool,
    /// The text goes on in the next PDU (C).
    [1 & 0x40] continues: bool,
    /// The stage of this request (CSG).
    [1 & 0x0c] stage: LoginStage,
    /// The stage to go on to (NSG).
    [1 & 0x03] next_stage: LoginStage,
    /// The latest version of the protocol.
    [2] version_max: u8,
    /// The earliest.
    [3] version_min: u8,
    /// The initiator's part of the session identifier.
    [8] isid: [u8; 6],
    /// The target's part; 0 for a new session.
    [14] tsih: u16,
    /// Initiator task tag, the same for all of one login.
    [16] itt: u32,
    /// Connection identifier.
    [20] cid: u16,
    /// CmdSN and ExpStatSN.
    [24] numbers: RequestNumbers,
}

pdu! {
    /// Text Request (RFC 7143 11.10).
    TextRequestHeader: TEXT_REQUEST;
    /// To be delivered at once.
    [0 & 0x40] immediate: bool,
    /// All is asked (F).
    [1 & 0x80] is_final: bool,
    /// The text goes on in the next PDU (C).
    [1 & 0x40] continues: bool,
    /// What the answer had that this goes on from.
    [8] lun: u64,
    /// Initiator task tag.
    [16] itt: u32,
    /// Target transfer tag of the answer that this goes on from, else [`NO_TAG`](super::NO_TAG).
    [20] ttt: u32,
    /// CmdSN and ExpStatSN.
    [24] numbers: RequestNumbers,
}

pdu! {
    /// SCSI Data-Out (RFC 7143 11.7).
    DataOutHeader: DATA_OUT;
    /// The last of its sequence (F).
    [1 & 0x80] is_final: bool,
    /// The logical unit, if a target transfer tag is given.
    [8] lun: u64,
    /// Initiator task tag of the command.
    [16] itt: u32,
    /// Target transfer tag of the R2T that this answers; [`NO_TAG`](super::NO_TAG) if it is unsolicited.
    [20] ttt: u32,
    /// The StatSN that the initiator has not had yet.
    [28] exp_stat_sn: u32,
    /// Its place in the sequence.
    [36] data_sn: u32,
    /// Where the data belongs.
    [40] buffer_offset: u32,
}

pdu! {
    /// Logout Request (RFC 7143 11.14).
    LogoutRequestHeader: LOGOUT_REQUEST, [1] = FINAL;
    /// To be delivered at once.
    [0 & 0x40] immediate: bool,
    /// What is to be closed.
    [1 & 0x7f] reason: LogoutReason,
    /// Initiator task tag.
    [16] itt: u32,
    /// The connection to close.
    [20] cid: u16,
    /// CmdSN and ExpStatSN.
    [24] numbers: RequestNumbers,
}

pdu! {
    /// SNACK Request (RFC 7143 11.16).
    SnackRequestHeader: SNACK_REQUEST, [1] = FINAL;
    /// What is asked for again.
    [1 & 0x0f] snack_type: SnackType,
    /// The logical unit of acknowledged data.
    [8] lun: u64,
    /// Initiator task tag of the command, else [`NO_TAG`](super::NO_TAG).
    [16] itt: u32,
    /// Target transfer tag of acknowledged data, the tag of an R-Data SNACK, else [`NO_TAG`](super::NO_TAG).
    [20] ttt: u32,
    /// The StatSN that the initiator has not had yet.
    [28] exp_stat_sn: u32,
    /// The first number that is missing.
    [40] beg_run: u32,
    /// How many are; 0 for all.
    [44] run_length: u32,
}
