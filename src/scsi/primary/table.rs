// SPDX-License-Identifier: GPL-2.0-or-later
//! The one list of a device type's commands. It drives dispatch, the check of reserved bits, and REPORT SUPPORTED
//! OPERATION CODES, so that the three cannot disagree.

use smallvec::SmallVec;

use crate::scsi::alua::Served;
use crate::scsi::reservations::Access;
use crate::scsi::{Cdb, Sense, asc};
use crate::wire::scsi::{DataIn, be16, be32};

/// The operation code of variable length CDBs: the control byte is the second, the service action has 16 bits in bytes
/// 8 and 9 (SPC-5 4.2.3).
pub const VARIABLE_LENGTH: u8 = 0x7f;

/// What a command needs of the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Nothing: it is carried out also while the medium is being formatted or sanitized.
    Nothing,
    /// That nothing of the kind is under way.
    NotFormatting,
    /// A medium that is ready.
    Medium,
}

/// Properties that some logical units of a device type have and others have not. What each bit means is the device
/// type's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u8);

impl Features {
    /// Whether all of the others are among these.
    pub const fn contain(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

/// What a command looks like and what it does to the medium.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Operation code.
    pub opcode: u8,
    /// Service action, of commands that have one (byte 1, bits 4 to 0; variable length CDBs: bytes 8 and 9).
    pub action: Option<u16>,
    /// Name in the standards.
    pub name: &'static str,
    /// CDB usage data (SPC-5 6.35.3): a one for each bit that is evaluated; the operation code and the service action
    /// stand as they are. Its length is that of the CDB.
    pub usage: &'static [u8],
    /// Whether it changes the medium, which write protection forbids.
    pub writes: bool,
    /// What it does to a logical unit that another nexus may have reserved.
    pub access: Access,
    /// Forms of it that are allowed whatever is reserved.
    pub harmless: Option<fn(&[u8; 16]) -> bool>,
    /// In which states of its target port it is served.
    pub served: Served,
    /// What a logical unit must have to offer it.
    pub features: Features,
    /// What it needs of the logical unit.
    pub needs: Needs,
    /// It is carried out although a unit attention is pending.
    pub passes_attentions: bool,
    /// A logical unit that runs one command at a time carries it out beside another.
    pub passes_line: bool,
    /// Recommended timeout in seconds.
    pub timeout: u32,
    /// A one for each bit that must be zero, of CDBs of up to 16 bytes as a big-endian number.
    refused: u128,
}

impl Definition {
    /// A command without a service action that leaves the medium alone and ends within the usual time.
    pub const fn new(name: &'static str, usage: &'static [u8]) -> Self {
        Self {
            opcode: usage[0],
            action: None,
            name,
            usage,
            writes: false,
            access: Access::Read,
            harmless: None,
            served: Served::Active,
            features: Features(0),
            needs: Needs::NotFormatting,
            passes_attentions: false,
            passes_line: false,
            timeout: 30,
            refused: refused(usage, false),
        }
    }

    /// A service action, taken from byte 1 of the usage data.
    pub const fn action(name: &'static str, usage: &'static [u8]) -> Self {
        let action = Some(usage[1] as u16 & 0x1f);
        Self { action, refused: refused(usage, true), ..Self::new(name, usage) }
    }

    /// A service action of a variable length CDB, taken from bytes 8 and 9 of the usage data.
    pub const fn variable(name: &'static str, usage: &'static [u8]) -> Self {
        assert!(usage[0] == VARIABLE_LENGTH && usage[7] as usize == usage.len() - 8);
        Self { action: Some((usage[8] as u16) << 8 | usage[9] as u16), ..Self::new(name, usage) }
    }

    /// Is carried out whatever goes on.
    pub const fn always(self) -> Self {
        Self { needs: Needs::Nothing, ..self }
    }

    /// Needs the medium.
    pub const fn medium(self) -> Self {
        Self { needs: Needs::Medium, ..self }
    }

    /// Changes the medium, and needs it.
    pub const fn writing(self) -> Self {
        Self { needs: Needs::Medium, ..self.renewing() }
    }

    /// Changes the medium, also one that is not ready.
    pub const fn renewing(self) -> Self {
        Self { writes: true, access: Access::Write, ..self }
    }

