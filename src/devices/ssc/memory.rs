// SPDX-License-Identifier: GPL-2.0-or-later
//! READ and WRITE ATTRIBUTE (SPC-5 6.17, 6.58): the memory of the cartridge (MAM). What hosts write lies in the image;
//! of what drives and media say of themselves only that lies there which outlives a load.

use super::density;
use super::drive::{Drive, Job, TapeCounts};
use super::position::medium_serial;
use super::store_work::{Pause, StoreWork};
use crate::formats::tape::{ATTRIBUTE_BYTES_MAX, CartridgeUse, TapeAttribute, TapeImage};
use crate::scsi::primary::{Fault, Identity, reply, unexpected};
use crate::scsi::{Context, Outcome, Resume, Sense, Step, asc, key};
use crate::wire::scsi::{DataIn, be16, be32, be64};

/// Of the second byte of an attribute: it cannot be written, and what it holds.
const READ_ONLY: u8 = 0x80;
const BINARY: u8 = 0;
const ASCII: u8 = 1;
const TEXT: u8 = 2;

/// Identifiers that are looked at apart.
const ALERTS: u16 = 0x0002;
const LOAD_COUNT: u16 = 0x0003;
const DEVICE_AT_LOAD: u16 = 0x020a;
const WRITTEN_IN_LIFE: u16 = 0x0220;
const READ_IN_LIFE: u16 = 0x0221;
const WRITTEN_IN_LAST_LOAD: u16 = 0x0222;
const READ_IN_LAST_LOAD: u16 = 0x0223;
const BARCODE: u16 = 0x0806;
/// Loads of which the drive is known.
const DEVICES: u16 = 4;

/// An attribute that hosts write.
struct HostAttribute {
    identifier: u16,
    format: u8,
    /// Bytes of its value; 0: as many as it is given.
    length: u16,
    /// Each partition has its own.
    of_partition: bool,
}

const fn host(identifier: u16, format: u8, length: u16) -> HostAttribute {
    HostAttribute { identifier, format, length, of_partition: false }
}

const fn of_partition(identifier: u16, format: u8, length: u16) -> HostAttribute {
    HostAttribute { of_partition: true, ..host(identifier, format, length) }
}

const HOST_ATTRIBUTES: [HostAttribute; 15] = [
    host(0x0800, ASCII, 8),
    host(0x0801, ASCII, 32),
    host(0x0802, ASCII, 8),
    host(0x0803, TEXT, 160),
    host(0x0804, ASCII, 12),
    host(0x0805, BINARY, 1),
    host(BARCODE, ASCII, 32),
    host(0x0807, TEXT, 80),
    host(0x0808, TEXT, 160),
    of_partition(0x0809, ASCII, 16),
    of_partition(0x080a, BINARY, 1),
    host(0x080b, ASCII, 16),
    of_partition(0x080c, BINARY, 0),
    host(0x0820, BINARY, 36),
    host(0x0821, BINARY, 36),
];

/// Attributes that vendors give to hosts: whatever they like.
const OF_HOST_VENDORS: std::ops::RangeInclusive<u16> = 0x1400..=0x17ff;

fn host_attribute(identifier: u16) -> Option<HostAttribute> {
    if OF_HOST_VENDORS.contains(&identifier) {
        return Some(host(identifier, BINARY, 0));
    }
    HOST_ATTRIBUTES.into_iter().find(|known| known.identifier == identifier)
}

fn fixed<const N: usize>(text: &[u8]) -> Vec<u8> {
    let mut padded = [b' '; N];
    for (to, from) in padded.iter_mut().zip(text) {
        *to = *from;
    }
    padded.to_vec()
}

/// The vendor and the serial number of a drive, as it signs loads.
fn signature(identity: &Identity) -> Vec<u8> {
    let mut both = identity.vendor().to_vec();
    both.extend(fixed::<32>(identity.serial()));
    both
}

