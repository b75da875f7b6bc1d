// SPDX-License-Identifier: GPL-2.0-or-later
//! Status and sense data (SAM-5 5.3, SPC-5 4.4).

use smallvec::SmallVec;

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
    pub const FILEMARK_DETECTED: u16 = 0x0001;
    pub const END_OF_PARTITION: u16 = 0x0002;
    pub const BEGINNING_OF_PARTITION_DETECTED: u16 = 0x0004;
    pub const END_OF_DATA_DETECTED: u16 = 0x0005;
    pub const PROGRAMMABLE_EARLY_WARNING_DETECTED: u16 = 0x0007;
    pub const OPERATION_IN_PROGRESS: u16 = 0x0016;
    pub const LOGICAL_UNIT_NOT_READY_INITIALIZING_COMMAND_REQUIRED: u16 = 0x0402;
    pub const LOGICAL_UNIT_NOT_READY_FORMAT_IN_PROGRESS: u16 = 0x0404;
    pub const LOGICAL_UNIT_NOT_READY_OPERATION_IN_PROGRESS: u16 = 0x0407;
    pub const LOGICAL_UNIT_NOT_READY_SELF_TEST_IN_PROGRESS: u16 = 0x0409;
    pub const LOGICAL_UNIT_NOT_ACCESSIBLE_ASYMMETRIC_ACCESS_STATE_TRANSITION: u16 = 0x040a;
    pub const LOGICAL_UNIT_NOT_ACCESSIBLE_TARGET_PORT_IN_STANDBY_STATE: u16 = 0x040b;
    pub const LOGICAL_UNIT_NOT_ACCESSIBLE_TARGET_PORT_IN_UNAVAILABLE_STATE: u16 = 0x040c;
    pub const LOGICAL_UNIT_NOT_READY_SANITIZE_IN_PROGRESS: u16 = 0x041b;
    pub const WRITE_ERROR: u16 = 0x0c00;
    pub const THIRD_PARTY_DEVICE_FAILURE: u16 = 0x0d01;
    pub const COPY_TARGET_DEVICE_NOT_REACHABLE: u16 = 0x0d02;
    pub const INCORRECT_COPY_TARGET_DEVICE_TYPE: u16 = 0x0d03;
    pub const INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT: u16 = 0x0e03;
    pub const LOGICAL_BLOCK_GUARD_CHECK_FAILED: u16 = 0x1001;
    pub const UNRECOVERED_READ_ERROR: u16 = 0x1100;
    pub const PARAMETER_LIST_LENGTH_ERROR: u16 = 0x1a00;
    pub const MISCOMPARE_DURING_VERIFY: u16 = 0x1d00;
    pub const INVALID_COMMAND_OPERATION_CODE: u16 = 0x2000;
    pub const ILLEGAL_COMMAND_WHEN_NOT_IN_APPEND_ONLY_MODE: u16 = 0x200c;
    pub const LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE: u16 = 0x2100;
    pub const INVALID_ELEMENT_ADDRESS: u16 = 0x2101;
    pub const INVALID_FIELD_IN_CDB: u16 = 0x2400;
    pub const LOGICAL_UNIT_NOT_SUPPORTED: u16 = 0x2500;
    pub const INVALID_FIELD_IN_PARAMETER_LIST: u16 = 0x2600;
    pub const INVALID_RELEASE_OF_PERSISTENT_RESERVATION: u16 = 0x2604;
    pub const TOO_MANY_CSCD_DESCRIPTORS: u16 = 0x2606;
    pub const UNSUPPORTED_CSCD_DESCRIPTOR_TYPE_CODE: u16 = 0x2607;
    pub const TOO_MANY_SEGMENT_DESCRIPTORS: u16 = 0x2608;
    pub const UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE: u16 = 0x2609;
    pub const UNEXPECTED_INEXACT_SEGMENT: u16 = 0x260a;
    pub const INLINE_DATA_LENGTH_EXCEEDED: u16 = 0x260b;
    pub const WRITE_PROTECTED: u16 = 0x2700;
    pub const SPACE_ALLOCATION_FAILED_WRITE_PROTECT: u16 = 0x2707;
    pub const LOGICAL_UNIT_IS_IN_PROCESS_OF_BECOMING_READY: u16 = 0x0401;
    pub const NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED: u16 = 0x2800;
    pub const IMPORT_OR_EXPORT_ELEMENT_ACCESSED: u16 = 0x2801;
    pub const POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED: u16 = 0x2900;
    pub const POWER_ON_OCCURRED: u16 = 0x2901;
    pub const BUS_DEVICE_RESET_FUNCTION_OCCURRED: u16 = 0x2903;
    pub const I_T_NEXUS_LOSS_OCCURRED: u16 = 0x2907;
    pub const MODE_PARAMETERS_CHANGED: u16 = 0x2a01;
    pub const LOG_PARAMETERS_CHANGED: u16 = 0x2a02;
    pub const RESERVATIONS_PREEMPTED: u16 = 0x2a03;
    pub const RESERVATIONS_RELEASED: u16 = 0x2a04;
    pub const REGISTRATIONS_PREEMPTED: u16 = 0x2a05;
    pub const ASYMMETRIC_ACCESS_STATE_CHANGED: u16 = 0x2a06;
    pub const CAPACITY_DATA_HAS_CHANGED: u16 = 0x2a09;
    pub const TIMESTAMP_CHANGED: u16 = 0x2a10;
    pub const DATA_ENCRYPTION_PARAMETERS_CHANGED_BY_ANOTHER_I_T_NEXUS: u16 = 0x2a11;
    pub const COMMAND_SEQUENCE_ERROR: u16 = 0x2c00;
    pub const PREVIOUS_BUSY_STATUS: u16 = 0x2c07;
    pub const PREVIOUS_TASK_SET_FULL_STATUS: u16 = 0x2c08;
    pub const PREVIOUS_RESERVATION_CONFLICT_STATUS: u16 = 0x2c09;
    pub const COMMANDS_CLEARED_BY_ANOTHER_INITIATOR: u16 = 0x2f00;
    pub const UNKNOWN_FORMAT: u16 = 0x3001;
    pub const CANNOT_READ_MEDIUM_INCOMPATIBLE_FORMAT: u16 = 0x3002;
    pub const WORM_MEDIUM_OVERWRITE_ATTEMPTED: u16 = 0x300c;
    pub const MEDIUM_FORMAT_CORRUPTED: u16 = 0x3100;
    pub const FORMAT_COMMAND_FAILED: u16 = 0x3101;
    pub const SANITIZE_COMMAND_FAILED: u16 = 0x3103;
    pub const THIN_PROVISIONING_SOFT_THRESHOLD_REACHED: u16 = 0x3807;
    pub const MEDIUM_NOT_PRESENT: u16 = 0x3a00;
    pub const MEDIUM_NOT_PRESENT_TRAY_OPEN: u16 = 0x3a02;
    pub const SEQUENTIAL_POSITIONING_ERROR: u16 = 0x3b00;
    pub const POSITION_PAST_BEGINNING_OF_MEDIUM: u16 = 0x3b0c;
    pub const MEDIUM_DESTINATION_ELEMENT_FULL: u16 = 0x3b0d;
    pub const MEDIUM_SOURCE_ELEMENT_EMPTY: u16 = 0x3b0e;
    pub const LOGICAL_UNIT_FAILED_SELF_TEST: u16 = 0x3e03;
    pub const DEVICE_IDENTIFIER_CHANGED: u16 = 0x3f05;
    pub const INQUIRY_DATA_HAS_CHANGED: u16 = 0x3f03;
    pub const REPORTED_LUNS_DATA_HAS_CHANGED: u16 = 0x3f0e;
    pub const INTERNAL_TARGET_FAILURE: u16 = 0x4400;
    pub const INVALID_MESSAGE_ERROR: u16 = 0x4900;
    pub const MEDIA_LOAD_OR_EJECT_FAILED: u16 = 0x5300;
    pub const MEDIUM_REMOVAL_PREVENTED: u16 = 0x5302;
    pub const MEDIUM_REMOVAL_PREVENTED_BY_DATA_TRANSFER_ELEMENT: u16 = 0x5303;
    pub const SYSTEM_RESOURCE_FAILURE: u16 = 0x5500;
    pub const INSUFFICIENT_RESOURCES: u16 = 0x5503;
    pub const INSUFFICIENT_REGISTRATION_RESOURCES: u16 = 0x5504;
    pub const AUXILIARY_MEMORY_OUT_OF_SPACE: u16 = 0x5506;
    pub const FAILURE_PREDICTION_THRESHOLD_EXCEEDED_FALSE: u16 = 0x5dff;
    pub const UNABLE_TO_DECRYPT_DATA: u16 = 0x7401;
    pub const UNENCRYPTED_DATA_ENCOUNTERED_WHILE_DECRYPTING: u16 = 0x7402;
    pub const INCORRECT_DATA_ENCRYPTION_KEY: u16 = 0x7403;
    pub const CRYPTOGRAPHIC_INTEGRITY_VALIDATION_FAILED: u16 = 0x7404;
}

