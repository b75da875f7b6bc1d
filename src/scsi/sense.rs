// SPDX-License-Identifier: GPL-2.0-or-later
//! Status and sense data (SAM-5 5.3, SPC-5 4.4).

/// Status codes (SAM-5 table 43).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Good = 0x00,
    /// Sense data tells.
    CheckCondition = 0x02,
    /// PRE-FETCH found room for all.
    ConditionMet = 0x04,
    /// Try again later.
    Busy = 0x08,
    /// Somebody else has reserved the logical unit.
    ReservationConflict = 0x18,
    /// No room for another task.
    TaskSetFull = 0x28,
    /// An ACA condition is there.
    AcaActive = 0x30,
    /// Aborted by another nexus (TAS).
    TaskAborted = 0x40,
}

/// Sense keys.
pub mod key {
    #![expect(missing_docs, reason = "the names are those of SPC-5 table 48")]
    pub const NO_SENSE: u8 = 0x0;
    pub const RECOVERED_ERROR: u8 = 0x1;
    pub const NOT_READY: u8 = 0x2;
    pub const MEDIUM_ERROR: u8 = 0x3;
    pub const HARDWARE_ERROR: u8 = 0x4;
    pub const ILLEGAL_REQUEST: u8 = 0x5;
    pub const UNIT_ATTENTION: u8 = 0x6;
    pub const DATA_PROTECT: u8 = 0x7;
    pub const BLANK_CHECK: u8 = 0x8;
    pub const COPY_ABORTED: u8 = 0xa;
    pub const ABORTED_COMMAND: u8 = 0xb;
    pub const VOLUME_OVERFLOW: u8 = 0xd;
    pub const MISCOMPARE: u8 = 0xe;
}

/// Additional sense codes with their qualifiers, `ASC << 8 | ASCQ`.
pub mod asc {
    #![expect(missing_docs, reason = "the names are those of SPC-5 annex F")]
    pub const NO_ADDITIONAL_SENSE: u16 = 0x0000;
    pub const LOGICAL_UNIT_NOT_READY_INITIALIZING_COMMAND_REQUIRED: u16 = 0x0402;
    pub const WRITE_ERROR: u16 = 0x0c00;
    pub const UNRECOVERED_READ_ERROR: u16 = 0x1100;
    pub const PARAMETER_LIST_LENGTH_ERROR: u16 = 0x1a00;
    pub const MISCOMPARE_DURING_VERIFY: u16 = 0x1d00;
    pub const INVALID_COMMAND_OPERATION_CODE: u16 = 0x2000;
    pub const LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE: u16 = 0x2100;
    pub const INVALID_FIELD_IN_CDB: u16 = 0x2400;
    pub const LOGICAL_UNIT_NOT_SUPPORTED: u16 = 0x2500;
    pub const INVALID_FIELD_IN_PARAMETER_LIST: u16 = 0x2600;
    pub const WRITE_PROTECTED: u16 = 0x2700;
    pub const SPACE_ALLOCATION_FAILED_WRITE_PROTECT: u16 = 0x2707;
    pub const POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED: u16 = 0x2900;
    pub const POWER_ON_OCCURRED: u16 = 0x2901;
    pub const BUS_DEVICE_RESET_FUNCTION_OCCURRED: u16 = 0x2903;
    pub const I_T_NEXUS_LOSS_OCCURRED: u16 = 0x2907;
    pub const MODE_PARAMETERS_CHANGED: u16 = 0x2a01;
    pub const CAPACITY_DATA_HAS_CHANGED: u16 = 0x2a09;
    pub const COMMANDS_CLEARED_BY_ANOTHER_INITIATOR: u16 = 0x2f00;
    pub const SAVING_PARAMETERS_NOT_SUPPORTED: u16 = 0x3900;
    pub const MEDIUM_NOT_PRESENT: u16 = 0x3a00;
    pub const REPORTED_LUNS_DATA_HAS_CHANGED: u16 = 0x3f0e;
    pub const INTERNAL_TARGET_FAILURE: u16 = 0x4400;
    pub const SYSTEM_RESOURCE_FAILURE: u16 = 0x5500;
    pub const INSUFFICIENT_RESOURCES: u16 = 0x5503;
}

/// What went wrong, in either format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sense {
    /// Sense key ([`key`]).
    pub key: u8,
    /// `ASC << 8 | ASCQ` ([`asc`]).
    pub code: u16,
    /// INFORMATION: an LBA, an offset or a count, as the command defines it.
    pub information: Option<u64>,
    /// COMMAND-SPECIFIC INFORMATION.
    pub command_specific: Option<u64>,
    /// SENSE KEY SPECIFIC, with SKSV set in the first byte.
    pub specific: Option<[u8; 3]>,
    /// FILEMARK.
    pub filemark: bool,
    /// End of medium.
    pub eom: bool,
    /// Incorrect length indicator.
    pub ili: bool,
}

impl Sense {
    /// Longest encoding.
    pub const LEN_MAX: usize = 64;

    /// Just key and code.
    pub const fn new(key: u8, code: u16) -> Self {
        Self {
            key,
            code,
            information: None,
            command_specific: None,
            specific: None,
            filemark: false,
            eom: false,
            ili: false,
        }
    }

    /// ILLEGAL REQUEST with `code`.
    pub const fn illegal(code: u16) -> Self {
        Self::new(key::ILLEGAL_REQUEST, code)
    }

    /// INVALID FIELD IN CDB, pointing at byte `byte` of it, and at bit `bit` if that is known.
    pub const fn invalid_field_in_cdb(byte: u16, bit: Option<u8>) -> Self {
        Self::illegal(asc::INVALID_FIELD_IN_CDB).pointing_at(true, byte, bit)
    }

    /// Adds a field pointer: into the CDB, or else into the parameter data.
    #[must_use]
    pub const fn pointing_at(mut self, in_cdb: bool, byte: u16, bit: Option<u8>) -> Self {
        let mut first = 0x80 | if in_cdb { 0x40 } else { 0 };
        if let Some(bit) = bit {
            first |= 0x08 | bit & 7;
        }
        let [high, low] = byte.to_be_bytes();
        self.specific = Some([first, high, low]);
        self
    }
}
