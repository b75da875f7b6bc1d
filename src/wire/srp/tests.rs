// SPDX-License-Identifier: GPL-2.0-or-later
//! Information units: where Linux's `srp.h` has each field, and any bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::rewrite::written;

const TAG: u64 = 0x0102_0304_0506_0708;
const LUN: u64 = 0x1112_1314_1516_1718;

/// That an information unit has these bytes: rows of hexadecimal digits, each behind the offset where it begins.
fn golden(unit: &SrpIu<'_>, rows: &[(usize, &str)]) {
    let mut bytes = Vec::new();
    for (at, row) in rows {
        assert!(bytes.len() <= *at);
        bytes.resize(*at, 0);
        let digits: Vec<_> = row.chars().filter_map(|c| c.to_digit(16)).collect();
        bytes.extend(digits.as_chunks().0.iter().map(|[high, low]| (high << 4 | low) as u8));
    }
    bytes.resize(unit.buffer_len().max(bytes.len()), 0);
    assert_eq!(written(unit), bytes, "{unit:x?}");
    assert_eq!(SrpIu::parse(&bytes).as_ref(), Ok(unit));
    for len in 0..bytes.len() {
        assert!(SrpIu::parse(&bytes[..len]).is_err(), "{unit:x?} of {len} bytes");
    }
}

fn ports() -> [SrpPortId; 2] {
    [0x40, 0x60].map(|first| SrpPortId(std::array::from_fn(|at| first + at as u8)))
}

#[test]
fn logins_are_as_others_have_them() {
    let [initiator_port_id, target_port_id] = ports();
    let request = SrpLoginReq {
        tag: TAG,
        req_it_iu_len: 0x2122_2324,
        req_buf_fmt: SrpBufferFormats::DIRECT.with(SrpBufferFormats::INDIRECT),
        flags: SrpLoginFlags::MULTI_CHANNEL,
        imm_data_offset: 0x3132,
        initiator_port_id,
        target_port_id,
    };
    let rows = [
        (0, "00"),
        (8, "0102030405060708 21222324"),
        (24, "0006 01 00 3132"),
        (32, "404142434445464748494a4b4c4d4e4f 606162636465666768696a6b6c6d6e6f"),
    ];
    golden(&SrpIu::LoginReq(request), &rows);
    let response = SrpLoginRsp {
        req_lim_delta: 0x0a0b_0c0d,
        tag: TAG,
        max_it_iu_len: 0x2122_2324,
        max_ti_iu_len: 0x3132_3334,
        buf_fmt: SrpBufferFormats::INDIRECT,
        flags: SrpLoginRspFlags::CHANNELS_MAINTAINED,
    };
    let rows = [(0, "c0000000 0a0b0c0d 0102030405060708 21222324 31323334 0004 02"), (27, &"00".repeat(25))];
    golden(&SrpIu::LoginRsp(response), &rows);
    let reason = SrpLoginRejReason::CHANNEL_LIMIT_REACHED;
    let reject = SrpLoginRej { reason, tag: TAG, buf_fmt: SrpBufferFormats::DIRECT };
    golden(&SrpIu::LoginRej(reject), &[(0, "c2000000 00010006 0102030405060708"), (24, "0002 000000000000")]);
}

#[test]
fn short_units_are_as_others_have_them() {
    let tag_only = SrpTagOnly { tag: TAG };
    golden(&SrpIu::ILogout(tag_only), &[(0, "0300000000000000 0102030405060708")]);
    golden(&SrpIu::CredRsp(tag_only), &[(0, "4100000000000000 0102030405060708")]);
    golden(&SrpIu::AerRsp(tag_only), &[(0, "4200000000000000 0102030405060708")]);
    let logout = SrpTLogout { solicited_notification: 1, reason: 0x2122_2324, tag: TAG };
    golden(&SrpIu::TLogout(logout), &[(0, "80010000 21222324 0102030405060708")]);
    let credit = SrpCredReq { solicited_notification: 1, req_lim_delta: 0xffff_fffe, tag: TAG };
    golden(&SrpIu::CredReq(credit), &[(0, "81010000 fffffffe 0102030405060708")]);
    let function = SrpTskMgmt {
        solicited_notification: 1,
        tag: TAG,
        lun: LUN,
        function: SrpTaskManagementFunction::LOGICAL_UNIT_RESET,
        task_tag: 0x2122_2324_2526_2728,
    };
    let rows = [
        (0, "0101000000000000 0102030405060708"),
        (20, "1112131415161718 0000 08 00 2122232425262728 0000000000000000"),
    ];
    golden(&SrpIu::TskMgmt(function), &rows);
}

