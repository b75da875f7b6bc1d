// SPDX-License-Identifier: GPL-2.0-or-later
//! Assembly: from a configuration to threads that serve it, and back to nothing.

mod build;
mod monitor;
mod ports;
mod service;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use log::{info, warn};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::control::config::Config;
use crate::control::server::Socket;
use crate::engine::shard::{Message, Shard};
use crate::reactor::{self, Sender};
use crate::sys;
use build::Assembly;
use monitor::Monitor;
use service::Service;

/// Serves a configuration until a signal ends it. The first SIGTERM or SIGINT lets initiators log out, finishes what is
/// under way and flushes; a second one ends the process at once. Errors are those of the start.
pub fn run(config: &Config) -> Result<(), String> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|e| format!("signal handling: {e}"))?;
    let socket = Socket::bind(&config.daemon.control_socket)?;
    // The rings of TCP flows for bytes that are out of order are large, and hardly touched.
    sys::map_large_vectors();
    let assembly = Assembly::new(config)?;
    let senders = assembly.senders();
    let (ready, started) = mpsc::channel();
    let mut threads = Vec::new();
    for core in 0..config.daemon.reactors.len() {
        let (core_assembly, ready) = (assembly.core(core), ready.clone());
        let name = format!("reactor-{core}");
        let thread = std::thread::Builder::new().name(name).spawn(move || serve(core_assembly, &ready));
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
        assembly.release();
        drain(&senders);
        threads.into_iter().for_each(|thread| _ = thread.join());
        return Err(e);
    }
    assembly.announce();
    let stopping = Arc::new(AtomicBool::new(false));
    let monitor = Arc::new(Monitor::new(config, assembly.disks(), senders.clone(), stopping.clone()));
    let server = socket.serve(monitor.clone());
    if let Err(e) = &server {
        warn!("control socket: {e}");
    }
    let service = Service::serving(monitor);
    let (flag, all) = (stopping.clone(), senders.clone());
    let watcher = signals.handle();
    let signal_thread = std::thread::spawn(move || {
        for signal in &mut signals {
            if flag.swap(true, Ordering::SeqCst) {
                // The operator has asked twice: what is not flushed was never acknowledged as stable.
                #[expect(clippy::exit, reason = "a second signal ends the process at once")]
                std::process::exit(130);
            }
            let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            info!("{name}: stopping; once more to stop at once");
            service::tell("STOPPING=1");
            drain(&all);
        }
    });
    for thread in threads {
        if thread.join().is_err() {
            warn!("a reactor has died");
        }
    }
    drop((server, service));
    watcher.close();
    _ = signal_thread.join();
    info!("stopped");
    Ok(())
}

fn drain(senders: &[Sender<Message>]) {
    for sender in senders {
        sender.send(Message::Drain);
    }
}

/// The life of a reactor thread.
fn serve(core_assembly: build::CoreAssembly, ready: &mpsc::Sender<Result<(), String>>) {
    let (idle, left) = (core_assembly.idle(), core_assembly.left());
    match core_assembly.build() {
        Ok(parts) => {
            _ = ready.send(Ok(()));
            reactor::run(&mut Shard::new(parts), idle);
        }
        Err(e) => {
            // The others stay until all have ended, and this one never begins.
            left.fetch_sub(1, Ordering::SeqCst);
            _ = ready.send(Err(e));
        }
    }
}