/// The number in an attribute that the image keeps.
fn kept_number(image: &TapeImage, identifier: u16) -> u64 {
    kept(image, identifier).map_or(0, |attribute| be64(&attribute.value, 0))
}

fn kept(image: &TapeImage, identifier: u16) -> Option<&TapeAttribute> {
    image.attributes().iter().find(|attribute| attribute.identifier == identifier)
}

/// In whole MiB, as all amounts are.
fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

/// What the drive says of this and earlier loads, as it will stay when the cartridge is out.
fn of_loads(drive: &mut Drive, identity: &Identity) -> Vec<TapeAttribute> {
    let (written, read) = (mebibytes(drive.this_load.from_host), mebibytes(drive.this_load.to_host));
    let image = drive.image();
    let number = |identifier, value: u64| own(identifier, BINARY, value.to_be_bytes().to_vec());
    let mut all = vec![
        number(LOAD_COUNT, kept_number(image, LOAD_COUNT) + 1),
        own(DEVICE_AT_LOAD, ASCII, signature(identity)),
    ];
    for before in 1..DEVICES {
        let earlier = kept(image, DEVICE_AT_LOAD + before - 1).map(|kept| kept.value.clone());
        all.push(own(DEVICE_AT_LOAD + before, ASCII, earlier.unwrap_or_else(|| fixed::<40>(b""))));
    }
    all.extend([
        number(WRITTEN_IN_LIFE, kept_number(image, WRITTEN_IN_LIFE) + written),
        number(READ_IN_LIFE, kept_number(image, READ_IN_LIFE) + read),
        number(WRITTEN_IN_LAST_LOAD, written),
        number(READ_IN_LAST_LOAD, read),
    ]);
    all
}

fn own(identifier: u16, format: u8, value: Vec<u8>) -> TapeAttribute {
    TapeAttribute { partition: None, identifier, format: READ_ONLY | format, value }
}

/// What a cartridge has gone through, this load included.
pub(super) struct TapeLife {
    pub(super) loads: u64,
    /// Bytes.
    pub(super) written: u64,
    pub(super) read: u64,
}

pub(super) fn life(drive: &mut Drive) -> TapeLife {
    let TapeCounts { from_host, to_host, .. } = drive.this_load;
    let image = drive.image();
    TapeLife {
        loads: kept_number(image, LOAD_COUNT) + 1,
        written: (kept_number(image, WRITTEN_IN_LIFE) << 20) + from_host,
        read: (kept_number(image, READ_IN_LIFE) << 20) + to_host,
    }
}

/// Keeps what this load adds to the life of the cartridge, before that goes out.
pub(super) fn keep_life(drive: &mut Drive, identity: &Identity) {
    let mut all = of_loads(drive, identity);
    all.push(own(ALERTS, BINARY, drive.alerts.0.to_be_bytes().to_vec()));
    let written_by_hosts =
        |attribute: &&TapeAttribute| !all.iter().any(|own| own.identifier == attribute.identifier);
    let others: Vec<_> = drive.image().attributes().iter().filter(written_by_hosts).cloned().collect();
    all.extend(others);
    drive.image().set_attributes(all);
}