fn descriptor(first: u8) -> SrpDirectDescriptor {
    SrpDirectDescriptor::parse(&std::array::from_fn::<u8, 16, _>(|at| first + at as u8)).expect("16 bytes")
}

#[test]
fn commands_are_as_others_have_them() {
    let list: Vec<u8> = (0x80..0xa0).collect();
    let command = SrpCmd {
        solicited_notification: 1,
        tag: TAG,
        lun: LUN,
        attribute: SrpTaskAttribute::ORDERED,
        cdb: *b"sixteen bytes...",
        additional_cdb: AdditionalCdb::new(b"more").expect("a word"),
        data_out: SrpDataBuffer::Direct(descriptor(0x20)),
        data_in: SrpDataBuffer::Indirect {
            table: descriptor(0x40),
            len: 0x5152_5354,
            list: SrpDescriptors::new(&list).expect("two of them"),
        },
    };
    let head = [
        (0, "0201000000 12 00 02 0102030405060708"),
        (20, "1112131415161718 00 02 00 04 7369787465656e2062797465732e2e2e"),
        (48, "6d6f7265"),
        (52, "202122232425262728292a2b2c2d2e2f"),
        (68, "404142434445464748494a4b4c4d4e4f 51525354"),
        (88, "808182838485868788898a8b8c8d8e8f 909192939495969798999a9b9c9d9e9f"),
    ];
    golden(&SrpIu::Cmd(command), &head);
    let SrpDataBuffer::Indirect { list, .. } = command.data_in else { panic!("it is one") };
    assert!(list.iter().eq([descriptor(0x80), descriptor(0x90)]));
    assert_eq!(descriptor(0x20).len, 0x2c2d_2e2f);
    assert_eq!(
        (descriptor(0x20).virtual_address, descriptor(0x20).memory_handle),
        (0x2021_2223_2425_2627, 0x2829_2a2b)
    );
    let plain = SrpCmd {
        additional_cdb: AdditionalCdb::default(),
        data_out: SrpDataBuffer::Immediate(0x5152_5354),
        data_in: SrpDataBuffer::None,
        ..command
    };
    let rows = [
        (0, "0201000000 30 00 00 0102030405060708"),
        (20, "1112131415161718 00 02 00 00 7369787465656e2062797465732e2e2e 51525354"),
    ];
    golden(&SrpIu::Cmd(plain), &rows);
    let (data_out, data_in) = (command.data_in, command.data_out);
    let swapped = SrpIu::Cmd(SrpCmd { attribute: SrpTaskAttribute::ACA, data_out, data_in, ..command });
    let bytes = written(&swapped);
    assert_eq!((&bytes[5..8], bytes[29], SrpIu::parse(&bytes)), (&[0x21, 2, 0][..], 4, Ok(swapped)));
    for format in [0x40, 0x80, 0x04, 0x08] {
        let mut unknown = written(&SrpIu::Cmd(plain));
        unknown[5] = format;
        assert!(SrpIu::parse(&unknown).is_err(), "{format:#x}: a format that there is not");
    }
}

#[test]
fn ends_and_events_are_as_others_have_them() {
    let head = SrpRspHead {
        solicited_notification: 1,
        req_lim_delta: 0x0a0b_0c0d,
        tag: TAG,
        flags: SrpRspFlags::DATA_OUT_UNDER.with(SrpRspFlags::DATA_IN_OVER),
        status: 0x28,
        data_out_residual: 0x2122_2324,
        data_in_residual: 0x3132_3334,
        sense_len: 0,
        response_len: 0,
    };
    let fixed = "c1010000 0a0b0c0d 0102030405060708 0000";
    golden(
        &SrpIu::Rsp(SrpRsp::new(head, &[], &[])),
        &[(0, fixed), (18, "18 28 21222324 31323334 0000000000000000")],
    );
    let both = SrpRsp::new(head, &[0, 0, 0, 5], &[0x70, 0, 6]);
    golden(
        &SrpIu::Rsp(both),
        &[(0, fixed), (18, "1b 28 21222324 31323334 00000003 00000004 00000005 700006")],
    );
    let sense = SrpRsp::new(head, &[], &[0x70, 0, 6]);
    golden(&SrpIu::Rsp(sense), &[(0, fixed), (18, "1a 28 21222324 31323334 00000003 00000000 700006")]);
    let (solicited_notification, req_lim_delta) = (1, 0x0a0b_0c0d);
    let event = SrpAerReq { solicited_notification, req_lim_delta, tag: TAG, lun: LUN, sense: &[0x70, 0, 6] };
    let rows = [(0, "82010000 0a0b0c0d 0102030405060708"), (20, "1112131415161718 00000003 00000000 700006")];
    golden(&SrpIu::AerReq(event), &rows);
}

