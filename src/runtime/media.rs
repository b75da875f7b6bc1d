// SPDX-License-Identifier: GPL-2.0-or-later
//! Media that come to logical units and go from them while the daemon runs. All that may wait for a disk, to open a
//! medium and to close it, is done by the thread that calls, which is no reactor; the owner of the unit puts the change
//! in force.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use log::info;

use super::build::{OpenMedium, Unit, open_medium};
use super::live::{Changer, Live};
use crate::control::config::Config;
use crate::engine::media::{AttachStore, MediumMessage};
use crate::engine::shard::Message;
use crate::engine::tasks::MediumRefusal;
use crate::engine::units::{UnitKind, UnitOptions, kind};
use crate::memory::Arena;
use crate::reactor::CoreContext;
use crate::scsi::primary::MediumPresence;
use crate::stores::{ConfiguredStore, read_now};

/// How long commands before a change may take, and the flush of what was written.
const CHANGE_TIME: Duration = Duration::from_secs(30);

/// How long a reactor may take to say that it has given a change up.
const GIVE_UP_TIME: Duration = Duration::from_secs(10);

/// Memory of a scan.
const SCAN_MEMORY: usize = 4 << 20;

impl Live {
    /// Brings a medium to a unit that has none.
    pub(super) fn load_medium(&self, name: &str, store: &ConfiguredStore) -> Result<(), String> {
        let mut changer = self.changer();
        let done = self.of_unit(name, |unit, config| {
            if let Some(there) = &*unit.medium() {
                return Err(format!("{} is in it: take that out first", there.described()).into());
            }
            self.change_medium(&mut changer, unit, config, Some(store), false)
        });
        done.map_err(|refusal| refusal.why)
    }

    /// Takes the medium of a unit out; by force even if initiators prevent that, or what they wrote cannot be brought
    /// to it.
    pub(super) fn unload_medium(&self, name: &str, force: bool) -> Result<(), String> {
        let mut changer = self.changer();
        let done =
            self.of_unit(name, |unit, config| self.change_medium(&mut changer, unit, config, None, force));
        done.map_err(|refusal| refusal.why)
    }

    /// Gives a unit this medium in the place of the one it has, or none.
    pub(super) fn set_medium(
        &self,
        changer: &mut Changer,
        name: &str,
        store: Option<&ConfiguredStore>,
    ) -> Result<(), MediumRefusal> {
        self.of_unit(name, |unit, config| {
            let there = unit.medium().clone();
            match store {
                None if there.is_none() => Ok(()),
                store if there.is_some_and(|there| there.is_of(store)) => Ok(()),
                store => self.change_medium(changer, unit, config, store, false),
            }
        })
    }

    /// Gives units these media: all of them, or none.
    pub(super) fn exchange_media(
        &self,
        changer: &mut Changer,
        exchanges: &[MediumExchange],
    ) -> Result<(), String> {
        for (done, MediumExchange { unit, wanted, .. }) in exchanges.iter().enumerate() {
            if let Err(MediumRefusal { why, .. }) = self.set_medium(changer, unit, wanted.as_ref()) {
                return Err(self.media_back(changer, &exchanges[..done], why));
            }
        }
        Ok(())
    }

    /// Brings back what units had before. Returns why, with what could not be.
    pub(super) fn media_back(
        &self,
        changer: &mut Changer,
        exchanges: &[MediumExchange],
        why: String,
    ) -> String {
        exchanges.iter().rev().fold(why, |why, MediumExchange { unit, before, .. }| {
            if before.is_some() {
                self.medium_returns(unit);
            }
            match self.set_medium(changer, unit, before.as_ref()) {
                Ok(()) => why,
                Err(e) => format!("{why}; and {}", e.why),
            }
        })
    }

    /// The medium that comes to an empty unit next was there before.
    pub(super) fn medium_returns(&self, name: &str) {
        let served = self.served();
        let mut named = served.units.iter().filter(|unit| unit.options.name == name);
        if let Some(unit) = named.find(|unit| unit.medium().is_none()) {
            unit.device.set_presence(MediumPresence::Returning);
        }
    }

