// SPDX-License-Identifier: GPL-2.0-or-later
//! Relative target port identifiers (SPC-5 3.1): the number of each target port of the daemon. Initiators keep them, so
//! a port has the same after every start, whatever came before it in the configuration, and the number of one that is
//! gone is not given to another.
//!
//! The record: a version (1 byte, 1), and for each port its identifier (2 bytes, big-endian), the length of its name
//! (2) and its name.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::scsi::{DataIn, be16};

/// Name of the record.
pub const PORT_IDS_RECORD: &str = "target-ports";

const VERSION: u8 = 1;

/// Identifiers by the name of the target port, also of those that are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortIds(BTreeMap<String, u16>);

impl PortIds {
    /// Those that were given out in earlier runs. The error says what is wrong with the record.
    pub fn from_record(record: &[u8]) -> Result<Self, &'static str> {
        let (&version, mut rest) = record.split_first().ok_or("it is empty")?;
        if version != VERSION {
            return Err("target ports of another version");
        }
        let (mut ids, mut taken) = (BTreeMap::new(), BTreeSet::new());
        while !rest.is_empty() {
            let (head, tail) = rest.split_at_checked(4).ok_or("it is too short")?;
            let (name, tail) = tail.split_at_checked(be16(head, 2).into()).ok_or("it is too short")?;
            let name = std::str::from_utf8(name).map_err(|_| "no name of a target port")?;
            let id = be16(head, 0);
            if id == 0 || !taken.insert(id) || ids.insert(name.to_owned(), id).is_some() {
                return Err("an identifier or a port is in it twice");
            }
            rest = tail;
        }
        Ok(Self(ids))
    }

    /// The bytes to be kept.
    pub fn to_record(&self) -> Vec<u8> {
        let mut data = DataIn::new();
        data.u8(VERSION);
        for (name, id) in &self.0 {
            data.u16(*id).u16(u16::try_from(name.len()).unwrap_or(u16::MAX)).bytes(name.as_bytes());
        }
        data.as_bytes().to_vec()
    }

    /// Gives identifiers to the ports of a configuration: the one that is wanted, the one that it has, or the lowest
    /// free one, in the order of the ports. The error says who has one that is wanted.
    pub fn assign(&mut self, ports: &[(String, Option<u16>)]) -> Result<(), String> {
        for (name, wanted) in ports {
            let Some(wanted) = *wanted else { continue };
            let holder = self.0.iter().find(|(holder, id)| **id == wanted && *holder != name);
            if let Some(holder) = holder.map(|(holder, _)| holder.clone()) {
                if ports.iter().any(|(other, id)| *other == holder && id.is_none()) {
                    return Err(format!(
                        "{name} cannot have the identifier {wanted}: it belongs to {holder}: give that another one first"
                    ));
                }
                self.0.remove(&holder);
            }
            self.0.insert(name.clone(), wanted);
        }
        let mut taken: BTreeSet<u16> = self.0.values().copied().collect();
        let mut free = 1..=u16::MAX;
        for (name, _) in ports {
            if !self.0.contains_key(name) {
                let id =
                    free.find(|id| !taken.contains(id)).ok_or("there are more than 65535 target ports")?;
                taken.insert(id);
                self.0.insert(name.clone(), id);
            }
        }
        Ok(())
    }

    /// That of a port.
    pub fn get(&self, name: &str) -> Option<u16> {
        self.0.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ports(names: &[&str]) -> Vec<(String, Option<u16>)> {
        names.iter().map(|name| ((*name).to_owned(), None)).collect()
    }

    fn ids(ids: &PortIds, names: &[&str]) -> Vec<u16> {
        names.iter().map(|name| ids.get(name).unwrap()).collect()
    }

    #[test]
    fn a_port_keeps_its_identifier_and_leaves_it_to_nobody() {
        let mut known = PortIds::default();
        known.assign(&ports(&["b", "c"])).unwrap();
        assert_eq!(ids(&known, &["b", "c"]), [1, 2], "the order of the configuration at first");
        known.assign(&ports(&["a", "b", "c"])).unwrap();
        assert_eq!(ids(&known, &["a", "b", "c"]), [3, 1, 2]);
        known.assign(&ports(&["d", "a", "c"])).unwrap();
        assert_eq!(ids(&known, &["a", "c", "d"]), [3, 2, 4], "that of b stays reserved");
        known.assign(&ports(&["b"])).unwrap();
        assert_eq!(ids(&known, &["b"]), [1]);
    }

    #[test]
    fn a_given_identifier_comes_before_what_is_kept() {
        let mut known = PortIds::default();
        known.assign(&ports(&["a", "b"])).unwrap();
        let with = |a, b| [("a".to_owned(), a), ("b".to_owned(), b)];
        assert!(known.clone().assign(&with(Some(2), None)).unwrap_err().contains("it belongs to b"));
        known.assign(&with(Some(2), Some(1))).unwrap();
        assert_eq!(ids(&known, &["a", "b"]), [2, 1]);
        // Of one that is gone it may be taken, as when a target gets another name.
        known.assign(&[("c".to_owned(), Some(2)), ("d".to_owned(), None)]).unwrap();
        assert_eq!(ids(&known, &["b", "c", "d"]), [1, 2, 3]);
        assert_eq!(known.get("a"), None);
    }

    #[test]
    fn a_record_has_one_form() {
        let mut known = PortIds::default();
        known.assign(&ports(&["iqn.2026-11.test:t,t,0x0001"])).unwrap();
        assert_eq!(known.to_record(), b"\x01\0\x01\0\x1biqn.2026-11.test:t,t,0x0001");
        for bad in [&b""[..], b"\x02", b"\x01\0\x01\0", b"\x01\0\x01\0\x02a", b"\x01\0\0\0\x01a"] {
            assert!(PortIds::from_record(bad).is_err(), "{bad:?}");
        }
        for twice in [&b"\x01\0\x01\0\x01a\0\x01\0\x01b"[..], b"\x01\0\x01\0\x01a\0\x02\0\x01a"] {
            assert!(PortIds::from_record(twice).is_err(), "{twice:?}");
        }
    }

    proptest! {
        #[test]
        fn identifiers_are_unique_and_kept(
            starts in prop::collection::vec(prop::collection::vec(("[a-f]{1,2}", prop::option::of(1..9_u16)), 0..12), 1..6),
        ) {
            let mut known = PortIds::default();
            for mut start in starts {
                // As the configuration is checked.
                let mut seen = BTreeSet::new();
                start.retain(|(name, _)| seen.insert(name.clone()));
                let mut given = BTreeSet::new();
                start.iter_mut().for_each(|(_, id)| *id = id.filter(|id| given.insert(*id)));
                let before = known.clone();
                if known.assign(&start).is_err() {
                    known = before;
                    continue;
                }
                for (name, wanted) in &start {
                    let had = before.get(name).or_else(|| known.get(name));
                    prop_assert_eq!(known.get(name), wanted.or(had));
                }
                prop_assert_eq!(PortIds::from_record(&known.to_record()), Ok(known.clone()));
            }
        }
    }
}
