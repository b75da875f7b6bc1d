// SPDX-License-Identifier: GPL-2.0-or-later
//! What inputs do to a machine. Most are scripts: pieces of a kind, a length and so many bytes.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::scsi::lun;
use super::mutate::{InputPiece, InputShape};
use super::rig::Rig;
use crate::fabrics::iscsi::initiator::{Digests, Initiator, Packet, Transfer};
use crate::memory::Sg;
use crate::net::{FramePort, TxFrame};
use crate::scsi::primary::LogicalUnit;
use crate::wire::iscsi::{
    Bhs, LoginResponseHeader, LogoutRequestHeader, Opcode, RequestNumbers, ScsiResponseHeader, pairs,
};

/// REPORT LUNS (SAM-5 4.7.5.5).
const WELL_KNOWN: u64 = 0xc101 << 48;

/// Connections of the one session, and of those that are made beside it.
const LINKS: usize = 4;

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
    let mut packet = Packet::from(Bhs::from(bhs)).data(&bytes[head..]);
    let cmd_sn = initiator.cmd_sn;
    packet.bhs.set_request_numbers(RequestNumbers { cmd_sn, ..packet.bhs.request_numbers() });
    if !packet.bhs.is_immediate() && packet.bhs.opcode() != Opcode::DATA_OUT {
        initiator.cmd_sn = initiator.cmd_sn.wrapping_add(1);
    }
    packet.encode(initiator.digests)
}

/// A script for a session that is logged in. The pieces are sent as they are, as a PDU whose sequence numbers and
/// lengths are right, or as a CDB in a command whose R2Ts are answered; or time passes, or the connection is ended and
/// made again.
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

/// The same where memory is short: so many blocks of 2 KiB are free as the lower bits of the first piece's kind say,
/// and one more with each time that passes. With its upper bit as many of 256 bytes are, too, rather than enough.
pub(super) fn full(rig: &mut Rig, script: &[u8]) {
    let pieces = pieces(script);
    let Some((InputPiece { kind, .. }, script)) = pieces.split_first() else { return };
    let free = usize::from(kind & 0x7f);
    let arena = rig.arena(0).clone();
    rig.held.extend(std::iter::from_fn(|| arena.alloc(2048)));
    if kind & 0x80 != 0 {
        rig.held.extend(std::iter::from_fn(|| arena.alloc(256)));
        rig.held.truncate(rig.held.len().saturating_sub(free));
    }
    rig.held.drain(..free.min(rig.held.len()));
    session(rig, &InputShape::Pieces.join(script));
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
        packet.bhs.bytes_mut()[1] = flags & 0xcf;
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
            if answer.ends_login() {
                initiator.digests = agreed;
            }
        }
    }
}

/// CDBs for any logical unit, in a session. The kind chooses one of the disks, the well-known logical unit, or one that
/// is not there, and directions and length of the transfer.
pub(super) fn cdbs(rig: &mut Rig, script: &[u8]) {
    let line = rig.connect();
    let mut initiator = rig.log_in(line, &[]);
    rig.hear(line, &mut initiator, None);
    for InputPiece { kind, data: cdb } in pieces(script) {
        let lun = [lun(0), lun(1), WELL_KNOWN, lun(7)][usize::from(kind >> 6)];
        rig.command(line, &mut initiator, lun, kind & 0x3f, &cdb);
    }
}

