// SPDX-License-Identifier: GPL-2.0-or-later
//! RFC 7143 11, PDU by PDU: each form that an initiator may give a request, and what comes of those that it may not.
//! Each row is tried with and without digests, padded with zeros and with other bytes.

use super::*;
use crate::fabrics::iscsi::initiator::Transfer;
use crate::wire::iscsi::{NO_TAG, RejectReason};

/// What a form brings about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Comes {
    /// One answer of this kind to the last PDU; the session goes on.
    Answer(Opcode),
    /// No answer, and the session goes on.
    Nothing,
    /// A Reject with this reason, and the session goes on.
    Reject(u8),
    /// The end of the connection.
    End,
}

use Comes::{Answer, End, Nothing, Reject};

/// Makes the PDUs of a form. Of more than one, all but the last bring [`Comes::Nothing`].
type Make = fn(&mut Initiator) -> Vec<Packet>;

/// Sets reserved bits and bytes.
fn reserved(mut packet: Packet, bits: u8, bytes: &[usize]) -> Packet {
    packet.bhs.bytes_mut()[1] |= bits;
    bytes.iter().for_each(|&at| packet.bhs.bytes_mut()[at] = 0xa5);
    packet
}

fn not_final(mut packet: Packet) -> Packet {
    packet.bhs.bytes_mut()[1] &= !FINAL;
    packet
}

fn write(i: &mut Initiator, len: u32) -> Packet {
    i.command(0, &vendor(WRITE_IN_PARTS, len, len), Transfer::write(len))
}

/// A write whose unsolicited data comes in pieces of these lengths, each at its place; the last is final.
fn unsolicited(i: &mut Initiator, immediate: usize, pieces: &[usize]) -> Vec<Packet> {
    let all = pattern_of(0, immediate + pieces.iter().sum::<usize>());
    let command = write(i, u32::try_from(all.len()).unwrap());
    let mut packets = vec![not_final(command.clone().data(&all[..immediate]))];
    let mut at = immediate;
    for (sn, len) in pieces.iter().enumerate() {
        let (piece, last) = (&all[at..at + len], sn + 1 == pieces.len());
        let (sn, offset) = (u32::try_from(sn).unwrap(), u32::try_from(at).unwrap());
        packets.push(i.data_out(&command, None, sn, offset, piece, last));
        at += len;
    }
    packets
}

fn snack(kind: u8) -> Packet {
    Packet::raw(Opcode::SNACK_REQUEST, FINAL | kind).word(16, NO_TAG).word(20, NO_TAG)
}

const RESPONSE: Comes = Answer(Opcode::SCSI_RESPONSE);

