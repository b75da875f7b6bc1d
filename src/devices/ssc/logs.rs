// SPDX-License-Identifier: GPL-2.0-or-later
//! The log pages of a tape drive (SSC-4 8.2), and those of vendors that programs read.

use super::drive::{Drive, Tape, UNLOADED};
use super::memory;
use super::position::medium_serial;
use crate::formats::tape::{BARCODE_MAX, CartridgeUse};
use crate::scsi::primary::log_page::{
    NON_MEDIUM_ERRORS, READ_ERRORS, SELF_TESTS, TEMPERATURE, VERIFY_ERRORS, WRITE_ERRORS,
};
use crate::scsi::primary::{Counter, DeviceType, LogData};
use crate::time::Instant;

const SEQUENTIAL_ACCESS: u8 = 0x0c;
const DEVICE_STATUS: u8 = 0x11;
const ALERT_RESPONSE: u8 = 0x12;
const REQUESTED_RECOVERY: u8 = 0x13;
const DEVICE_STATISTICS: u8 = 0x14;
const DIAGNOSTIC_DATA: u8 = 0x16;
const VOLUME_STATISTICS: u8 = 0x17;
const COMPRESSION: u8 = 0x1b;
const TAPE_ALERT: u8 = 0x2e;
/// Vendors' pages: usage and capacity of the tape, compression by another number, status of the drive.
const TAPE_USAGE: u8 = 0x30;
const TAPE_CAPACITY: u8 = 0x31;
const VENDOR_COMPRESSION: u8 = 0x32;
const VENDOR_STATUS: u8 = 0x3e;

/// In ascending order.
pub(super) const PAGES: &[(u8, u8)] = &[
    (WRITE_ERRORS, 0),
    (READ_ERRORS, 0),
    (VERIFY_ERRORS, 0),
    (NON_MEDIUM_ERRORS, 0),
    (SEQUENTIAL_ACCESS, 0),
    (TEMPERATURE, 0),
    (SELF_TESTS, 0),
    (DEVICE_STATUS, 0),
    (ALERT_RESPONSE, 0),
    (REQUESTED_RECOVERY, 0),
    (DEVICE_STATISTICS, 0),
    (DIAGNOSTIC_DATA, 0),
    (VOLUME_STATISTICS, 0),
    (COMPRESSION, 0),
    (TAPE_ALERT, 0),
    (TAPE_USAGE, 0),
    (TAPE_CAPACITY, 0),
    (VENDOR_COMPRESSION, 0),
    (VENDOR_STATUS, 0),
];

const MEGABYTE: u64 = 1_000_000;

/// A counter of two or four bytes, at most its highest value.
fn short(value: u64) -> [u8; 2] {
    u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes()
}

fn word(value: u64) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes()
}

fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut padded = [b' '; N];
    for (to, from) in padded.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    padded
}

/// The first of two amounts in hundredths of the second.
fn ratio(host: u64, medium: u64) -> u64 {
    host.saturating_mul(100).checked_div(medium).unwrap_or(100)
}

/// Bytes of the log of a partition: all, up to the early warning, and those that are used.
fn extent(drive: &mut Drive, partition: usize) -> (u64, u64, u64) {
    let image = drive.image();
    let area = image.partitions()[partition];
    (area.capacity, Drive::warning_at(&area), image.used(partition).min(area.capacity))
}

/// Writes the parameters of one of them, of the kinds that only tape drives have.
pub(super) fn write(unit: &Tape, page: u8, default: bool, now: Instant, data: &mut LogData) {
    let unloaded = unit.primary().flags().has(UNLOADED);
    let prevented = !unit.primary().state().prevented.is_empty();
    let drive = &mut *unit.drive();
    let mounted = !unloaded && drive.mounted().is_some();
    let numbers = LogNumbers { default, data };
    match page {
        SEQUENTIAL_ACCESS => sequential_access(drive, mounted, numbers),
        DEVICE_STATUS => device_status(unit, drive, prevented, mounted, data),
        ALERT_RESPONSE => _ = data.parameter(0, Counter::List, &drive.alerts.0.to_be_bytes()),
        REQUESTED_RECOVERY => _ = data.parameter(0, Counter::List, &[0]),
        DEVICE_STATISTICS => device_statistics(unit, drive, prevented, now, numbers),
        VOLUME_STATISTICS => volume_statistics(unit, drive, mounted, numbers),
        COMPRESSION | VENDOR_COMPRESSION => compression(drive, numbers),
        TAPE_ALERT => {
            for flag in 1..=64 {
                let raised = !default && drive.alerts.has(flag as u8);
                data.parameter(flag, Counter::List, &[raised.into()]);
            }
            if !default {
                drive.alerts = Default::default();
            }
        }
        TAPE_USAGE => tape_usage(drive, numbers),
        TAPE_CAPACITY => tape_capacity(drive, mounted, data),
        VENDOR_STATUS => {
            data.parameter(0x7000, Counter::List, &drive.alerts.0.to_be_bytes());
            data.parameter(0x8000, Counter::Bounded, &word(drive.ever.loads));
            data.parameter(0x8001, Counter::Bounded, &word(hours(now)));
        }
        // Diagnostic data: no event has any.
        _ => {}
    }
}