/// What went wrong, in either format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sense {
    /// Sense key ([`key`]).
    pub key: u8,
    /// `ASC << 8 | ASCQ` ([`asc`]).
    pub code: u16,
    /// INFORMATION: an LBA, an offset or a count, as the command defines it; a signed one as two's complement.
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
    /// It is about an earlier command, which has ended with GOOD (a deferred error, SPC-5 4.4.6).
    pub deferred: bool,
    /// What only descriptor format has a place for.
    pub further: Vec<SenseDescriptor>,
}

/// A sense data descriptor that has no like in fixed format (SPC-5 4.4.2, OSD-2 4.16.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenseDescriptor {
    /// The object that an OSD command was about, and how far it came. Both are bit strings of command functions as
    /// OSD-2 numbers them: bit 0 is the lowest of the first byte.
    ObjectIdentification {
        /// NOT INITIATED COMMAND FUNCTIONS.
        not_initiated: [u8; 4],
        /// COMPLETED COMMAND FUNCTIONS.
        completed: [u8; 4],
        /// PARTITION_ID.
        partition: u64,
        /// OBJECT_ID.
        object: u64,
    },
    /// The attributes that an OSD command fails for: page and number of each.
    AttributeIdentification(SmallVec<[(u32, u32); 1]>),
    /// How far something else has come that the logical unit is about.
    AnotherProgress {
        /// The sense key that would tell of it.
        key: u8,
        /// ... with this code.
        code: u16,
        /// In 65536ths.
        progress: u16,
    },
}

