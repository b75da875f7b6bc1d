// SPDX-License-Identifier: GPL-2.0-or-later
//! What the service manager is notified of: the daemon serves, it is about to end, its reactors are alive.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use log::warn;

use super::monitor::Monitor;
use crate::sys;

/// A thread that speaks for the reactors; it ends when this is dropped.
pub(super) struct Service(Option<(Sender<()>, JoinHandle<()>)>);

/// Sends a state. Nobody there to hear it is no reason to stop.
pub(super) fn tell(state: &str) {
    if let Err(e) = sys::notify(state) {
        warn!("cannot report {state} to the service manager: {e}");
    }
}

impl Service {
    /// Says that the daemon serves. If the service manager watches, it hears from then on that the reactors answer;
    /// when one does not, it hears nothing, and does what its unit says.
    pub(super) fn serving(monitor: Arc<Monitor>) -> Self {
        tell("READY=1");
        let Some(period) = sys::watchdog() else { return Self(None) };
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(period / 3) == Err(RecvTimeoutError::Timeout) {
                match monitor.silent() {
                    0 => tell("WATCHDOG=1"),
                    silent => warn!("{silent} reactors do not answer"),
                }
            }
        });
        Self(Some((stop, thread)))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            _ = thread.join();
        }
    }
}
