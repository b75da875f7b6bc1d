// SPDX-License-Identifier: GPL-2.0-or-later
//! Target ports keep their identifiers and their reservations from one start to the next.

use std::fs;
use std::path::PathBuf;

use super::super::*;
use crate::control::config::parse;
use crate::stores::wrap_record;

const UUID: &str = "0f81b2d4-9d1c-4a70-8a55-3f6f0c6f2a11";
const KEY: UnitKey = UnitKey(1);

/// A reservation through iqn.2026-11.test:b as the first daemons have kept it (APTPL), which all later ones must load.
const RESERVATIONS: &[u8] =
    b"ptgtrec1\0\0\0T\x01\x05\0\x01\0\0\0\0\0\0\x0a\xbc\x01\0(E\0\0$iqn.2026-11.test:i,i,0x800102030405\0\
    \0\x1biqn.2026-11.test:b,t,0x0001\x0aBo\xfd";

/// Identifiers of all target ports, and what is known of reservations.
type Started = (Vec<u16>, Arc<SharedState>);

/// A state directory, removed at the end.
struct State(PathBuf);

impl State {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ptgt-ports-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join(UUID)).unwrap();
        fs::write(path.join(UUID).join(RECORD_NAME), RESERVATIONS).unwrap();
        Self(path)
    }

    /// A start with these targets, which export one disk.
    fn start(&self, targets: &[&str]) -> Result<Started, String> {
        let target = |target: &&str| {
            let (name, rest) = target.split_once(' ').unwrap_or((target, ""));
            format!("{{ name = \"iqn.2026-11.test:{name}\", luns = [{{ lun = 0, unit = \"d\" }}], {rest} }}")
        };
        let text = format!(
            "daemon = {{ state_dir = {:?} }}
            port = [{{ name = \"p\", driver = \"kernel\" }}]
            portal = [{{ name = \"l\", port = \"p\", address = \"192.0.2.1:3260\" }}]
            disk = [{{ name = \"d\", store = \"null\", size = \"1MiB\", uuid = {UUID:?} }}]
            target = [{}]",
            self.0,
            targets.iter().map(target).collect::<Vec<_>>().join(", ")
        );
        let config = parse(&text, &self.0).map_err(|found| found[0].message.clone())?;
        let records = Records::new(&self.0);
        let (ids, record) = port_ids(&config, &records)?;
        keep_port_ids(&config, &ids, record);
        let exports = exports(&config, &[("d".to_owned(), KEY)].into(), &ids)?;
        let slot = records.slot(UUID).unwrap();
        let state = state(&config, &exports, &records, slot, KEY)?;
        let ports = exports.iter().flat_map(|exports| exports.ports_of(KEY));
        Ok((ports.map(|port| port.relative).collect(), state))
    }

    fn ids(&self, targets: &[&str]) -> Vec<u16> {
        self.start(targets).unwrap().0
    }
}

impl Drop for State {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// The identifier of the target port whose reservation was kept.
fn reserved(state: &SharedState) -> u16 {
    let state = state.current();
    let table = state.reservations();
    assert_eq!(wrap_record(&table.to_record()), RESERVATIONS, "the format stays");
    let [registration] = table.registrations() else { panic!("{table:?}") };
    assert!(table.holds(registration) && registration.key == 0xabc);
    registration.port.as_ref().unwrap().relative
}

#[test]
fn a_target_added_before_another_one_finds_its_reservations_where_they_were() {
    let state = State::new("added");
    let (ports, first) = state.start(&["b", "c"]).unwrap();
    assert_eq!(ports, [1, 2], "as before there was a record");
    assert_eq!(reserved(&first), 1);
    let (ports, second) = state.start(&["a", "b", "c"]).unwrap();
    assert_eq!(ports, [3, 1, 2]);
    assert_eq!(reserved(&second), 1);
    assert_eq!(state.ids(&["d", "c", "b"]), [4, 2, 1], "that of a, which is gone, is nobody else's");
}

#[test]
fn an_identifier_that_is_given_overrides_the_record() {
    let state = State::new("given");
    assert_eq!(state.ids(&["a", "b"]), [1, 2]);
    assert_eq!(state.ids(&["a port_ids = [{ group = 1, id = 7 }]", "b"]), [7, 2]);
    let taken = state.start(&["a port_ids = [{ group = 1, id = 2 }]", "b"]).map(|(ports, _)| ports);
    assert!(taken.unwrap_err().contains("it belongs to iqn.2026-11.test:b,t,0x0001"));
    let twice = ["a port_ids = [{ group = 1, id = 2 }]", "b port_ids = [{ group = 1, id = 2 }]"];
    assert!(
        state.start(&twice).map(|(ports, _)| ports).unwrap_err().contains("the target port identifier 2")
    );
}

#[test]
fn a_record_that_is_damaged_ends_the_start_and_one_that_cannot_be_written_does_not() {
    let state = State::new("damaged");
    assert_eq!(state.ids(&["a"]), [1]);
    let record = state.0.join("common").join(PORT_IDS_RECORD);
    fs::write(&record, "damaged").unwrap();
    let why = state.start(&["a"]).map(|(ports, _)| ports).unwrap_err();
    assert!(why.contains("common/target-ports") && why.contains("remove it"), "{why}");
    // A directory in the place of the new record cannot be written, whoever asks.
    fs::remove_file(&record).unwrap();
    fs::create_dir(state.0.join("common/target-ports.new")).unwrap();
    assert_eq!(state.ids(&["b", "a"]), [1, 2]);
}
