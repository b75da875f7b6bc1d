// SPDX-License-Identifier: GPL-2.0-or-later
//! Headers of all kinds: where the RFC puts each field, and any bytes.

use std::collections::HashSet;
use std::fmt::Debug;

use proptest::prelude::*;

use super::rewrite::rewrite;
use super::*;

const LUN: u64 = 0x0102_0304_0506_0708;
const ITT: u32 = 0x1112_1314;
const TTT: u32 = 0x2122_2324;
const REQUEST: RequestNumbers = RequestNumbers { cmd_sn: 0x3132_3334, exp_stat_sn: 0x4142_4344 };
const RESPONSE: ResponseNumbers =
    ResponseNumbers { stat_sn: 0x3132_3334, exp_cmd_sn: 0x4142_4344, max_cmd_sn: 0x5152_5354 };

fn bytes(hex: &str) -> [u8; 48] {
    let digits: Vec<_> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    let bytes: Vec<_> = digits.as_chunks().0.iter().map(|[high, low]| (high << 4 | low) as u8).collect();
    bytes.try_into().expect("48 bytes")
}

/// That a header has these bytes, and these alone.
fn golden<H: PduHeader + Debug + PartialEq>(header: &H, hex: &str) -> Opcode {
    let bytes = bytes(hex);
    assert_eq!(header.emit().bytes(), &bytes, "{header:x?}");
    assert_eq!(&H::parse(&Bhs::from(bytes)), header);
    // What is in no field is left alone, the lengths among that.
    let mut over = Bhs::from([0xff; 48]);
    header.emit_over(&mut over);
    assert_eq!((over.ahs_len(), over.data_len()), (0xff * 4, 0xff_ffff));
    over.0[0] = over.0[0] & 0x40 | H::OPCODE.raw();
    assert_eq!(&H::parse(&over), header);
    H::OPCODE
}

