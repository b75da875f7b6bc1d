// SPDX-License-Identifier: GPL-2.0-or-later
//! The sources of byte streams of a core, on their way from its ports to a fabric.

use std::cell::RefCell;
use std::rc::Rc;

use super::StreamHost;

/// One of them, with the name of its port.
pub type NamedHost = (String, Box<dyn StreamHost>);

/// All of them, until the fabric on byte streams takes them.
#[derive(Clone, Default)]
pub struct StreamHosts(Rc<RefCell<Vec<NamedHost>>>);

impl StreamHosts {
    /// Brings some.
    pub fn extend(&self, hosts: Vec<NamedHost>) {
        self.0.borrow_mut().extend(hosts);
    }

    /// Takes all of them.
    pub fn take(&self) -> Vec<NamedHost> {
        self.0.take()
    }
}
