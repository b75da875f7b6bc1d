// SPDX-License-Identifier: GPL-2.0-or-later
//! On memory: initiators put commands into the mailbox of a core, and have their answers over a channel.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use super::{LUNS, ToyAnswer, ToyFabric, ToyLuns, ToyMessage, ToyTargetOptions, ToyWire};
use crate::adapters::fabric::KnownParts;
use crate::engine::fabric::{Fabric, FabricShare};
use crate::options::Absent::{Means, Required};
use crate::options::ValueKind::{Tables, Text};
use crate::options::{Key, Section, Table, key};
use crate::reactor::{CoreContext, Mailbox, Sender, mailboxes};
use crate::scsi::{Lun, UnitKey};

/// Its targets in the configuration.
pub(crate) const KEYS: &[Key] =
    &[key(ToyTarget::KEY, Tables(TARGET), Means("none"), "", "Targets in memory.")];

const TARGET: &Table = &Table {
    doc: "A target that initiators in the same process reach. For tests.",
    groups: &[&[
        key("name", Text("a name"), Required, "\"here\"", "What initiators call it."),
        key("luns", Tables(LUNS), Required, "", "Its logical units."),
    ]],
};

/// What the initiators say.
type MemoryMessage = ToyMessage<SyncSender<ToyAnswer>>;

/// How to reach the cores of the targets that there are, by name.
static REACHED: Mutex<BTreeMap<String, Vec<Sender<MemoryMessage>>>> = Mutex::new(BTreeMap::new());

/// A target as the configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToyTarget {
    name: String,
    luns: ToyLuns,
}

impl ToyTarget {
    /// How to reach the cores of the target of that name, once it is there.
    pub(crate) fn find(name: &str) -> Option<Vec<Sender<MemoryMessage>>> {
        REACHED.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl ToyTargetOptions for ToyTarget {
    const KEY: &str = "toy_target";

    fn read(s: &Section<'_>, parts: &KnownParts<'_, '_>) -> Option<Self> {
        let (name, luns) = (s.text("name"), super::read_luns(s, parts));
        Some(Self { name: name?, luns: luns? })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn luns(&self) -> &ToyLuns {
        &self.luns
    }

    fn share(&self, cores: usize, units: Vec<(Lun, UnitKey)>) -> Result<Arc<dyn FabricShare>, String> {
        let (senders, inboxes) = mailboxes(cores).map_err(|e| format!("mailbox: {e}"))?;
        let inboxes = inboxes.into_iter().map(|mailbox| Mutex::new(Some(mailbox))).collect();
        REACHED.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name.clone(), senders);
        Ok(Arc::new(ToyShare { inboxes, units }))
    }
}

struct ToyShare {
    /// By core.
    inboxes: Vec<Mutex<Option<Mailbox<MemoryMessage>>>>,
    units: Vec<(Lun, UnitKey)>,
}

impl FabricShare for ToyShare {
    fn attach(&self, context: &CoreContext) -> Result<Box<dyn Fabric>, String> {
        let mailbox = self.inboxes[context.core()].lock().unwrap_or_else(PoisonError::into_inner).take();
        let mailbox = mailbox.expect("each core attaches once");
        Ok(Box::new(ToyFabric::new(context, MemoryWire(mailbox), self.units.clone())))
    }
}

struct MemoryWire(Mailbox<MemoryMessage>);

impl ToyWire for MemoryWire {
    type Back = SyncSender<ToyAnswer>;

    const RELATIVE: u16 = 0x7000;

    fn poll(&mut self, messages: &mut Vec<MemoryMessage>) -> usize {
        messages.extend(std::iter::from_fn(|| self.0.take()));
        messages.len()
    }

    fn answer(&mut self, to: Self::Back, answer: ToyAnswer) {
        _ = to.try_send(answer);
    }

    fn wake_fds(&self, fds: &mut Vec<RawFd>) {
        fds.push(self.0.wake_fd());
    }

    fn may_sleep(&mut self) -> bool {
        self.0.announce_sleep()
    }

    fn awake(&mut self) {
        self.0.awake();
    }
}