/// SCSI Command (11.3), additional header segments (11.2.2).
const COMMANDS: &[(&str, Make, Comes)] = &[
    ("no data", |i| vec![i.command(0, &[0], Transfer::NONE)], RESPONSE),
    (
        "immediate",
        |i| {
            let c = i.command(0, &[0], Transfer::NONE);
            vec![i.immediate(c)]
        },
        RESPONSE,
    ),
    (
        "untagged",
        |i| {
            vec![{
                let mut c = i.command(0, &[0], Transfer::NONE);
                c.bhs.bytes_mut()[1] = FINAL;
                c
            }]
        },
        RESPONSE,
    ),
    ("attribute 7", |i| vec![reserved(i.command(0, &[0], Transfer::NONE), 7, &[])], RESPONSE),
    ("reserved bits", |i| vec![reserved(i.command(0, &[0], Transfer::NONE), 0x18, &[2, 3])], RESPONSE),
    ("reads nothing", |i| vec![i.command(0, &[0], Transfer::read(0))], RESPONSE),
    ("reads", |i| vec![i.command(0, &vendor(READ_IN_PARTS, 0, 1), Transfer::read(64))], RESPONSE),
    ("writes nothing", |i| vec![write(i, 0)], RESPONSE),
    ("writes immediate data", |i| vec![write(i, 5).data(&pattern_of(0, 5))], RESPONSE),
    (
        "a task tag that is none",
        |i| vec![i.command(0, &[0], Transfer::NONE).word(16, NO_TAG)],
        Reject(RejectReason::INVALID_PDU_FIELD.raw()),
    ),
    ("a CDB of 32 bytes", |i| vec![i.command(0, &[0x7f; 32], Transfer::NONE)], RESPONSE),
    ("a CDB of 21 bytes", |i| vec![i.command(0, &[0x7f; 21], Transfer::NONE)], RESPONSE),
    ("a CDB of 260 bytes", |i| vec![i.command(0, &[0x7f; 260], Transfer::NONE)], RESPONSE),
    (
        "both directions",
        |i| vec![i.command(0, &vendor(BOTH, 0, 0), Transfer { reads: Some(8), writes: Some(0) })],
        RESPONSE,
    ),
    (
        "reserved byte of an additional header",
        |i| {
            let mut c = i.command(0, &[0x7f; 32], Transfer::NONE);
            c.ahs[3] = 0xa5;
            vec![c]
        },
        RESPONSE,
    ),
    (
        "padding of an additional header",
        |i| {
            let mut c = i.command(0, &[0x7f; 21], Transfer::NONE);
            *c.ahs.last_mut().unwrap() = 0xa5;
            vec![c]
        },
        RESPONSE,
    ),
    (
        "an additional header of a reserved type",
        |i| vec![i.command(0, &[0], Transfer::NONE).ahs(5, &[1, 2, 3])],
        Reject(RejectReason::INVALID_PDU_FIELD.raw()),
    ),
    (
        "a tag that is in use",
        |i| {
            let hold = i.command(0, &[HOLD], Transfer::NONE);
            let other = i.command(0, &[0], Transfer::NONE).word(16, hold.bhs.itt());
            vec![hold, other]
        },
        End,
    ),
    ("unsolicited data of a read", |i| vec![not_final(i.command(0, &[0], Transfer::read(8)))], End),
    ("immediate data of a read", |i| vec![i.command(0, &[0], Transfer::read(8)).data(&[1; 8])], End),
];

/// Unsolicited Data-Out (11.7). Data segments may be empty (11.7.5).
const UNSOLICITED: &[(&str, Make, Comes)] = &[
    ("one PDU", |i| unsolicited(i, 0, &[600]), RESPONSE),
    ("several", |i| unsolicited(i, 0, &[600, 1, 2, 3]), RESPONSE),
    ("behind immediate data", |i| unsolicited(i, 600, &[600]), RESPONSE),
    ("the first is empty", |i| unsolicited(i, 0, &[0, 600]), RESPONSE),
    ("one in the middle is empty", |i| unsolicited(i, 0, &[600, 0, 600]), RESPONSE),
    ("the last is empty", |i| unsolicited(i, 0, &[600, 0]), RESPONSE),
    ("nothing but an empty one", |i| unsolicited(i, 0, &[0]), RESPONSE),
    ("an empty one behind immediate data", |i| unsolicited(i, 600, &[0]), RESPONSE),
    (
        "any LUN, which is reserved",
        |i| {
            let mut all = unsolicited(i, 0, &[600]);
            all[1] = all[1].clone().lun(7 << 48);
            all
        },
        RESPONSE,
    ),
    (
        "reserved bits",
        |i| {
            let mut all = unsolicited(i, 0, &[600]);
            all[1] = reserved(all[1].clone(), 0x7f, &[2, 3, 24, 27, 32, 35, 44, 47]);
            all[1].bhs.bytes_mut()[0] |= IMMEDIATE;
            all
        },
        RESPONSE,
    ),
    (
        "of no task",
        |_| vec![Packet::raw(Opcode::DATA_OUT, FINAL).word(16, 0x999).word(20, NO_TAG).data(&[1; 8])],
        Nothing,
    ),
];

