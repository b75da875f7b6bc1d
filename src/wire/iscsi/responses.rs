// SPDX-License-Identifier: GPL-2.0-or-later
//! What a target sends. Numbers are given when a PDU leaves: until then they are zero.

use super::bhs::{NO_TAG, ResponseNumbers};
use super::codes::{AsyncEvent, FunctionResponse, LoginStage, LogoutResponse, RejectReason, ServiceResponse};
use super::pdu::{FINAL, pdu};

pdu! {
    /// NOP-In (RFC 7143 11.19): a ping, or the answer to one.
    NopInHeader: NOP_IN, [1] = FINAL;
    /// In an answer, what the ping had.
    [8] lun: u64,
    /// That of the ping that this answers, else [`NO_TAG`].
    [16] itt: u32,
    /// Target transfer tag: [`NO_TAG`] if no answer is wanted.
    [20] ttt: u32,
    /// StatSN, ExpCmdSN and MaxCmdSN.
    [24] numbers: ResponseNumbers,
}

pdu! {
    /// SCSI Response (RFC 7143 11.4). Sense data is in the data segment.
    ScsiResponseHeader: SCSI_RESPONSE, [1] = FINAL;
    /// What is read of a bidirectional command would have been more than expected (o).
    [1 & 0x10] bidi_overflow: bool,
    /// It was less (u).
    [1 & 0x08] bidi_underflow: bool,
    /// Data would have been more than expected (O).
    [1 & 0x04] overflow: bool,
    /// It was less (U).
    [1 & 0x02] underflow: bool,
    /// What became of the command as such.
    [2] response: ServiceResponse,
    /// SCSI status.
    [3] status: u8,
    /// Initiator task tag.
    [16] itt: u32,
    /// SNACK tag.
    [20] snack_tag: u32,
    /// StatSN, ExpCmdSN and MaxCmdSN.
    [24] numbers: ResponseNumbers,
    /// The number of R2T and Data-In PDUs of the command.
    [36] exp_data_sn: u32,
    /// How much more or less a bidirectional command has read.
    [40] bidi_residual_count: u32,
    /// How much more or less data it was.
    [44] residual_count: u32,
}

pdu! {
    /// Task Management Function Response (RFC 7143 11.6).
    TaskManagementResponseHeader: TASK_MANAGEMENT_RESPONSE, [1] = FINAL;
    /// What became of it.
    [2] response: FunctionResponse,
    /// Initiator task tag of the request.
    [16] itt: u32,
    /// StatSN, ExpCmdSN and MaxCmdSN.
    [24] numbers: ResponseNumbers,
}

pdu! {
    /// Login Response (RFC 7143 11.13).
    LoginResponseHeader: LOGIN_RESPONSE;
    /// The login goes on to the next stage (T).
    [1 & 0x80] transit: bool,
    /// The text goes on in the next PDU (C).
    [1 & 0x40] continues: bool,
    /// The stage of the request (CSG).
    [1 & 0x0c] stage: LoginStage,
    /// The stage that the login goes on to (NSG).
    [1 & 0x03] next_stage: LoginStage,
    /// The latest version of the protocol that the target knows.
    [2] version_max: u8,
    /// The version that is in use.
    [3] version_active: u8,
    /// The initiator's part of the session identifier.
    [8] isid: [u8; 6],
    /// The target's part.
    [14] tsih: u16,
    /// Initiator task tag of the request.
    [16] itt: u32,
    /// StatSN, ExpCmdSN and MaxCmdSN.
    [24] numbers: ResponseNumbers,
    /// Class and detail (RFC 7143 11.13.5).
    [36] status: u16,
}

