// SPDX-License-Identifier: GPL-2.0-or-later
//! Libraries of a running daemon: a thread brings cartridges to drives and takes them out, as their changers ask for
//! it, and as it was before the start.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use log::{info, warn};

use super::build::{Assembly, Unit};
use super::librarian::MoveRequests;
use super::live::{Changer, Live};
use crate::devices::LibraryPlan;
use crate::devices::smc::{barcode_of, cartridge_path};
use crate::engine::tasks::MediumRefusal;
use crate::engine::units::UnitOptions;
use crate::scsi::primary::{FurnishedLibrary, Identity};
use crate::scsi::{DriveChange, MoveFailure, UnitKey};
use crate::stores::{ConfiguredStore, Records};

/// How a library is at the start, by its changer.
pub(super) type Furnished = Vec<(UnitKey, FurnishedLibrary)>;

/// Tells all libraries what is there.
pub(super) fn furnish_all(assembly: &Assembly) -> Result<Furnished, String> {
    let Assembly { units, records, .. } = assembly;
    furnish_some(units, units, records)
}

fn furnish_some(some: &[Arc<Unit>], units: &[Arc<Unit>], records: &Records) -> Result<Furnished, String> {
    some.iter().map(|unit| Ok((unit.key, furnish(unit, units, records)?))).collect()
}

/// Tells a library what is there: what was kept of it, the cartridges of its directory, and its drives.
fn furnish(unit: &Unit, units: &[Arc<Unit>], records: &Records) -> Result<FurnishedLibrary, String> {
    let UnitOptions { kind, name, device, .. } = &unit.options;
    let (Some(plan), Some(library)) = (device.library(), unit.device.library()) else {
        return Ok(FurnishedLibrary::default());
    };
    let fail = |what: &str, e: &dyn std::fmt::Display| format!("{kind} {name:?}: {what}: {e}");
    let record = records.load(unit.slot(), library.record_name()).map_err(|e| fail("saved inventory", &e))?;
    let barcodes =
        barcodes(&plan.cartridges).map_err(|e| fail(&plan.cartridges.display().to_string(), &e))?;
    let furnished = library.furnish(record.as_deref(), &barcodes, drives(plan, units));
    let furnished = furnished.map_err(|e| fail("saved inventory", &e))?;
    for barcode in &furnished.missing {
        warn!("{kind} {name:?}: the cartridge {barcode} is not there any more");
    }
    for barcode in &furnished.left_over {
        warn!("{kind} {name:?}: there is no free slot for the cartridge {barcode}");
    }
    info!("{kind} {name:?}: {} cartridges", barcodes.len() - furnished.left_over.len());
    Ok(furnished)
}

/// The cartridges of a directory, in order.
fn barcodes(directory: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        found.extend(barcode_of(&entry?.path()).map(str::to_owned));
    }
    found.sort_unstable();
    Ok(found)
}

fn drives(plan: &LibraryPlan, units: &[Arc<Unit>]) -> Vec<Identity> {
    let identity = |name: &String| {
        let drive = units.iter().find(|unit| unit.options.name == *name)?;
        Some(drive.device.identity().clone())
    };
    plan.drives.iter().filter_map(identity).collect()
}

impl Live {
    /// Brings cartridges to the drives that they were in before the start, and then whatever changers want moved, until
    /// no core can ask any more.
    pub(super) fn keep_libraries(
        self: Arc<Self>,
        furnished: Furnished,
        requests: MoveRequests,
    ) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("library".into()).spawn(move || {
            self.load_all_again(&mut self.changer(), &furnished);
            for request in requests.0 {
                request.end(self.move_all(request.changer, &request.changes));
            }
        })
    }

    /// Libraries that have come while the daemon runs are told what is there, and have it in their drives.
    pub(super) fn furnish_new(&self, changer: &mut Changer, new: &[Arc<Unit>]) -> Result<(), String> {
        let furnished = furnish_some(new, &self.served().units, &self.records)?;
        self.load_all_again(changer, &furnished);
        Ok(())
    }

    fn load_all_again(&self, changer: &mut Changer, furnished: &Furnished) {
        for (library, FurnishedLibrary { in_drives, .. }) in furnished {
            let drives = self.of_library(*library, |_, plan| plan.drives.len()).unwrap_or_default();
            let empty = (0..drives).filter(|drive| in_drives.iter().all(|change| change.drive != *drive));
            // Whatever goes is gone before something comes, since it may have been in another drive.
            for drive in empty {
                self.load_again(changer, *library, &DriveChange { drive, barcode: None });
            }
            for change in in_drives {
                self.load_again(changer, *library, change);
            }
        }
    }

    fn load_again(&self, changer: &mut Changer, library: UnitKey, change: &DriveChange) {
        if change.barcode.is_some() {
            let name = self.of_library(library, |_, plan| plan.drives.get(change.drive).cloned());
            name.flatten().into_iter().for_each(|name| self.medium_returns(&name));
        }
        if let Err((_, why)) = self.change_drive(changer, library, change) {
            warn!("{why}; the cartridge is in its slot");
            self.of_library(library, |unit, _| {
                if let Some(library) = unit.device.library() {
                    library.not_loaded(change.drive);
                }
            });
        }
    }

    /// All of them, or none.
    fn move_all(&self, library: UnitKey, changes: &[DriveChange]) -> Result<(), MoveFailure> {
        let changer = &mut *self.changer();
        let before: Vec<DriveChange> =
            changes.iter().map(|change| self.in_drive(library, change.drive)).collect();
        for (done, change) in changes.iter().enumerate() {
            let Err((failure, why)) = self.change_drive(changer, library, change) else { continue };
            warn!("{why}");
            for change in before[..done].iter().rev() {
                if let Err((_, why)) = self.change_drive(changer, library, change) {
                    warn!("{why}");
                }
            }
            return Err(failure);
        }
        Ok(())
    }

    fn of_library<R>(&self, library: UnitKey, act: impl FnOnce(&Unit, &LibraryPlan) -> R) -> Option<R> {
        let served = self.served();
        let unit = served.units.iter().find(|unit| unit.key == library)?;
        Some(act(unit, unit.options.device.library()?))
    }

    /// What is in a drive.
    fn in_drive(&self, library: UnitKey, drive: usize) -> DriveChange {
        let served = self.served();
        let barcode = self.of_library(library, |_, plan| {
            let unit = served.units.iter().find(|unit| unit.options.name == plan.drives[drive])?;
            let medium = unit.medium();
            Some(barcode_of(medium.as_ref()?.image()?)?.into())
        });
        DriveChange { drive, barcode: barcode.flatten() }
    }

    /// Makes a change. The error says why everything is as before.
    fn change_drive(
        &self,
        changer: &mut Changer,
        library: UnitKey,
        change: &DriveChange,
    ) -> Result<(), (MoveFailure, String)> {
        let DriveChange { drive, barcode } = change;
        let wanted = self.of_library(library, |_, plan| {
            let name = plan.drives.get(*drive)?.clone();
            let image = barcode.as_ref().map(|barcode| cartridge_path(&plan.cartridges, barcode));
            let store = image.map(|image| ConfiguredStore::of_image(&name, &image));
            Some((name, store))
        });
        let gone = || (MoveFailure::Failed, "the library is gone".to_owned());
        let (name, store) = wanted.flatten().ok_or_else(gone)?;
        let done = self.set_medium(changer, &name, store.as_ref());
        done.map_err(|MediumRefusal { prevented, why }| {
            (if prevented { MoveFailure::Prevented } else { MoveFailure::Failed }, why)
        })
    }
}