/// Counters as they are, or zero where default values are asked for.
struct LogNumbers<'a> {
    default: bool,
    data: &'a mut LogData,
}

impl LogNumbers<'_> {
    fn bytes(&mut self, code: u16, value: &[u8]) {
        let zeros = [0; 8];
        let value = if self.default { &zeros[..value.len()] } else { value };
        self.data.parameter(code, Counter::Bounded, value);
    }

    fn short(&mut self, code: u16, value: u64) {
        self.bytes(code, &short(value));
    }

    fn word(&mut self, code: u16, value: u64) {
        self.bytes(code, &word(value));
    }

    fn long(&mut self, code: u16, value: u64) {
        self.bytes(code, &value.to_be_bytes());
    }
}

fn hours(now: Instant) -> u64 {
    now.since(Instant::ZERO).as_secs() / 3600
}

fn sequential_access(drive: &mut Drive, mounted: bool, mut numbers: LogNumbers<'_>) {
    let ever = drive.ever;
    numbers.long(0, ever.from_host);
    numbers.long(1, ever.to_medium);
    numbers.long(2, ever.from_medium);
    numbers.long(3, ever.to_host);
    let unknown = u64::MAX;
    let (end, warning, behind, here) = match mounted {
        true => {
            let (partition, lba) = (drive.partition, drive.lba);
            let (capacity, warning, used) = extent(drive, partition);
            // What lies before the head, as if all objects had one length: to know it, a block of the log would have to
            // be read.
            let objects = drive.image().end(partition).lba.max(1);
            let here = u128::from(used) * u128::from(lba) / u128::from(objects);
            let here = u64::try_from(here).unwrap_or(used);
            (used / MEGABYTE, warning / MEGABYTE, (capacity - warning) / MEGABYTE, here / MEGABYTE)
        }
        false => (unknown, unknown, unknown, unknown),
    };
    numbers.word(4, end);
    numbers.word(5, warning);
    numbers.word(6, behind);
    numbers.word(7, here);
    numbers.word(8, 0);
    numbers.long(0x100, 0);
}

fn device_status(unit: &Tape, drive: &mut Drive, prevented: bool, mounted: bool, data: &mut LogData) {
    const PAMR: u8 = 0x80;
    const MACC: u8 = 0x20;
    const CMPR: u8 = 0x10;
    const WRTP: u8 = 0x08;
    const DINIT: u8 = 0x01;
    const PRESENT: u8 = 0x10 | 0x04 | 0x02;
    const MOUNTED: u8 = 0x01;
    let unloaded = unit.primary().flags().has(UNLOADED);
    let flags = [
        (prevented, PAMR),
        (!unloaded, MACC),
        (drive.modes.compresses, CMPR),
        (drive.is_protected() || unit.options().read_only, WRTP),
        (true, DINIT),
    ];
    let first = flags.iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum();
    let second = if unloaded { 0 } else { PRESENT } | if mounted { MOUNTED } else { 0 };
    data.parameter(0, Counter::List, &[first, second, 0, 0]);
    data.parameter(1, Counter::List, &[0, 100]);
}

fn device_statistics(
    unit: &Tape,
    drive: &mut Drive,
    prevented: bool,
    now: Instant,
    mut numbers: LogNumbers<'_>,
) {
    let (ever, power_on) = (drive.ever, hours(now));
    numbers.word(0x00, ever.loads);
    numbers.word(0x01, 0);
    numbers.word(0x02, power_on);
    for code in 0x03..=0x0b {
        numbers.word(code, 0);
    }
    numbers.word(0x0c, 1);
    numbers.word(0x0d, ever.loads);
    numbers.word(0x0e, ever.write_errors);
    numbers.word(0x0f, ever.read_errors);
    let serial = unit.primary().identity().serial();
    numbers.data.parameter(0x40, Counter::Text, serial).parameter(0x41, Counter::Text, serial);
    numbers.data.parameter(0x80, Counter::Bounded, &[prevented.into()]);
    numbers.data.parameter(0x81, Counter::Bounded, &[0]);
}

/// A record of each partition in one parameter.
fn of_partitions(code: u16, values: &[u64], data: &mut LogData) {
    let mut all = Vec::new();
    for (partition, value) in values.iter().enumerate() {
        all.extend([7, 0, 0, partition as u8]);
        all.extend(word(*value));
    }
    data.parameter(code, Counter::List, &all);
}

