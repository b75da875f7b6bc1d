// SPDX-License-Identifier: GPL-2.0-or-later
//! Byte streams over the kernel's TCP: the fallback where there is no frame port, and the yardstick for those.
//!
//! All cores accept from the same listeners, and a socket that was accepted may be served by any. Listeners of their
//! own (SO_REUSEPORT) would share the address with those of another daemon, too. Bytes are received into arena blocks
//! and sent from the segments where they lie.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use slab::Slab;
use smallvec::SmallVec;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::KernelCounters;
use super::address::{AddressHolder, AddressRefusal, TakenAddress};
use super::options::{PortAddresses, PortOptions, PortShare, PortsStart};
use crate::counters::{Counted, CounterSet};
use crate::machine::{self, Machine};
use crate::memory::{Arena, MemoryAccount, MemoryCharge, Seg, SegMut, Sg};
use crate::net::{Detached, Listener, StreamEvent, StreamHost, StreamId, StreamOrigin};
use crate::sys::{self, Epoll, Ready};
use crate::time::{Instant, Wheel};

/// Most connections of one core.
pub const STREAMS_MAX: usize = 16 << 10;

/// Connections accepted in one turn: more wait, so that a flood of them does not keep those that are there waiting.
const ACCEPTS_MAX: usize = 64;

/// Bytes that are queued for one stream before its room is used up.
const QUEUE_MAX: usize = 2 << 20;

/// Bytes that the kernel takes of one stream beyond what its peer has room for. It would take megabytes, which nothing
/// accounts for, of each peer that does not read.
const UNSENT_MAX: u32 = 256 << 10;

/// Pieces of one gathered send.
const PIECES_MAX: usize = 128;

/// Receive block sizes: what a quiet stream gets, and what one gets that fills its blocks.
const BLOCKS: [usize; 3] = [16 << 10, 64 << 10, 256 << 10];

/// What takes no more than this share of its block is copied out of it.
const SMALL_SHARE: usize = 4;

/// How long a closed stream may wait for its peer to close, too.
const LINGER: Duration = Duration::from_secs(5);

/// Connections that wait to be accepted at an address; the kernel may be told to take fewer (net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// How soon to try again after the arena was empty.
const RETRY: Duration = Duration::from_millis(1);

/// How long nothing is accepted when descriptors or memory of the kernel have run out: who waits would be told of each
/// turn.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the log tells of that, at most.
const ACCEPT_WARNING: Duration = Duration::from_secs(10);

/// Bit of an epoll number that marks a listener.
const LISTENER: u64 = 1 << 63;

struct Stream {
    socket: TcpStream,
    id: StreamId,
    origin: StreamOrigin,
    readable: bool,
    /// The end is in sight: no further edge will tell of it.
    ended: bool,
    finished: bool,
    queue: VecDeque<Seg>,
    queued: usize,
    /// For what is queued.
    charge: MemoryCharge,
    /// For what was received.
    received: MemoryAccount,
    /// When it was last read into the reserve.
    reserve_used: Option<Instant>,
    /// In the list of streams to be flushed.
    dirty: bool,
    /// The owner found no room.
    full: std::cell::Cell<bool>,
    closing: bool,
    shut: bool,
    dead: bool,
    /// Index into [`BLOCKS`].
    block: usize,
}

impl Stream {
    /// How many bytes may be queued: none beside those that there are while there is too much on the account, and none
    /// that would be thrown away, as their owner would go on making more until it hears of the end.
    fn room(&self) -> usize {
        match self.dead || self.queued > 0 && self.charge.account().is_overdrawn() {
            true => 0,
            false => QUEUE_MAX.saturating_sub(self.queued),
        }
    }
}

