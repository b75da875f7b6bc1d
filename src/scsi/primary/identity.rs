// SPDX-License-Identifier: GPL-2.0-or-later
//! Who a logical unit is: the names that INQUIRY gives, made once from the configuration and the same after every
//! start.

use smallvec::SmallVec;
use thiserror::Error;

use crate::wire::Uuid;
use crate::wire::scsi::DataIn;

/// Longest serial number.
const SERIAL_MAX: usize = 64;

/// A name that INQUIRY data cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field} {value:?} must be 1 to {max} printable ASCII characters")]
pub struct IdentityError {
    /// Which field.
    pub field: &'static str,
    /// What it was to be.
    pub value: String,
    /// How many characters it has room for.
    pub max: usize,
}

/// One name of a logical unit, as a designation descriptor gives it (SPC-5 7.7.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Designation {
    code_set: u8,
    kind: u8,
    len: u8,
    name: [u8; Self::LEN_MAX],
}

impl Designation {
    /// Longest name: what the target descriptors of EXTENDED COPY have room for.
    pub const LEN_MAX: usize = 20;

    /// Code set, designator type and name; `None` if that is too long.
    pub fn new(code_set: u8, kind: u8, name: &[u8]) -> Option<Self> {
        let mut padded = [0; Self::LEN_MAX];
        padded.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self { code_set, kind, len: u8::try_from(name.len()).ok()?, name: padded })
    }
}

/// Names and designators of a logical unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    vendor: [u8; 8],
    product: [u8; 16],
    revision: [u8; 4],
    serial: SmallVec<[u8; 36]>,
    uuid: Uuid,
}

impl Identity {
    /// Vendor (8), product (16) and revision (4) as INQUIRY gives them. The UUID must not change while initiators know
    /// the unit. The serial number is `serial`, or else the UUID's digits.
    pub fn new(
        vendor: &str,
        product: &str,
        revision: &str,
        serial: Option<&str>,
        uuid: Uuid,
    ) -> Result<Self, IdentityError> {
        let digits;
        let serial = match serial {
            Some(serial) => serial,
            None => {
                digits = format!("{:032x}", u128::from_be_bytes(uuid.bytes()));
                &digits
            }
        };
        check("serial number", serial, SERIAL_MAX)?;
        Ok(Self {
            vendor: padded("vendor", vendor)?,
            product: padded("product", product)?,
            revision: padded("revision", revision)?,
            serial: SmallVec::from_slice(serial.as_bytes()),
            uuid,
        })
    }

    /// The same unit by other names: vendor, product and revision, where there is one.
    pub fn renamed(self, [vendor, product, revision]: [Option<&str>; 3]) -> Result<Self, IdentityError> {
        Ok(Self {
            vendor: vendor.map_or(Ok(self.vendor), |vendor| padded("vendor", vendor))?,
            product: product.map_or(Ok(self.product), |product| padded("product", product))?,
            revision: revision.map_or(Ok(self.revision), |revision| padded("revision", revision))?,
            ..self
        })
    }

    /// The vendor, with blanks behind it.
    pub fn vendor(&self) -> &[u8] {
        &self.vendor
    }

    /// The product, with blanks behind it.
    pub fn product(&self) -> &[u8] {
        &self.product
    }

    /// The serial number.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The UUID: a name that stays when the configured one changes.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Whether it is called that.
    pub fn goes_by(&self, designation: &Designation) -> bool {
        let mut data = DataIn::new();
        self.write_designators(&mut data);
        let mut rest = data.as_bytes();
        while let [code_set, kind, _, len, tail @ ..] = rest {
            let (name, others) = tail.split_at(usize::from(*len).min(tail.len()));
            if Designation::new(*code_set, *kind, name).is_some_and(|own| own == *designation) {
                return true;
            }
            rest = others;
        }
        false
    }

    /// Vendor, product and revision: bytes 8 to 35 of standard INQUIRY data.
    pub(super) fn write_names(&self, data: &mut DataIn) {
        data.bytes(&self.vendor).bytes(&self.product).bytes(&self.revision);
    }

