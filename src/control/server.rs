// SPDX-License-Identifier: GPL-2.0-or-later
//! The control socket: JSON-RPC 2.0 on a Unix stream, one request per line. One thread accepts, one serves each client;
//! clients are few and each has a time limit, so none holds up another or the end of the daemon.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Scope};
use std::time::Duration;

use log::{debug, warn};
use serde_json::Value;
use slab::Slab;

use super::lines::Lines;
use super::rpc::{self, Failure};
use super::status::StatusSource;
use crate::sys::{self, EventFd};

/// Clients at a time.
const CLIENTS_MAX: usize = 16;

/// Bytes of a request.
const REQUEST_MAX: usize = 64 << 10;

/// How long a client may take for a request, and for taking the response.
const CLIENT_TIME: Duration = Duration::from_secs(10);

/// Pause after an accept that failed for want of something, so that the thread does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket. It listens from the start, so that a second daemon is refused early; clients wait until
/// [`Socket::serve`]. Dropping it removes it from the file system.
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// Locked for as long as the daemon lives: this, not the socket's existence, tells whether there is one.
    _lock: File,
}

impl Socket {
    /// Makes the socket, and its directory if there is none. What a dead daemon left behind is replaced. Errors when
    /// another daemon has it.
    pub fn bind(path: &Path) -> Result<Self, String> {
        let fail = |what: &str, e: std::io::Error| format!("control socket {}: {what}: {e}", path.display());
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(directory);
            made.map_err(|e| fail("cannot create its directory", e))?;
        }
        let lock = lock(path)?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(format!("control socket {}: something else is at that path", path.display()));
            }
            Ok(_) => fs::remove_file(path).map_err(|e| fail("cannot be replaced", e))?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(|e| fail("cannot be created", e))?;
        let socket = Self { path: path.into(), listener, _lock: lock };
        let ready = fs::set_permissions(path, Permissions::from_mode(0o660))
            .and_then(|()| socket.listener.set_nonblocking(true));
        ready.map_err(|e| fail("cannot be set up", e))?;
        Ok(socket)
    }

    /// Begins to serve clients.
    pub fn serve(self, source: Arc<dyn StatusSource>) -> std::io::Result<Server> {
        let stop = Arc::new(Stop { raised: AtomicBool::new(false), wake: EventFd::new()? });
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || accept(&self, &stopped, &*source))?;
        Ok(Server { stop, thread: Some(thread) })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The lock is still held, so it is ours. If somebody has removed it already, all the better.
        _ = fs::remove_file(&self.path);
    }
}

/// Locks the file beside the socket. It stays when the daemon ends: removing it could part two daemons that both
/// believe to have the lock.
fn lock(path: &Path) -> Result<File, String> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let fail = |e: std::io::Error| format!("control socket {}: lock file: {e}", path.display());
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&name).map_err(fail)?;
    match sys::lock_file(&file, true) {
        Ok(true) => Ok(file),
        Ok(false) => Err(format!(
            "control socket {}: another daemon uses it (ptgt status --socket {0}); \
             give this one another control_socket",
            path.display()
        )),
        Err(e) => Err(fail(e)),
    }
}

struct Stop {
    raised: AtomicBool,
    wake: EventFd,
}

/// The running server. Dropping it ends all clients and removes the socket.
pub struct Server {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.raised.store(true, Ordering::SeqCst);
        self.stop.wake.raise();
        _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The streams of the clients that are being served, so that they can be ended.
#[derive(Default)]
struct Clients(Mutex<Slab<UnixStream>>);

impl Clients {
    fn lock(&self) -> MutexGuard<'_, Slab<UnixStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(socket: &Socket, stop: &Stop, source: &dyn StatusSource) {
    let clients = Clients::default();
    let fds = [socket.listener.as_raw_fd(), stop.wake.as_raw_fd()];
    let mut scratch = Vec::new();
    std::thread::scope(|scope| {
        loop {
            sys::wait_readable(&fds, &mut scratch, None);
            if stop.raised.load(Ordering::SeqCst) {
                break;
            }
            match socket.listener.accept() {
                Ok((stream, _)) => admit(scope, stream, &clients, source),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => {
                    warn!("control socket: {e}");
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
        for (_, stream) in &*clients.lock() {
            _ = stream.shutdown(Shutdown::Both);
        }
    });
}

/// Gives a client a thread of its own, or tells it why not.
fn admit<'scope>(
    scope: &'scope Scope<'scope, '_>,
    stream: UnixStream,
    clients: &'scope Clients,
    source: &'scope dyn StatusSource,
) {
    if let Err(why) = may_enter(&stream, clients.lock().len()) {
        debug!("control socket: client refused: {why}");
        let response = Failure::refused(why).response(&Value::Null);
        // A fresh stream has room for one line; a client that is gone needs none.
        _ = Lines::new(stream, REQUEST_MAX).send(&response, ACCEPT_PAUSE);
        return;
    }
    let Ok(handle) = stream.try_clone() else { return };
    let place = clients.lock().insert(handle);
    let thread = std::thread::Builder::new().name("control-client".into());
    let started = thread.spawn_scoped(scope, move || {
        if let Err(e) = serve(stream, source) {
            debug!("control socket: client dropped: {e}");
        }
        clients.lock().remove(place);
    });
    if let Err(e) = started {
        warn!("control socket: no thread for a client: {e}");
        clients.lock().remove(place);
    }
}

/// Root and the daemon's own user may ask; `others` clients are being served already.
fn may_enter(stream: &UnixStream, others: usize) -> Result<(), String> {
    let uid = sys::peer_uid(stream).map_err(|e| format!("cannot find out who connected: {e}"))?;
    if uid != 0 && uid != sys::effective_uid() {
        return Err(format!("user {uid} is not allowed: only root and the daemon's user are"));
    }
    if others >= CLIENTS_MAX {
        return Err(format!("{CLIENTS_MAX} clients are connected, which is the limit: try again later"));
    }
    Ok(())
}

fn serve(stream: UnixStream, source: &dyn StatusSource) -> std::io::Result<()> {
    let mut lines = Lines::new(stream, REQUEST_MAX);
    loop {
        let request = match lines.receive(CLIENT_TIME) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::InvalidData => {
                let response = Failure::too_long(REQUEST_MAX).response(&Value::Null);
                return lines.send(&response, CLIENT_TIME);
            }
            Err(e) => return Err(e),
        };
        if let Some(response) = rpc::answer(&request, source) {
            lines.send(&response, CLIENT_TIME)?;
        }
    }
}

#[cfg(test)]
mod tests;
