// SPDX-License-Identifier: GPL-2.0-or-later
//! How commands end badly.

use super::shape::Shape;
use crate::io;
use crate::scsi::{Outcome, Resume, Sense, Status, asc, key};

/// Why a command is not carried out, or not to its end.
#[derive(Debug)]
pub enum Fault {
    /// CHECK CONDITION.
    Check(Sense),
    /// CHECK CONDITION: of so many bytes that the command wants, the initiator offers a part that is no whole number of
    /// blocks.
    PartOfBlock {
        /// From which the residual is made.
        wanted: u64,
    },
    /// BUSY: there is no memory for the moment.
    Busy,
}

impl From<Sense> for Fault {
    fn from(sense: Sense) -> Self {
        Self::Check(sense)
    }
}

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Check(sense) => Self::check(sense),
            Fault::PartOfBlock { wanted } => {
                let sense = Sense::illegal(asc::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT);
                Self { data_out: wanted, ..Self::check(sense) }
            }
            Fault::Busy => Self::status(Status::Busy),
        }
    }
}

/// What an answer means that was not hoped for: a failure of the store, or one of this program.
pub fn unexpected(answer: Option<Resume>, shape: &impl Shape) -> Fault {
    match answer {
        Some(Resume::Stored(io::Done::Failed(error))) => store_failed(error, shape),
        _ => Fault::Check(Sense::new(key::HARDWARE_ERROR, asc::INTERNAL_TARGET_FAILURE)),
    }
}

/// The same after a flush, whose failure has no place on the medium.
pub fn unexpected_after_flush(answer: Option<Resume>, shape: &impl Shape) -> Fault {
    match unexpected(answer, shape) {
        Fault::Check(sense) => Fault::Check(Sense { information: None, ..sense }),
        busy => busy,
    }
}

/// The one place where a store's error becomes a status and sense data.
fn store_failed(error: io::Error, shape: &impl Shape) -> Fault {
    let (key, code) = match error.kind {
        io::ErrorKind::ReadFailed => (key::MEDIUM_ERROR, asc::UNRECOVERED_READ_ERROR),
        io::ErrorKind::WriteFailed => (key::MEDIUM_ERROR, asc::WRITE_ERROR),
        io::ErrorKind::NoSpace => (key::DATA_PROTECT, asc::SPACE_ALLOCATION_FAILED_WRITE_PROTECT),
        io::ErrorKind::ReadOnly => (key::DATA_PROTECT, asc::WRITE_PROTECTED),
        io::ErrorKind::OutOfRange => (key::ILLEGAL_REQUEST, asc::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE),
        io::ErrorKind::Unsupported => (key::ILLEGAL_REQUEST, asc::INVALID_COMMAND_OPERATION_CODE),
        io::ErrorKind::NoMemory => return Fault::Busy,
    };
    let information = (key == key::MEDIUM_ERROR).then(|| shape.lba(error.at));
    Fault::Check(Sense { information, ..Sense::new(key, code) })
}

/// MISCOMPARE at a byte of the Data-Out Buffer.
pub fn miscompare(offset: u64) -> Fault {
    Fault::Check(Sense {
        information: Some(offset),
        ..Sense::new(key::MISCOMPARE, asc::MISCOMPARE_DURING_VERIFY)
    })
}
