// SPDX-License-Identifier: GPL-2.0-or-later
//! The commands that initiators send: their bytes, and what their endings mean for the oracle. A new command is a row
//! in [`Command`], an arm of [`make`] and an arm of [`judge`].

use super::media::Whereabouts;
use super::oracle::{Look, OpId, Oracle, Order, Tick, Value};
use super::plan::{Command, DiskShape, Persistent};
use crate::ports::memory::Dice;
use crate::scsi::{Lun, asc, key};

/// The one target.
pub(super) const TARGET: &str = "iqn.2026-11.test:world";

/// Most blocks of COMPARE AND WRITE.
const SWAP_MAX: u64 = 4;

pub(super) fn lun(disk: usize) -> u64 {
    Lun::from_index(u16::try_from(disk).expect("few")).0
}

/// For the tally.
pub(super) fn name(command: Command) -> &'static str {
    match command {
        Command::Read { fua: false } => "READ",
        Command::Read { fua: true } => "READ FUA",
        Command::Write { fua: false } => "WRITE",
        Command::Write { fua: true } => "WRITE FUA",
        Command::WriteVerify => "WRITE AND VERIFY",
        Command::WriteSame { pattern: true } => "WRITE SAME",
        Command::WriteSame { pattern: false } => "WRITE SAME of zeros",
        Command::Unmap => "UNMAP",
        Command::Atomic { .. } => "WRITE ATOMIC",
        Command::Or { .. } => "ORWRITE",
        Command::Persistent(_) => "PERSISTENT RESERVE OUT",
        Command::Swap { .. } => "COMPARE AND WRITE",
        Command::Verify => "VERIFY",
        Command::Flush => "SYNCHRONIZE CACHE",
        Command::Ready => "TEST UNIT READY",
        Command::Library(command) => command.name(),
    }
}

/// A command that is ready to be sent.
pub(super) struct Made {
    pub(super) cdb: Vec<u8>,
    pub(super) lba: u64,
    /// Data-Out.
    pub(super) out: Vec<u8>,
    /// Bytes of Data-In.
    pub(super) wanted: usize,
    pub(super) op: Option<OpId>,
    pub(super) sent: Tick,
}

/// READ, WRITE and their like with 10, 12 or 16 bytes.
fn cdb(opcodes: [u8; 3], flags: u8, lba: u64, blocks: u64, dice: &mut Dice) -> Vec<u8> {
    let (short, long) = (u32::try_from(lba).expect("small disk"), u32::try_from(blocks).expect("small disk"));
    let [b10, b12, b16] = opcodes;
    match dice.below(3) {
        0 => [&[b10, flags][..], &short.to_be_bytes(), &[0], &long.to_be_bytes()[2..], &[0]].concat(),
        1 if b12 != 0 => [&[b12, flags][..], &short.to_be_bytes(), &long.to_be_bytes(), &[0, 0]].concat(),
        _ => [&[b16, flags][..], &lba.to_be_bytes(), &long.to_be_bytes(), &[0, 0]].concat(),
    }
}

/// The key of an initiator.
fn reservation_key(name: u8) -> u64 {
    0x1000 + u64::from(name)
}

/// PERSISTENT RESERVE OUT: CDB and parameter list.
fn persistent(what: Persistent, name: u8) -> (Vec<u8>, Vec<u8>) {
    let kind = |all: bool| if all { 3 } else { 1 };
    let own = reservation_key(name);
    let (action, kind, keys) = match what {
        // REGISTER AND IGNORE EXISTING KEY.
        Persistent::Register => (6, 0, [0, own]),
        Persistent::Reserve { all } => (1, kind(all), [own, 0]),
        Persistent::Release { all } => (2, kind(all), [own, 0]),
        Persistent::Clear => (3, 0, [own, 0]),
        Persistent::Preempt { name, all } => (4, kind(all), [own, reservation_key(name)]),
    };
    let list = [&keys[0].to_be_bytes()[..], &keys[1].to_be_bytes(), &[0; 8]].concat();
    (vec![0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], list)
}

fn contents(lba: u64, blocks: u64, size: usize, value: impl Fn(u64) -> Value) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(blocks).expect("few") * size];
    for (lba, block) in (lba..).zip(bytes.chunks_exact_mut(size)) {
        value(lba).fill(lba, block);
    }
    bytes
}