pdu! {
    /// Text Response (RFC 7143 11.11).
    TextResponseHeader: TEXT_RESPONSE;
    /// All is answered (F).
    [1 & 0x80] is_final: bool,
    /// The text goes on in the next PDU (C).
    [1 & 0x40] continues: bool,
    /// Given back with what goes on from this.
    [8] lun: u64,
    /// Initiator task tag of the request.
    [16] itt: u32,
    /// Target transfer tag by which the initiator goes on, else [`NO_TAG`].
    [20] ttt: u32,
    /// StatSN, ExpCmdSN and MaxCmdSN.
    [24] numbers: ResponseNumbers,
}

pdu! {
    /// SCSI Data-In (RFC 7143 11.7).
    DataInHeader: DATA_IN;
    /// The last of its sequence (F).
    [1 & 0x80] is_final: bool,
    /// To be acknowledged by a SNACK (A).
    [1 & 0x40] acknowledge: bool,
    /// Data would have been more than expected (O).
    [1 & 0x04] overflow: bool,
    /// It was less (U).
    [1 & 0x02] underflow: bool,
    /// The command has ended, and this has its status and StatSN (S).
    [1 & 0x01] has_status: bool,
    /// SCSI status.
    [3] status: u8,
    /// The logical unit, if data is to be acknowledged.
    [8] lun: u64,
    /// Initiator task tag of the command.
    [16] itt: u32,
    /// Target transfer tag of data to be acknowledged, else [`NO_TAG`].
    [20] ttt: u32,
    /// StatSN, ExpCmdSN and MaxCmdSN.
    [24] numbers: ResponseNumbers,
    /// Its place among the R2T and Data-In PDUs of the command.
    [36] data_sn: u32,
    /// Where the data belongs.
    [40] buffer_offset: u32,
    /// How much more or less data it was.
    [44] residual_count: u32,
}

pdu! {
    /// Logout Response (RFC 7143 11.15).
    LogoutResponseHeader: LOGOUT_RESPONSE, [1] = FINAL;
    /// What became of it.
    [2] response: LogoutResponse,
    /// Initiator task tag of the request.
    [16] itt: u32,
    /// StatSN, ExpCmdSN and MaxCmdSN.
    [24] numbers: ResponseNumbers,
    /// Seconds to wait before what was under way is taken up again.
    [40] time2wait: u16,
    /// Seconds for which it can be, after those.
    [42] time2retain: u16,
}

pdu! {
    /// Ready To Transfer (RFC 7143 11.8).
    R2tHeader: R2T, [1] = FINAL;
    /// The logical unit.
    [8] lun: u64,
    /// Initiator task tag of the command.
    [16] itt: u32,
    /// Target transfer tag.
    [20] ttt: u32,
    /// StatSN, ExpCmdSN and MaxCmdSN.
    [24] numbers: ResponseNumbers,
    /// Its place among the R2T and Data-In PDUs of the command.
    [36] r2t_sn: u32,
    /// From where on.
    [40] buffer_offset: u32,
    /// How much.
    [44] desired_len: u32,
}

pdu! {
    /// Asynchronous Message (RFC 7143 11.9).
    AsyncHeader: ASYNC_MESSAGE, [1] = FINAL, [16] = NO_TAG;
    /// The logical unit that it is about.
    [8] lun: u64,
    /// StatSN, ExpCmdSN and MaxCmdSN.
    [24] numbers: ResponseNumbers,
    /// What it tells.
    [36] event: AsyncEvent,
    /// The vendor's event.
    [37] vendor_code: u8,
    /// As the event says.
    [38] parameter1: u16,
    /// As the event says.
    [40] parameter2: u16,
    /// As the event says.
    [42] parameter3: u16,
}

pdu! {
    /// Reject (RFC 7143 11.17). The header that is rejected is in the data segment.
    RejectHeader: REJECT, [1] = FINAL, [16] = NO_TAG;
    /// Why.
    [2] reason: RejectReason,
    /// StatSN, ExpCmdSN and MaxCmdSN.
    [24] numbers: ResponseNumbers,
    /// DataSN or R2TSN, as the reason says.
    [36] data_sn: u32,
}