    /// Does this to a logical unit that another nexus may have reserved: without it, it reads, or writes if it changes
    /// the medium.
    pub const fn with(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// Changes what a reservation protects, but for the forms that `harmless` knows.
    pub const fn exclusive_but(self, harmless: fn(&[u8; 16]) -> bool) -> Self {
        Self { access: Access::Write, harmless: Some(harmless), ..self }
    }

    /// Is served also when the target port is in standby.
    pub const fn in_standby(self) -> Self {
        Self { served: Served::Standby, ..self }
    }

    /// Is served in all states of the target port.
    pub const fn in_any_state(self) -> Self {
        Self { served: Served::Always, ..self }
    }

    /// What this form of it does to a logical unit that another nexus may have reserved.
    pub fn access_of(&self, cdb: &[u8; 16]) -> Access {
        match self.harmless {
            Some(harmless) if harmless(cdb) => Access::Always,
            _ => self.access,
        }
    }

    /// Is offered by logical units with these features only.
    pub const fn only_with(self, features: Features) -> Self {
        Self { features, ..self }
    }

    /// Is carried out although a unit attention is pending (SPC-5 5.14); every other is answered with it.
    pub const fn passing_attentions(self) -> Self {
        Self { passes_attentions: true, ..self }
    }

    /// Is carried out at once, also by a logical unit that runs one command at a time and is at another.
    pub const fn passing_the_line(self) -> Self {
        Self { passes_line: true, ..self }
    }

    /// May take longer than usual.
    pub const fn within(self, seconds: u32) -> Self {
        Self { timeout: seconds, ..self }
    }

    /// Refuses bits that are not evaluated.
    fn check(&self, cdb: &[u8]) -> Result<(), Sense> {
        if cdb.len() < self.usage.len() {
            return Err(Sense::illegal(asc::INVALID_FIELD_IN_CDB));
        }
        if self.opcode == VARIABLE_LENGTH {
            return self.check_variable(cdb);
        }
        let head = match cdb.first_chunk::<16>() {
            Some(head) => u128::from_be_bytes(*head),
            None => cdb.iter().fold(0, |head, &byte| head << 8 | u128::from(byte)) << (8 * (16 - cdb.len())),
        };
        match head & self.refused {
            0 => Ok(()),
            bad => Err(misplaced((bad.leading_zeros() / 8) as usize, bad.ilog2())),
        }
    }

    /// The same for a variable length CDB, whose length has to be the one of the service action by which the row was
    /// found.
    fn check_variable(&self, cdb: &[u8]) -> Result<(), Sense> {
        for (i, (&byte, &used)) in cdb.iter().zip(self.usage).enumerate().skip(1) {
            let bad = match i {
                1 => 0,
                7..10 => byte ^ used,
                _ => byte & !used,
            };
            if bad != 0 {
                return Err(misplaced(i, bad.ilog2()));
            }
        }
        Ok(())
    }
}

/// A bit at that byte of the CDB which should be zero; of `bit` the low three bits count.
fn misplaced(byte: usize, bit: u32) -> Sense {
    Sense::invalid_field_in_cdb(u16::try_from(byte).unwrap_or(u16::MAX), Some((bit & 7) as u8))
}

/// NACA in the control byte, which every command has.
const NACA: u8 = 0x04;

/// The bits that must be zero. Two kinds are let pass, as targets always have: the field of 6-byte commands that held
/// the logical unit number in SCSI-2, and the control byte, of which NACA is the task manager's affair.
const fn refused(usage: &[u8], action: bool) -> u128 {
    let last = usage.len() - 1;
    let (mut bits, mut i) = (0, 1);
    while i <= last && i < 16 {
        let mut bad = !usage[i];
        if i == 1 && action {
            bad &= 0xe0;
        }
        if i == 1 && last == 5 {
            bad &= 0x1f;
        }
        if i == last {
            bad = 0;
        }
        bits |= (bad as u128) << (8 * (15 - i));
        i += 1;
    }
    bits
}

/// The first 16 bytes of a CDB, zero beyond its end: enough for every fixed-length command.
pub fn head(cdb: &Cdb) -> [u8; 16] {
    let mut head = [0; 16];
    let n = cdb.bytes().len().min(16);
    head[..n].copy_from_slice(&cdb.bytes()[..n]);
    head
}

/// A command and what carries it out.
#[derive(Clone, Copy, Debug)]
pub struct Row<H> {
    /// The command.
    pub definition: Definition,
    /// What carries it out.
    pub run: H,
}

/// Two lists of rows in order, as one: of one operation code, those of the first come first.
pub const fn merged<H: Copy, const N: usize>(first: &[Row<H>], second: &[Row<H>]) -> [Row<H>; N] {
    assert!(first.len() + second.len() == N, "all rows");
    let mut all = [first[0]; N];
    let (mut a, mut b) = (0, 0);
    while a + b < N {
        let goes_first =
            b == second.len() || a < first.len() && first[a].definition.opcode <= second[b].definition.opcode;
        if goes_first {
            all[a + b] = first[a];
            a += 1;
        } else {
            all[a + b] = second[b];
            b += 1;
        }
    }
    all
}

/// Most commands need no features.
#[inline]
fn is_offered<H>(row: &Row<H>, features: &impl Fn() -> Features) -> bool {
    let needed = row.definition.features;
    needed == Features(0) || features().contain(needed)
}

/// No row for this operation code.
const NONE: u8 = 0xff;

/// The service action, if the command has one.
pub fn service_action(cdb: &Cdb) -> u16 {
    match cdb.opcode() {
        VARIABLE_LENGTH => be16(cdb.bytes(), 8),
        _ => cdb.bytes().get(1).map_or(0, |b| (b & 0x1f).into()),
    }
}

/// All commands of a device type.
#[derive(Debug)]
pub struct Table<H: 'static> {
    rows: &'static [Row<H>],
    /// The first row of each operation code, so that dispatch does not search.
    first: [u8; 256],
}

impl<H: Copy> Table<H> {
    /// Takes rows in ascending order of operation code; service actions of one code stand together.
    pub const fn new(rows: &'static [Row<H>]) -> Self {
        assert!(rows.len() < NONE as usize, "row numbers fit a byte");
        let mut first = [NONE; 256];
        let mut i = rows.len();
        while i > 0 {
            i -= 1;
            let opcode = rows[i].definition.opcode;
            assert!(i == 0 || rows[i - 1].definition.opcode <= opcode, "rows are in order");
            first[opcode as usize] = i as u8;
        }
        Self { rows, first }
    }