impl SenseDescriptor {
    /// The bytes on the wire.
    fn encode(&self) -> EncodedSense {
        let mut bytes = EncodedSense::new();
        match self {
            Self::ObjectIdentification { not_initiated, completed, partition, object } => {
                bytes.extend([0x06, 30, 0, 0, 0, 0, 0, 0]);
                bytes.extend_from_slice(not_initiated);
                bytes.extend_from_slice(completed);
                bytes.extend(partition.to_be_bytes());
                bytes.extend(object.to_be_bytes());
            }
            Self::AttributeIdentification(attributes) => {
                let len = u8::try_from(6 + 8 * attributes.len()).unwrap_or(u8::MAX);
                bytes.extend([0x08, len, 0, 0, 0, 0, 0, 0]);
                for (page, number) in attributes {
                    bytes.extend(page.to_be_bytes());
                    bytes.extend(number.to_be_bytes());
                }
            }
            Self::AnotherProgress { key, code, progress } => {
                let ([asc, ascq], [high, low]) = (code.to_be_bytes(), progress.to_be_bytes());
                bytes.extend([0x0a, 6, *key, asc, ascq, 0, high, low]);
            }
        }
        bytes
    }
}

/// Sense data on the wire. All but the longest lies inline.
pub type EncodedSense = SmallVec<[u8; 64]>;

impl Sense {
    /// Longest encoding (SPC-5 4.4.1).
    pub const LEN_MAX: usize = 252;

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
            deferred: false,
            further: Vec::new(),
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

    /// Adds a pointer into a segment descriptor of EXTENDED COPY, to COPY ABORTED.
    #[must_use]
    pub const fn pointing_into_segment(mut self, byte: u16) -> Self {
        const SEGMENT: u8 = 0x20;
        let [high, low] = byte.to_be_bytes();
        self.specific = Some([0x80 | SEGMENT, high, low]);
        self
    }

    /// The sense key and code of sense data in either format; nothing of what is too short, or has none.
    pub fn key_and_code(bytes: &[u8]) -> Option<(u8, u16)> {
        let (key, code) = match bytes.first()? & 0x7f {
            0x70 | 0x71 => (2, 12),
            0x72 | 0x73 => (1, 2),
            _ => return None,
        };
        Some((bytes.get(key)? & 0x0f, u16::from_be_bytes([*bytes.get(code)?, *bytes.get(code + 1)?])))
    }