/// All attributes of a partition, in ascending order.
fn attributes(drive: &mut Drive, partition: usize, identity: &Identity) -> Vec<TapeAttribute> {
    let mut all = of_loads(drive, identity);
    let serial = medium_serial(drive);
    let image = drive.image();
    let cartridge = image.cartridge();
    let capacity = image.partitions()[partition].capacity;
    let facts = density::facts(cartridge.density);
    let medium_type = match cartridge.purpose {
        CartridgeUse::Data => 0x00,
        CartridgeUse::Worm => 0x80,
        CartridgeUse::Cleaning => 0x01,
    };
    let room = ATTRIBUTE_BYTES_MAX.saturating_sub(image.attribute_bytes());
    let number = |identifier, value: u64| own(identifier, BINARY, value.to_be_bytes().to_vec());
    let short = |identifier, value: u32| own(identifier, BINARY, value.to_be_bytes().to_vec());
    all.extend([
        number(0x0000, mebibytes(capacity.saturating_sub(image.used(partition)))),
        number(0x0001, mebibytes(capacity)),
        number(ALERTS, kept_number(image, ALERTS)),
        number(0x0004, room as u64),
        own(0x0005, ASCII, fixed::<8>(density::ORGANIZATION)),
        own(0x0006, BINARY, vec![cartridge.density]),
        short(0x0009, image.change_reference(partition)),
        own(0x0400, ASCII, fixed::<8>(b"PTGT")),
        own(0x0401, ASCII, fixed::<32>(serial.as_bytes())),
        short(0x0402, facts.map_or(0, |facts| facts.metres.into())),
        short(0x0403, density::WIDTH.into()),
        own(0x0404, ASCII, fixed::<8>(density::ORGANIZATION)),
        own(0x0405, BINARY, vec![cartridge.density]),
        number(0x0407, facts.map_or(0, |facts| facts.memory.into())),
        own(0x0408, BINARY, vec![medium_type]),
        own(0x0409, BINARY, vec![0, 0]),
    ]);
    let here = |attribute: &&TapeAttribute| {
        host_attribute(attribute.identifier).is_some()
            && attribute.partition.is_none_or(|of| usize::from(of) == partition)
    };
    all.extend(image.attributes().iter().filter(here).cloned());
    if !cartridge.barcode.is_empty() && kept(image, BARCODE).is_none() {
        let value = fixed::<32>(cartridge.barcode.as_bytes());
        all.push(TapeAttribute { partition: None, identifier: BARCODE, format: ASCII, value });
    }
    all.sort_by_key(|attribute| attribute.identifier);
    all
}

/// READ ATTRIBUTE, with the cartridge mounted.
pub(super) fn read_attribute(drive: &mut Drive, job: &Job<'_>, cx: &Context<'_>) -> Result<Outcome, Sense> {
    const VALUES: u8 = 0;
    const LIST: u8 = 1;
    const LOGICAL_VOLUMES: u8 = 2;
    const PARTITIONS: u8 = 3;
    const SUPPORTED: u8 = 5;
    let cdb = &job.cdb;
    let (partition, first) = (partition_of(drive, cdb)?, be16(cdb, 8));
    let mut data = DataIn::new();
    match cdb[1] & 0x1f {
        LOGICAL_VOLUMES => _ = data.u16(2).u8(0).u8(1),
        PARTITIONS => _ = data.u16(2).u8(0).u8(drive.image().partitions().len() as u8),
        action @ (VALUES | LIST | SUPPORTED) => {
            let mut all = attributes(drive, partition, job.primary().identity());
            if action == VALUES && first != 0 && !all.iter().any(|known| known.identifier == first) {
                return Err(Sense::invalid_field_in_cdb(8, None));
            }
            if action == SUPPORTED {
                let blank = |known: HostAttribute| {
                    let HostAttribute { identifier, format, .. } = known;
                    TapeAttribute { partition: None, identifier, format, value: Vec::new() }
                };
                all.extend(HOST_ATTRIBUTES.into_iter().map(blank));
                all.sort_by_key(|attribute| attribute.identifier);
                all.dedup_by_key(|attribute| attribute.identifier);
            }
            data.u32(0);
            for TapeAttribute { identifier, format, value, .. } in
                all.iter().filter(|a| a.identifier >= first)
            {
                data.u16(*identifier);
                if action == VALUES {
                    data.u8(*format).u16(value.len() as u16).bytes(value);
                }
            }
            data.close(0, 4);
        }
        _ => return Err(Sense::invalid_field_in_cdb(1, Some(4))),
    }
    Ok(reply(&data, be32(cdb, 10) as usize, cx))
}