    /// Does something with a unit whose medium comes and goes. The error names it.
    fn of_unit(
        &self,
        name: &str,
        act: impl FnOnce(&Unit, &Config) -> Result<(), MediumRefusal>,
    ) -> Result<(), MediumRefusal> {
        let served = self.served();
        let unit = served.units.iter().find(|unit| unit.options.name == name);
        let unit = unit.ok_or_else(|| format!("there is no logical unit {name:?}"))?;
        let UnitOptions { kind: of_kind, name, .. } = &unit.options;
        let done = match kind(of_kind).is_some_and(UnitKind::is_removable) {
            true => act(unit, &served.config),
            false => Err("its medium does not come and go".to_owned().into()),
        };
        done.map_err(|MediumRefusal { prevented, why }| {
            let why = format!("{of_kind} {name:?}: {why}");
            MediumRefusal { prevented, why }
        })
    }

    /// Takes the medium of a unit out, if there is one, and brings another. The error says why everything is as before.
    fn change_medium(
        &self,
        changer: &mut Changer,
        unit: &Unit,
        config: &Config,
        store: Option<&ConfiguredStore>,
        force: bool,
    ) -> Result<(), MediumRefusal> {
        let Unit { key, options, device, owner, .. } = unit;
        let owner = &self.cores[owner.unwrap_or_default()];
        let is_empty = unit.medium().is_none();
        if is_empty && store.is_some() {
            device.set_presence(MediumPresence::Coming);
        }
        let kept = (&*self.records, &self.claims);
        let opened = store.map(|store| open_medium(config, options, store, kept, unit.slot())).transpose();
        let done = opened.map_err(MediumRefusal::from).and_then(|opened| {
            let opened = opened.map(Arc::new);
            opened.as_ref().map_or(Ok(()), |medium| scan(unit, medium))?;
            let attach = opened.as_ref().map(|medium| -> AttachStore {
                let backing = medium.backing.clone();
                Box::new(move |context| backing.attach(context).map_err(|e| e.to_string()))
            });
            let ticket = changer.ticket();
            let (to, ended) = sync_channel(1);
            owner.send(Message::Medium(MediumMessage::Change { unit: *key, ticket, force, attach, to }));
            let outcome = ended.recv_timeout(CHANGE_TIME).or_else(|e| {
                if e == RecvTimeoutError::Timeout {
                    owner.send(Message::Medium(MediumMessage::GiveUp(ticket)));
                }
                ended.recv_timeout(GIVE_UP_TIME)
            });
            outcome.unwrap_or_else(|_| Err("its reactor does not answer".to_owned().into())).map(|()| opened)
        });
        match done {
            Ok(opened) => {
                let UnitOptions { kind, name, .. } = options;
                let come = opened.as_ref().map(|medium| medium.described());
                let gone = std::mem::replace(&mut *unit.medium(), opened);
                if let Some(gone) = gone {
                    info!("{kind} {name:?}: {} is out", gone.described());
                }
                if let Some(come) = come {
                    info!("{kind} {name:?}: {come} is in");
                }
                Ok(())
            }
            Err(why) => {
                if is_empty {
                    device.set_presence(MediumPresence::Absent);
                }
                Err(why)
            }
        }
    }
}

/// Has the device look at a medium that is to come.
fn scan(unit: &Unit, medium: &OpenMedium) -> Result<(), String> {
    let fail = |e: io::Error| format!("{} cannot be scanned: {e}", medium.described());
    let context = CoreContext::alone(Arena::new(SCAN_MEMORY, false).map_err(fail)?);
    let mut store = medium.backing.attach(&context).map_err(fail)?;
    let bytes = store.geometry().bytes;
    unit.device.scan(bytes, &mut |at, len| read_now(&mut *store, at, len));
    Ok(())
}

/// The medium of a unit changes in the course of a change of the topology.
pub(super) struct MediumExchange {
    pub(super) unit: String,
    pub(super) before: Option<ConfiguredStore>,
    pub(super) wanted: Option<ConfiguredStore>,
}

impl OpenMedium {
    /// Whether it is that image, and open in that way.
    fn is_of(&self, store: Option<&ConfiguredStore>) -> bool {
        let told = |store: &ConfiguredStore| format!("{:?}", (store, self.image()));
        self.image().is_some() && store.is_some_and(|store| told(store) == told(&self.store))
    }

    /// What people call it.
    pub(super) fn described(&self) -> String {
        match self.image() {
            Some(image) => image.display().to_string(),
            None => format!("a medium of type {}", self.store.word),
        }
    }
}