/// Task management (11.5), NOP-Out (11.18), Text (11.10), Logout (11.14), SNACK (11.16), and what no initiator sends.
const OTHERS: &[(&str, Make, Comes)] = &[
    ("ABORT TASK", |i| vec![i.task_management(1, 0)], Answer(Opcode::TASK_MANAGEMENT_RESPONSE)),
    ("LOGICAL UNIT RESET", |i| vec![i.task_management(5, 0)], Answer(Opcode::TASK_MANAGEMENT_RESPONSE)),
    (
        "an immediate one",
        |i| {
            let t = i.task_management(5, 0);
            vec![i.immediate(t)]
        },
        Answer(Opcode::TASK_MANAGEMENT_RESPONSE),
    ),
    ("TASK REASSIGN", |i| vec![i.task_management(8, 0)], Answer(Opcode::TASK_MANAGEMENT_RESPONSE)),
    ("a reserved function", |i| vec![i.task_management(0x7f, 0)], Answer(Opcode::TASK_MANAGEMENT_RESPONSE)),
    (
        "reserved bytes of a function",
        |i| vec![reserved(i.task_management(5, 0), 0, &[2, 3, 40, 47])],
        Answer(Opcode::TASK_MANAGEMENT_RESPONSE),
    ),
    ("a ping without data", |i| vec![i.nop_out(b"")], Answer(Opcode::NOP_IN)),
    ("a ping", |i| vec![i.nop_out(b"hello")], Answer(Opcode::NOP_IN)),
    (
        "an immediate ping",
        |i| {
            let p = i.nop_out(b"hello");
            vec![i.immediate(p)]
        },
        Answer(Opcode::NOP_IN),
    ),
    ("a ping with a LUN", |i| vec![i.nop_out(b"hello").lun(5 << 48)], Answer(Opcode::NOP_IN)),
    ("a ping that is an answer, too", |i| vec![i.nop_out(b"hello").word(20, 1)], Answer(Opcode::NOP_IN)),
    (
        "reserved bits of a ping",
        |i| vec![reserved(i.nop_out(b"hello"), 0x7f, &[2, 3, 32, 47])],
        Answer(Opcode::NOP_IN),
    ),
    (
        "a sign of life",
        |i| {
            let p = i.nop_out(b"").word(16, NO_TAG);
            vec![i.immediate(p)]
        },
        Nothing,
    ),
    ("a sign of life in its turn", |i| vec![i.nop_out(b"").word(16, NO_TAG)], Nothing),
    (
        "the answer to a ping",
        |i| {
            let p = i.nop_out(b"").word(16, NO_TAG).word(20, 1);
            vec![i.immediate(p)]
        },
        Nothing,
    ),
    (
        "its data is of no use",
        |i| {
            let p = i.nop_out(b"hello").word(16, NO_TAG).word(20, 1);
            vec![i.immediate(p)]
        },
        Nothing,
    ),
    ("a text without keys", |i| vec![i.text(b"")], Answer(Opcode::TEXT_RESPONSE)),
    ("a text", |i| vec![i.text(b"X-a.b=1\0")], Answer(Opcode::TEXT_RESPONSE)),
    ("zeros between keys", |i| vec![i.text(b"\0X-a.b=1\0\0\0X-a.c=1\0\0")], Answer(Opcode::TEXT_RESPONSE)),
    (
        "an immediate text",
        |i| {
            let t = i.text(b"X-a.b=1\0");
            vec![i.immediate(t)]
        },
        Answer(Opcode::TEXT_RESPONSE),
    ),
    (
        "reserved bits of a text",
        |i| vec![reserved(i.text(b"X-a.b=1\0"), 0x3f, &[2, 3, 8, 15, 32, 47])],
        Answer(Opcode::TEXT_RESPONSE),
    ),
    ("a text that may go on", |i| vec![not_final(i.text(b"X-a.b=1\0"))], Answer(Opcode::TEXT_RESPONSE)),
    (
        "a text that goes on",
        |i| vec![reserved(not_final(i.text(b"X-a.")), CONTINUE, &[])],
        Answer(Opcode::TEXT_RESPONSE),
    ),
    (
        "one that is final and goes on",
        |i| vec![reserved(i.text(b"X-a."), CONTINUE, &[])],
        Reject(RejectReason::PROTOCOL_ERROR.raw()),
    ),
    (
        "a text that goes on with nothing",
        |i| vec![i.text(b"").word(20, 7)],
        Reject(RejectReason::PROTOCOL_ERROR.raw()),
    ),
    (
        "logout of a connection that is not there",
        |i| {
            vec![{
                let mut l = i.logout(1);
                l.bhs.set_half(20, 77);
                l
            }]
        },
        Answer(Opcode::LOGOUT_RESPONSE),
    ),
    ("logout for recovery", |i| vec![i.logout(2)], Answer(Opcode::LOGOUT_RESPONSE)),
    ("logout for a reserved reason", |i| vec![i.logout(3)], Reject(RejectReason::INVALID_PDU_FIELD.raw())),
    ("SNACK of data", |_| vec![snack(0)], Reject(RejectReason::SNACK_REJECT.raw())),
    ("SNACK of status", |_| vec![snack(1)], Reject(RejectReason::SNACK_REJECT.raw())),
    ("SNACK of acknowledged data", |_| vec![snack(2)], Reject(RejectReason::SNACK_REJECT.raw())),
    ("SNACK of resegmented data", |_| vec![snack(3)], Reject(RejectReason::SNACK_REJECT.raw())),
    (
        "a reserved opcode",
        |_| vec![Packet::raw(Opcode::new(0x07), FINAL).word(16, 5)],
        Reject(RejectReason::COMMAND_NOT_SUPPORTED.raw()),
    ),
    (
        "a vendor's opcode",
        |_| vec![Packet::raw(Opcode::new(0x1c), FINAL).word(16, 5)],
        Reject(RejectReason::COMMAND_NOT_SUPPORTED.raw()),
    ),
    (
        "a target's opcode",
        |_| vec![Packet::raw(Opcode::NOP_IN, FINAL).word(16, 5)],
        Reject(RejectReason::COMMAND_NOT_SUPPORTED.raw()),
    ),
    ("a login", |i| vec![i.login(1, Some(3), &NAMES)], End),
];

