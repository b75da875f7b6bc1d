// SPDX-License-Identifier: GPL-2.0-or-later
//! What the daemon may still do once everything is open. The start may need more: images of other users, TCP ports
//! below 1024, a higher limit of descriptors. All of that is given up before a peer is served.

use std::path::Path;

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

use super::config::Config;
use super::doctor::nearest_directory;
use crate::sys;

/// Capabilities that the daemon keeps, and what for. `configs/ptgt.service` grants the same.
const KEPT: [(Capability, &str); 3] = [
    (Capability::CAP_NET_ADMIN, "TAP devices, also when they have to be made again"),
    (Capability::CAP_NET_RAW, "packet sockets"),
    (Capability::CAP_IPC_LOCK, "memory that is locked, or that an adapter reads"),
];

/// Keeps only what the table grants, what ports have a use for, and CAP_DAC_OVERRIDE where root could not write the
/// daemon's state without it. This holds for the calling thread and for those that it starts from then on. Returns what
/// stays, if that is less than before.
pub fn give_up(config: &Config) -> Result<Option<String>, CapsError> {
    let had = caps::read(None, CapSet::Permitted)?;
    let of_ports = config.ports.iter().flat_map(|port| port.options.useful_rights());
    let table = KEPT.iter().chain(of_ports).map(|(capability, _)| *capability);
    let mut kept: CapsHashSet = table.filter(|capability| had.contains(capability)).collect();
    caps::set(None, CapSet::Effective, &kept)?;
    let locked: Vec<&Path> = written(config).filter(|directory| sys::may_write(directory).is_err()).collect();
    caps::set(None, CapSet::Effective, &had)?;
    // On a file system that is read-only it would be of no use either.
    let foreign = locked.into_iter().find(|directory| sys::may_write(directory).is_ok());
    if foreign.is_some() {
        kept.insert(Capability::CAP_DAC_OVERRIDE);
    }
    keep(&kept)?;
    if kept.len() == had.len() {
        return Ok(None);
    }
    let mut names: Vec<String> = kept.iter().map(Capability::to_string).collect();
    names.sort_unstable();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let why = foreign.map_or_else(String::new, |path| {
        format!("; CAP_DAC_OVERRIDE because {} belongs to another user", path.display())
    });
    Ok(Some(format!("capabilities kept: {names}{why}")))
}

/// Keeps no capability: for a thread that needs none.
pub(super) fn give_up_all() -> Result<(), CapsError> {
    keep(&CapsHashSet::new())
}

fn keep(kept: &CapsHashSet) -> Result<(), CapsError> {
    sys::forbid_new_privileges().map_err(|e| CapsError::from(format!("no_new_privs: {e}")))?;
    caps::clear(None, CapSet::Ambient)?;
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for one in caps::read(None, CapSet::Bounding)?.difference(kept) {
            caps::drop(None, CapSet::Bounding, *one)?;
        }
    }
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, kept)?;
    caps::set(None, CapSet::Permitted, kept)
}

/// The directories that the daemon writes to while it serves, and where it opens images.
fn written(config: &Config) -> impl Iterator<Item = &Path> {
    let daemon = &config.daemon;
    let own = [Some(&*daemon.state_dir), daemon.control_socket.parent()].into_iter().flatten();
    let libraries = config.units.iter().filter_map(|unit| unit.device.library());
    own.chain(libraries.map(|library| &*library.cartridges)).map(nearest_directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config;

    /// The capabilities that a line of the unit grants.
    fn granted(key: &str) -> Vec<&'static str> {
        let unit = include_str!("../../configs/ptgt.service");
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap().split(' ').collect()
    }

    #[test]
    fn the_unit_grants_what_the_daemon_keeps() {
        let kept = KEPT.map(|(capability, _)| capability.to_string());
        assert_eq!(granted("AmbientCapabilities"), kept);
        assert_eq!(granted("CapabilityBoundingSet"), kept);
        let manual = include_str!("../../docs/ports.md");
        for (capability, _) in KEPT {
            assert!(
                manual.contains(&capability.to_string()),
                "docs/ports.md does not say why {capability} is kept"
            );
        }
    }

    #[test]
    fn a_thread_keeps_what_the_table_says() {
        let text = include_str!("../../configs/quickstart.toml");
        let config = config::parse(text, Path::new("/nowhere")).unwrap();
        let others = std::thread::spawn(move || {
            let had = caps::read(None, CapSet::Permitted).unwrap();
            give_up(&config).unwrap();
            let now = caps::read(None, CapSet::Permitted).unwrap();
            assert_eq!(now, caps::read(None, CapSet::Effective).unwrap());
            let allowed = |one: &Capability| KEPT.iter().any(|(kept, _)| kept == one);
            assert!(now.iter().all(|one| allowed(one) || *one == Capability::CAP_DAC_OVERRIDE), "{now:?}");
            assert!(had.iter().filter(|one| allowed(one)).all(|one| now.contains(one)), "{had:?} {now:?}");
            give_up_all().unwrap();
            caps::read(None, CapSet::Permitted).unwrap().len()
        });
        assert_eq!(others.join().unwrap(), 0);
    }
}
