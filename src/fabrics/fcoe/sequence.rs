// SPDX-License-Identifier: GPL-2.0-or-later
//! Frames of sequences, made in memory that the port can send. Their data is copied there, because the CRC is that of
//! what is sent, and what is lent may change meanwhile.

use crate::memory::{Arena, Seg, Sg};
use crate::wire::fc::{Emit, Eof, FCtl, FcCrc, FcHeader, FcoeFrame, FcoePacket, Sof};

/// Bytes before the CRC's: version, reserved, SOF.
const UNCOVERED: usize = 14;

const fn delimiters(header: &FcHeader) -> (Sof, Eof) {
    let sof = if header.seq_cnt == 0 { Sof::SOF_I3 } else { Sof::SOF_N3 };
    let eof = if header.f_ctl.contains(FCtl::END_SEQUENCE) { Eof::EOF_T } else { Eof::EOF_N };
    (sof, eof)
}

/// A frame with the first bytes of `data`, and its header with what was filled up.
pub(super) fn data_frame(arena: &Arena, header: FcHeader, data: &Sg, len: usize) -> Option<(FcHeader, Seg)> {
    let fill = len.next_multiple_of(4) - len;
    let header = FcHeader { f_ctl: header.f_ctl.with_fill(fill), ..header };
    let (sof, eof) = delimiters(&header);
    let mut block = arena.alloc(FcoePacket::OVERHEAD + len + fill)?;
    let (prefix, end) = (UNCOVERED + FcHeader::LEN, UNCOVERED + FcHeader::LEN + len + fill);
    let out = block.bytes_mut();
    out[..prefix].copy_from_slice(&FcoeFrame { sof, header, payload: &[], eof }.prefix());
    data.copy_to(0, &mut out[prefix..prefix + len]);
    out[prefix + len..end].fill(0);
    let crc = FcCrc::of(&out[UNCOVERED..end]).wire();
    out[end..].copy_from_slice(&FcoeFrame::trailer(crc, eof));
    Some((header, block.freeze()))
}

/// A frame with an information unit that is all of its sequence, and whole words.
pub(super) fn unit_frame(arena: &Arena, header: FcHeader, unit: &dyn Emit) -> Option<Seg> {
    let mut payload = [0; 512];
    let payload = &mut payload[..unit.buffer_len().next_multiple_of(4)];
    unit.emit(payload);
    let fill = payload.len() - unit.buffer_len();
    let header = FcHeader { f_ctl: header.f_ctl.with_fill(fill), ..header };
    let (sof, eof) = delimiters(&header);
    let frame = FcoeFrame { sof, header, payload, eof };
    let mut block = arena.alloc_reserved(frame.buffer_len())?;
    frame.emit(block.bytes_mut());
    Some(block.freeze())
}
