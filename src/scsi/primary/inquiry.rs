// SPDX-License-Identifier: GPL-2.0-or-later
//! INQUIRY (SPC-5 6.7): standard data, and the vital product data pages that every device type has.

use super::Identity;
use crate::scsi::{Context, Sense};
use crate::wire::scsi::{DataIn, be16};

/// The pages that every device type has.
const SUPPORTED_PAGES: u8 = 0x00;
const UNIT_SERIAL_NUMBER: u8 = 0x80;
const DEVICE_IDENTIFICATION: u8 = 0x83;
/// Only where there is an address.
const MANAGEMENT_NETWORK_ADDRESSES: u8 = 0x85;
const EXTENDED_INQUIRY_DATA: u8 = 0x86;
const MODE_PAGE_POLICY: u8 = 0x87;
const SCSI_PORTS: u8 = 0x88;

/// What INQUIRY tells about a logical unit.
pub trait Peripheral {
    /// Its names.
    fn identity(&self) -> &Identity;

    /// Peripheral device type.
    fn device_type(&self) -> u8;

    /// Whether the medium can be taken out.
    fn removable(&self) -> bool {
        false
    }

    /// Whether it has REPORT and SET TARGET PORT GROUPS.
    fn asymmetric(&self) -> bool {
        false
    }

    /// Whether it carries out copies between logical units.
    fn copies(&self) -> bool {
        false
    }

    /// Whether protection information may come and go with data: its VPD pages say how.
    fn protects(&self) -> bool {
        false
    }

    /// The URL at which it is managed.
    fn management(&self) -> Option<&str> {
        None
    }

    /// Length of the longest sense data that comes with a status.
    fn sense_max(&self) -> u8 {
        64
    }

    /// Version descriptors: the standards it claims.
    fn versions(&self) -> &'static [u16];

    /// Vital product data pages beside those up to 88h, in ascending order.
    fn vpd_pages(&self) -> &'static [u8];

    /// Appends what follows the header of one of [`Peripheral::vpd_pages`].
    fn vpd_page(&self, page: u8, data: &mut DataIn);
}

/// The data that INQUIRY asks for, and its allocation length. The CDB has been checked against its definition.
pub(super) fn inquiry(
    cdb: &[u8; 16],
    unit: &impl Peripheral,
    cx: &Context<'_>,
) -> Result<(DataIn, u32), Sense> {
    let (vital, page) = (cdb[1] & 1 != 0, cdb[2]);
    let data = match (vital, page) {
        (true, _) => vital_product_data(page, unit, cx)?,
        (false, 0) => standard(unit, cx),
        (false, _) => return Err(Sense::invalid_field_in_cdb(2, Some(7))),
    };
    Ok((data, be16(cdb, 3).into()))
}

fn standard(unit: &impl Peripheral, cx: &Context<'_>) -> DataIn {
    const SPC_4: u8 = 6;
    const RESPONSE_DATA_FORMAT: u8 = 2;
    /// ACA conditions, which are the task manager's, so the same for every device.
    const NORMACA: u8 = 0x20;
    const HISUP: u8 = 0x10;
    const CMDQUE: u8 = 0x02;
    /// Access states change by themselves and by SET TARGET PORT GROUPS.
    const TPGS: u8 = 0x30;
    const THIRD_PARTY_COPY: u8 = 0x08;
    const PROTECT: u8 = 0x01;
    /// MULTIP: there are several target ports.
    const MULTIPLE_PORTS: u8 = 0x10;
    let mut data = DataIn::new();
    data.u8(unit.device_type())
        .u8(u8::from(unit.removable()) << 7)
        .u8(SPC_4)
        .u8(NORMACA | HISUP | RESPONSE_DATA_FORMAT);
    let flags = [(unit.asymmetric(), TPGS), (unit.copies(), THIRD_PARTY_COPY), (unit.protects(), PROTECT)];
    data.u8(0).u8(flags.iter().filter(|(has, _)| *has).map(|(_, bit)| bit).sum());
    let ports = cx.state.groups().iter().map(|group| group.ports.len()).sum::<usize>();
    data.u8(if ports > 1 { MULTIPLE_PORTS } else { 0 }).u8(CMDQUE);
    unit.identity().write_names(&mut data);
    data.pad_to(58);
    for &version in unit.versions() {
        data.u16(version);
    }
    data.pad_to(96).close(4, 1);
    data
}

fn vital_product_data(page: u8, unit: &impl Peripheral, cx: &Context<'_>) -> Result<DataIn, Sense> {
    let mut data = DataIn::new();
    data.u8(unit.device_type()).u8(page).u16(0);
    match page {
        SUPPORTED_PAGES => {
            data.bytes(&[SUPPORTED_PAGES, UNIT_SERIAL_NUMBER, DEVICE_IDENTIFICATION]);
            if unit.management().is_some() {
                data.u8(MANAGEMENT_NETWORK_ADDRESSES);
            }
            data.bytes(&[EXTENDED_INQUIRY_DATA, MODE_PAGE_POLICY, SCSI_PORTS]).bytes(unit.vpd_pages());
        }
        UNIT_SERIAL_NUMBER => {
            data.bytes(unit.identity().serial());
        }
        DEVICE_IDENTIFICATION => {
            unit.identity().write_designators(&mut data);
            if let Some(nexus) = cx.nexus {
                nexus.port.write_designators(&mut data);
            }
        }
        MANAGEMENT_NETWORK_ADDRESSES if unit.management().is_some() => {
            let url = unit.management().unwrap_or_default();
            const STORAGE_CONFIGURATION_SERVICE: u8 = 0x01;
            let len = (url.len() + 1).next_multiple_of(4);
            data.u8(STORAGE_CONFIGURATION_SERVICE).u8(0).u16(u16::try_from(len).unwrap_or(u16::MAX));
            let end = data.len() + len;
            data.bytes(url.as_bytes()).pad_to(end);
        }
        EXTENDED_INQUIRY_DATA => extended_inquiry_data(unit, &mut data),
        MODE_PAGE_POLICY => {
            // All pages and subpages are shared by all nexuses.
            data.u8(0x3f).u8(0xff).u8(0).u8(0);
        }
        SCSI_PORTS => {
            let mut ports: Vec<_> = cx.state.groups().iter().flat_map(|group| &group.ports).collect();
            ports.sort_by_key(|port| port.relative);
            for port in ports {
                port.write_port(&mut data);
            }
        }
        other if unit.vpd_pages().contains(&other) => unit.vpd_page(other, &mut data),
        _ => return Err(Sense::invalid_field_in_cdb(2, Some(7))),
    }
    data.close(2, 2);
    Ok(data)
}

fn extended_inquiry_data(unit: &impl Peripheral, data: &mut DataIn) {
    /// HEADSUP, ORDSUP, SIMPSUP.
    const TASK_ATTRIBUTES: u8 = 0x07;
    /// V_SUP: what is written may be in a volatile cache first.
    const VOLATILE_CACHE: u8 = 0x01;
    data.u8(0).u8(TASK_ATTRIBUTES).u8(VOLATILE_CACHE).u8(0).pad_to(13);
    data.u8(unit.sense_max()).pad_to(64);
}
