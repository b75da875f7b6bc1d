// SPDX-License-Identifier: GPL-2.0-or-later
//! FCoE and FIP frames of any bytes, for tests and the fuzz target.

use super::{
    Body, CtAccept, CtCommand, ETHERTYPE_FCOE, ETHERTYPE_FIP, ElsCode, ElsReply, FcCrc, FcoeFrame,
    FcoePacket, FipFrame, Parse,
};
use crate::wire::rewrite::again;

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