/// See the module.
pub struct KernelHost {
    arena: Arena,
    epoll: Epoll,
    /// By number.
    listeners: Vec<Option<Arc<TcpListener>>>,
    streams: Slab<Stream>,
    next: u64,
    ready: Vec<Ready>,
    dirty: Vec<StreamId>,
    /// Events that did not come from the kernel.
    own: Vec<StreamEvent>,
    /// Those that found no memory, and when they are told to try again.
    starved: Vec<StreamId>,
    retry: Instant,
    /// The block that the next quiet stream is read into.
    spare: Option<SegMut>,
    /// When connections are accepted again, and when it was last told that they are not.
    accept_again: Option<Instant>,
    accept_warned: Option<Instant>,
    /// When streams that are closing have had their time.
    linger: Wheel,
    now: Instant,
    counters: KernelCounters,
}

impl KernelHost {
    /// A host that accepts from `listeners`.
    pub fn new(arena: Arena, listeners: Vec<Arc<TcpListener>>) -> io::Result<Self> {
        let host = Self {
            arena,
            epoll: Epoll::new()?,
            listeners: listeners.into_iter().map(Some).collect(),
            streams: Slab::new(),
            next: 0,
            ready: Vec::new(),
            dirty: Vec::new(),
            own: Vec::new(),
            starved: Vec::new(),
            retry: Instant::ZERO,
            spare: None,
            accept_again: None,
            accept_warned: None,
            linger: Wheel::new(),
            now: Instant::ZERO,
            counters: KernelCounters::default(),
        };
        host.watch_listeners()?;
        Ok(host)
    }

    fn watch_listeners(&self) -> io::Result<()> {
        let listeners = self.listeners.iter().enumerate();
        listeners.filter_map(|(number, listener)| Some((number, listener.as_ref()?))).try_for_each(
            |(number, listener)| self.epoll.add(listener.as_raw_fd(), LISTENER | number as u64, false),
        )
    }

    /// Accepts nothing for a while.
    #[cold]
    fn pause_accepting(&mut self, why: &io::Error) {
        for listener in self.listeners.iter().flatten() {
            self.epoll.remove(listener.as_raw_fd());
        }
        self.accept_again = Some(self.now + ACCEPT_PAUSE);
        if self.accept_warned.is_none_or(|at| self.now >= at + ACCEPT_WARNING) {
            self.accept_warned = Some(self.now);
            warn!("cannot accept more connections at the moment: {why}");
        }
    }

    fn get(&self, id: StreamId) -> Option<usize> {
        let index = id.place();
        self.streams.get(index).filter(|stream| stream.id == id).map(|_| index)
    }

    fn accept(&mut self, number: usize, events: &mut Vec<StreamEvent>) -> usize {
        let mut count = 0;
        while count < ACCEPTS_MAX
            && let Some(Some(listener)) = self.listeners.get(number)
        {
            let (socket, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if is_exhausted(&e) => {
                    self.pause_accepting(&e);
                    break;
                }
                Err(_) => break,
            };
            count += 1;
            if self.streams.len() >= STREAMS_MAX {
                self.counters.refused += 1;
                continue; // dropped, which resets it
            }
            if let Ok(local) = socket.local_addr() {
                let origin = StreamOrigin { listener: number, local, peer };
                let adopted = self.adopt(socket, origin);
                events.extend(adopted.map(|stream| StreamEvent::Accepted { stream, origin }));
            }
        }
        count
    }