/// The partition that a CDB names.
fn partition_of(drive: &mut Drive, cdb: &[u8; 16]) -> Result<usize, Sense> {
    const PARTITION_AT: u16 = 7;
    let partition = usize::from(cdb[7]);
    match partition < drive.image().partitions().len() {
        true => Ok(partition),
        false => Err(Sense::invalid_field_in_cdb(PARTITION_AT, None)),
    }
}

/// WRITE ATTRIBUTE under way.
#[derive(Debug)]
pub(super) struct WriteAttribute {
    wanted: u32,
    written: bool,
}

impl WriteAttribute {
    pub(super) fn begin(job: &Job<'_>) -> Result<Self, Fault> {
        const LIST_MAX: u32 = 64 << 10;
        let wanted = be32(&job.cdb, 10);
        if wanted > LIST_MAX || job.command.expected.data_out < wanted {
            return Err(Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR).into());
        }
        Ok(Self { wanted, written: wanted == 0 })
    }

    pub(super) fn advance(
        &mut self,
        store: &mut StoreWork,
        drive: &mut Drive,
        answer: Option<Resume>,
        job: &Job<'_>,
        cx: &Context<'_>,
    ) -> Result<Outcome, Pause> {
        match answer {
            None if !self.written => {
                partition_of(drive, &job.cdb)?;
                if drive.is_protected() {
                    return Err(Sense::new(key::DATA_PROTECT, asc::WRITE_PROTECTED).into());
                }
                return Err(store.wait_for(Step::Fetch { len: self.wanted }));
            }
            None => {}
            Some(Resume::Fetched(list)) => {
                let new = changed(drive.image().attributes(), &list.to_vec(), job.cdb[7])?;
                if !drive.image().set_attributes(new) {
                    return Err(Sense::illegal(asc::AUXILIARY_MEMORY_OUT_OF_SPACE).into());
                }
                self.written = true;
            }
            other => return Err(unexpected(other, &job.shape).into()),
        }
        store.settle(drive, cx)?;
        Ok(Outcome::took(self.wanted.into()))
    }
}

/// The attributes that a parameter list makes of these: all that it says, or nothing.
fn changed(now: &[TapeAttribute], list: &[u8], partition: u8) -> Result<Vec<TapeAttribute>, Sense> {
    const HEADER: usize = 4;
    const ENTRY: usize = 5;
    let length_error = || Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR);
    let length = be32(list, 0) as usize;
    // LTFS counts the length itself, too.
    if list.len() < HEADER || ![list.len(), list.len() - HEADER].contains(&length) {
        return Err(length_error());
    }
    let mut new = now.to_vec();
    let mut at = HEADER;
    while at < list.len() {
        let value =
            list.get(at + ENTRY..at + ENTRY + usize::from(be16(list, at + 3))).ok_or_else(length_error)?;
        let (identifier, format) = (be16(list, at), list[at + 2]);
        let wrong = |byte: usize| {
            let byte = u16::try_from(at + byte).unwrap_or(u16::MAX);
            Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing_at(false, byte, None)
        };
        let known = host_attribute(identifier).ok_or_else(|| wrong(0))?;
        if format != known.format && !OF_HOST_VENDORS.contains(&identifier) || format > TEXT {
            return Err(wrong(2));
        }
        let mut value = value.to_vec();
        let fits = match (usize::from(known.length), known.format) {
            (0, _) => true,
            (length, BINARY) => value.is_empty() || value.len() == length,
            (length, _) => value.len() <= length,
        };
        if !fits {
            return Err(wrong(3));
        }
        let partition = known.of_partition.then_some(partition);
        new.retain(|old| (old.identifier, old.partition) != (identifier, partition));
        at += ENTRY + value.len();
        // Without a value it is no more.
        if !value.is_empty() {
            let filler = if known.format == ASCII { b' ' } else { 0 };
            value.resize(value.len().max(known.length.into()), filler);
            new.push(TapeAttribute { partition, identifier, format, value });
        }
    }
    Ok(new)
}
