// SPDX-License-Identifier: GPL-2.0-or-later
//! Whether a daemon could start: whether it can get what it needs. What the running daemon of this configuration
//! already holds is no obstacle.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::running::HeldBy;
use super::{Asker, Doctor, Verdict};
use crate::adapters::fabric::FabricAddress;
use crate::control::config::Config;
use crate::engine::units::UnitOptions;
use crate::ports::{AddressHolder, AddressRefusal, ConfiguredPort};
use crate::stores::patiently;
use crate::sys;

/// A directory, or the nearest one above it that is there.
pub fn nearest_directory(path: &Path) -> &Path {
    let above = path.ancestors().find(|above| above.symlink_metadata().is_ok());
    above.filter(|above| !above.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

impl Doctor<'_> {
    /// Looks at everything that a start needs of the machine, for who asks.
    pub(super) fn start(&mut self) {
        let config = self.config;
        self.memory();
        if self.asker == Asker::Operator {
            self.control_socket();
            self.images();
        }
        // Without it a daemon serves until there is something to be kept.
        let help = "give a `state_dir` that the daemon may write to";
        self.directory("state directory", &config.daemon.state_dir, help, false);
        for fabric in &config.fabrics {
            fabric.examine(&mut self.findings);
        }
        for FabricAddress { portal, port, address } in config.addresses() {
            let refusal = config.port(port).options.examine_address(address, self.machine).err();
            self.alone(format!("portal {portal:?}: {address}"), refusal);
        }
        for ConfiguredPort { name, options, .. } in config.frame_ports() {
            self.alone(format!("port {name:?}: its frames"), options.examine_frames(self.machine).err());
        }
    }

    /// What keeps the daemon from starting, if there is something; `certain` if it holds whoever asks.
    fn start_needs(&mut self, what: String, refusal: Option<(String, String)>, wanted: &str, certain: bool) {
        let (found, why, verdict) = match refusal {
            None => ("good".to_owned(), String::new(), Verdict::Good),
            Some((found, why)) => (found, why, Verdict::Fails),
        };
        self.check(what, found, wanted, why, verdict).certain = certain;
    }

    /// Payload memory and disks in memory, against all that the machine has.
    fn memory(&mut self) {
        let Config { daemon, units, .. } = self.config;
        let Some(there) = self.machine.memory() else { return };
        let reactors = (daemon.memory as u64).saturating_mul(daemon.reactors.len() as u64);
        let in_memory = units.iter().map(UnitOptions::memory).fold(0_u64, u64::saturating_add);
        let wanted = reactors.saturating_add(in_memory);
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        let why = format!(
            "reactors take {}, disks in memory {}: lower `memory` of [daemon], or the `size` of disks",
            mib(reactors),
            mib(in_memory)
        );
        let found = format!("{}, but {} are needed", mib(there), mib(wanted));
        self.start_needs("memory".into(), (wanted > there).then_some((found, why)), &mib(wanted), true);
    }

    fn control_socket(&mut self) {
        let path = &self.config.daemon.control_socket;
        let other = fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket());
        let what = format!("control socket {}", path.display());
        match path.parent() {
            _ if other => {
                let refusal =
                    ("something else is at that path".to_owned(), "give another `control_socket`".to_owned());
                self.start_needs(what, Some(refusal), "a path for a socket", true);
            }
            Some(above) => self.directory(
                &what,
                above,
                "give a `control_socket` in a directory that the daemon may write to",
                true,
            ),
            None => {}
        }
    }

    /// A directory that the daemon makes if there is none, and writes to, at its start or later.
    fn directory(&mut self, what: &str, path: &Path, help: &str, at_once: bool) {
        let above = nearest_directory(path);
        let place = above.display();
        let (refusal, certain) = match above.is_dir() {
            false => (Some(format!("{place} is not a directory")), true),
            true => match sys::may_write(above) {
                Ok(()) => (None, true),
                Err(e) => {
                    (Some(format!("{place} cannot be written: {e}")), at_once && sys::holds_for_all(&e))
                }
            },
        };
        let refusal = refusal.map(|found| (found, help.to_owned()));
        self.start_needs(what.to_owned(), refusal, "a directory that may be written", certain);
    }

    /// What was found of them when the configuration was read; those that are refused whoever asks were told with their
    /// line then.
    fn images(&mut self) {
        let config = self.config;
        for unit in &config.units {
            let Some(path) = unit.image() else { continue };
            let Some(refusal) = &unit.refusal else { continue };
            let holder = self.running.holds_file(path);
            if holder == HeldBy::Own {
                continue;
            }
            // Root may open everything: what is left is a lock, for which the start waits, too.
            let locked = holder == HeldBy::Other && sys::effective_uid() == 0;
            if locked && patiently(|| unit.examine(&config.daemon.state_dir).ok()).is_some() {
                continue;
            }
            let what = format!("{} {:?}", unit.kind, unit.name);
            let refusal = (refusal.message.clone(), refusal.help.clone());
            self.start_needs(what, Some(refusal), "an image for this daemon", locked);
        }
    }

    /// What no other daemon may have.
    fn alone(&mut self, what: String, refusal: Option<AddressRefusal>) {
        let holder = refusal.as_ref().map(|refusal| match &refusal.holder {
            AddressHolder::Sockets(inodes) => self.running.holds_socket(inodes),
            AddressHolder::Device(name) => self.running.holds_device(name),
            AddressHolder::Nobody => HeldBy::Other,
            AddressHolder::Unknown => HeldBy::Unknown,
        });
        let refusal = refusal.filter(|_| holder != Some(HeldBy::Own));
        let refusal = refusal.map(|refusal| (refusal.found, refusal.help));
        self.start_needs(what, refusal, "free", holder != Some(HeldBy::Unknown));
    }
}