/// Makes a command and tells the oracle what it may do.
#[expect(clippy::too_many_arguments, reason = "all of it is of one command")]
pub(super) fn make(
    command: Command,
    disk: usize,
    lba: u64,
    blocks: u64,
    order: Option<Order>,
    name: u8,
    shape: &DiskShape,
    oracle: &mut Oracle,
    dice: &mut Dice,
) -> Made {
    const FUA: u8 = 0x08;
    let size = shape.block as usize;
    let fua_bit = |fua: bool| if fua { FUA } else { 0 };
    let mut made = Made { cdb: vec![0; 6], lba, out: Vec::new(), wanted: 0, op: None, sent: 0 };
    let mut write = |made: &mut Made, blocks, value: fn(OpId) -> Value| {
        let op = oracle.send(disk, &[(lba, blocks)], order, value);
        made.op = Some(op);
        value(op)
    };
    match command {
        Command::Read { fua } => {
            made.cdb = cdb([0x28, 0xa8, 0x88], fua_bit(fua), lba, blocks, dice);
            made.wanted = usize::try_from(blocks).expect("few") * size;
        }
        Command::Write { fua } => {
            made.cdb = cdb([0x2a, 0xaa, 0x8a], fua_bit(fua), lba, blocks, dice);
            let value = write(&mut made, blocks, Value::Unique);
            made.out = contents(lba, blocks, size, |_| value);
        }
        Command::WriteVerify => {
            made.cdb = cdb([0x2e, 0xae, 0x8e], 2, lba, blocks, dice);
            let value = write(&mut made, blocks, Value::Unique);
            made.out = contents(lba, blocks, size, |_| value);
        }
        Command::WriteSame { pattern } => {
            let unmap = if !pattern && shape.thin && dice.chance(0.5) { 8 } else { 0 };
            made.cdb = cdb([0x41, 0, 0x93], unmap, lba, blocks, dice);
            let value = write(&mut made, blocks, if pattern { Value::Same } else { |_| Value::Zeros });
            made.out = contents(lba, 1, size, |_| value);
        }
        Command::Unmap => {
            made.cdb = vec![0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
            write(&mut made, blocks, |_| Value::Zeros);
            made.out = vec![0, 22, 0, 16, 0, 0, 0, 0];
            made.out.extend(lba.to_be_bytes());
            made.out.extend(u32::try_from(blocks).expect("few").to_be_bytes());
            made.out.extend([0; 4]);
        }
        Command::Atomic { fua } => {
            let blocks = blocks.min(u64::from(shape.store.transfer_max / shape.block));
            made.cdb = [&[0x9c, fua_bit(fua)][..], &lba.to_be_bytes(), &[0; 6]].concat();
            made.cdb[12..14].copy_from_slice(&u16::try_from(blocks).expect("few").to_be_bytes());
            let value = write(&mut made, blocks, Value::Unique);
            made.out = contents(lba, blocks, size, |_| value);
            made.op.into_iter().for_each(|op| oracle.is_atomic(op));
        }
        Command::Or { fua } => {
            made.cdb = [&[0x8b, fua_bit(fua)][..], &lba.to_be_bytes(), &[0; 6]].concat();
            made.cdb[10..14].copy_from_slice(&u32::try_from(blocks).expect("few").to_be_bytes());
            write(&mut made, blocks, |_| Value::Ones);
            made.out = vec![0xff; usize::try_from(blocks).expect("few") * size];
        }
        Command::Persistent(what) => (made.cdb, made.out) = persistent(what, name),
        Command::Swap { fua } => {
            let blocks = blocks.min(SWAP_MAX).min(u64::from(shape.store.transfer_max / shape.block));
            let mut cdb = [&[0x89, fua_bit(fua)][..], &lba.to_be_bytes(), &[0; 6]].concat();
            cdb[13] = u8::try_from(blocks).expect("few");
            made.cdb = cdb;
            let likely: Vec<Value> = (lba..lba + blocks).map(|lba| oracle.likely(disk, lba)).collect();
            let of = |at: u64| likely[usize::try_from(at - lba).expect("few")];
            made.out = contents(lba, blocks, size, of);
            let op = oracle.send(disk, &[(lba, blocks)], order, Value::Unique);
            made.op = Some(op);
            made.out.extend(contents(lba, blocks, size, |_| Value::Unique(op)));
        }
        Command::Verify => {
            made.cdb = cdb([0x2f, 0xaf, 0x8f], 2, lba, blocks, dice);
            made.out = contents(lba, blocks, size, |lba| oracle.likely(disk, lba));
        }
        Command::Flush => made.cdb = cdb([0x35, 0, 0x91], 0, 0, 0, dice),
        Command::Ready => {}
        Command::Library(_) => unreachable!("made by the library"),
    }
    made.sent = oracle.tick();
    made
}

/// How a command ended, as the initiator sees it.
pub(super) struct Ending {
    pub(super) status: u8,
    /// Overflow, underflow, and how much.
    residual: (bool, bool, u32),
    /// Sense key, additional sense code with qualifier, and INFORMATION.
    pub(super) sense: Option<(u8, u16, u32)>,
    /// FILEMARK, EOM and ILI of sense data.
    pub(super) marks: u8,
}

impl Ending {
    pub(super) fn new(status: u8, residual: (bool, bool, u32), data: &[u8]) -> Self {
        let sense = data.get(2..20).map(|sense| {
            let information = u32::from_be_bytes([sense[3], sense[4], sense[5], sense[6]]);
            (sense[2] & 15, u16::from_be_bytes([sense[12], sense[13]]), information)
        });
        let marks = data.get(4).map_or(0, |byte| byte & 0xe0);
        Self { status, residual, sense, marks }
    }

    pub(super) fn is_good(&self) -> bool {
        self.status == 0
    }

    /// Whether it is an error of the disk: neither a unit attention nor the end of a command whose data was damaged,
    /// which the disk knows nothing of.
    pub(super) fn is_error(&self) -> bool {
        let not = |key: u8| key == key::UNIT_ATTENTION || key == key::ABORTED_COMMAND;
        self.status == 0x02 && self.sense.is_some_and(|(key, ..)| !not(key))
    }
}

/// A command that has ended, and what is known about it.
pub(super) struct Case<'a> {
    pub(super) command: Command,
    pub(super) disk: usize,
    pub(super) lba: u64,
    /// Of its data.
    pub(super) blocks: u64,
    pub(super) op: Option<OpId>,
    pub(super) look: Look,
    pub(super) out: &'a [u8],
    pub(super) got: &'a [u8],
    pub(super) wanted: usize,
    pub(super) ending: &'a Ending,
    /// The disk has a write cache.
    pub(super) cached: bool,
    /// Where the medium is.
    pub(super) whereabouts: Whereabouts,
    /// The store may have failed.
    pub(super) faulty: bool,
    /// The disk takes no writes.
    pub(super) read_only: bool,
    /// Somebody reserves disks.
    pub(super) reserves: bool,
    /// Most bytes that are read at once.
    pub(super) chunk: u32,
    /// Its data may have been damaged on the way, or was spoilt on purpose.
    pub(super) damaged: bool,
    pub(super) oracle: &'a mut Oracle,
}