    /// Adds an actual retry count, to RECOVERED ERROR, MEDIUM ERROR or HARDWARE ERROR.
    #[must_use]
    pub const fn after_retries(mut self, count: u16) -> Self {
        let [high, low] = count.to_be_bytes();
        self.specific = Some([0x80, high, low]);
        self
    }

    /// Adds a progress indication, in 65536ths, to NO SENSE or NOT READY.
    #[must_use]
    pub const fn at_progress(mut self, progress: u16) -> Self {
        let [high, low] = progress.to_be_bytes();
        self.specific = Some([0x80, high, low]);
        self
    }

    /// The bytes on the wire: in descriptor format (SPC-5 4.4.2), else in fixed format (4.4.3). In fixed format
    /// INFORMATION that needs more than 32 bits, with or without a sign, is left out and VALID stays zero. In
    /// descriptor format a descriptor for which there is no room is left out, and SDAT_OVFL tells.
    pub fn encode(&self, descriptor: bool) -> EncodedSense {
        if descriptor { self.encode_descriptors() } else { self.encode_fixed() }
    }

    fn stream_bits(&self) -> u8 {
        u8::from(self.filemark) << 7 | u8::from(self.eom) << 6 | u8::from(self.ili) << 5
    }

    fn encode_fixed(&self) -> EncodedSense {
        let information = self.information.and_then(narrow);
        let [asc, ascq] = self.code.to_be_bytes();
        let mut bytes = SmallVec::new();
        let response = 0x70 | u8::from(self.deferred) | u8::from(information.is_some()) << 7;
        bytes.extend([response, 0, self.stream_bits() | self.key]);
        bytes.extend(information.unwrap_or(0).to_be_bytes());
        bytes.push(10);
        bytes.extend(self.command_specific.and_then(narrow).unwrap_or(0).to_be_bytes());
        bytes.extend([asc, ascq, 0]);
        bytes.extend(self.specific.unwrap_or_default());
        bytes
    }

    fn encode_descriptors(&self) -> EncodedSense {
        let [asc, ascq] = self.code.to_be_bytes();
        let mut bytes = SmallVec::new();
        bytes.extend([0x72 | u8::from(self.deferred), self.key, asc, ascq, 0, 0, 0, 0]);
        if let Some(information) = self.information {
            bytes.extend([0x00, 10, 0x80, 0]);
            bytes.extend(information.to_be_bytes());
        }
        if let Some(specific) = self.command_specific {
            bytes.extend([0x01, 10, 0, 0]);
            bytes.extend(specific.to_be_bytes());
        }
        if let Some([first, high, low]) = self.specific {
            bytes.extend([0x02, 6, 0, 0, first, high, low, 0]);
        }
        if self.stream_bits() != 0 {
            bytes.extend([0x04, 2, 0, self.stream_bits()]);
        }
        for descriptor in self.further.iter().map(SenseDescriptor::encode) {
            const SDAT_OVFL: u8 = 0x80;
            match bytes.len() + descriptor.len() > Self::LEN_MAX {
                true => bytes[4] = SDAT_OVFL,
                false => bytes.extend_from_slice(&descriptor),
            }
        }
        bytes[7] = (bytes.len() - 8) as u8;
        bytes
    }
}

