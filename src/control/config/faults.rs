// SPDX-License-Identifier: GPL-2.0-or-later
//! Rules by which disks make faults.

use std::time::Duration;

use crate::devices::sbc::{self, BlockSize};
use crate::engine::tasks::{Answer, CommandFault};
use crate::io::FaultRate;
use crate::options::{Section, nearest};
use crate::scsi::Status;
use crate::stores::{Failure, Operations, StoreFault};

/// How often and how late; complains of a rule that changes nothing.
fn rate(s: &Section<'_>, does: Option<bool>, key: &'static str) -> Option<FaultRate> {
    let (delay, jitter) = (s.time("delay"), s.time("jitter"));
    let (one_in, after, times) = (s.number("one_in"), s.number("after"), s.number("times"));
    if let (Some(false), Some(Duration::ZERO), Some(Duration::ZERO)) = (does, delay, jitter) {
        s.error(key, "the rule does nothing", format!("give an `{key}`, a `delay` or a `jitter`"));
    }
    Some(FaultRate { delay: delay?, jitter: jitter?, one_in: one_in?, after: after?, times })
}

/// A rule by which a store makes faults. Its blocks are those of the disk.
pub(super) fn of_store(s: Section<'_>, block: Option<BlockSize>) -> Option<StoreFault> {
    let operations = s.word("operation", &Operations::ALL);
    let failure = s.word("error", &Failure::ALL);
    let (lba, blocks): (Option<u64>, Option<u64>) = (s.number("lba"), s.number("blocks"));
    let rate = rate(&s, failure.map(|failure| failure != Failure::None), "error");
    s.finish();
    let bytes = |blocks: u64| Some(blocks.saturating_mul(u64::from(block?.bytes())));
    let start = bytes(lba?)?;
    let end = blocks.map_or(Some(u64::MAX), |blocks| bytes(lba?.saturating_add(blocks)))?;
    Some(StoreFault { operations: operations?, bytes: start..end, failure: failure?, rate: rate? })
}

/// A rule by which commands are slow or fail.
pub(super) fn of_commands(s: Section<'_>) -> Option<CommandFault> {
    let command = s.text("command").and_then(|text| {
        let found = command(&text);
        if found.is_none() {
            let names: Vec<&str> = sbc::commands().map(|definition| definition.name).collect();
            let mut others = names.clone();
            others.dedup();
            let all = format!(
                "give an operation code of a disk such as \"0x2a\", or a name: {}",
                others.join("; ")
            );
            s.error("command", format!("{text:?} is no command of a disk"), nearest(&text, &names, &all));
        }
        found
    });
    let answer = s.parsed("answer", answer);
    let rate = rate(&s, answer.map(|answer| answer != Answer::Usual), "answer");
    s.finish();
    let (opcode, action) = command?;
    Some(CommandFault { opcode, action, answer: answer?, rate: rate? })
}

/// The operation code, and the service action if one is meant, by name or number.
fn command(text: &str) -> Option<(u8, Option<u16>)> {
    if let Some(digits) = text.strip_prefix("0x") {
        let opcode = u8::from_str_radix(digits, 16).ok()?;
        return sbc::commands().any(|definition| definition.opcode == opcode).then_some((opcode, None));
    }
    let definition = sbc::commands().find(|definition| definition.name.eq_ignore_ascii_case(text))?;
    Some((definition.opcode, definition.action))
}

/// How a command ends.
fn answer(text: &str) -> Option<Answer> {
    match text {
        "none" => return Some(Answer::Usual),
        "busy" => return Some(Answer::Status(Status::Busy)),
        "task-set-full" => return Some(Answer::Status(Status::TaskSetFull)),
        _ => {}
    }
    let byte = |digits: &str| match digits.len() {
        1 | 2 => u8::from_str_radix(digits, 16).ok(),
        _ => None,
    };
    let mut parts = text.split('/');
    let (key, code, qualifier) = (byte(parts.next()?)?, byte(parts.next()?)?, byte(parts.next()?)?);
    let rest = parts.next();
    (rest.is_none() && key < 0x10).then(|| Answer::Check(key, u16::from_be_bytes([code, qualifier])))
}
