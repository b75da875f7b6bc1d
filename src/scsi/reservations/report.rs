// SPDX-License-Identifier: GPL-2.0-or-later
//! The parameter data of PERSISTENT RESERVE IN (SPC-5 6.16.2 to 6.16.5).

use super::{Registration, ReservationType, Reservations};
use crate::wire::scsi::DataIn;

/// READ KEYS.
pub(super) fn keys(table: &Reservations) -> DataIn {
    let mut data = DataIn::new();
    data.u32(table.generation).u32(0);
    for registration in &table.registrations {
        data.u64(registration.key);
    }
    data.close(4, 4);
    data
}

/// READ RESERVATION: the key is that of the holder, or zero if all registrants are.
pub(super) fn reservation(table: &Reservations) -> DataIn {
    let mut data = DataIn::new();
    data.u32(table.generation).u32(0);
    if let Some(kind) = table.kind {
        let holder = table.registrations.iter().find(|registration| registration.holder);
        data.u64(holder.map_or(0, |holder| holder.key)).u32(0).u8(0).u8(kind as u8).u16(0);
    }
    data.close(4, 4);
    data
}

/// REPORT CAPABILITIES.
pub(super) fn capabilities(table: &Reservations) -> DataIn {
    /// Compatible handling of RESERVE and RELEASE.
    const CRH: u8 = 0x10;
    const SIP_C: u8 = 0x08;
    const ATP_C: u8 = 0x04;
    const PTPL_C: u8 = 0x01;
    /// The type mask is valid.
    const TMV: u8 = 0x80;
    let mask = ReservationType::ALL.iter().fold(0_u16, |mask, &kind| {
        // Bits by type: 1 to 7 in the first byte, 8 in the second.
        mask | if kind as u8 == 8 { 1 } else { 0x100 << (kind as u8) }
    });
    let mut data = DataIn::new();
    data.u16(8).u8(CRH | SIP_C | ATP_C | PTPL_C).u8(TMV | u8::from(table.aptpl)).u16(mask).u16(0);
    data
}

/// READ FULL STATUS.
pub(super) fn full_status(table: &Reservations) -> DataIn {
    let mut data = DataIn::new();
    data.u32(table.generation).u32(0);
    for registration in &table.registrations {
        let Registration { initiator, port, key, .. } = registration;
        const ALL_TG_PT: u8 = 2;
        const R_HOLDER: u8 = 1;
        let holds = table.holds(registration);
        let kind = table.kind.filter(|_| holds).map_or(0, |kind| kind as u8);
        let flags = if port.is_none() { ALL_TG_PT } else { 0 } | if holds { R_HOLDER } else { 0 };
        data.u64(*key).u32(0).u8(flags).u8(kind).u32(0);
        data.u16(port.as_ref().map_or(0, |port| port.relative));
        let initiator = initiator.transport_id();
        data.u32(u32::try_from(initiator.len()).unwrap_or(u32::MAX)).bytes(initiator.as_bytes());
    }
    data.close(4, 4);
    data
}
