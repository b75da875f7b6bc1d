// SPDX-License-Identifier: GPL-2.0-or-later
//! The vnet header before each frame of a TAP device or a packet socket (struct virtio_net_hdr, virtio 1.0 legacy
//! layout, native byte order).

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

use smallvec::SmallVec;

use crate::net::{FrameCaps, RxChecksum, RxFrame, TxFrame, finish_in_software};
use crate::sys;

/// Its length.
pub(super) const VNET: usize = 10;

/// Room for the largest frame: 64 KiB, headers, and the vnet header.
pub(super) const FRAME_MAX: usize = 68 << 10;

/// Largest frame that is handed over to be cut into segments: the kernel takes 65536 bytes, Ethernet header included.
const SEGMENT_MAX: u32 = 64_254;

/// Pieces of memory of one frame, the vnet header apart.
const GATHER_MAX: usize = 512;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// What the header says of a received frame: a checksum that is still to be computed is a local sender's.
pub(super) fn checksum(flags: u8) -> RxChecksum {
    if flags & (NEEDS_CSUM | DATA_VALID) != 0 { RxChecksum::Good } else { RxChecksum::Unknown }
}

fn header(frame: &TxFrame) -> [u8; VNET] {
    let mut vnet = [0; VNET];
    if let Some(offload) = frame.offload {
        /// Of the checksum in a TCP header.
        const CSUM_OFFSET: u16 = 16;
        vnet[0] = NEEDS_CSUM;
        if let Some(segment) = offload.segment {
            vnet[1] = if offload.ipv6 { GSO_TCPV6 } else { GSO_TCPV4 };
            let header = u16::try_from(frame.header.len()).unwrap_or(u16::MAX);
            vnet[2..4].copy_from_slice(&header.to_ne_bytes());
            vnet[4..6].copy_from_slice(&segment.to_ne_bytes());
        }
        vnet[6..8].copy_from_slice(&offload.csum_start.to_ne_bytes());
        vnet[8..10].copy_from_slice(&CSUM_OFFSET.to_ne_bytes());
    }
    vnet
}

/// What such a port can do, with checksums and segmentation left to the kernel or not.
pub(super) fn caps(mtu: u16, offload: bool) -> FrameCaps {
    FrameCaps { mtu, segment_max: if offload { SEGMENT_MAX } else { 0 }, gather_max: GATHER_MAX }
}

/// Takes frames into a burst until there is none, or `most` are there. Returns how many.
pub(super) fn receive(
    burst: &mut Vec<RxFrame>,
    most: usize,
    mut read: impl FnMut() -> Option<RxFrame>,
) -> usize {
    let before = burst.len();
    while burst.len() - before < most {
        match read() {
            Some(frame) => burst.push(frame),
            None => break,
        }
    }
    burst.len() - before
}

/// Hands over a burst as far as the device has room. Returns how many frames it did not take for another reason: they
/// are lost, as frames may be.
pub(super) fn transmit(fd: RawFd, offload: bool, burst: &mut VecDeque<TxFrame>) -> u64 {
    let mut not_sent = 0;
    while let Some(frame) = burst.front_mut() {
        if !offload {
            finish_in_software(frame);
        }
        match write(fd, frame) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => not_sent += 1,
            Ok(()) => {}
        }
        burst.pop_front();
    }
    not_sent
}

/// Writes a frame with its vnet header.
fn write(fd: RawFd, frame: &TxFrame) -> io::Result<()> {
    let vnet = header(frame);
    let mut pieces: SmallVec<[libc::iovec; 16]> = SmallVec::new();
    let mut piece = |from: *const u8, len| {
        pieces.push(libc::iovec { iov_base: from.cast_mut().cast(), iov_len: len });
    };
    piece(vnet.as_ptr(), VNET);
    piece(frame.header.as_ptr(), frame.header.len());
    for seg in frame.payload.segs() {
        piece(seg.as_ptr(), seg.len());
    }
    // SAFETY: vnet header, frame header and payload segments live until after the call.
    unsafe { sys::write_frame(fd, &pieces) }
}