/// Login Request (11.12).
const LOGINS: &[(&str, Make, Comes)] = &[
    ("one request", |i| vec![i.login(1, Some(3), &NAMES)], LOGIN),
    ("from the security stage", |i| vec![i.login(0, Some(3), &NAMES)], LOGIN),
    ("reserved bits", |i| vec![reserved(i.login(1, Some(3), &NAMES), 0x30, &[22, 23, 32, 47])], LOGIN),
    (
        "not marked as immediate",
        |i| {
            vec![{
                let mut l = i.login(1, Some(3), &NAMES);
                l.bhs.bytes_mut()[0] &= !IMMEDIATE;
                l
            }]
        },
        LOGIN,
    ),
    (
        "versions from 0 on",
        |i| {
            vec![{
                let mut l = i.login(1, Some(3), &NAMES);
                l.bhs.bytes_mut()[2] = 255;
                l
            }]
        },
        LOGIN,
    ),
    (
        "an ISID of each type",
        |i| {
            vec![{
                i.isid = [0xc0, 1, 2, 3, 4, 5];
                i.login(1, Some(3), &NAMES)
            }]
        },
        LOGIN,
    ),
    (
        "zeros behind the text",
        |i| {
            vec![{
                let mut l = i.login(1, Some(3), &NAMES);
                l.data.extend([0; 5]);
                l
            }]
        },
        LOGIN,
    ),
];

const LOGIN: Comes = Answer(Opcode::LOGIN_RESPONSE);

/// What has come of the last PDU.
fn comes(world: &World, answers: &[Packet]) -> Comes {
    match answers {
        _ if world.connection().is_closing() => End,
        [] => Nothing,
        [one] if one.opcode() == Opcode::REJECT => Reject(one.bhs.bytes()[2]),
        [one] => Answer(one.opcode()),
        more => panic!("{:?}", opcodes(more)),
    }
}

/// Tries a form, with the padding of data segments filled with a byte. Returns the world and the last answers.
fn attempt(mut world: World, packets: Vec<Packet>, padding: u8, form: (&str, Comes)) -> (World, Vec<Packet>) {
    let (name, wanted) = form;
    let mut answers = Vec::new();
    for mut packet in packets {
        assert!(answers.is_empty(), "{name}: an answer before the last PDU");
        packet.padding = padding;
        answers = world.exchange(&[packet]);
    }
    assert_eq!(comes(&world, &answers), wanted, "{name}: {:?}", world.closed());
    if wanted != End {
        let ping = world.initiator.nop_out(b"still there");
        assert_eq!(opcodes(&world.exchange(&[ping])), [Opcode::NOP_IN], "{name}: the session goes on");
    }
    (world, answers)
}

const KINDS: [(&str, u8); 4] = [("None", 0), ("CRC32C", 0), ("None", 0xa5), ("CRC32C", 0xff)];

fn session(digest: &str) -> World {
    let keys = [("InitialR2T", "No"), ("HeaderDigest", digest), ("DataDigest", digest)];
    World::logged_in(Parameters::default(), &keys)
}

