// SPDX-License-Identifier: GPL-2.0-or-later
//! INQUIRY (SPC-5 6.7): standard data, and the vital product data pages that every device type has.

use super::Identity;
use crate::scsi::{Sense, TargetPort};
use crate::wire::scsi::{DataIn, be16};

/// Supported VPD pages, unit serial number, device identification.
const COMMON_PAGES: [u8; 3] = [0x00, 0x80, 0x83];

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

    /// Version descriptors: the standards it claims.
    fn versions(&self) -> &'static [u16];

    /// Vital product data pages beside 00h, 80h and 83h, in ascending order.
    fn vpd_pages(&self) -> &'static [u8];

    /// Appends what follows the header of one of [`Peripheral::vpd_pages`].
    fn vpd_page(&self, page: u8, data: &mut DataIn);
}

/// The data that INQUIRY asks for through a target port, and its allocation length. The CDB has been checked against its definition.
pub fn inquiry(
    cdb: &[u8; 16],
    unit: &impl Peripheral,
    port: Option<&TargetPort>,
) -> Result<(DataIn, u32), Sense> {
    let (vital, page) = (cdb[1] & 1 != 0, cdb[2]);
    let data = match (vital, page) {
        (true, _) => vital_product_data(page, unit, port)?,
        (false, 0) => standard(unit),
        (false, _) => return Err(Sense::invalid_field_in_cdb(2, Some(7))),
    };
    Ok((data, be16(cdb, 3).into()))
}

fn standard(unit: &impl Peripheral) -> DataIn {
    const SPC_4: u8 = 6;
    const RESPONSE_DATA_FORMAT: u8 = 2;
    /// ACA conditions, which are the task manager's, so the same for every device.
    const NORMACA: u8 = 0x20;
    const HISUP: u8 = 0x10;
    const CMDQUE: u8 = 0x02;
    /// Access states change by themselves and by SET TARGET PORT GROUPS.
    const TPGS: u8 = 0x30;
    let mut data = DataIn::new();
    data.u8(unit.device_type())
        .u8(u8::from(unit.removable()) << 7)
        .u8(SPC_4)
        .u8(NORMACA | HISUP | RESPONSE_DATA_FORMAT);
    data.u8(0).u8(if unit.asymmetric() { TPGS } else { 0 }).u8(0).u8(CMDQUE);
    unit.identity().write_names(&mut data);
    data.pad_to(58);
    for &version in unit.versions() {
        data.u16(version);
    }
    data.pad_to(96).close(4, 1);
    data
}

fn vital_product_data(page: u8, unit: &impl Peripheral, port: Option<&TargetPort>) -> Result<DataIn, Sense> {
    let mut data = DataIn::new();
    data.u8(unit.device_type()).u8(page).u16(0);
    match page {
        0x00 => {
            data.bytes(&COMMON_PAGES).bytes(unit.vpd_pages());
        }
        0x80 => {
            data.bytes(unit.identity().serial());
        }
        0x83 => {
            unit.identity().write_designators(&mut data);
            if let Some(port) = port {
                port.write_designators(&mut data);
            }
        }
        other if unit.vpd_pages().contains(&other) => unit.vpd_page(other, &mut data),
        _ => return Err(Sense::invalid_field_in_cdb(2, Some(7))),
    }
    data.close(2, 2);
    Ok(data)
}
