// SPDX-License-Identifier: GPL-2.0-or-later
//! What a disk tells about itself: vital product data (SBC-3 6.6) and READ CAPACITY (5.15, 5.16).

use crate::scsi::primary::{DeviceType, Identity, ModePage, ModeUnit, Peripheral, check_common_page};
use crate::wire::scsi::DataIn;

use super::copy::third_party_copy;
use super::disk::Disk;
use super::limits::{Limits, UNMAP_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX, WRITE_SAME_BLOCKS_MAX};
use super::mode::PROVISIONING;

/// SAM-5, SPC-4, SBC-3.
const VERSIONS: [u16; 3] = [0x00a0, 0x0460, 0x04c0];

const THIRD_PARTY_COPY: u8 = 0x8f;
const BLOCK_LIMITS: u8 = 0xb0;
const BLOCK_DEVICE_CHARACTERISTICS: u8 = 0xb1;
const LOGICAL_BLOCK_PROVISIONING: u8 = 0xb2;

/// A disk and its present shape.
pub struct CurrentDisk<'a> {
    pub disk: &'a Disk,
    pub limits: Limits,
}

impl Peripheral for CurrentDisk<'_> {
    fn identity(&self) -> &Identity {
        self.disk.primary().identity()
    }

    fn device_type(&self) -> u8 {
        0x00
    }

    fn asymmetric(&self) -> bool {
        true
    }

    fn copies(&self) -> bool {
        true
    }

    fn management(&self) -> Option<&str> {
        self.disk.primary().management()
    }

    fn removable(&self) -> bool {
        self.disk.config().removable
    }

    fn versions(&self) -> &'static [u16] {
        &VERSIONS
    }

    fn vpd_pages(&self) -> &'static [u8] {
        &[THIRD_PARTY_COPY, BLOCK_LIMITS, BLOCK_DEVICE_CHARACTERISTICS, LOGICAL_BLOCK_PROVISIONING]
    }

    fn vpd_page(&self, page: u8, data: &mut DataIn) {
        match page {
            THIRD_PARTY_COPY => third_party_copy(&self.limits, data),
            BLOCK_LIMITS => block_limits(&self.limits, data),
            BLOCK_DEVICE_CHARACTERISTICS => {
                const NON_ROTATING: u16 = 1;
                /// After a BLOCK ERASE blocks can be read before they are written.
                const WABEREQ: u8 = 0x40;
                data.u16(NON_ROTATING).u8(0).u8(WABEREQ).pad_to(64);
            }
            _ => provisioning(&self.limits, data),
        }
    }
}

impl ModeUnit for CurrentDisk<'_> {
    fn device_specific(&self) -> u8 {
        const WP: u8 = 0x80;
        const DPOFUA: u8 = 0x10;
        let protected = self.disk.is_protected(&self.limits);
        DPOFUA | if protected { WP } else { 0 }
    }

    fn blocks(&self) -> Option<(u64, u32)> {
        Some((self.limits.capacity, self.limits.block()))
    }

    fn offers(&self, page: &ModePage) -> bool {
        (page.code, page.subpage) != PROVISIONING || self.limits.thin
    }

    fn check(&self, page: &ModePage, values: &[u8]) -> Result<(), usize> {
        check_common_page(page, values)
    }
}

fn block_limits(limits: &Limits, data: &mut DataIn) {
    const ALIGNMENT_VALID: u32 = 1 << 31;
    let if_thin = |value: u32| if limits.thin { value } else { 0 };
    const WSNZ: u8 = 1;
    // No optimal transfer length and no bound of PRE-FETCH is told.
    data.u8(WSNZ).u8(limits.compare_and_write_max()).u16(1 << limits.physical_exponent());
    data.u32(limits.transfer_max()).u32(0).u32(0);
    data.u32(if_thin(UNMAP_BLOCKS_MAX)).u32(if_thin(UNMAP_DESCRIPTORS_MAX));
    data.u32(if_thin(limits.unmap_granularity()));
    data.u32(if_thin(ALIGNMENT_VALID | u32::from(limits.lowest_aligned())));
    data.u64(WRITE_SAME_BLOCKS_MAX);
    // Atomic writes of any alignment and granularity, without boundaries inside.
    data.u32(limits.atomic_write_max()).u32(0).u32(0).u32(0).u32(0);
}

fn provisioning(limits: &Limits, data: &mut DataIn) {
    const LBPU: u8 = 0x80;
    const LBPWS: u8 = 0x40;
    const LBPWS10: u8 = 0x20;
    const LBPRZ: u8 = 0x04;
    const ANC_SUP: u8 = 0x02;
    const THIN: u8 = 2;
    const ALL: u8 = LBPU | LBPWS | LBPWS10 | LBPRZ | ANC_SUP;
    let (exponent, flags, kind) =
        if limits.thin { (limits.threshold_exponent() as u8, ALL, THIN) } else { (0, 0, 0) };
    data.u8(exponent).u8(flags).u8(kind).u8(0);
}

/// READ CAPACITY(10): a disk that is too large for it says so.
pub(super) fn capacity_10(limits: &Limits) -> DataIn {
    let mut data = DataIn::new();
    data.u32(u32::try_from(last(limits)).unwrap_or(u32::MAX)).u32(limits.block());
    data
}

/// READ CAPACITY(16).
pub(super) fn capacity_16(limits: &Limits) -> DataIn {
    const LBPME: u8 = 0x80;
    const LBPRZ: u8 = 0x40;
    let mut data = DataIn::new();
    data.u64(last(limits)).u32(limits.block());
    let thin = if limits.thin { LBPME | LBPRZ } else { 0 };
    data.u8(0).u8(limits.physical_exponent() as u8);
    data.u16(u16::from(thin) << 8 | limits.lowest_aligned()).pad_to(32);
    data
}

fn last(limits: &Limits) -> u64 {
    limits.capacity.saturating_sub(1)
}