#[test]
fn every_form_of_a_request_has_its_answer() {
    for (digest, padding) in KINDS {
        for (name, make, wanted) in COMMANDS.iter().chain(UNSOLICITED).chain(OTHERS) {
            let mut world = session(digest);
            let packets = make(&mut world.initiator);
            let (mut world, answers) = attempt(world, packets, padding, (name, *wanted));
            if *wanted == RESPONSE {
                assert_eq!(answers[0].bhs.bytes()[3], Status::Good as u8, "{name}");
            }
            for written in world.toy.written.drain(..) {
                assert_eq!(written, pattern_of(0, written.len()), "{name}");
            }
        }
    }
}

#[test]
fn every_form_of_a_login_is_taken() {
    for padding in [0, 0xa5] {
        for (name, make, wanted) in LOGINS {
            let mut world = World::new(Parameters::default());
            let packets = make(&mut world.initiator);
            attempt(world, packets, padding, (name, *wanted));
        }
    }
}

#[test]
fn data_that_was_asked_for_comes_in_any_pieces() {
    // Empty data segments: RFC 7143 11.7.6. LUN: as the command has it, in its other form, or left out; another's is
    // wrong.
    let pieces: [&[usize]; 6] =
        [&[4096], &[1, 4095], &[0, 4096], &[2048, 0, 2048], &[4096, 0], &[0, 0, 4096, 0, 0]];
    let luns = [(1 << 48, true), (0x4001 << 48, true), (0, true), (2 << 48, false), (0xc101 << 48, false)];
    for (digest, padding) in KINDS {
        for lens in pieces {
            for (lun, right) in luns {
                let mut world = session(digest);
                let data = pattern_of(0, 4096);
                let cdb = vendor(WRITE_IN_PARTS, 4096, 4096);
                let command = world.initiator.command(1 << 48, &cdb, Transfer::write(4096));
                let r2t = world.exchange(&[&command]).remove(0);
                assert_eq!((r2t.opcode(), r2t.bhs.lun()), (Opcode::R2T, 1 << 48));
                let (mut packets, mut at) = (Vec::new(), 0);
                for (sn, len) in lens.iter().enumerate() {
                    let (piece, last) = (&data[at..at + len], sn + 1 == lens.len());
                    let (sn, offset) = (u32::try_from(sn).unwrap(), u32::try_from(at).unwrap());
                    let packet =
                        world.initiator.data_out(&command, Some(&r2t), sn, offset, piece, last).lun(lun);
                    packets.push(reserved(packet, 0x7f, &[2, 3, 24, 32, 44]));
                    at += len;
                }
                if !right {
                    packets.truncate(1);
                }
                let wanted = if right { RESPONSE } else { End };
                let (world, _) = attempt(world, packets, padding, ("Data-Out", wanted));
                assert_eq!(world.toy.written.len(), usize::from(right));
                assert!(world.toy.written.iter().all(|written| *written == data), "{lens:?}");
            }
        }
    }
}

#[test]
fn a_lun_is_the_same_in_every_form() {
    // Flat space addressing, and peripheral addressing as libiscsi and QEMU use it above 255.
    for (index, forms) in
        [(0, [0, 0x4000]), (5, [5, 0x4005]), (300, [0x012c, 0x412c]), (16383, [0x3fff, 0x7fff])]
    {
        for form in forms.map(|form: u64| form << 48) {
            let mut world = session("None");
            let command = world.initiator.command(form, &[0], Transfer::NONE);
            world.exchange(&[command]);
            assert_eq!(world.toy.commands[0].lun, Lun::from_index(index));
            // A function reaches tasks that were sent with the other form.
            let held = forms.map(|form| world.initiator.command(form << 48, &[HOLD], Transfer::NONE));
            world.exchange(&held);
            let reset = world.initiator.task_management(5, form);
            world.exchange(&[reset]);
            assert_eq!(world.toy.running(), 0, "{form:x}");
        }
    }
    for other in [0xc101_0000_0000_0000, 0x0001_0001_0000_0000, 0x8001_0000_0000_0000, 1] {
        let mut world = session("None");
        let command = world.initiator.command(other, &[0], Transfer::NONE);
        world.exchange(&[command]);
        assert_eq!(world.toy.commands[0].lun, Lun(other));
    }
}
