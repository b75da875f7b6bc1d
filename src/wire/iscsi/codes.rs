// SPDX-License-Identifier: GPL-2.0-or-later
//! The numbers in PDUs that have a meaning (RFC 7143 clause 11). Others than those named here may come from anybody.

use crate::wire::field::{bit_fields, codes};

codes! {
    /// The kind of a PDU (RFC 7143 11.2.1.2).
    Opcode(u8) {
        NOP_OUT = 0x00,
        SCSI_COMMAND = 0x01,
        TASK_MANAGEMENT_REQUEST = 0x02,
        LOGIN_REQUEST = 0x03,
        TEXT_REQUEST = 0x04,
        DATA_OUT = 0x05,
        LOGOUT_REQUEST = 0x06,
        SNACK_REQUEST = 0x10,
        NOP_IN = 0x20,
        SCSI_RESPONSE = 0x21,
        TASK_MANAGEMENT_RESPONSE = 0x22,
        LOGIN_RESPONSE = 0x23,
        TEXT_RESPONSE = 0x24,
        DATA_IN = 0x25,
        LOGOUT_RESPONSE = 0x26,
        R2T = 0x31,
        ASYNC_MESSAGE = 0x32,
        REJECT = 0x3f,
    }
}

codes! {
    /// How a command is ordered among others (RFC 7143 11.3.1, ATTR).
    IscsiTaskAttribute(u8) {
        UNTAGGED = 0,
        SIMPLE = 1,
        ORDERED = 2,
        HEAD_OF_QUEUE = 3,
        ACA = 4,
    }
}

codes! {
    /// What became of a command as such (RFC 7143 11.4.3, Response).
    ServiceResponse(u8) {
        COMPLETED_AT_TARGET = 0x00,
        TARGET_FAILURE = 0x01,
    }
}

codes! {
    /// A task management function (RFC 7143 11.5.1).
    IscsiFunction(u8) {
        ABORT_TASK = 1,
        ABORT_TASK_SET = 2,
        CLEAR_ACA = 3,
        CLEAR_TASK_SET = 4,
        LOGICAL_UNIT_RESET = 5,
        TARGET_WARM_RESET = 6,
        TARGET_COLD_RESET = 7,
        TASK_REASSIGN = 8,
    }
}

codes! {
    /// What became of a task management function (RFC 7143 11.6.1).
    FunctionResponse(u8) {
        COMPLETE = 0,
        NO_SUCH_TASK = 1,
        NO_SUCH_LUN = 2,
        STILL_ALLEGIANT = 3,
        NO_REASSIGN = 4,
        NOT_SUPPORTED = 5,
        AUTHORIZATION_FAILED = 6,
        REJECTED = 255,
    }
}

codes! {
    /// What an Asynchronous Message tells (RFC 7143 11.9.1).
    AsyncEvent(u8) {
        SCSI_EVENT = 0,
        LOGOUT_REQUESTED = 1,
        CONNECTION_DROPPED = 2,
        SESSION_DROPPED = 3,
        NEGOTIATION_REQUESTED = 4,
        TASKS_TERMINATED = 5,
        VENDOR = 255,
    }
}

codes! {
    /// A stage of a login (RFC 7143 11.12.3, CSG and NSG).
    #[derive(Default)]
    LoginStage(u8) {
        SECURITY = 0,
        OPERATIONAL = 1,
        FULL_FEATURE = 3,
    }
}

codes! {
    /// What is to be closed (RFC 7143 11.14.1).
    LogoutReason(u8) {
        CLOSE_SESSION = 0,
        CLOSE_CONNECTION = 1,
        RECOVERY = 2,
    }
}

codes! {
    /// What became of a logout (RFC 7143 11.15.1).
    LogoutResponse(u8) {
        CLOSED = 0,
        NO_SUCH_CONNECTION = 1,
        NO_RECOVERY = 2,
        CLEANUP_FAILED = 3,
    }
}

codes! {
    /// What a SNACK asks for again (RFC 7143 11.16.1).
    SnackType(u8) {
        DATA_OR_R2T = 0,
        STATUS = 1,
        DATA_ACK = 2,
        R_DATA = 3,
    }
}

codes! {
    /// Why a PDU is rejected (RFC 7143 11.17.1).
    RejectReason(u8) {
        DATA_DIGEST_ERROR = 0x02,
        SNACK_REJECT = 0x03,
        PROTOCOL_ERROR = 0x04,
        COMMAND_NOT_SUPPORTED = 0x05,
        TOO_MANY_IMMEDIATE = 0x06,
        TASK_IN_PROGRESS = 0x07,
        INVALID_DATA_ACK = 0x08,
        INVALID_PDU_FIELD = 0x09,
        OUT_OF_RESOURCES = 0x0a,
        NEGOTIATION_RESET = 0x0b,
        WAITING_FOR_LOGOUT = 0x0c,
    }
}

bit_fields! { Opcode IscsiFunction LoginStage LogoutReason SnackType }
