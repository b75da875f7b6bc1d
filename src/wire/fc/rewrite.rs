// SPDX-License-Identifier: GPL-2.0-or-later
//! What holds for any bytes: nothing panics, and what was read is written so that it reads the same. For tests and the
//! fuzz target.

use super::{
    Body, CtAccept, CtCommand, ETHERTYPE_FCOE, ETHERTYPE_FIP, ElsCode, ElsReply, Emit, FcCrc, FcoeFrame,
    FcoePacket, FipFrame, Parse,
};

/// The bytes of it, all of which it must have written, and none behind them.
pub(crate) fn written(what: &dyn Emit) -> Vec<u8> {
    let len = what.buffer_len();
    let [zeros, ones] = [0, 0xff].map(|byte| {
        let mut out = vec![byte; len + 8];
        what.emit(&mut out);
        assert!(out[len..].iter().all(|&behind| behind == byte), "more is written than there is");
        out.truncate(len);
        out
    });
    assert_eq!(zeros, ones, "a byte that is not written");
    zeros
}

/// Reads bytes in one way, and what was written of that again.
macro_rules! again {
    ($bytes:expr, $parse:expr) => {
        if let Ok(read) = $parse($bytes) {
            let bytes = written(&read);
            assert_eq!($parse(&bytes).as_ref(), Ok(&read), "{bytes:02x?}");
        }
    };
}

/// Takes the bytes of an Ethernet frame from its ethertype on. The CRC of an FCoE frame is put right, so that what it
/// covers is looked at.
pub(crate) fn rewrite(bytes: &[u8]) {
    let Some((ethertype, rest)) = bytes.split_first_chunk() else { return };
    match u16::from_be_bytes(*ethertype) {
        ETHERTYPE_FIP => again!(rest, FipFrame::parse),
        ETHERTYPE_FCOE => fcoe(rest),
        _ => {}
    }
}

fn fcoe(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let Ok(packet) = FcoePacket::new(&bytes) else { return };
    let (crc, at) = (FcCrc::of(packet.covered()).wire(), bytes.len() - 8);
    bytes[at..at + 4].copy_from_slice(&crc);
    again!(&bytes, FcoeFrame::parse);
    let Ok(frame) = FcoeFrame::parse(&bytes) else { return };
    let Ok(data) = frame.data() else { return };
    again!(data, |data| Body::parse(&frame.header, data));
    match Body::parse(&frame.header, data) {
        Ok(Body::ElsReply(payload) | Body::Fc4Reply(payload)) => {
            for code in (0..=u8::MAX).map(ElsCode::new) {
                again!(payload, |payload| ElsReply::parse(code, payload));
            }
        }
        Ok(Body::CtReply(_, rest)) => {
            for command in (0..=0x300).map(CtCommand::new) {
                again!(rest, |rest| CtAccept::parse(command, rest));
            }
        }
        _ => {}
    }
}