    fn adopt(&mut self, socket: TcpStream, origin: StreamOrigin) -> io::Result<StreamId> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let keepalive =
            TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
        SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
        SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_MAX)?;
        let entry = self.streams.vacant_entry();
        self.next += 1;
        let id = StreamId::new(self.next & (!LISTENER >> 32), entry.key());
        let received = self.arena.strangers().connection();
        self.epoll.add(socket.as_raw_fd(), id.0, true)?;
        entry.insert(Stream {
            socket,
            id,
            origin,
            readable: false,
            ended: false,
            finished: false,
            queue: VecDeque::new(),
            queued: 0,
            charge: MemoryCharge::on(&received.for_sending()),
            received,
            reserve_used: None,
            dirty: false,
            full: std::cell::Cell::new(false),
            closing: false,
            shut: false,
            dead: false,
            block: 0,
        });
        Ok(id)
    }

    fn kill(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        if !std::mem::replace(&mut stream.dead, true) {
            self.own.push(StreamEvent::Closed(stream.id));
        }
    }

    /// Sends what is queued, as far as the kernel takes it.
    fn flush(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        while !stream.queue.is_empty() && !stream.dead {
            let mut pieces: SmallVec<[libc::iovec; PIECES_MAX]> = stream
                .queue
                .iter()
                .take(PIECES_MAX)
                .map(|seg| libc::iovec { iov_base: seg.as_ptr().cast_mut().cast(), iov_len: seg.len() })
                .collect();
            // SAFETY: the segments are in the queue, and so readable, until after the call.
            let sent = unsafe { sys::send_pieces(stream.socket.as_raw_fd(), &mut pieces) };
            match sent {
                Ok(mut sent) => {
                    stream.queued -= sent;
                    while let Some(seg) = stream.queue.front_mut().filter(|_| sent > 0) {
                        if seg.len() > sent {
                            seg.split_to(sent);
                            break;
                        }
                        sent -= seg.len();
                        stream.queue.pop_front();
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.kill(index),
            }
        }
        let stream = &mut self.streams[index];
        stream.charge.set(stream.queued as u64);
        if stream.full.get() && stream.room() > QUEUE_MAX / 2 {
            stream.full.set(false);
            self.own.push(StreamEvent::Writable(stream.id));
        }
        if stream.closing && stream.queue.is_empty() && !stream.shut {
            stream.shut = true;
            if stream.socket.shutdown(Shutdown::Write).is_err() || stream.finished {
                self.kill(index);
            }
        }
    }
}

/// Whether descriptors or memory have run out.
fn is_exhausted(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Listens at an address. One of IPv6 takes no connections of IPv4, and nobody else listens there; what is left of
/// connections that have ended (TIME-WAIT) does not matter.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind(address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// `kernel`
#[derive(Debug)]
pub(super) struct KernelOptions;

impl PortOptions for KernelOptions {
    fn examine_address(&self, address: SocketAddr, _: &Machine) -> Result<(), AddressRefusal> {
        bind(address).map(drop).map_err(|e| refusal(address, &e))
    }

    fn take_address(&self, address: SocketAddr) -> Result<TakenAddress, AddressRefusal> {
        let listener = listen(address).map_err(|e| refusal(address, &e))?;
        Ok(TakenAddress::Listener(Arc::new(listener)))
    }

    fn start(&self, taken: PortAddresses, start: &mut PortsStart<'_>) -> io::Result<Vec<PortShare>> {
        let PortAddresses { listeners, .. } = taken;
        Ok(start.alike(move |context| Ok(Box::new(KernelHost::new(context.arena().clone(), listeners)?))))
    }
}

/// Why nobody can listen at an address.
fn refusal(address: SocketAddr, e: &io::Error) -> AddressRefusal {
    let port = address.port();
    let (found, help) = match e.kind() {
        io::ErrorKind::AddrInUse => (
            "address in use: another program listens there".into(),
            format!("ss -ltnp 'sport = :{port}' shows which"),
        ),
        io::ErrorKind::AddrNotAvailable => {
            ("is not an address of this host".into(), "ip address lists them".into())
        }
        _ => (format!("cannot listen: {e}"), "give another address, or run as a user who may".into()),
    };
    let holder = match e.kind() {
        io::ErrorKind::AddrInUse => AddressHolder::Sockets(machine::listeners(port)),
        _ if sys::holds_for_all(e) => AddressHolder::Nobody,
        _ => AddressHolder::Unknown,
    };
    AddressRefusal { found, help, holder }
}

impl StreamHost for KernelHost {
    fn poll(&mut self, now: Instant, events: &mut Vec<StreamEvent>) -> usize {
        self.now = now;
        let mut ready = std::mem::take(&mut self.ready);
        self.epoll.poll(&mut ready);
        let mut work = ready.len();
        for ready in ready.drain(..) {
            if ready.data & LISTENER != 0 {
                let listener = usize::try_from(ready.data & !LISTENER).unwrap_or(usize::MAX);
                work += self.accept(listener, events);
                continue;
            }
            let Some(index) = self.get(StreamId(ready.data)) else { continue };
            if ready.readable {
                self.streams[index].readable = true;
                self.streams[index].ended |= ready.ended;
                events.push(StreamEvent::Readable(StreamId(ready.data)));
            }
            if ready.writable {
                self.flush(index);
            }
        }
        self.ready = ready;
        while let Some(index) = self.linger.expired(now) {
            self.kill(index);
        }
        if self.accept_again.take_if(|at| *at <= now).is_some()
            && let Err(e) = self.watch_listeners()
        {
            self.pause_accepting(&e);
        }
        if now >= self.retry {
            events.extend(self.starved.drain(..).map(StreamEvent::Readable));
        }
        for event in self.own.drain(..) {
            if let StreamEvent::Closed(id) = event {
                self.streams.try_remove(id.place());
                self.linger.forget(id.place());
            }
            events.push(event);
            work += 1;
        }
        work
    }

    fn receive(&mut self, id: StreamId) -> Option<Seg> {
        let index = self.get(id)?;
        let stream = &mut self.streams[index];
        if !stream.readable || stream.finished || stream.dead {
            return None;
        }
        let spare = self.spare.take_if(|_| stream.block == 0);
        let block = spare.or_else(|| self.arena.alloc(BLOCKS[stream.block]));
        let block = block.or_else(|| self.arena.alloc(BLOCKS[0]));
        // The reserve is for answers, and for those who hold next to nothing, which is known at the end of a turn:
        // payload would never give it back.
        let reserve = || {
            let may = stream.received.is_small() && stream.reserve_used.replace(self.now) != Some(self.now);
            may.then(|| self.arena.alloc_reserved(Arena::RESERVED_MAX)).flatten()
        };
        let Some(mut block) = block.or_else(reserve) else {
            if self.starved.is_empty() {
                self.retry = self.now + RETRY;
            }
            self.starved.push(id);
            return None;
        };
        loop {
            match stream.socket.read(block.bytes_mut()) {
                Ok(0) => {
                    stream.readable = false;
                    stream.finished = true;
                    self.own.push(StreamEvent::Finished(id));
                    if stream.shut {
                        self.kill(index);
                    }
                    return None;
                }
                Ok(n) => {
                    // A short read has emptied the socket; the next edge tells when there is more.
                    let full = n == block.len();
                    stream.readable = full || stream.ended;
                    stream.block = match full {
                        true => (stream.block + 1).min(BLOCKS.len() - 1),
                        false if n < BLOCKS[0] => stream.block.saturating_sub(1),
                        false => stream.block,
                    };
                    // A few bytes would hold a whole block.
                    if n <= block.capacity() / SMALL_SHARE
                        && let Some(mut small) = self.arena.alloc(n)
                    {
                        small.bytes_mut().copy_from_slice(&block.bytes_mut()[..n]);
                        self.spare = Some(block).filter(|block| block.capacity() == BLOCKS[0]);
                        return Some(small.freeze());
                    }
                    block.set_len(n);
                    return Some(block.freeze());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    stream.readable = false;
                    return None;
                }
                Err(_) => {
                    self.kill(index);
                    return None;
                }
            }
        }
    }

    fn room(&self, id: StreamId) -> usize {
        let Some(index) = self.get(id) else { return 0 };
        let stream = &self.streams[index];
        let room = stream.room();
        if room == 0 {
            stream.full.set(true);
        }
        room
    }

    fn send(&mut self, id: StreamId, mut data: Sg) {
        let Some(index) = self.get(id) else { return };
        let stream = &mut self.streams[index];
        if stream.dead || stream.closing {
            return;
        }
        stream.queued += data.len();
        stream.queue.extend(data.take());
        stream.charge.set(stream.queued as u64);
        if !std::mem::replace(&mut stream.dirty, true) {
            self.dirty.push(id);
        }
    }

    fn bill(&mut self, id: StreamId, account: &MemoryAccount) {
        if let Some(index) = self.get(id) {
            self.streams[index].charge.bill(&account.for_sending());
            self.streams[index].received = account.clone();
        }
    }

    fn close(&mut self, id: StreamId) {
        let Some(index) = self.get(id) else { return };
        let stream = &mut self.streams[index];
        if !std::mem::replace(&mut stream.closing, true) {
            self.linger.wake_at(index, self.now + LINGER);
            self.flush(index);
        }
    }

    fn abort(&mut self, id: StreamId) {
        let Some(index) = self.get(id) else { return };
        // With a linger time of zero the socket is reset when it is dropped.
        _ = SockRef::from(&self.streams[index].socket).set_linger(Some(Duration::ZERO));
        self.kill(index);
    }

    fn commit(&mut self, now: Instant) {
        self.now = now;
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            if let Some(index) = self.get(id) {
                self.streams[index].dirty = false;
                self.flush(index);
            }
        }
        self.dirty = dirty;
    }

    fn next_deadline(&self) -> Option<Instant> {
        if !self.own.is_empty() {
            return Some(self.now);
        }
        let retry = (!self.starved.is_empty()).then_some(self.retry);
        [retry, self.accept_again, self.linger.next()].into_iter().flatten().min()
    }

    fn wake_fds(&self, fds: &mut Vec<RawFd>) {
        fds.push(self.epoll.as_raw_fd());
    }

    fn listen(&mut self, number: usize, listener: &Listener) {
        let Listener::Shared(shared) = listener else { return };
        let Ok(listener) = shared.clone().downcast::<TcpListener>() else { return };
        if self.listeners.len() <= number {
            self.listeners.resize(number + 1, None);
        }
        let fd = listener.as_raw_fd();
        self.listeners[number] = Some(listener);
        // While nothing is accepted, it is as with the others.
        if self.accept_again.is_none()
            && let Err(e) = self.epoll.add(fd, LISTENER | number as u64, false)
        {
            self.pause_accepting(&e);
        }
    }

    fn unlisten(&mut self, number: usize) {
        // Those of the other cores may keep it open.
        if let Some(listener) = self.listeners.get_mut(number).and_then(Option::take) {
            self.epoll.remove(listener.as_raw_fd());
        }
    }

    fn stop_listening(&mut self) {
        for listener in self.listeners.drain(..).flatten() {
            self.epoll.remove(listener.as_raw_fd());
        }
    }

    fn is_steerable(&self) -> bool {
        true
    }

    fn detach(&mut self, id: StreamId, _to: usize) -> Option<Detached> {
        let whole = |stream: &Stream| !stream.dead && !stream.finished && !stream.closing;
        let index = self.get(id).filter(|&index| whole(&self.streams[index]))?;
        // One that its peer has reset has no peer any more; the kernel will tell of its end.
        self.streams[index].socket.peer_addr().ok()?;
        let Stream { socket, origin, .. } = self.streams.remove(index);
        self.epoll.remove(socket.as_raw_fd());
        self.counters.handed_over += 1;
        Some(Detached { origin, state: Box::new(socket) })
    }

    /// What has arrived meanwhile is told at once: a level that is there when the socket is added counts as an edge.
    fn attach(&mut self, stream: Detached) -> Option<StreamId> {
        let socket: TcpStream = *stream.state.downcast().ok()?;
        if self.streams.len() >= STREAMS_MAX {
            self.counters.refused += 1;
            return None;
        }
        let stream = self.adopt(socket, stream.origin).ok()?;
        self.counters.taken_over += 1;
        Some(stream)
    }

    fn counters(&self) -> Vec<Counted> {
        let counters = KernelCounters {
            accepted: self.next - self.counters.taken_over,
            open: self.streams.len() as u64,
            ..self.counters
        };
        counters.counted().collect()
    }
}