#[test]
fn fields_are_where_the_rfc_puts_them() {
    let kinds = [
        // 11.18
        golden(
            &NopOutHeader { immediate: true, lun: LUN, itt: ITT, ttt: TTT, numbers: REQUEST },
            "40800000 00000000 0102030405060708 11121314 21222324 31323334 41424344
             00000000 00000000 00000000 00000000",
        ),
        // 11.3
        golden(
            &ScsiCommandHeader {
                immediate: true,
                flags: ScsiCommandFlags::FINAL
                    .with(ScsiCommandFlags::WRITE)
                    .with_attribute(IscsiTaskAttribute::ACA),
                lun: LUN,
                itt: ITT,
                expected_len: TTT,
                numbers: REQUEST,
                cdb: *b"sixteen bytes...",
            },
            "41a40000 00000000 0102030405060708 11121314 21222324 31323334 41424344
             73697874 65656e20 62797465 732e2e2e",
        ),
        // 11.5
        golden(
            &TaskManagementRequestHeader {
                immediate: true,
                function: IscsiFunction::new(0x47),
                lun: LUN,
                itt: ITT,
                referenced_task_tag: TTT,
                numbers: REQUEST,
                ref_cmd_sn: 0x5152_5354,
                exp_data_sn: 0x6162_6364,
            },
            "42c70000 00000000 0102030405060708 11121314 21222324 31323334 41424344
             51525354 61626364 00000000 00000000",
        ),
        // 11.12
        golden(
            &LoginRequestHeader {
                immediate: true,
                transit: true,
                continues: false,
                stage: LoginStage::OPERATIONAL,
                next_stage: LoginStage::FULL_FEATURE,
                version_max: 0xa1,
                version_min: 0xa2,
                isid: [1, 2, 3, 4, 5, 6],
                tsih: 0x0708,
                itt: ITT,
                cid: 0x2122,
                numbers: REQUEST,
            },
            "4387a1a2 00000000 0102030405060708 11121314 21220000 31323334 41424344
             00000000 00000000 00000000 00000000",
        ),
        // 11.10
        golden(
            &TextRequestHeader {
                immediate: true,
                is_final: false,
                continues: true,
                lun: LUN,
                itt: ITT,
                ttt: TTT,
                numbers: REQUEST,
            },
            "44400000 00000000 0102030405060708 11121314 21222324 31323334 41424344
             00000000 00000000 00000000 00000000",
        ),
        // 11.7
        golden(
            &DataOutHeader {
                is_final: true,
                lun: LUN,
                itt: ITT,
                ttt: TTT,
                exp_stat_sn: 0x4142_4344,
                data_sn: 0x6162_6364,
                buffer_offset: 0x7172_7374,
            },
            "05800000 00000000 0102030405060708 11121314 21222324 00000000 41424344
             00000000 61626364 71727374 00000000",
        ),
        // 11.14
        golden(
            &LogoutRequestHeader {
                immediate: true,
                reason: LogoutReason::new(0x42),
                itt: ITT,
                cid: 0x2122,
                numbers: REQUEST,
            },
            "46c20000 00000000 0000000000000000 11121314 21220000 31323334 41424344
             00000000 00000000 00000000 00000000",
        ),
        // 11.16
        golden(
            &SnackRequestHeader {
                snack_type: SnackType::new(0x0b),
                lun: LUN,
                itt: ITT,
                ttt: TTT,
                exp_stat_sn: 0x4142_4344,
                beg_run: 0x7172_7374,
                run_length: 0x8182_8384,
            },
            "108b0000 00000000 0102030405060708 11121314 21222324 00000000 41424344
             00000000 00000000 71727374 81828384",
        ),
        // 11.19
        golden(
            &NopInHeader { lun: LUN, itt: ITT, ttt: TTT, numbers: RESPONSE },
            "20800000 00000000 0102030405060708 11121314 21222324 31323334 41424344
             51525354 00000000 00000000 00000000",
        ),
        // 11.4
        golden(
            &ScsiResponseHeader {
                bidi_overflow: true,
                bidi_underflow: false,
                overflow: false,
                underflow: true,
                response: ServiceResponse::TARGET_FAILURE,
                status: 0x28,
                itt: ITT,
                snack_tag: TTT,
                numbers: RESPONSE,
                exp_data_sn: 0x6162_6364,
                bidi_residual_count: 0x7172_7374,
                residual_count: 0x8182_8384,
            },
            "21920128 00000000 0000000000000000 11121314 21222324 31323334 41424344
             51525354 61626364 71727374 81828384",
        ),
        // 11.6
        golden(
            &TaskManagementResponseHeader {
                response: FunctionResponse::REJECTED,
                itt: ITT,
                numbers: RESPONSE,
            },
            "2280ff00 00000000 0000000000000000 11121314 00000000 31323334 41424344
             51525354 00000000 00000000 00000000",
        ),
        // 11.13
        golden(
            &LoginResponseHeader {
                transit: false,
                continues: true,
                stage: LoginStage::FULL_FEATURE,
                next_stage: LoginStage::OPERATIONAL,
                version_max: 0xa1,
                version_active: 0xa2,
                isid: [1, 2, 3, 4, 5, 6],
                tsih: 0x0708,
                itt: ITT,
                numbers: RESPONSE,
                status: 0x6162,
            },
            "234da1a2 00000000 0102030405060708 11121314 00000000 31323334 41424344
             51525354 61620000 00000000 00000000",
        ),
        // 11.11
        golden(
            &TextResponseHeader {
                is_final: true,
                continues: false,
                lun: LUN,
                itt: ITT,
                ttt: TTT,
                numbers: RESPONSE,
            },
            "24800000 00000000 0102030405060708 11121314 21222324 31323334 41424344
             51525354 00000000 00000000 00000000",
        ),
        // 11.7
        golden(
            &DataInHeader {
                is_final: true,
                acknowledge: false,
                overflow: true,
                underflow: false,
                has_status: true,
                status: 0x28,
                lun: LUN,
                itt: ITT,
                ttt: TTT,
                numbers: RESPONSE,
                data_sn: 0x6162_6364,
                buffer_offset: 0x7172_7374,
                residual_count: 0x8182_8384,
            },
            "25850028 00000000 0102030405060708 11121314 21222324 31323334 41424344
             51525354 61626364 71727374 81828384",
        ),
        // 11.15
        golden(
            &LogoutResponseHeader {
                response: LogoutResponse::CLEANUP_FAILED,
                itt: ITT,
                numbers: RESPONSE,
                time2wait: 0x7172,
                time2retain: 0x7374,
            },
            "26800300 00000000 0000000000000000 11121314 00000000 31323334 41424344
             51525354 00000000 71727374 00000000",
        ),
        // 11.8
        golden(
            &R2tHeader {
                lun: LUN,
                itt: ITT,
                ttt: TTT,
                numbers: RESPONSE,
                r2t_sn: 0x6162_6364,
                buffer_offset: 0x7172_7374,
                desired_len: 0x8182_8384,
            },
            "31800000 00000000 0102030405060708 11121314 21222324 31323334 41424344
             51525354 61626364 71727374 81828384",
        ),
        // 11.9
        golden(
            &AsyncHeader {
                lun: LUN,
                numbers: RESPONSE,
                event: AsyncEvent::VENDOR,
                vendor_code: 0x62,
                parameter1: 0x6364,
                parameter2: 0x7172,
                parameter3: 0x7374,
            },
            "32800000 00000000 0102030405060708 ffffffff 00000000 31323334 41424344
             51525354 ff626364 71727374 00000000",
        ),
        // 11.17
        golden(
            &RejectHeader {
                reason: RejectReason::INVALID_PDU_FIELD,
                numbers: RESPONSE,
                data_sn: 0x6162_6364,
            },
            "3f800900 00000000 0000000000000000 ffffffff 00000000 31323334 41424344
             51525354 61626364 00000000 00000000",
        ),
    ];
    assert_eq!(kinds.iter().map(|kind| kind.raw()).collect::<HashSet<_>>().len(), 18, "each kind once");
}

