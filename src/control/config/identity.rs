// SPDX-License-Identifier: GPL-2.0-or-later
//! The identity of each disk: from the configuration, else from the record kept with its image, else derived from what
//! is there. No two disks may look the same to initiators, or have the same bytes.

use std::collections::BTreeMap;
use std::path::Path;

use super::model::{Config, Scope};
use crate::engine::units::{IdentitySource, UnitOptions};
use crate::options::{Named, Section};
use crate::scsi::primary::Identity;
use crate::stores::{IdentityOrigin, IdentityRecord, ImagePlace, ImageRefusal, identity_here};
use crate::wire::Uuid;

/// How many disks are warned of by name.
const NAMED_MAX: usize = 8;

/// Disks that another machine's disk could be taken for.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let warning = |unit: &UnitOptions| {
        let why = match &unit.identity_source {
            IdentitySource::Kept(IdentityRecord { from: IdentityOrigin::Name, .. }) => {
                "its image existed before it had an identity"
            }
            IdentitySource::Name(why) => why,
            _ => return None,
        };
        Some(format!(
            "{} {:?}: its identity comes from its name, as {why}: initiators take a disk of that name on another \
             machine for the same; `uuid = \"{}\"` keeps this one, a new UUID makes it another disk",
            unit.kind,
            unit.name,
            unit.identity.uuid()
        ))
    };
    let mut all = config.units.iter().filter_map(warning);
    let mut found: Vec<String> = all.by_ref().take(NAMED_MAX).collect();
    match all.count() {
        0 => {}
        more => found.push(format!("the same holds for {more} more disks")),
    }
    found
}

/// The names of a unit on the wire. `image` is not known if its store is not. With a state directory, what is kept
/// there and beside the image counts; without, the file alone is looked at.
pub(super) fn identity(
    s: &Section<'_>,
    name: Option<&str>,
    image: Option<Option<&Path>>,
    state: Option<&Path>,
) -> Option<(Identity, IdentitySource)> {
    let (vendor, product, revision) = (s.text("vendor"), s.text("product"), s.text("revision"));
    let (serial, uuid) = (s.text("serial"), s.text("uuid"));
    let wrong = |_| s.error("uuid", "is not a UUID", "32 hexadecimal digits, with or without the hyphens");
    let uuid = uuid.map(|text| text.parse::<Uuid>().map_err(wrong));
    let (vendor, product, revision) = (vendor?, product?, revision?);
    let found = match (uuid, image, state) {
        (Some(uuid), ..) => Ok((IdentitySource::Given, uuid.ok()?)),
        (None, Some(Some(path)), Some(state)) => of_image(path, state, name?),
        (None, Some(None), Some(_)) => Ok(of_memory(name?)),
        (None, ..) => Ok((IdentitySource::Unread, Uuid::of_name(name?))),
    };
    let (source, uuid) = found.map_err(|refusal| s.error(refusal.key, refusal.message, refusal.help)).ok()?;
    match Identity::new(&vendor, &product, &revision, serial.as_deref(), uuid) {
        Ok(identity) => Some((identity, source)),
        Err(e) => {
            let key = if e.field == "serial number" { "serial" } else { e.field };
            s.error(key, e.to_string(), "");
            None
        }
    }
}