/// A value in the 32 bits of fixed format: as it is, or as a negative number.
fn narrow(value: u64) -> Option<u32> {
    let signed = || i32::try_from(value.cast_signed()).ok().map(i32::cast_unsigned);
    u32::try_from(value).ok().or_else(signed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::scsi::{be16, be32, be64};
    use proptest::prelude::*;

    /// Reads either format back.
    fn decode(bytes: &[u8]) -> Sense {
        if matches!(bytes[0] & 0x7f, 0x70 | 0x71) {
            let mut sense = Sense::new(bytes[2] & 0xf, be16(bytes, 12));
            sense.deferred = bytes[0] & 1 != 0;
            sense.information = (bytes[0] & 0x80 != 0).then(|| be32(bytes, 3).into());
            sense.command_specific = Some(be32(bytes, 8).into()).filter(|&v| v != 0);
            sense.specific = (bytes[15] & 0x80 != 0).then(|| [bytes[15], bytes[16], bytes[17]]);
            (sense.filemark, sense.eom, sense.ili) = stream(bytes[2]);
            return sense;
        }
        assert!(matches!(bytes[0], 0x72 | 0x73));
        assert_eq!(bytes[7] as usize, bytes.len() - 8);
        let mut sense = Sense::new(bytes[1], be16(bytes, 2));
        sense.deferred = bytes[0] & 1 != 0;
        let mut at = 8;
        while at < bytes.len() {
            let d = &bytes[at..at + 2 + bytes[at + 1] as usize];
            match d[0] {
                0 => sense.information = Some(be64(d, 4)),
                1 => sense.command_specific = Some(be64(d, 4)),
                2 => sense.specific = Some([d[4], d[5], d[6]]),
                4 => (sense.filemark, sense.eom, sense.ili) = stream(d[3]),
                6 => sense.further.push(SenseDescriptor::ObjectIdentification {
                    not_initiated: d[8..12].try_into().unwrap(),
                    completed: d[12..16].try_into().unwrap(),
                    partition: be64(d, 16),
                    object: be64(d, 24),
                }),
                8 => {
                    let list = d[8..].chunks_exact(8).map(|at| (be32(at, 0), be32(at, 4))).collect();
                    sense.further.push(SenseDescriptor::AttributeIdentification(list));
                }
                10 => sense.further.push(SenseDescriptor::AnotherProgress {
                    key: d[2],
                    code: be16(d, 3),
                    progress: be16(d, 6),
                }),
                other => panic!("descriptor {other}"),
            }
            at += d.len();
        }
        sense
    }

    fn stream(bits: u8) -> (bool, bool, bool) {
        (bits & 0x80 != 0, bits & 0x40 != 0, bits & 0x20 != 0)
    }

    #[test]
    fn fixed_format() {
        let mut sense = Sense::invalid_field_in_cdb(2, Some(5));
        assert_eq!(sense.encode(false)[..], [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcd, 0, 2]);
        sense = Sense { information: Some(0x1234), ili: true, filemark: true, eom: true, ..Sense::new(0, 0) };
        assert_eq!(
            sense.encode(false)[..],
            [0xf0, 0, 0xe0, 0, 0, 0x12, 0x34, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        sense.information = Some(1 << 32);
        assert_eq!(sense.encode(false)[0], 0x70, "not VALID");
    }

    #[test]
    fn information_with_a_sign_stays_valid_in_fixed_format() {
        // A tape block that is longer than asked for: the difference is negative.
        for (value, bytes) in
            [(-6_i64, Some(-6_i32)), (i32::MIN.into(), Some(i32::MIN)), (-(1 << 31) - 1, None)]
        {
            let sense = Sense { information: Some(value.cast_unsigned()), ili: true, ..Sense::new(0, 0) };
            let fixed = sense.encode(false);
            assert_eq!((fixed[0] & 0x80 != 0).then(|| be32(&fixed, 3).cast_signed()), bytes);
            assert_eq!(be64(&sense.encode(true), 12).cast_signed(), value);
        }
    }

    #[test]
    fn descriptor_format() {
        let sense = Sense {
            information: Some(1 << 32),
            specific: Some([0x80, 0, 1]),
            eom: true,
            ..Sense::new(key::MEDIUM_ERROR, asc::UNRECOVERED_READ_ERROR)
        };
        assert_eq!(
            sense.encode(true)[..],
            [
                0x72, 3, 0x11, 0, 0, 0, 0, 24, 0, 10, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 6, 0, 0, 0x80, 0,
                1, 0, 4, 2, 0, 0x40
            ]
        );
    }

    /// OSD-2 4.16.2, and SPC-5 4.4.2.6.
    #[test]
    fn descriptors_that_fixed_format_has_not() {
        let sense = Sense {
            further: vec![
                SenseDescriptor::ObjectIdentification {
                    not_initiated: [0x80, 0, 0, 0],
                    completed: [0, 0x10, 0, 0],
                    partition: 0x1_0000,
                    object: 0x1_0001,
                },
                SenseDescriptor::AttributeIdentification(SmallVec::from_slice(&[
                    (1, 0x82),
                    (0xffff_fffe, 3),
                ])),
                SenseDescriptor::AnotherProgress { key: 2, code: 0x0409, progress: 0x1234 },
            ],
            ..Sense::illegal(asc::INVALID_FIELD_IN_CDB)
        };
        let mut wire = vec![0x72, 5, 0x24, 0, 0, 0, 0, 64];
        wire.extend([6, 0x1e, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0x10, 0, 0]);
        wire.extend([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
        wire.extend([8, 22, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x82, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 3]);
        wire.extend([10, 6, 2, 4, 9, 0, 0x12, 0x34]);
        assert_eq!(sense.encode(true)[..], wire);
        let plain = Sense { further: Vec::new(), ..sense.clone() };
        assert_eq!(sense.encode(false), plain.encode(false));
    }

    #[test]
    fn progress_and_retries_are_in_both_formats() {
        for sense in [
            Sense::new(key::NOT_READY, asc::LOGICAL_UNIT_NOT_READY_FORMAT_IN_PROGRESS).at_progress(0x8001),
            Sense::new(key::RECOVERED_ERROR, 0x1701).after_retries(0x8001),
        ] {
            assert_eq!(sense.encode(false)[15..], [0x80, 0x80, 1], "SKSV");
            assert_eq!(sense.encode(true)[8..], [2, 6, 0, 0, 0x80, 0x80, 1, 0]);
        }
    }

    #[test]
    fn what_has_no_room_is_left_out_and_told() {
        let attributes = |n| SenseDescriptor::AttributeIdentification((0..n).map(|i| (i, i)).collect());
        for (n, whole) in [(29, true), (30, false), (400, false)] {
            let progress = SenseDescriptor::AnotherProgress { key: 0, code: 0, progress: 7 };
            let sense = Sense { further: vec![attributes(n), progress], ..Sense::new(0, 0) };
            let bytes = sense.encode(true);
            assert_eq!(bytes[4], 0x80, "one of them has no room");
            let left = decode(&bytes).further;
            assert_eq!(left.len(), 1);
            assert_eq!(left[0] == sense.further[0], whole, "{n}");
        }
    }

    #[test]
    fn key_and_code_are_found_in_either_format() {
        let sense = Sense { deferred: true, ..Sense::new(key::MEDIUM_ERROR, asc::WRITE_ERROR) };
        for descriptor in [false, true] {
            let bytes = sense.encode(descriptor);
            assert_eq!(Sense::key_and_code(&bytes), Some((3, 0x0c00)));
            assert_eq!(Sense::key_and_code(&bytes[..3]), None, "too short");
        }
        assert_eq!(Sense::key_and_code(&[]), None);
        assert_eq!(Sense::key_and_code(&[0x7f; 18]), None, "of a vendor's format");
    }

    fn further() -> impl Strategy<Value = SenseDescriptor> {
        prop_oneof![
            any::<([u8; 4], [u8; 4], u64, u64)>().prop_map(
                |(not_initiated, completed, partition, object)| {
                    SenseDescriptor::ObjectIdentification { not_initiated, completed, partition, object }
                }
            ),
            prop::collection::vec(any::<(u32, u32)>(), 0..40)
                .prop_map(|list| SenseDescriptor::AttributeIdentification(list.into())),
            (0u8..16, any::<(u16, u16)>()).prop_map(|(key, (code, progress))| {
                SenseDescriptor::AnotherProgress { key, code, progress }
            }),
        ]
    }

    proptest! {
        #[test]
        fn both_formats_round_trip(
            key in 0u8..16, code: u16, information: Option<u32>, wide: Option<u64>, flags: (bool, bool, bool),
            deferred: bool, specific: Option<[u8; 2]>, further in prop::collection::vec(further(), 0..12),
        ) {
            let mut sense = Sense {
                information: information.map(u64::from),
                specific: specific.map(|[a, b]| [0x80, a, b]),
                filemark: flags.0,
                eom: flags.1,
                ili: flags.2,
                deferred,
                ..Sense::new(key, code)
            };
            prop_assert_eq!(decode(&sense.encode(false)), sense.clone());
            sense.information = wide;
            sense.command_specific = wide;
            let bytes = sense.encode(true);
            prop_assert!(!bytes.spilled());
            prop_assert_eq!(decode(&bytes), sense.clone());
            sense.further = further;
            let bytes = sense.encode(true);
            prop_assert!(bytes.len() <= Sense::LEN_MAX);
            prop_assert_eq!(Sense::key_and_code(&bytes), Some((key, code)));
            let found = decode(&bytes);
            if bytes[4] == 0 {
                prop_assert_eq!(found, sense);
            } else {
                prop_assert!(found.further.len() < sense.further.len());
                prop_assert!(found.further.iter().all(|descriptor| sense.further.contains(descriptor)));
            }
        }
    }
}