/// Those flags that were not set above are set, and the others are not.
#[test]
fn flags_are_apart() {
    let none = Bhs::from(bytes(&format!("01{}", "0".repeat(94))));
    let flags = |byte: u8| {
        let mut bhs = none;
        bhs.0[1] = byte;
        let flags = ScsiCommandHeader::parse(&bhs).flags;
        assert_eq!(flags.attribute(), IscsiTaskAttribute::UNTAGGED);
        [ScsiCommandFlags::FINAL, ScsiCommandFlags::READ, ScsiCommandFlags::WRITE].map(|f| flags.contains(f))
    };
    let one = |at: usize| std::array::from_fn(|flag| flag == at);
    assert_eq!([0x80, 0x40, 0x20].map(flags), [0, 1, 2].map(one));
    let flags = |byte: u8| {
        let mut bhs = none;
        (bhs.0[0], bhs.0[1]) = (0x21, byte);
        let r = ScsiResponseHeader::parse(&bhs);
        [r.bidi_overflow, r.bidi_underflow, r.overflow, r.underflow]
    };
    let one = |at: usize| std::array::from_fn(|flag| flag == at);
    assert_eq!([0x10, 0x08, 0x04, 0x02].map(flags), [0, 1, 2, 3].map(one));
    let flags = |byte: u8| {
        let mut bhs = none;
        (bhs.0[0], bhs.0[1]) = (0x25, byte);
        let d = DataInHeader::parse(&bhs);
        [d.is_final, d.acknowledge, d.overflow, d.underflow, d.has_status]
    };
    let one = |at: usize| std::array::from_fn(|flag| flag == at);
    assert_eq!([0x80, 0x40, 0x04, 0x02, 0x01].map(flags), [0, 1, 2, 3, 4].map(one));
    let flags = |opcode: u8, byte: u8| {
        let mut bhs = none;
        (bhs.0[0], bhs.0[1]) = (opcode, byte);
        match opcode {
            0x03 => [LoginRequestHeader::parse(&bhs).transit, LoginRequestHeader::parse(&bhs).continues],
            0x23 => [LoginResponseHeader::parse(&bhs).transit, LoginResponseHeader::parse(&bhs).continues],
            0x04 => [TextRequestHeader::parse(&bhs).is_final, TextRequestHeader::parse(&bhs).continues],
            _ => [TextResponseHeader::parse(&bhs).is_final, TextResponseHeader::parse(&bhs).continues],
        }
    };
    for opcode in [0x03, 0x23, 0x04, 0x24] {
        assert_eq!([0x80, 0x40].map(|byte| flags(opcode, byte)), [[true, false], [false, true]]);
    }
}