fn volume_statistics(unit: &Tape, drive: &mut Drive, mounted: bool, mut numbers: LogNumbers<'_>) {
    numbers.bytes(0, &[mounted.into()]);
    if !mounted {
        return;
    }
    let load = drive.this_load;
    let life = memory::life(drive);
    let (written, read) = (load.from_host / MEGABYTE, load.to_host / MEGABYTE);
    numbers.word(0x01, life.loads);
    numbers.long(0x02, load.records_written);
    numbers.word(0x03, 0);
    numbers.short(0x04, load.write_errors);
    numbers.short(0x05, 0);
    numbers.short(0x06, 0);
    numbers.long(0x07, load.records_read);
    numbers.word(0x08, 0);
    numbers.short(0x09, load.read_errors);
    numbers.short(0x0a, 0);
    numbers.short(0x0b, 0);
    numbers.short(0x0c, load.write_errors);
    numbers.short(0x0d, load.read_errors);
    numbers.word(0x0e, written);
    numbers.word(0x0f, read);
    numbers.long(0x10, life.written / MEGABYTE);
    numbers.long(0x11, life.read / MEGABYTE);
    numbers.short(0x12, ratio(load.from_host, load.to_medium));
    numbers.short(0x13, ratio(load.to_host, load.from_medium));
    let partitions: Vec<_> =
        (0..drive.image().partitions().len()).map(|partition| extent(drive, partition)).collect();
    let capacity: u64 = partitions.iter().map(|(capacity, ..)| capacity / MEGABYTE).sum();
    let used: u64 = partitions.iter().map(|(.., used)| used / MEGABYTE).sum();
    numbers.word(0x16, capacity);
    numbers.word(0x17, used);
    let serial = medium_serial(drive);
    let (protected, read_only) = (drive.is_protected(), unit.options().read_only);
    let cartridge = drive.image().cartridge();
    let worm = cartridge.purpose == CartridgeUse::Worm;
    let data = numbers.data;
    data.parameter(0x40, Counter::Text, &text::<32>(&serial));
    data.parameter(0x42, Counter::Text, &text::<BARCODE_MAX>(&cartridge.barcode));
    data.parameter(0x43, Counter::Text, &text::<8>("PTGT"));
    data.parameter(0x80, Counter::Bounded, &[(protected || read_only).into()]);
    data.parameter(0x81, Counter::Bounded, &[worm.into()]);
    data.parameter(0x82, Counter::Bounded, &[0]);
    let megabytes = |of: fn(&(u64, u64, u64)) -> u64| -> Vec<u64> {
        partitions.iter().map(|extent| of(extent) / MEGABYTE).collect()
    };
    of_partitions(0x202, &megabytes(|(capacity, ..)| *capacity), data);
    of_partitions(0x203, &megabytes(|(.., used)| *used), data);
    of_partitions(0x204, &megabytes(|(_, warning, used)| warning.saturating_sub(*used)), data);
}

fn compression(drive: &mut Drive, mut numbers: LogNumbers<'_>) {
    let load = drive.this_load;
    numbers.short(0, ratio(load.to_host, load.from_medium));
    numbers.short(1, ratio(load.from_host, load.to_medium));
    let amounts = [load.to_host, load.from_medium, load.from_host, load.to_medium];
    for (code, bytes) in (2..).step_by(2).zip(amounts) {
        numbers.word(code, bytes / MEGABYTE);
        numbers.word(code + 1, bytes % MEGABYTE);
    }
}

fn tape_usage(drive: &mut Drive, mut numbers: LogNumbers<'_>) {
    let load = drive.this_load;
    numbers.word(1, drive.ever.loads);
    numbers.long(2, load.records_written);
    numbers.word(3, 0);
    numbers.short(4, load.write_errors);
    numbers.short(5, 0);
    numbers.short(6, 0);
    numbers.long(7, load.records_read);
    numbers.word(8, 0);
    numbers.short(9, load.read_errors);
    numbers.short(0xa, 0);
    numbers.short(0xb, 0);
}

/// Remaining and whole capacity of the first two partitions, in MiB.
fn tape_capacity(drive: &mut Drive, mounted: bool, data: &mut LogData) {
    let count = if mounted { drive.image().partitions().len() } else { 0 };
    let mut of = |partition: usize| {
        let extent = (partition < count).then(|| extent(drive, partition));
        extent.map_or((0, 0), |(capacity, _, used)| ((capacity - used) >> 20, capacity >> 20))
    };
    let (first, second) = (of(0), of(1));
    for (code, value) in (1..).zip([first.0, second.0, first.1, second.1]) {
        data.parameter(code, Counter::Bounded, &word(value));
    }
}
