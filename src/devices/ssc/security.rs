// SPDX-License-Identifier: GPL-2.0-or-later
//! SECURITY PROTOCOL IN and OUT (SPC-5 6.41, 6.42) for tape data encryption (SSC-4 8.5).

use super::drive::{Drive, Job, Tape};
use super::encryption::{
    AKAD_MAX, ALGORITHM, ALGORITHM_INDEX, DecryptMode, HEAD_MAX, RecordCipher, UKAD_MAX, head_length,
    key_data,
};
use super::forms::ENCRYPTED;
use super::store_work::{Pause, StoreWork};
use crate::formats::tape::{RecordPayload, TapeObject};
use crate::io::{Done, Landing, Op};
use crate::scsi::primary::handlers::answered;
use crate::scsi::primary::{DeviceType, Fault, TakeList, TaskWork, reply, unexpected};
use crate::scsi::{Context, Outcome, Resume, Sense, Step, asc};
use crate::wire::scsi::{DataIn, be16, be32};

const INFORMATION: u8 = 0x00;
const TAPE_DATA_ENCRYPTION: u8 = 0x20;

/// Pages of tape data encryption.
const IN_SUPPORT: u16 = 0x00;
const OUT_SUPPORT: u16 = 0x01;
const CAPABILITIES: u16 = 0x10;
const KEY_FORMATS: u16 = 0x11;
const MANAGEMENT: u16 = 0x12;
const STATUS: u16 = 0x20;
const NEXT_BLOCK: u16 = 0x21;
const IN_PAGES: [u16; 7] =
    [IN_SUPPORT, OUT_SUPPORT, CAPABILITIES, KEY_FORMATS, MANAGEMENT, STATUS, NEXT_BLOCK];
const SET_DATA_ENCRYPTION: u16 = 0x10;

/// Protocol, page and length of a CDB. Lengths in units of 512 bytes there are none.
fn asked(cdb: &[u8; 16]) -> (u8, u16, u32) {
    (cdb[1], be16(cdb, 2), be32(cdb, 6))
}

fn unknown_page() -> Fault {
    Sense::invalid_field_in_cdb(2, None).into()
}

/// SECURITY PROTOCOL IN; `None` if it is about the next block, for which the cartridge is needed.
pub(super) fn protocol_in(job: &Job<'_>, cx: &mut Context<'_>) -> Result<Option<TaskWork<Tape>>, Fault> {
    let mut data = DataIn::new();
    let (protocol, page, length) = asked(&job.cdb);
    match (protocol, page) {
        // The protocols, and a certificate, of which there is none.
        (INFORMATION, 0) => _ = data.pad_to(6).u16(2).bytes(&[INFORMATION, TAPE_DATA_ENCRYPTION]),
        (INFORMATION, 1) => _ = data.u32(0),
        (INFORMATION, _) => return Err(unknown_page()),
        (TAPE_DATA_ENCRYPTION, NEXT_BLOCK) => {
            return match job.unit.unready() {
                Some(sense) => Err(sense.into()),
                None => Ok(None),
            };
        }
        (TAPE_DATA_ENCRYPTION, page) => {
            data.u16(page).u16(0);
            encryption_page(page, &job.unit.drive(), &mut data)?;
            data.close(2, 2);
        }
        _ => return Err(Sense::invalid_field_in_cdb(1, None).into()),
    }
    answered((data, length), cx).map(Some)
}

fn encryption_page(page: u16, drive: &Drive, data: &mut DataIn) -> Result<(), Fault> {
    match page {
        IN_SUPPORT => IN_PAGES.iter().for_each(|page| _ = data.u16(*page)),
        OUT_SUPPORT => _ = data.u16(SET_DATA_ENCRYPTION),
        CAPABILITIES => {
            const CFG_P: u8 = 0x01;
            /// For the mounted volume; MAC, tells encrypted from other records, encrypts and decrypts.
            const AVFMV: u8 = 0x80;
            const CAPABLE: u8 = 0x20 | 0x10 | 0x08 | 0x02;
            const NONCE: u8 = 0x10;
            const KEY_DATA: u8 = 0xc0;
            let valid = if drive.mounted().is_some() { AVFMV } else { 0 };
            data.u8(CFG_P).pad_to(20);
            data.u8(ALGORITHM_INDEX).u8(0).u16(20).u8(valid | CAPABLE).u8(NONCE);
            data.u16(UKAD_MAX as u16).u16(AKAD_MAX as u16).u16(32).u8(KEY_DATA).pad_to(40).u32(ALGORITHM);
        }
        // As it is.
        KEY_FORMATS => _ = data.u8(0),
        MANAGEMENT => {
            const CKOD_C: u8 = 0x04;
            const AITN_C: u8 = 0x04;
            data.u8(0).u8(CKOD_C).u8(0).u8(AITN_C).pad_to(16);
        }
        STATUS => {
            const ALL_NEXUSES: u8 = 0x42;
            const BY_SOFTWARE: u8 = 0x10;
            const VCELB: u8 = 0x08;
            let encryption = &drive.encryption;
            let set = encryption.key.is_some();
            let mode = if encryption.encrypts { 2 } else { 0 };
            data.u8(if set { ALL_NEXUSES } else { 0 }).u8(mode).u8(encryption.decrypts as u8);
            data.u8(if set { ALGORITHM_INDEX } else { 0 }).u32(encryption.instance);
            data.u8(BY_SOFTWARE | if drive.saw_encrypted { VCELB } else { 0 });
            let known = encryption.key_data();
            data.u8(known.map_or(0, |(format, ..)| format)).pad_to(24);
            if let Some((_, unauthenticated, authenticated)) = known {
                write_key_data(unauthenticated, authenticated, data);
            }
        }
        _ => return Err(unknown_page()),
    }
    Ok(())
}