/// Each disk has bytes of its own, and is one disk to initiators. With `scope` the machine, it counts what a path
/// leads to and not how it is spelled.
pub(super) fn distinct_units(units: &Named<'_, UnitOptions>, scope: Scope) {
    let (mut images, mut uuids, mut serials) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (index, unit) in units.known() {
        let wrong = |message: String, help| units.error(index, message, help);
        let whose = |(other, unit): (usize, &UnitOptions)| {
            format!("the {} {:?} (line {})", unit.kind, unit.name, units.line(other))
        };
        if let Some(path) = unit.image() {
            let place = match scope {
                Scope::File => ImagePlace::Path(path.to_owned()),
                Scope::Machine => ImagePlace::of(path),
            };
            if let Some(other) = images.insert(place, (index, unit)) {
                wrong(
                    format!("{} already belongs to {}", path.display(), whose(other)),
                    "each disk has a file of its own; a disk may be in several targets",
                );
                // Whatever else they have in common comes from that.
                continue;
            }
        }
        let (uuid, serial) = (unit.identity.uuid(), unit.identity.serial().to_vec());
        if let Some(other) = uuids.insert(uuid, (index, unit)) {
            let help = "to initiators they would be one disk: give one of them a new `uuid`; a copy of an image leaves out \
                        its .ptgt file";
            wrong(format!("its UUID {uuid} already belongs to {}", whose(other)), help);
        } else if let Some(other) = serials.insert(serial, (index, unit)) {
            let serial = String::from_utf8_lossy(unit.identity.serial());
            wrong(
                format!("its serial number {serial:?} already belongs to {}", whose(other)),
                "to initiators they would be one disk: give each a `serial` of its own",
            );
        }
    }
}

/// Where the identity of an image comes from that the configuration gives none, and what it is made from.
fn of_image(path: &Path, state: &Path, name: &str) -> Result<(IdentitySource, Uuid), ImageRefusal> {
    let why = match of_record(path, state, name) {
        Ok(Some(record)) => {
            let uuid = record.uuid;
            return Ok((IdentitySource::Kept(record), uuid));
        }
        Ok(None) => "it is a block device without a name in /dev/disk/by-id".to_owned(),
        Err(refusal) if refusal.certain => return Err(refusal),
        Err(refusal) => refusal.message,
    };
    Ok((IdentitySource::Name(why), Uuid::of_name(name)))
}

/// What is kept of an image, or will be: an image that was there before keeps what all were once, and one that is made
/// gets a new identity. `None` if nothing can be kept of it.
fn of_record(path: &Path, state: &Path, name: &str) -> Result<Option<IdentityRecord>, ImageRefusal> {
    let found = IdentityRecord::find(path, state)?;
    if found.is_some() {
        return Ok(found);
    }
    let record = match path.exists() {
        true => IdentityRecord { uuid: Uuid::of_name(name), from: IdentityOrigin::Name },
        false => IdentityRecord::draw()?,
    };
    Ok(record.can_be_kept(path, state)?.then_some(record))
}