#[test]
fn codes_are_those_of_the_rfc() {
    use {
        AsyncEvent as E, FunctionResponse as R, IscsiFunction as F, IscsiTaskAttribute as A,
        RejectReason as J,
    };
    let attributes = [A::UNTAGGED, A::SIMPLE, A::ORDERED, A::HEAD_OF_QUEUE, A::ACA];
    assert_eq!(attributes.map(A::raw), [0, 1, 2, 3, 4]);
    let functions =
        [F::ABORT_TASK, F::ABORT_TASK_SET, F::CLEAR_ACA, F::CLEAR_TASK_SET, F::LOGICAL_UNIT_RESET];
    assert_eq!(functions.map(F::raw), [1, 2, 3, 4, 5]);
    let functions = [F::TARGET_WARM_RESET, F::TARGET_COLD_RESET, F::TASK_REASSIGN];
    assert_eq!(functions.map(F::raw), [6, 7, 8]);
    let responses = [R::COMPLETE, R::NO_SUCH_TASK, R::NO_SUCH_LUN, R::STILL_ALLEGIANT, R::NO_REASSIGN];
    assert_eq!(responses.map(R::raw), [0, 1, 2, 3, 4]);
    let responses = [R::NOT_SUPPORTED, R::AUTHORIZATION_FAILED, R::REJECTED];
    assert_eq!(responses.map(R::raw), [5, 6, 255]);
    let events = [E::SCSI_EVENT, E::LOGOUT_REQUESTED, E::CONNECTION_DROPPED, E::SESSION_DROPPED];
    assert_eq!(events.map(E::raw), [0, 1, 2, 3]);
    assert_eq!([E::NEGOTIATION_REQUESTED, E::TASKS_TERMINATED, E::VENDOR].map(E::raw), [4, 5, 255]);
    let reasons = [J::DATA_DIGEST_ERROR, J::SNACK_REJECT, J::PROTOCOL_ERROR, J::COMMAND_NOT_SUPPORTED];
    assert_eq!(reasons.map(J::raw), [2, 3, 4, 5]);
    let reasons = [J::TOO_MANY_IMMEDIATE, J::TASK_IN_PROGRESS, J::INVALID_DATA_ACK, J::INVALID_PDU_FIELD];
    assert_eq!(reasons.map(J::raw), [6, 7, 8, 9]);
    let reasons = [J::OUT_OF_RESOURCES, J::NEGOTIATION_RESET, J::WAITING_FOR_LOGOUT];
    assert_eq!(reasons.map(J::raw), [10, 11, 12]);
    let stages = [LoginStage::SECURITY, LoginStage::OPERATIONAL, LoginStage::FULL_FEATURE];
    assert_eq!(stages.map(LoginStage::raw), [0, 1, 3]);
    let reasons = [LogoutReason::CLOSE_SESSION, LogoutReason::CLOSE_CONNECTION, LogoutReason::RECOVERY];
    assert_eq!(reasons.map(LogoutReason::raw), [0, 1, 2]);
    let responses = [LogoutResponse::CLOSED, LogoutResponse::NO_SUCH_CONNECTION, LogoutResponse::NO_RECOVERY];
    assert_eq!(responses.map(LogoutResponse::raw), [0, 1, 2]);
    let types = [SnackType::DATA_OR_R2T, SnackType::STATUS, SnackType::DATA_ACK, SnackType::R_DATA];
    assert_eq!(types.map(SnackType::raw), [0, 1, 2, 3]);
    assert_eq!(ServiceResponse::COMPLETED_AT_TARGET.raw(), 0);
}

#[test]
fn stages_are_apart() {
    let stages = |opcode: u8, byte: u8| {
        let mut bhs = Bhs::from([0; 48]);
        (bhs.0[0], bhs.0[1]) = (opcode, byte);
        let (stage, next) = match opcode {
            0x03 => {
                let login = LoginRequestHeader::parse(&bhs);
                (login.stage, login.next_stage)
            }
            _ => {
                let login = LoginResponseHeader::parse(&bhs);
                (login.stage, login.next_stage)
            }
        };
        (stage.raw(), next.raw())
    };
    for opcode in [0x03, 0x23] {
        let each = [0x08, 0x04, 0x02, 0x01].map(|byte| stages(opcode, byte));
        assert_eq!(each, [(2, 0), (1, 0), (0, 2), (0, 1)], "{opcode:#x}");
    }
}

#[test]
fn what_all_pdus_have_is_where_the_rfc_puts_it() {
    let mut bhs = Bhs::from(bytes(
        "41810000 00000000 0000000000000000 11121314 00000000 31323334 41424344 51525354
             00000000 00000000 00000000",
    ));
    assert!(bhs.is_immediate());
    assert_eq!((bhs.opcode(), bhs.itt()), (Opcode::SCSI_COMMAND, ITT));
    assert_eq!((bhs.request_numbers(), bhs.response_numbers()), (REQUEST, RESPONSE));
    bhs.set_ahs_len(12);
    bhs.set_data_len(0x0001_0203);
    bhs.set_response_numbers(ResponseNumbers { stat_sn: 1, exp_cmd_sn: 2, max_cmd_sn: 3 });
    let changed = "41810000 03010203 0000000000000000 11121314 00000000 00000001 00000002 00000003
        00000000 00000000 00000000";
    assert_eq!(bhs.bytes(), &bytes(changed));
    assert_eq!((bhs.ahs_len(), bhs.data_len()), (12, 0x0001_0203));
}

proptest! {
    #[test]
    fn any_header_reads_as_it_is_written(mut header: [u8; 48], kind in 0..64_u8) {
        header[0] = header[0] & 0xc0 | kind;
        rewrite(&header);
    }
}