/// CDBs for a tape drive, in which there is a cartridge, its changer, and a disk. The kind is that of [`cdbs`].
pub(super) fn library(rig: &mut Rig, script: &[u8]) {
    const READY: [u8; 6] = [0; 6];
    const LOAD: [u8; 12] = [0xa5, 0, 0, 0, 0x10, 0, 0x01, 0, 0, 0, 0, 0];
    let line = rig.connect();
    let mut initiator = rig.log_in(line, &[]);
    rig.hear(line, &mut initiator, None);
    let [disk, changer, drive] = [lun(0), lun(2), lun(3)];
    for (lun, cdb) in [(changer, &READY[..]), (changer, &LOAD), (drive, &READY), (drive, &READY)] {
        rig.command(line, &mut initiator, lun, 0, cdb);
    }
    let ready = initiator.command(drive, &READY, Transfer::NONE);
    rig.send(line, &ready.encode(initiator.digests));
    let answers = rig.hear(line, &mut initiator, None);
    let good = |packet: &Packet| packet.header().is_some_and(|it: ScsiResponseHeader| it.status == 0);
    assert!(answers.iter().any(good), "the drive has its cartridge");
    for InputPiece { kind, data: cdb } in pieces(script) {
        let lun = [drive, changer, drive, disk][usize::from(kind >> 6)];
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

/// One of several connections.
struct FuzzLink {
    line: usize,
    initiator: Initiator,
    /// It is logged in, so that what is heard can be understood.
    up: bool,
}

/// A script for several connections, of one session as a rule, which come in at any of the cores. The kind says over
/// which of them and what: a login, bytes as they are, a PDU, a command, a logout, the end of the connection, or time.
/// CmdSN is that of the session.
pub(super) fn several(rig: &mut Rig, script: &[u8]) {
    let mut links: [Option<FuzzLink>; LINKS] = [const { None }; LINKS];
    let (mut tsih, mut cmd_sn) = (0, 100);
    for InputPiece { kind, data } in pieces(script) {
        let (at, what) = (usize::from(kind) % LINKS, kind >> 2 & 7);
        let first = data.first().copied().unwrap_or(0);
        if what == 0 {
            // Joins the session, or begins another; with the CID of its own, or of another; from a core of either
            // parity.
            let mut initiator = Initiator::new();
            initiator.tsih = if first & 1 == 0 { tsih } else { u16::from(first >> 4) };
            initiator.isid[5] = first & 2;
            initiator.cid = 3 + u16::from(if first & 4 == 0 { kind % 4 } else { first >> 3 & 3 });
            initiator.cmd_sn = cmd_sn;
            let line = rig.connect();
            rig.log_in_as(line, &mut initiator, &[("MaxConnections", "4")]);
            links[at] = Some(FuzzLink { line, initiator, up: false });
        }
        if let Some(FuzzLink { line, initiator, up }) = &mut links[at] {
            let line = *line;
            initiator.cmd_sn = cmd_sn;
            match what {
                1 if *up => rig.send(line, &data),
                2 if *up => {
                    let bytes = pdu(initiator, &data);
                    rig.send(line, &bytes);
                }
                3 | 4 if *up && !data.is_empty() => {
                    rig.command(line, initiator, lun(usize::from(kind >> 7)), first, &data[1..]);
                }
                5 if *up => {
                    let mut logout = initiator.logout(first & 3);
                    let cid = 3 + u16::from(first >> 2 & 3);
                    logout.edit(|logout: &mut LogoutRequestHeader| logout.cid = cid);
                    rig.send(line, &logout.encode(initiator.digests));
                }
                6 if first & 1 == 0 => rig.finish(line),
                6 => rig.reset(line),
                7 => rig.wait(Duration::from_millis(u64::from(first) * 100)),
                _ => {}
            }
            cmd_sn = initiator.cmd_sn;
        }
        for link in links.iter_mut().flatten() {
            for packet in rig.hear(link.line, &mut link.initiator, None) {
                if let Some(login) = packet.header::<LoginResponseHeader>() {
                    link.up = packet.ends_login();
                    tsih = if link.up { login.tsih } else { tsih };
                }
            }
        }
    }
}

/// Records that a disk has kept in an earlier run, then what an initiator sees of them.
pub(super) fn kept(rig: &mut Rig, script: &[u8]) {
    for InputPiece { kind, data } in pieces(script) {
        let disk = &rig.machine.disks[usize::from(kind >> 7)];
        // An error is the end of the start, which says what is wrong with the record.
        _ = if kind & 1 == 0 { disk.load_modes(&data) } else { disk.load_information(&data) };
        disk.report();
    }
    let line = rig.connect();
    let mut initiator = rig.log_in(line, &[]);
    rig.hear(line, &mut initiator, None);
    for disk in [0, 1] {
        for control in 0..4 {
            // MODE SENSE(10) of all pages: current, changeable, default, saved.
            let cdb = [0x5a, 0, control << 6 | 0x3f, 0xff, 0, 0, 0, 16, 0, 0];
            rig.command(line, &mut initiator, lun(disk), 16 | 8, &cdb);
        }
        for information in [0, 4] {
            let cdb = [0xa3, 5, 0, 0, 0, 0, 0, 0, 4, 0, information, 0];
            rig.command(line, &mut initiator, lun(disk), 16 | 2, &cdb);
        }
        rig.command(line, &mut initiator, lun(disk), 32 | 1, &[0x2a, 0, 0, 0, 0, 1, 0, 0, 1, 0]);
    }
    let ready = initiator.command(lun(0), &[0; 6], Transfer::NONE);
    rig.send(line, &ready.encode(initiator.digests));
    let answers = rig.hear(line, &mut initiator, None);
    assert!(answers.iter().any(|packet| packet.opcode() == Opcode::SCSI_RESPONSE), "a disk that is silent");
}