    /// The rows.
    pub fn rows(&self) -> &'static [Row<H>] {
        self.rows
    }

    /// The rows of an operation code: several if it has service actions.
    fn of(&self, opcode: u8) -> &'static [Row<H>] {
        let first = self.first[usize::from(opcode)];
        if first == NONE {
            return &[];
        }
        let rows = &self.rows[usize::from(first)..];
        let n = rows.iter().take_while(|r| r.definition.opcode == opcode).count();
        &rows[..n]
    }

    /// What there is to know of a command; `None` if there is no such row.
    pub fn definition(&self, cdb: &Cdb) -> Option<&'static Definition> {
        let action = service_action(cdb);
        let mut rows = self.of(cdb.opcode()).iter().map(|row| &row.definition);
        rows.find(|d| d.action.is_none_or(|a| a == action))
    }

    /// Finds the row of a command that is offered with these features, which are asked for where they matter, and
    /// checks its reserved bits.
    #[inline]
    pub fn find(&self, cdb: &Cdb, features: impl Fn() -> Features) -> Result<&'static Row<H>, Sense> {
        let bytes = cdb.bytes();
        let action = service_action(cdb);
        let mut unknown = Sense::illegal(asc::INVALID_COMMAND_OPERATION_CODE);
        for row in self.of(cdb.opcode()).iter().filter(|row| is_offered(row, &features)) {
            if row.definition.action.is_none_or(|a| a == action) {
                row.definition.check(bytes)?;
                return Ok(row);
            }
            let (byte, bit) = if cdb.opcode() == VARIABLE_LENGTH { (8, 7) } else { (1, 4) };
            unknown = Sense::invalid_field_in_cdb(byte, Some(bit));
        }
        Err(unknown)
    }

    /// REPORT SUPPORTED OPERATION CODES (SPC-5 6.35), for the commands that are offered with these features. The CDB
    /// has been checked.
    pub fn report(&self, cdb: &[u8; 16], features: Features) -> Result<(DataIn, u32), Sense> {
        let offered = |d: &&Definition| features.contain(d.features);
        let timeouts = cdb[2] & 0x80 != 0;
        let (opcode, action) = (cdb[3], be16(cdb, 4));
        let mut data = DataIn::new();
        let rows = self.of(opcode).iter().map(|r| &r.definition).filter(offered);
        match cdb[2] & 7 {
            0 => {
                data.u32(0);
                for d in self.rows.iter().map(|r| &r.definition).filter(offered) {
                    all_commands(&mut data, d, timeouts);
                }
                data.close(0, 4);
            }
            options @ 1..=3 => {
                // One asks for a command without, two for one with service actions; three takes either.
                let mut found = None;
                for d in rows {
                    if options == 1 && d.action.is_some() || options == 2 && d.action.is_none() {
                        return Err(Sense::invalid_field_in_cdb(2, Some(2)));
                    }
                    if d.action.unwrap_or(0) == action || options == 1 {
                        found = Some(d);
                    }
                }
                one_command(&mut data, found, timeouts);
            }
            _ => return Err(Sense::invalid_field_in_cdb(2, Some(2))),
        }
        Ok((data, be32(cdb, 6)))
    }
}

/// A command descriptor of the list of all.
fn all_commands(data: &mut DataIn, d: &Definition, timeouts: bool) {
    let flags = u8::from(timeouts) << 1 | u8::from(d.action.is_some());
    data.u8(d.opcode).u8(0).u16(d.action.unwrap_or(0)).u8(0).u8(flags).u16(d.usage.len() as u16);
    if timeouts {
        timeout_descriptor(data, d);
    }
}

/// The parameter data for one command; `None` is not supported.
fn one_command(data: &mut DataIn, d: Option<&Definition>, timeouts: bool) {
    const NOT_SUPPORTED: u8 = 1;
    const SUPPORTED: u8 = 3;
    let Some(d) = d else {
        data.u8(0).u8(NOT_SUPPORTED).u16(0);
        return;
    };
    let mut usage: SmallVec<[u8; 32]> = SmallVec::from_slice(d.usage);
    usage[if d.opcode == VARIABLE_LENGTH { 1 } else { d.usage.len() - 1 }] |= NACA;
    data.u8(0).u8(u8::from(timeouts) << 7 | SUPPORTED).u16(d.usage.len() as u16).bytes(&usage);
    if timeouts {
        timeout_descriptor(data, d);
    }
}

fn timeout_descriptor(data: &mut DataIn, d: &Definition) {
    // No nominal time is known: it is the store's.
    data.u16(0x0a).u8(0).u8(0).u32(0).u32(d.timeout);
}