#[test]
fn codes_are_those_of_others() {
    use {
        SrpLoginRejReason as J, SrpLoginRspFlags as L, SrpRspFlags as R, SrpTaskAttribute as A,
        SrpTaskManagementFunction as F,
    };
    let attributes = [A::SIMPLE, A::HEAD_OF_QUEUE, A::ORDERED, A::ACA];
    assert_eq!(attributes.map(A::raw), [0, 1, 2, 4]);
    let functions =
        [F::ABORT_TASK, F::ABORT_TASK_SET, F::CLEAR_TASK_SET, F::LOGICAL_UNIT_RESET, F::CLEAR_ACA];
    assert_eq!(functions.map(F::raw), [0x01, 0x02, 0x04, 0x08, 0x40]);
    let reasons = [
        J::UNABLE_ESTABLISH_CHANNEL,
        J::INSUFFICIENT_RESOURCES,
        J::REQ_IT_IU_LENGTH_TOO_LARGE,
        J::UNABLE_ASSOCIATE_CHANNEL,
        J::UNSUPPORTED_DESCRIPTOR_FMT,
        J::MULTI_CHANNEL_UNSUPPORTED,
        J::CHANNEL_LIMIT_REACHED,
    ];
    assert_eq!(reasons.map(J::raw), [0, 1, 2, 3, 4, 5, 6].map(|last| 0x0001_0000 + last));
    assert_eq!([SrpBufferFormats::DIRECT, SrpBufferFormats::INDIRECT].map(SrpBufferFormats::raw), [2, 4]);
    let flags = [SrpLoginFlags::MULTI_CHANNEL, SrpLoginFlags::IMMEDIATE_DATA];
    assert_eq!(flags.map(SrpLoginFlags::raw), [0x01, 0x80]);
    let flags = [L::CHANNELS_TERMINATED, L::CHANNELS_MAINTAINED, L::IMMEDIATE_DATA];
    assert_eq!(flags.map(L::raw), [0x01, 0x02, 0x80]);
    let flags =
        [R::RESPONSE, R::SENSE, R::DATA_OUT_OVER, R::DATA_OUT_UNDER, R::DATA_IN_OVER, R::DATA_IN_UNDER];
    assert_eq!(flags.map(R::raw), [0x01, 0x02, 0x04, 0x08, 0x10, 0x20]);
}

#[test]
fn lengths_that_are_not_kept_are_no_lengths() {
    let mut bytes = [0; 36];
    (bytes[0], bytes[18]) = (0xc1, 0x03);
    for (at, len) in [(28, u32::MAX), (32, u32::MAX), (28, 1), (32, 1)] {
        let mut bytes = bytes;
        bytes[at..at + 4].copy_from_slice(&len.to_be_bytes());
        assert!(SrpIu::parse(&bytes).is_err(), "{len} at {at}");
    }
    let mut event = [0; 36];
    event[0] = 0x82;
    event[28..32].copy_from_slice(&[0xff; 4]);
    assert!(SrpIu::parse(&event).is_err());
}

proptest! {
    #[test]
    fn any_bytes_read_as_they_are_written(
        mut bytes in vec(any::<u8>(), 1..300),
        opcode in proptest::sample::select(vec![0_u8, 1, 2, 3, 0x41, 0x42, 0x80, 0x81, 0x82, 0xc0, 0xc1, 0xc2, 0xff]),
        short in any::<bool>(),
    ) {
        bytes[0] = opcode;
        if short && let Some(lens) = bytes.get_mut(28..36) {
            // Lengths that may fit.
            lens.copy_from_slice(&[0, 0, 0, lens[3] & 0x1f, 0, 0, 0, lens[7] & 0x1f]);
        }
        rewrite(&bytes);
    }
}
