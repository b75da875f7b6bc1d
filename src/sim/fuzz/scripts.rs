// SPDX-License-Identifier: GPL-2.0-or-later
//! What inputs do to a machine. Most are scripts: pieces of a kind, a length and so many bytes.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::scsi::lun;
use super::mutate::{InputPiece, InputShape};
use super::rig::Rig;
use crate::fabrics::iscsi::initiator::{Digests, Initiator, Packet};
use crate::memory::Sg;
use crate::net::{FramePort, TxFrame};
use crate::wire::iscsi::{Bhs, Opcode, pairs};

/// REPORT LUNS (SAM-5 4.7.5.5).
const WELL_KNOWN: u64 = 0xc101 << 48;

/// Keys of a session whose bursts are short.
const SHORT_BURSTS: [(&str, &str); 2] = [("MaxBurstLength", "8192"), ("FirstBurstLength", "4096")];

fn pieces(script: &[u8]) -> Vec<InputPiece> {
    InputShape::Pieces.split(script)
}

/// Bytes of a connection before its login.
pub(super) fn stream(rig: &mut Rig, bytes: &[u8]) {
    let line = rig.connect();
    rig.send(line, bytes);
    rig.receive(line);
}

/// A PDU with the CmdSN that is due and right lengths.
fn pdu(initiator: &mut Initiator, bytes: &[u8]) -> Vec<u8> {
    let mut bhs = [0; Bhs::LEN];
    let head = bytes.len().min(Bhs::LEN);
    bhs[..head].copy_from_slice(&bytes[..head]);
    let mut packet = Packet { bhs: Bhs(bhs), ahs: Vec::new(), data: bytes[head..].to_vec() };
    packet.bhs.set_word(24, initiator.cmd_sn);
    if !packet.bhs.is_immediate() && packet.bhs.opcode() != Opcode::DATA_OUT {
        initiator.cmd_sn = initiator.cmd_sn.wrapping_add(1);
    }
    packet.encode(initiator.digests)
}

/// A script for a session that is logged in. The pieces are sent as they are, as a PDU whose sequence numbers and lengths are
/// right, or as a CDB in a command whose R2Ts are answered; or time passes, or the connection is ended and made again.
pub(super) fn session(rig: &mut Rig, script: &[u8]) {
    let mut line = rig.connect();
    let mut initiator = rig.log_in(line, &SHORT_BURSTS);
    rig.hear(line, &mut initiator, None);
    for InputPiece { kind, data } in pieces(script) {
        match (kind % 4, kind >> 2) {
            (0, cuts) => {
                // In pieces that come in one by one.
                let len = data.len().div_ceil(usize::from(cuts & 7) + 1).max(1);
                data.chunks(len).for_each(|bytes| rig.send(line, bytes));
            }
            (1, _) => {
                let bytes = pdu(&mut initiator, &data);
                rig.send(line, &bytes);
                rig.hear(line, &mut initiator, None);
            }
            (2, transfer) if !data.is_empty() => rig.command(line, &mut initiator, 0, transfer, &data),
            (3, 0x3e) => rig.finish(line),
            (3, 0x3f) => {
                rig.reset(line);
                line = rig.connect();
                initiator = rig.log_in(line, &SHORT_BURSTS);
                rig.hear(line, &mut initiator, None);
            }
            _ => {
                rig.held.pop();
                rig.wait(Duration::from_millis(data.len() as u64 * 100));
            }
        }
    }
}

/// A script of a login and of text negotiation after it: the kind has the flags, the bytes are text.
pub(super) fn login(rig: &mut Rig, script: &[u8]) {
    let line = rig.connect();
    let (mut initiator, mut agreed) = (Initiator::new(), Digests::default());
    for InputPiece { kind: flags, data: text } in pieces(script) {
        let mut packet = match flags & 0x10 {
            0 => initiator.login(0, None, &[]),
            _ => initiator.text(&text),
        };
        packet.bhs.0[1] = flags & 0xcf;
        packet.data = text;
        rig.send(line, &packet.encode(initiator.digests));
        for answer in rig.hear(line, &mut initiator, None) {
            if answer.opcode() != Opcode::LOGIN_RESPONSE {
                continue;
            }
            for pair in pairs(&answer.data).flatten() {
                match pair.key {
                    "HeaderDigest" => agreed.header = pair.value == "CRC32C",
                    "DataDigest" => agreed.data = pair.value == "CRC32C",
                    _ => {}
                }
            }
            if answer.bhs.half(36) == 0 && answer.bhs.flags() & 0x83 == 0x83 {
                initiator.digests = agreed;
            }
        }
    }
}

/// CDBs for any logical unit, in a session. The kind chooses one of the disks, the well-known logical unit, or one that is not
/// there, and directions and length of the transfer.
pub(super) fn cdbs(rig: &mut Rig, script: &[u8]) {
    let line = rig.connect();
    let mut initiator = rig.log_in(line, &[]);
    rig.hear(line, &mut initiator, None);
    for InputPiece { kind, data: cdb } in pieces(script) {
        let lun = [lun(0), lun(1), WELL_KNOWN, lun(7)][usize::from(kind >> 6)];
        rig.command(line, &mut initiator, lun, kind & 0x3f, &cdb);
    }
}

/// Ethernet frames, each with a length of two bytes before it, to the target's own address.
pub(super) fn frames(rig: &mut Rig, bytes: &[u8]) {
    for InputPiece { data: mut header, .. } in InputShape::Long.split(bytes) {
        if header.len() >= 6 && header[0] & 1 == 0 {
            header[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        }
        let frame = TxFrame { header: header.into(), payload: Sg::new(), offload: None };
        let now = rig.now();
        rig.peers.wire_port(0).transmit(now, &mut VecDeque::from([frame]));
        rig.settle();
    }
}
