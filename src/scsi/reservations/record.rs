// SPDX-License-Identifier: GPL-2.0-or-later
//! The table as it is kept over a loss of power (APTPL).
//!
//! All integers are big-endian: version (1 byte, 1), type of the reservation (1, or 0), number of registrations (2),
//! and for each: key (8), holder (1), TransportID and name of the target port with a length (2) before each; an empty
//! name stands for all target ports. Ports are kept by name.

use std::borrow::Cow;
use std::sync::Arc;

use super::{REGISTRATIONS_MAX, Registration, ReservationType, Reservations};
use crate::scsi::{PortName, TargetPort};
use crate::wire::scsi::{DataIn, be16, be64};

/// Name of the record.
pub const RECORD_NAME: &str = "reservations";

const VERSION: u8 = 1;

impl Reservations {
    /// The bytes to be kept: of a table that does not persist, those of an empty one.
    pub fn to_record(&self) -> Vec<u8> {
        let kept: &[Registration] = if self.aptpl { &self.registrations } else { &[] };
        let mut data = DataIn::new();
        data.u8(VERSION).u8(self.kind.filter(|_| self.aptpl).map_or(0, |kind| kind as u8));
        data.u16(u16::try_from(kept.len()).unwrap_or(u16::MAX));
        for Registration { initiator, port, key, holder } in kept {
            data.u64(*key).u8((*holder).into());
            let initiator = initiator.transport_id();
            let port = port.as_ref().map_or(Cow::Borrowed(""), |port| port.name.text());
            for field in [initiator.as_bytes(), port.as_bytes()] {
                data.u16(u16::try_from(field.len()).unwrap_or(u16::MAX)).bytes(field);
            }
        }
        data.as_bytes().to_vec()
    }

    /// The table after the start: that of the record, if there is one. `ports` are the target ports of the unit now. A
    /// registration at a port that is gone is left out, as is that of an initiator port that no fabric can have; when
    /// it held the reservation, so is that, since nobody could release it. The error says what is wrong with the
    /// record.
    pub fn from_record(record: &[u8], ports: &[Arc<TargetPort>]) -> Result<Self, &'static str> {
        let mut rest = Reader(record);
        if rest.take(1)?[0] != VERSION {
            return Err("reservations of another version");
        }
        let kind = match rest.take(1)?[0] {
            0 => None,
            code => Some(ReservationType::new(code).ok_or("unknown type of reservation")?),
        };
        let count = usize::from(be16(rest.take(2)?, 0));
        if count > REGISTRATIONS_MAX {
            return Err("too many registrations");
        }
        let mut table = Self { kind, aptpl: count > 0, ..Self::default() };
        for _ in 0..count {
            let key = be64(rest.take(8)?, 0);
            let holder = rest.take(1)?[0] != 0;
            let bytes = rest.field()?;
            let initiator = match PortName::from_transport_id(bytes) {
                Some((initiator, len)) if len == bytes.len() => Some(initiator),
                None if is_of_unknown_protocol(bytes) => None,
                _ => return Err("no TransportID"),
            };
            let name = std::str::from_utf8(rest.field()?).map_err(|_| "no name of a target port")?;
            let port = ports.iter().find(|port| port.name.text() == name).cloned();
            if let Some(initiator) = initiator
                && (name.is_empty() || port.is_some())
            {
                table.registrations.push(Registration { initiator, port, key, holder });
            }
        }
        let held = kind.is_some_and(|kind| kind.all_registrants() && !table.registrations.is_empty())
            || table.registrations.iter().any(|registration| registration.holder);
        table.kind = kind.filter(|_| held);
        if rest.0.is_empty() { Ok(table) } else { Err("something after the end") }
    }
}

/// Whether that is a TransportID of a protocol whose ports have no names here. The first daemons took those, too.
fn is_of_unknown_protocol(bytes: &[u8]) -> bool {
    bytes.len() == 24 && matches!(bytes[0], 0x1..=0x3 | 0x7..=0xf)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], &'static str> {
        let (head, rest) = self.0.split_at_checked(n).ok_or("too short")?;
        self.0 = rest;
        Ok(head)
    }

    fn field(&mut self) -> Result<&'a [u8], &'static str> {
        let len = be16(self.take(2)?, 0);
        self.take(len.into())
    }
}
