// SPDX-License-Identifier: GPL-2.0-or-later
//! Sessions over the kernel's TCP, many in one thread: epoll reports which are readable, and a turn sends in one
//! gathered call per connection.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::load::{Load, Tally};
use super::login::{self, Credentials, LoggedIn};
use super::session::Session;
use crate::sys::{self, Epoll};
use crate::time::Instant;

/// Pieces of one gathered send.
const PIECES_MAX: usize = 256;

/// Bytes received in one call.
const RECEIVE: usize = 512 << 10;

/// How long a target may keep silent.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn now() -> Instant {
    Instant::from_nanos(sys::monotonic())
}

struct Blocking<'a>(&'a mut TcpStream);

impl login::Stream for Blocking<'_> {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn receive(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut block = [0; 8192];
        match self.0.read(&mut block)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the target")),
            n => {
                bytes.extend_from_slice(&block[..n]);
                Ok(())
            }
        }
    }
}

/// A session that is logged in.
pub(super) struct Connection {
    socket: TcpStream,
    pub(super) terms: LoggedIn,
}

/// Connects and logs in.
pub(super) fn connect(address: SocketAddr, who: &Credentials) -> Result<Connection, String> {
    let fail = |e: io::Error| format!("cannot connect to {address}: {e}");
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(fail)?;
    socket.set_nodelay(true).map_err(fail)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(fail)?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(fail)?;
    let terms = login::login(&mut Blocking(&mut socket), who).map_err(|e| format!("{address}: {e}"))?;
    Ok(Connection { socket, terms })
}

struct Wire {
    socket: TcpStream,
    session: Session,
    /// The socket takes no more until it says so.
    full: bool,
}

impl Wire {
    /// Sends what is to be sent, as far as the kernel takes it.
    fn flush(&mut self) -> io::Result<()> {
        while self.session.has_output() && !self.full {
            let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
            let mut count = 0;
            self.session.output(|piece| {
                pieces[count] = IoSlice::new(piece);
                count += 1;
                count < PIECES_MAX
            });
            match self.socket.write_vectored(&pieces[..count]) {
                Ok(sent) => self.session.sent(sent),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.full = true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Runs a load over connections of this thread. With `spin` the thread never sleeps. `progress` is called now and then.
pub(super) fn run(
    connections: Vec<Connection>,
    depth: u32,
    spin: bool,
    mut load: Load,
    progress: &mut dyn FnMut(&Tally),
) -> Result<Tally, String> {
    let fail = |e: io::Error| format!("the connection failed: {e}");
    let epoll = Epoll::new().map_err(|e| format!("epoll: {e}"))?;
    let mut wires = Vec::new();
    for (number, Connection { socket, terms }) in connections.into_iter().enumerate() {
        socket.set_nonblocking(true).map_err(fail)?;
        epoll.add(socket.as_raw_fd(), number as u64, true).map_err(fail)?;
        let session = Session::new(number, terms, depth, &load);
        wires.push(Wire { socket, session, full: false });
    }
    let mut at = now();
    for wire in &mut wires {
        wire.session.fill(&mut load, at);
        wire.flush().map_err(fail)?;
    }
    let mut in_flight: usize = wires.iter().map(|wire| wire.session.in_flight()).sum();
    let (mut ready, mut buffer) = (Vec::new(), vec![0; RECEIVE]);
    let mut last_answer = at;
    while in_flight > 0 {
        match spin {
            true => epoll.poll(&mut ready),
            false => epoll.wait(&mut ready, PATIENCE),
        }
        at = now();
        if !ready.is_empty() {
            last_answer = at;
        } else if at - last_answer >= PATIENCE {
            return Err(format!("no answer for {} s", PATIENCE.as_secs()));
        }
        for ready in ready.drain(..) {
            let wire = &mut wires[usize::try_from(ready.data).expect("a place in memory")];
            let before = wire.session.in_flight();
            wire.full &= !ready.writable;
            loop {
                match wire.socket.read(&mut buffer) {
                    Ok(0) => return Err("the target has closed the connection".to_owned()),
                    Ok(n) => {
                        wire.session.receive(&buffer[..n], &mut load, at)?;
                        // A short read has emptied the socket.
                        if n < buffer.len() {
                            break;
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(fail(e)),
                }
            }
            wire.session.fill(&mut load, at);
            wire.flush().map_err(fail)?;
            in_flight = in_flight + wire.session.in_flight() - before;
        }
        progress(&load.tally);
    }
    for wire in &mut wires {
        let numbers = wire.session.numbers();
        _ = wire.socket.set_nonblocking(false);
        login::logout(&mut Blocking(&mut wire.socket), numbers);
    }
    Ok(load.tally)
}