/// Descriptors of key-associated data.
fn write_key_data(unauthenticated: &[u8], authenticated: &[u8], data: &mut DataIn) {
    for (kind, bytes) in [(0, unauthenticated), (1, authenticated)] {
        if !bytes.is_empty() {
            data.u8(kind).u8(0).u16(bytes.len() as u16).bytes(bytes);
        }
    }
}

/// SECURITY PROTOCOL OUT.
pub(super) fn protocol_out(job: &Job<'_>, _: &mut Context<'_>) -> Result<TaskWork<Tape>, Fault> {
    const LIST_MAX: u32 = 4096;
    let (protocol, page, length) = asked(&job.cdb);
    if protocol != TAPE_DATA_ENCRYPTION {
        return Err(Sense::invalid_field_in_cdb(1, None).into());
    }
    if page != SET_DATA_ENCRYPTION {
        return Err(unknown_page());
    }
    if length > LIST_MAX {
        return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR).into());
    }
    Ok(TaskWork::Take(TakeList::new(length, |job, list, _| {
        if be16(list, 0) != SET_DATA_ENCRYPTION && !list.is_empty() {
            return Err(Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST)
                .pointing_at(false, 0, None)
                .into());
        }
        let changed = !list.is_empty() && job.unit.drive().encryption.set(list)?;
        Ok((changed.then_some(asc::DATA_ENCRYPTION_PARAMETERS_CHANGED_BY_ANOTHER_I_T_NEXUS), None))
    })))
}

/// The page about the next block, with the cartridge mounted.
pub(super) fn next_block(
    store: &mut StoreWork,
    drive: &mut Drive,
    answer: Option<Resume>,
    job: &Job<'_>,
    cx: &Context<'_>,
) -> Result<Outcome, Pause> {
    const NOT_A_RECORD: u8 = 2;
    const NOT_ENCRYPTED: u8 = 3;
    const RIGHT_KEY: u8 = 5;
    const NO_KEY: u8 = 6;
    let (partition, lba) = (drive.partition, drive.lba);
    let head = match answer {
        None => None,
        Some(Resume::Stored(Done::Data(data))) => Some(data.to_vec()),
        other => return Err(unexpected(other, &job.shape).into()),
    };
    let object = store.ask(drive, |image| image.find(partition, lba))?;
    let mut known = None;
    let status = match object {
        Some(TapeObject::Record(header, payload)) if header.form & ENCRYPTED != 0 => {
            let head = match (payload, head) {
                (RecordPayload::Here(bytes), _) | (_, Some(bytes)) => bytes,
                (RecordPayload::At(range), None) => {
                    let step = Step::Store(Op::Read { at: range.at, len: 4096, into: Landing::Own });
                    return Err(store.wait_for(step));
                }
            };
            let length = head_length(&head).ok().filter(|length| *length <= HEAD_MAX.min(head.len()));
            let Some(head) = length.map(|length| &head[..length]) else {
                return Err(Sense::new(crate::scsi::key::MEDIUM_ERROR, asc::UNRECOVERED_READ_ERROR).into());
            };
            let (format, unauthenticated, authenticated) = key_data(head);
            known = Some((format, unauthenticated.to_vec(), authenticated.to_vec()));
            let encryption = &drive.encryption;
            let key = encryption.key.as_ref().filter(|_| encryption.decrypts != DecryptMode::Off);
            let right = key.is_some_and(|key| RecordCipher::of(key, head, header.logical).is_ok());
            if right { RIGHT_KEY } else { NO_KEY }
        }
        Some(TapeObject::Record(..)) => NOT_ENCRYPTED,
        Some(TapeObject::Filemark) | None => NOT_A_RECORD,
    };
    let mut data = DataIn::new();
    data.u16(NEXT_BLOCK).u16(0).u64(lba).u8(status);
    let (format, unauthenticated, authenticated) = known.clone().unwrap_or_default();
    data.u8(if known.is_some() { ALGORITHM_INDEX } else { 0 }).u8(0).u8(format);
    write_key_data(&unauthenticated, &authenticated, &mut data);
    data.close(2, 2);
    Ok(reply(&data, asked(&job.cdb).2 as usize, cx))
}
