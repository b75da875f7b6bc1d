// SPDX-License-Identifier: GPL-2.0-or-later
//! Assembly: from a configuration to threads that serve it, and back to nothing.

mod apply;
mod build;
mod librarian;
mod library;
mod live;
mod media;
mod monitor;
mod ports;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use log::{info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::control::config::Config;
use crate::control::doctor::{self, Asker, Check, Machine};
use crate::control::server::Socket;
use crate::engine::shard::{Message, Shard};
use crate::engine::tasks::UnitKey;
use crate::engine::units::UnitOptions;
use crate::io::Error;
use crate::reactor::{self, Sender};
use crate::sys;
use build::{Assembly, Unit};
use live::Live;
use monitor::Monitor;
use service::Service;

/// Serves a configuration until a signal ends it. The first SIGTERM or SIGINT lets initiators log out, finishes what is
/// under way and flushes; a second one ends the process at once. Errors are those of the start, all that can be told
/// together, and disks that could not be flushed at the end.
pub fn run(config: &Config) -> Result<(), Vec<String>> {
    let signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|e| vec![format!("signal handling: {e}")])?;
    let socket = Socket::bind(&config.daemon.control_socket);
    let asker = if socket.is_ok() { Asker::Daemon } else { Asker::Operator };
    let report = doctor::examine(&Machine::default(), config, asker);
    let obstacles = report.obstacles().map(Check::line);
    match socket {
        Ok(socket) if report.obstacles().next().is_none() => {
            serve_all(config, signals, socket).map_err(|e| vec![e])
        }
        socket => Err(socket.err().into_iter().chain(obstacles).collect()),
    }
}

fn serve_all(config: &Config, mut signals: Signals, socket: Socket) -> Result<(), String> {
    // Each disk takes one for its image and one for its records; the others stay for everything else. Where there are
    // not so many to be had, opening says so.
    _ = sys::raise_descriptor_limit(1024 + 2 * config.units.len() as u64);
    // The rings of TCP flows for bytes that are out of order are large, and hardly touched.
    sys::map_large_vectors();
    let mut assembly = Assembly::new(config)?;
    let furnished = library::furnish_all(&assembly)?;
    let senders = assembly.senders();
    let (ready, started) = mpsc::channel();
    let mut threads = Vec::new();
    for core in 0..config.daemon.reactors.len() {
        let (core_assembly, ready) = (assembly.core(core), ready.clone());
        let name = format!("reactor-{core}");
        let thread = thread::Builder::new().name(name).spawn(move || serve(core_assembly, &ready));
        threads.push(thread.map_err(|e| format!("cannot start a thread: {e}"))?);
    }
    drop(ready);
    let mut failed = None;
    for _ in 0..threads.len() {
        match started.recv() {
            Ok(Ok(())) => {}
            Ok(Err(e)) => failed = failed.or(Some(e)),
            Err(_) => break,
        }
    }
    if let Some(e) = failed {
        drain(&senders);
        threads.into_iter().for_each(|thread| _ = thread.join());
        return Err(e);
    }
    assembly.announce();
    let stopping = Arc::new(AtomicBool::new(false));
    let live = Arc::new(Live::of(&assembly));
    let requests = assembly.take_requests();
    let library = requests.map(|requests| live.clone().keep_libraries(furnished, requests));
    let library = library.transpose().unwrap_or_else(|e| {
        warn!("cannot start a thread: no cartridge moves: {e}");
        None
    });
    let monitor = Arc::new(Monitor::new(live.clone(), senders.clone(), stopping.clone()));
    let server = socket.serve(monitor.clone());
    if let Err(e) = &server {
        warn!("control socket: {e}");
    }
    let service = Service::serving(monitor);
    let (flag, all) = (stopping.clone(), senders.clone());
    let watcher = signals.handle();
    let signal_thread = thread::spawn(move || {
        for signal in &mut signals {
            if signal == SIGHUP {
                info!("SIGHUP: ignored; the configuration is read only at the start");
                continue;
            }
            if flag.swap(true, Ordering::SeqCst) {
                // The operator has asked twice: what is not flushed was never acknowledged as stable.
                #[expect(clippy::exit, reason = "a second signal ends the process at once")]
                std::process::exit(130);
            }
            let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            info!("{name}: stopping; a second signal stops it at once");
            service::tell("STOPPING=1");
            drain(&all);
        }
    });
    let ends: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
    drop((server, service));
    // No core asks it any more.
    library.map(JoinHandle::join);
    watcher.close();
    _ = signal_thread.join();
    flushed(&live.served().units, ends)?;
    info!("stopped");
    Ok(())
}

/// Whether all reactors have brought all logical units to stable storage.
fn flushed(units: &[Arc<Unit>], ends: Vec<thread::Result<Vec<(UnitKey, Error)>>>) -> Result<(), String> {
    let mut unflushed = BTreeMap::new();
    for end in ends {
        let end = end.map_err(|_| "a reactor has died: the last writes may not be on stable storage")?;
        unflushed.extend(end.into_iter().map(|(unit, error)| (unit, error.kind)));
    }
    let why = |Unit { key, options: UnitOptions { kind, name, .. }, .. }: &Unit| {
        unflushed.get(key).map(|error| format!("{kind} {name:?} ({error})"))
    };
    let units: Vec<String> = units.iter().filter_map(|unit| why(unit)).collect();
    match &units[..] {
        [] => Ok(()),
        units => Err(format!("the last writes may not be on stable storage: {}", units.join(", "))),
    }
}

fn drain(senders: &[Sender<Message>]) {
    for sender in senders {
        sender.send(Message::Drain);
    }
}

/// The life of a reactor thread. Returns the logical units that could not be flushed at its end.
fn serve(
    core_assembly: build::CoreAssembly,
    ready: &mpsc::Sender<Result<(), String>>,
) -> Vec<(UnitKey, Error)> {
    let (idle, left) = (core_assembly.idle(), core_assembly.left());
    match core_assembly.build() {
        Ok(parts) => {
            _ = ready.send(Ok(()));
            let mut shard = Shard::new(parts);
            reactor::run(&mut shard, idle);
            shard.unflushed().to_vec()
        }
        Err(e) => {
            // The others stay until all have ended, and this one never begins.
            left.fetch_sub(1, Ordering::SeqCst);
            _ = ready.send(Err(e));
            Vec::new()
        }
    }
}
