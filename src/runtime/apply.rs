// SPDX-License-Identifier: GPL-2.0-or-later
//! Another configuration while the daemon runs: all of it, or as before. What initiators may notice in between is a
//! drive without its medium, and a disk that becomes ready: media are taken out of drives that are replaced, and images
//! are closed before they are opened in another way.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use log::info;

use super::build::{Unit, library_of};
use super::live::{GoneUnits, Live, Replaced};
use super::media::MediumExchange;
use crate::control::config::difference::{ConfigChanges, Difference};
use crate::control::config::{self, Config, Scope};
use crate::engine::units::UnitOptions;
use crate::stores::{ConfiguredStore, ImagePlace};

/// How to come from what is served to another configuration.
struct Transition {
    /// Units that others replace.
    replaced: BTreeSet<String>,
    /// Those of them whose image is open in another way.
    reopened: BTreeSet<String>,
    /// Libraries that come.
    libraries: BTreeSet<String>,
    /// What becomes of media before the change ...
    before: Vec<MediumExchange>,
    /// ... and after it.
    after: Vec<MediumExchange>,
}

impl Live {
    /// Serves what the configuration says in that file. Waits for what is under way at logical units that go. The error
    /// says why everything is as before.
    pub(super) fn apply(&self, path: &Path) -> Result<(), String> {
        let new = config::load(path, Scope::Machine)
            .map_err(|(text, found)| config::render(path, &text, &found))?;
        let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.served().config.clone();
        let difference = Difference::between(&old, &new);
        if !difference.restarts.is_empty() {
            return Err(format!("needs a restart: {}", difference.restarts.join(", ")));
        }
        let transition = self.transition(&new, difference.units);
        let Err(mut why) = self.enter(&transition, &new) else {
            info!("another configuration is in force");
            return Ok(());
        };
        let now = self.served().config.clone();
        if Arc::ptr_eq(&now, &old) {
            return Err(why);
        }
        let back = self.transition(&old, Difference::between(&now, &old).units);
        if let Err(e) = self.enter(&back, &old) {
            why = format!("{why}; and what was before cannot be brought back: {e}");
        }
        Err(self.media_back(&mut self.changer(), &transition.before, why))
    }

    fn transition(&self, new: &Config, units: ConfigChanges) -> Transition {
        let served = self.served();
        Transition::between(&served.units, (&served.config, new), units)
    }

    /// Serves another configuration. If that fails before it is in force, everything is as before.
    fn enter(&self, transition: &Transition, new: &Config) -> Result<(), String> {
        let Transition { replaced: units, reopened: unopened, before, .. } = transition;
        let gone = {
            let changer = &mut *self.changer();
            self.exchange_media(changer, before)?;
            let changed = self.change(changer, new.clone(), Replaced { units, unopened });
            changed.map_err(|why| self.media_back(changer, before, why))?
        };
        self.complete(transition, new, gone)
    }

    /// What has to wait until what was there before is closed.
    fn complete(&self, transition: &Transition, new: &Config, gone: GoneUnits) -> Result<(), String> {
        let Transition { reopened: units, libraries, before, after, .. } = transition;
        self.let_go(gone);
        if !units.is_empty() {
            let replaced = Replaced { units, unopened: &BTreeSet::new() };
            let gone = self.change(&mut self.changer(), new.clone(), replaced)?;
            self.let_go(gone);
        }
        let changer = &mut *self.changer();
        for MediumExchange { unit, wanted, .. } in after {
            let image = |store: &ConfiguredStore| store.options.image().map(|(image, _)| image.to_owned());
            let was = before.iter().find(|exchange| exchange.unit == *unit);
            if was.and_then(|was| image(was.before.as_ref()?)) == wanted.as_ref().and_then(image) {
                self.medium_returns(unit);
            }
        }
        self.exchange_media(changer, after)?;
        let served = self.served();
        let is_new = |unit: &&Arc<Unit>| libraries.contains(&unit.options.name);
        let libraries: Vec<_> = served.units.iter().filter(is_new).cloned().collect();
        self.furnish_new(changer, &libraries)
    }
}

impl Transition {
    fn between(
        units: &[Arc<Unit>],
        (old, new): (&Config, &Config),
        ConfigChanges { added, changed, removed }: ConfigChanges,
    ) -> Self {
        let exchanged = |name: &&String| {
            let pair = options(old, name).zip(options(new, name));
            pair.is_some_and(|(old, new)| old.has_another_medium(new))
        };
        let mut replaced: BTreeSet<String> =
            changed.iter().filter(|name| !exchanged(name)).cloned().collect();
        let mut libraries: BTreeSet<String> = added.into_iter().collect();
        libraries.retain(|name| options(new, name).is_some_and(|unit| unit.device.library().is_some()));
        for library in &new.units {
            let Some(plan) = library.device.library() else { continue };
            // It tells of its drives.
            let has_another = plan.drives.iter().any(|drive| replaced.contains(drive));
            if has_another && options(old, &library.name).is_some() {
                replaced.insert(library.name.clone());
            }
            if replaced.contains(&library.name) {
                libraries.insert(library.name.clone());
            }
        }
        let goes = |name: &String| replaced.contains(name) || removed.contains(name);
        let place = |unit: &UnitOptions| unit.image().map(ImagePlace::of);
        let closed: BTreeSet<ImagePlace> =
            old.units.iter().filter(|unit| goes(&unit.name)).filter_map(place).collect();
        let is_reopened = |name: &&String| {
            let pair = options(old, name).zip(options(new, name));
            pair.is_some_and(|(old, new)| {
                let same = new.has_store_of(old);
                !new.is_drive() && !same && place(new).is_some_and(|place| closed.contains(&place))
            })
        };
        let reopened = replaced.iter().filter(is_reopened).cloned().collect();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for unit in units.iter().filter(|unit| unit.options.is_drive()) {
            let name = &unit.options.name;
            let there = unit.medium().as_ref().map(|medium| medium.store.clone());
            let Some((was, next)) = options(old, name).zip(options(new, name)) else {
                before.push(MediumExchange { unit: name.clone(), before: there, wanted: None });
                continue;
            };
            let leaves_library = library_of(old, was).is_some() && library_of(new, next).is_none();
            let (between, then) = if replaced.contains(name) {
                let then = if next.has_store_of(was) { there.clone() } else { next.store.clone() };
                (None, then.filter(|_| next.is_drive()))
            } else if was.has_another_medium(next) && place(was) == place(next) {
                (None, next.store.clone())
            } else if was.has_another_medium(next) || leaves_library {
                (next.store.clone(), None)
            } else {
                continue;
            };
            before.push(MediumExchange { unit: name.clone(), before: there, wanted: between });
            let then =
                then.map(|then| MediumExchange { unit: name.clone(), before: None, wanted: Some(then) });
            after.extend(then);
        }
        Self { replaced, reopened, libraries, before, after }
    }
}

fn options<'a>(config: &'a Config, name: &str) -> Option<&'a UnitOptions> {
    config.units.iter().find(|unit| unit.name == name)
}