/// Holds an ending against the oracle. Returns its name, or what is wrong with it.
pub(super) fn judge(case: Case<'_>) -> Result<&'static str, String> {
    match (case.ending.status, case.ending.sense) {
        (0x00, _) if case.read_only && case.op.is_some() => Err("a write of a disk that is read-only".into()),
        (0x00, _) if needs_medium(case.command) && case.whereabouts.is_out(case.look.sent) => {
            Err("GOOD without a medium".into())
        }
        (0x00, _) => good(case),
        (0x02, Some((key::NOT_READY, asc::MEDIUM_NOT_PRESENT, _)))
            if needs_medium(case.command) && case.whereabouts.may_be_out(case.look.sent) =>
        {
            refused(case);
            Ok("without a medium")
        }
        (0x02, Some((key::DATA_PROTECT, ..))) if case.read_only && case.op.is_some() => {
            refused(case);
            Ok("as the disk is read-only")
        }
        // Whether it can deallocate blocks a disk says by its store.
        (0x02, Some((key::ILLEGAL_REQUEST, ..)))
            if matches!(case.command, Command::Unmap | Command::WriteSame { pattern: false })
                && case.whereabouts.may_be_out(case.look.sent) =>
        {
            refused(case);
            Ok("as there is no medium to deallocate")
        }
        // A key that nobody is registered with, another type than that of the reservation.
        (0x02, Some((key::ILLEGAL_REQUEST, ..))) if matches!(case.command, Command::Persistent(_)) => {
            Ok("as an illegal request")
        }
        (0x18, _) if case.reserves => {
            // A reservation that comes while a command is under way keeps what is left of it from the disk.
            let at_once = case.out.len() <= case.chunk as usize;
            match case.command {
                Command::Write { .. } if at_once => refused(case),
                Command::Atomic { .. } | Command::Swap { .. } => refused(case),
                _ => perhaps(case),
            }
            Ok("with RESERVATION CONFLICT")
        }
        (0x02, Some((key::UNIT_ATTENTION, ..))) => {
            refused(case);
            Ok("with a unit attention")
        }
        (0x02, Some((key::MEDIUM_ERROR, ..))) if case.faulty => {
            perhaps(case);
            Ok("with a medium error")
        }
        (0x02, Some((key::ABORTED_COMMAND, ..))) if case.damaged => {
            perhaps(case);
            Ok("damaged")
        }
        (0x02, Some((key::MISCOMPARE, _, at))) => miscompare(case, at as usize),
        (0x08, _) => {
            perhaps(case);
            Ok("with BUSY")
        }
        (0x28, _) => {
            refused(case);
            Ok("with TASK SET FULL")
        }
        (status, sense) => Err(format!("status {status:#04x} with sense {sense:x?}")),
    }
}

/// Whether a command is about the medium.
fn needs_medium(command: Command) -> bool {
    !matches!(command, Command::Persistent(_))
}

fn refused(case: Case<'_>) {
    if let Some(op) = case.op {
        case.oracle.never(op);
    }
}

fn perhaps(case: Case<'_>) {
    if let Some(op) = case.op {
        case.oracle.maybe(op);
    }
}

fn good(case: Case<'_>) -> Result<&'static str, String> {
    let Case { disk, lba, look, oracle, out, .. } = case;
    let (over, under, _) = case.ending.residual;
    if over || under {
        return Err(format!("GOOD with residual {:x?}", case.ending.residual));
    }
    if case.got.len() != case.wanted {
        return Err(format!("GOOD with {} of {} bytes", case.got.len(), case.wanted));
    }
    match case.command {
        Command::Read { .. } => {
            oracle.read(disk, lba, case.got, look)?;
            if !case.faulty {
                let at_once = case.chunk as usize / oracle.block(disk);
                for (i, piece) in case.got.chunks(case.chunk as usize).enumerate() {
                    oracle.whole(disk, lba + (i * at_once) as u64, piece)?;
                }
            }
        }
        Command::Verify => oracle.read(disk, lba, out, look)?,
        Command::Swap { .. } => {
            let op = case.op.ok_or("a write without a name")?;
            oracle.swapped(disk, lba, &out[..out.len() / 2], op, look)?;
        }
        Command::Flush => oracle.flushed(disk, look.sent, look.order),
        _ => {}
    }
    let stable = match case.command {
        Command::Write { fua } | Command::Swap { fua } | Command::Atomic { fua } | Command::Or { fua } => {
            fua || !case.cached
        }
        Command::WriteVerify => true,
        Command::WriteSame { pattern } => pattern && !case.cached,
        _ => false,
    };
    if let Some(op) = case.op {
        oracle.done(op, stable);
    }
    Ok("well")
}

fn miscompare(case: Case<'_>, at: usize) -> Result<&'static str, String> {
    let Case { command, disk, lba, look, oracle, out, .. } = case;
    let half = match command {
        Command::Swap { .. } => out.len() / 2,
        Command::Verify => out.len(),
        Command::WriteVerify => {
            let op = case.op.ok_or("a write without a name")?;
            if !oracle.is_contended(disk, lba, case.blocks, op) {
                return Err(format!("MISCOMPARE at {at} of what nobody else writes"));
            }
            oracle.maybe(op);
            return Ok("with somebody else's bytes");
        }
        _ => return Err("MISCOMPARE of a command that compares nothing".into()),
    };
    if at >= half {
        return Err(format!("MISCOMPARE at {at} of {half}"));
    }
    let size = oracle.block(disk);
    let index = at / size;
    let compare = &out[index * size..(index + 1) * size];
    let own = Look { own: case.op, ..look };
    oracle.differed(disk, lba + index as u64, compare, at % size, own)?;
    if let Some(op) = case.op {
        oracle.never(op);
    }
    Ok("with a miscompare")
}