/// The same of a disk whose bytes are gone with the daemon.
fn of_memory(name: &str) -> (IdentitySource, Uuid) {
    match identity_here(name) {
        Some(uuid) => (IdentitySource::Machine, uuid),
        None => (IdentitySource::Name("this machine has no /etc/machine-id".into()), Uuid::of_name(name)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::control::config::load;

    struct DiskDirectory(PathBuf);

    impl DiskDirectory {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("ptgt-whose-{name}-{}", std::process::id()));
            _ = fs::remove_dir_all(&root);
            fs::create_dir_all(root.join("disks")).unwrap();
            Self(root)
        }

        fn image(&self, name: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, [0; 4096]).unwrap();
            path
        }

        /// The configuration with these disks, or what is wrong with it. `W` stands for the directory.
        fn load(&self, disks: &str, scope: Scope) -> Result<Config, String> {
            let head = "[[port]]\nname = \"k\"\ndriver = \"kernel\"\n[[portal]]\nname = \"p\"\nport = \"k\"\n\
                        address = \"127.0.0.1:3260\"\n[[target]]\nname = \"iqn.2026-11.test:t\"\n[daemon]\nstate_dir = \"W/state\"\n";
            let path = self.0.join("test.toml");
            fs::write(&path, format!("{head}{disks}").replace('W', &self.0.to_string_lossy())).unwrap();
            let messages = |(_, errors): (_, Vec<crate::options::Diagnostic>)| {
                errors.into_iter().map(|error| format!("{}; {}\n", error.message, error.help)).collect()
            };
            load(&path, scope).map_err(messages)
        }

        /// The UUID of the only disk, as a daemon would have it that starts now.
        fn start(&self, disk: &str) -> (Uuid, IdentitySource) {
            let config = self.load(disk, Scope::Machine).unwrap();
            let disk = &config.units[0];
            disk.keep_identity(&config.daemon.state_dir).unwrap();
            (disk.identity.uuid(), disk.identity_source.clone())
        }
    }

    impl Drop for DiskDirectory {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    fn file(name: &str, path: &str, more: &str) -> String {
        format!("[[disk]]\nname = \"{name}\"\nstore = \"file\"\npath = \"W/{path}\"\n{more}\n")
    }

    #[test]
    fn an_identity_is_drawn_once_and_stays() {
        let rig = DiskDirectory::new("drawn");
        let new = |name, path| file(name, path, "create = true\nsize = \"4KiB\"");
        let (a, source) = rig.start(&new("disk0", "disks/a.img"));
        assert!(matches!(&source, IdentitySource::Kept(record) if record.from == IdentityOrigin::Random));
        rig.image("disks/a.img");
        let (b, _) = rig.start(&new("disk0", "disks/b.img"));
        assert_ne!(a, b, "one name, two disks");
        // Restarts, another name, another spelling of the path, another place.
        assert_eq!(rig.start(&new("disk0", "disks/a.img")).0, a);
        assert_eq!(rig.start(&new("renamed", "disks/../disks/a.img")).0, a);
        fs::remove_dir_all(rig.0.join("state")).unwrap();
        for name in ["a.img", "a.img.ptgt"] {
            fs::rename(rig.0.join("disks").join(name), rig.0.join(name)).unwrap();
        }
        assert_eq!(rig.start(&new("disk0", "a.img")).0, a);
        // Without its file, it is known by its path.
        fs::remove_file(rig.0.join("a.img.ptgt")).unwrap();
        assert_eq!(rig.start(&new("disk0", "a.img")).0, a);
        let given = "123E4567e89b12d3a456426614174000";
        let (uuid, source) = rig.start(&file("disk0", "a.img", &format!("uuid = \"{given}\"")));
        assert_eq!((uuid, source), (given.parse().unwrap(), IdentitySource::Given));
    }

    #[test]
    fn an_image_that_was_there_keeps_the_identity_of_its_name() {
        let rig = DiskDirectory::new("there");
        rig.image("a.img");
        let disk = file("disk0", "a.img", "");
        assert!(!rig.0.join("a.img.ptgt").exists());
        let config = rig.load(&disk, Scope::Machine).unwrap();
        assert!(
            !rig.0.join("a.img.ptgt").exists() && !rig.0.join("state").exists(),
            "a look changes nothing"
        );
        let (uuid, source) = rig.start(&disk);
        assert_eq!(uuid, Uuid::of_name("disk0"));
        assert_eq!(source, config.units[0].identity_source);
        let told = warnings(&config).concat();
        assert!(told.contains("disk0") && told.contains(&uuid.to_string()), "{told}");
        // From now on it stays, and the warning, too.
        let renamed = file("renamed", "a.img", "");
        assert_eq!(rig.start(&renamed).0, uuid);
        assert_eq!(warnings(&rig.load(&renamed, Scope::Machine).unwrap()).len(), 1);
        let given = file("renamed", "a.img", &format!("uuid = \"{uuid}\""));
        assert!(warnings(&rig.load(&given, Scope::Machine).unwrap()).is_empty());
    }

    #[test]
    fn no_two_disks_are_the_same() {
        let rig = DiskDirectory::new("twice");
        let (a, b, c) = (rig.image("disks/a.img"), rig.image("b.img"), rig.image("c.img"));
        std::os::unix::fs::symlink("disks", rig.0.join("link")).unwrap();
        std::os::unix::fs::symlink(&a, rig.0.join("a-link.img")).unwrap();
        fs::hard_link(&a, rig.0.join("hard.img")).unwrap();
        let ram = |name: &str, more: &str| {
            format!("[[disk]]\nname = \"{name}\"\nstore = \"ram\"\nsize = 4096\n{more}\n")
        };
        let new = "create = true\nsize = \"4KiB\"";
        let uuid = "uuid = \"123e4567-e89b-12d3-a456-426614174000\"";
        let refused = |disks: &[String], why: &str| {
            let errors = rig.load(&disks.concat(), Scope::Machine).unwrap_err();
            assert!(
                errors.contains(why) && errors.contains("line ") && errors.lines().count() == 1,
                "{why}: {errors}"
            );
        };
        let first = file("first", "disks/a.img", "");
        for spelling in
            ["disks/a.img", "disks/../disks/a.img", "link/a.img", "a-link.img", "hard.img", "./disks//a.img"]
        {
            refused(&[first.clone(), file("second", spelling, "")], "belongs to the disk \"first\"");
            refused(
                &[file("first", spelling, uuid), file("second", "disks/a.img", uuid)],
                "belongs to the disk",
            );
        }
        refused(
            &[file("first", "new.img", new), file("second", "link/../new.img", new)],
            "belongs to the disk",
        );
        for other in [
            uuid,
            "uuid = \"123E4567-E89B-12D3-A456-426614174000\"",
            "uuid = \"123e4567e89b12d3a456426614174000\"",
        ] {
            refused(&[ram("first", uuid), ram("second", other)], "already belongs to the disk \"first\"");
            refused(&[file("first", "b.img", uuid), ram("second", other)], "already belongs to the disk");
        }
        let serial = "serial = \"S1\"";
        refused(
            &[ram("first", serial), ram("second", serial)],
            "serial number \"S1\" already belongs to the disk",
        );
        let digits = "serial = \"123e4567e89b12d3a456426614174000\"";
        refused(&[ram("first", uuid), ram("second", digits)], "serial number");
        // The identity that another gets by its name.
        let named = format!("uuid = \"{}\"", Uuid::of_name("second"));
        refused(&[ram("first", &named), file("second", "b.img", "")], "already belongs to the disk");
        // A copy with its file.
        rig.start(&file("second", "b.img", ""));
        fs::copy(&b, &c).unwrap();
        fs::copy(rig.0.join("b.img.ptgt"), rig.0.join("c.img.ptgt")).unwrap();
        refused(&[file("first", "b.img", ""), file("second", "c.img", "")], "leaves out its .ptgt file");
        let all = [
            first,
            file("second", "b.img", ""),
            ram("third", ""),
            ram("fourth", serial),
            file("fifth", "new.img", new),
        ];
        rig.load(&all.concat(), Scope::Machine).unwrap();
        // The file alone tells what it spells alike.
        let twice = [file("first", "disks/a.img", ""), file("second", "disks/a.img", "")].concat();
        assert!(rig.load(&twice, Scope::File).unwrap_err().contains("belongs to the disk"));
        assert!(rig.load(&twice.replacen("disks/a.img", "link/a.img", 1), Scope::File).is_ok());
    }

    #[test]
    fn an_identity_that_cannot_be_kept_is_an_error_unless_it_is_given() {
        let rig = DiskDirectory::new("lost");
        fs::write(rig.0.join("state"), "").unwrap();
        // Below a file there is no place for anything, for root neither.
        let path = "disks/a.img";
        let beside = rig.image(path).with_file_name("a.img.ptgt");
        rig.load(&file("disk0", path, ""), Scope::Machine).unwrap();
        fs::create_dir(&beside).unwrap();
        let errors = rig.load(&file("disk0", path, ""), Scope::Machine).unwrap_err();
        assert!(errors.contains("a.img.ptgt"), "{errors}");
        rig.load(&file("disk0", path, "uuid = \"123e4567-e89b-12d3-a456-426614174000\""), Scope::Machine)
            .unwrap();
    }
}