    /// The designation descriptors of the logical unit (SPC-5 7.7.6).
    pub(super) fn write_designators(&self, data: &mut DataIn) {
        const BINARY: u8 = 1;
        const ASCII: u8 = 2;
        // NAA 3h is the one that may be assigned locally: 60 bits, here of the UUID.
        let naa = self.uuid.bytes();
        let low = u64::from_be_bytes([naa[8], naa[9], naa[10], naa[11], naa[12], naa[13], naa[14], naa[15]]);
        data.u8(BINARY).u8(0x03).u8(0).u8(8).u64(3 << 60 | low & (u64::MAX >> 4));

        // NAA 6h has a place for a company's number: one that is assigned locally (its bit 1 says so), and the rest of
        // the UUID.
        let company = (naa[0] & 0x0f) << 4 | naa[1] >> 4;
        let company = company & !0x01 | 0x02;
        data.u8(BINARY).u8(0x03).u8(0).u8(16);
        data.u8(6 << 4 | company >> 4).u8(company << 4 | naa[1] & 0x0f).bytes(&naa[2..]);

        // T10 vendor identification, followed by what makes it unique.
        let len = self.vendor.len() + self.serial.len();
        data.u8(ASCII).u8(0x01).u8(0).u8(len as u8).bytes(&self.vendor).bytes(&self.serial);

        // Locally assigned UUID.
        data.u8(BINARY).u8(0x0a).u8(0).u8(18).u8(0x10).u8(0).bytes(&naa);
    }
}

fn check(field: &'static str, value: &str, max: usize) -> Result<(), IdentityError> {
    let printable = value.bytes().all(|b| (0x20..0x7f).contains(&b));
    if value.is_empty() || value.len() > max || !printable {
        return Err(IdentityError { field, value: value.into(), max });
    }
    Ok(())
}

fn padded<const N: usize>(field: &'static str, value: &str) -> Result<[u8; N], IdentityError> {
    check(field, value, N)?;
    let mut bytes = [b' '; N];
    bytes[..value.len()].copy_from_slice(value.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code set, type and value of each designator.
    fn designators(identity: &Identity) -> Vec<(u8, u8, Vec<u8>)> {
        let mut data = DataIn::new();
        identity.write_designators(&mut data);
        let mut rest = data.as_bytes();
        let mut found = Vec::new();
        while let [code_set, kind, 0, len, tail @ ..] = rest {
            let (value, others) = tail.split_at(usize::from(*len));
            found.push((*code_set, *kind, value.to_vec()));
            rest = others;
        }
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn each_name_of_a_unit_is_of_its_uuid() {
        let uuid = "ffffffff-e89b-12d3-a456-426614174000".parse().unwrap();
        let identity = Identity::new("PTGT", "DISK", "1", None, uuid).unwrap();
        let found = designators(&identity);
        let kinds: Vec<(u8, u8)> = found.iter().map(|(set, kind, _)| (*set, *kind)).collect();
        assert_eq!(kinds, [(1, 3), (1, 3), (2, 1), (1, 0x0a)]);
        assert_eq!(found[0].2, 0x3456_4266_1417_4000_u64.to_be_bytes());
        // NAA 6h: a company's number that is assigned locally and of no group, then 100 bits.
        let naa = u128::from_be_bytes(found[1].2[..].try_into().unwrap());
        assert_eq!(naa, 0x6fef_ffff_e89b_12d3_a456_4266_1417_4000);
        for (set, kind, value) in found {
            assert!(
                identity.goes_by(&Designation::new(set, kind, &value[..value.len().min(20)]).unwrap())
                    || kind == 1
            );
        }
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        let new = |vendor, serial| Identity::new(vendor, "DISK", "1", serial, Uuid::of_name("x"));
        assert!(new("PTGT", None).is_ok());
        assert_eq!(new("PTGT", None).unwrap().serial().len(), 32);
        assert!(new("NINECHARS", None).is_err());
        assert!(new("", None).is_err());
        assert!(new("PT\u{e9}", None).is_err());
        assert!(new("PTGT", Some("")).is_err());
        assert_eq!(new("PTGT", Some("S1")).unwrap().serial(), b"S1");
    }
}
