// SPDX-License-Identifier: GPL-2.0-or-later
//! A queue of a TAP device: frames of up to 64 KiB, with checksums and segmentation left to the kernel on the other
//! side.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use caps::Capability;
use log::{info, warn};

use super::TapCounters;
use super::address::{AddressHolder, AddressRefusal, TakenAddress};
use super::link::{self, LinkOptions};
use super::options::{PortAddresses, PortOptions, PortShare, PortsStart};
use super::vnet::{self, FRAME_MAX, VNET};
use crate::counters::{Counted, CounterSet};
use crate::machine::{self, Findings, Machine, Verdict};
use crate::memory::{Arena, SegMut};
use crate::net::{Address, FrameCaps, FramePort, RxFrame, TxFrame};
use crate::options::Absent::Is;
use crate::options::ValueKind::Texts;
use crate::options::{Key, Section, key};
use crate::sys;
use crate::time::Instant;

/// Frames taken per turn.
const BURST_MAX: usize = 32;

/// Frames that may wait for us in each queue; beyond it the kernel drops them. Of the usual 1000 too many fall when so
/// many sessions speak at once, and their peers wait 200 ms before they say it again.
const WAITING_MAX: i32 = 16 << 10;

/// Frames up to this size are copied out of their 68 KiB block, so that a slice of one does not pin all of that.
const SMALL: usize = 2048;

/// MTU of a device that is told no other: the longest frames that a local peer can send.
const MTU: u16 = 65521;

/// A TAP device that stays when nobody has it open (IFF_PERSIST).
const PERSISTENT: u32 = 0x0800;

/// The keys that no other driver has.
pub(super) const KEYS: &[Key] = &[key(
    "host_address",
    Texts(link::ADDRESS),
    Is("[]"),
    "[\"10.77.0.1/24\", \"fd77::1/64\"]",
    "Driver tap: addresses for the host's side of the device, in the networks of `address`.",
)];

/// `tap`
#[derive(Clone, Debug)]
pub struct TapOptions {
    /// The device.
    pub link: LinkOptions,
    /// Addresses for the host's side.
    pub host_addresses: Vec<Address>,
}

impl TapOptions {
    pub(super) fn read(s: &Section<'_>, name: Option<&str>) -> Option<Self> {
        let ours = link::addresses(s);
        let hosts = s.texts("host_address", link::address);
        if let (Some(ours), Some(hosts)) = (&ours, &hosts) {
            host_addresses(s, ours, hosts);
        }
        let link = LinkOptions::of_kernel(s, name, ours);
        Some(Self { link: link?, host_addresses: link::plain(hosts?) })
    }

    fn mtu(&self) -> u16 {
        self.link.mtu.unwrap_or(MTU)
    }
}

/// The host's side reaches ours only from an address of its own in the same network.
fn host_addresses(s: &Section<'_>, ours: &[(Address, Range<usize>)], hosts: &[(Address, Range<usize>)]) {
    for (host, span) in hosts {
        let (message, help) = if ours.iter().any(|(our, _)| our.ip == host.ip) {
            (format!("{} is also in `address`", host.ip), "the host needs an address of its own")
        } else if !ours.iter().any(|(our, _)| our.contains(host.ip) && host.contains(our.ip)) {
            (format!("{} is in no network of `address`", host.ip), "the host would not reach the daemon")
        } else {
            continue;
        };
        s.error_at(span.clone(), "host_address", message, help);
    }
}

impl PortOptions for TapOptions {
    fn link(&self) -> Option<&LinkOptions> {
        Some(&self.link)
    }

    fn rights(&self) -> &'static [(Capability, &'static str)] {
        &[(Capability::CAP_NET_ADMIN, "to make a TAP device")]
    }

    fn examine(&self, _: &str, machine: &Machine, _: &[Option<usize>], found: &mut Findings) {
        let good = machine.exists("dev/net/tun");
        let (state, why) = (if good { "there" } else { "missing" }, "TAP devices come from it: modprobe tun");
        let verdict = Verdict::unless(good, Verdict::Fails);
        found.add("/dev/net/tun", state, "there", why, verdict).certain = true;
    }

    fn examine_address(&self, _: SocketAddr, machine: &Machine) -> Result<(), AddressRefusal> {
        self.examine_frames(machine)
    }

    fn examine_frames(&self, machine: &Machine) -> Result<(), AddressRefusal> {
        self.link.lock(&self.link.frames_lock())?;
        let device = &self.link.device;
        // Unlike /sys, which may be that of another network namespace.
        if sys::link(device).is_err() {
            return Ok(());
        }
        let refuse = |found| {
            let (help, holder) = ("give the name of another device", AddressHolder::Device(device.clone()));
            Err(AddressRefusal { found, help: help.into(), holder })
        };
        if let Some(pid) = machine::user_of_tap(device) {
            return refuse(format!("{device} is in use by process {pid}"));
        }
        let place = format!("sys/class/net/{device}");
        let flags = machine.text(&format!("{place}/tun_flags"));
        match flags.map(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16)) {
            None if machine.exists(&place) => refuse(format!("{device} is not a TAP device")),
            // It is there because somebody has it, whom this user may not see.
            Some(Ok(flags)) if flags & PERSISTENT == 0 => {
                refuse(format!("{device} is in use by another process"))
            }
            _ => Ok(()),
        }
    }

    /// Two daemons would each get a part of the device's frames, whatever their addresses.
    fn address_lock(&self, _: SocketAddr) -> Option<String> {
        Some(self.link.frames_lock())
    }

    fn take_address(&self, _: SocketAddr) -> Result<TakenAddress, AddressRefusal> {
        self.link.lock(&self.link.frames_lock()).map(TakenAddress::Lock)
    }

    fn start(&self, taken: PortAddresses, start: &mut PortsStart<'_>) -> io::Result<Vec<PortShare>> {
        let options = self.clone();
        Ok(start.alike(move |context| {
            let tap = Tap::open(&options, (context.core(), context.cores()), context.arena().clone())?;
            options.link.host(tap, &taken.addresses, context.arena())
        }))
    }
}

/// How a queue is opened, and opened again.
struct TapQueue {
    options: TapOptions,
    /// How many queues the device has, one per core.
    queues: usize,
    /// One of them tells when the device goes and comes.
    tells: bool,
}

/// How long a device that is gone is left alone before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub struct Tap {
    /// How it is opened again; none for a file that takes its place.
    queue: Option<TapQueue>,
    file: File,
    /// When it is tried again, while the device is gone.
    gone: Option<Instant>,
    arena: Arena,
    mac: [u8; 6],
    mtu: u16,
    offload: bool,
    /// A block that the next frame is read into.
    spare: Option<SegMut>,
    not_sent: u64,
}

impl Tap {
    /// Opens a queue. The first one makes the device, unless an operator has made it before, and sets it up; it is gone
    /// when the last queue is closed.
    pub fn open(options: &TapOptions, (queue, queues): (usize, usize), arena: Arena) -> io::Result<Self> {
        let LinkOptions { device, mac, offload, .. } = &options.link;
        let (mac, mtu, offload) = (mac.unwrap_or_else(|| named_mac(device)), options.mtu(), *offload);
        let queue = TapQueue { options: options.clone(), queues, tells: queue == 0 };
        let file = open(&queue)?;
        let queue = Some(queue);
        Ok(Self { queue, file, gone: None, arena, mac, mtu, offload, spare: None, not_sent: 0 })
    }

    /// Whether the device is back, if that is to be tried now.
    fn is_back(&mut self, now: Instant) -> bool {
        let (Some(queue), Some(at)) = (&self.queue, self.gone) else { return true };
        if now < at {
            return false;
        }
        let Ok(file) = open(queue) else {
            self.gone = Some(now + RETRY);
            return false;
        };
        if queue.tells {
            info!("device {:?}: it is back", queue.options.link.device);
        }
        (self.file, self.gone) = (file, None);
        true
    }

    fn lose(&mut self, now: Instant) {
        if let Some(queue) = self.queue.as_ref().filter(|queue| queue.tells) {
            warn!(
                "device {:?}: it was removed; it will be created again as soon as possible",
                queue.options.link.device
            );
        }
        self.gone = Some(now + RETRY);
    }

    /// A queue whose frames, with vnet headers, come from a file and go there.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn pretended(file: File, arena: Arena) -> Self {
        let mac = [2, 0, 0, 0, 0, 1];
        Self { queue: None, file, gone: None, arena, mac, mtu: 1500, offload: true, spare: None, not_sent: 0 }
    }

    fn read(&mut self, now: Instant) -> Option<RxFrame> {
        // Without memory frames stay with the kernel, which drops what it has no room for.
        let mut block = self.spare.take().or_else(|| self.arena.alloc_reserved(FRAME_MAX))?;
        let len = match self.file.read(block.bytes_mut()) {
            Ok(len) => len,
            Err(e) => {
                self.spare = Some(block);
                if e.raw_os_error() == Some(libc::EBADFD) {
                    self.lose(now);
                }
                return None;
            }
        };
        if len < VNET {
            self.spare = Some(block);
            return None;
        }
        let flags = block.bytes_mut()[0];
        let checksum = vnet::checksum(flags);
        if len - VNET <= SMALL
            && let Some(mut small) = self.arena.alloc_reserved(len - VNET)
        {
            small.bytes_mut().copy_from_slice(&block.bytes_mut()[VNET..len]);
            self.spare = Some(block);
            return Some(RxFrame { data: small.freeze(), checksum });
        }
        Some(RxFrame { data: block.freeze().slice(VNET, len - VNET), checksum })
    }
}

/// Opens a queue of a device, which is made and set up where that is needed.
fn open(queue: &TapQueue) -> io::Result<File> {
    let TapQueue { options, queues, .. } = queue;
    let TapOptions { link: LinkOptions { device, offload, .. }, host_addresses } = options;
    let mtu = options.mtu();
    let file = sys::open_tap(device, *queues > 1, *offload).map_err(|e| explain(&e, device))?;
    let fail =
        |what: &str, e: &io::Error| io::Error::new(e.kind(), format!("device {device:?}: {what}: {e}"));
    let up = format!(
        "cannot be brought up with MTU {mtu} (ip link set {device} mtu {mtu} txqueuelen {WAITING_MAX} up)"
    );
    sys::bring_up(device, mtu, WAITING_MAX).map_err(|e| fail(&up, &e))?;
    for address in host_addresses {
        sys::add_address(device, address.ip, address.prefix)
            .map_err(|e| fail(&format!("cannot get the address {}", address.ip), &e))?;
    }
    Ok(file)
}

fn explain(e: &io::Error, device: &str) -> io::Error {
    let why = match e.raw_os_error() {
        Some(libc::ENOENT) => "there is no /dev/net/tun: load the module tun".to_owned(),
        Some(libc::EACCES) => "no permission to open /dev/net/tun: chmod 666, as udev does".to_owned(),
        Some(libc::EPERM) => {
            "making a TAP device needs CAP_NET_ADMIN: run as root, or let root make it with \
                              'ip tuntap add DEVICE mode tap vnet_hdr user NAME', bring it up and give it its addresses"
                .to_owned()
        }
        Some(libc::EBUSY) => "the device is in use by another process".to_owned(),
        Some(libc::EINVAL) => {
            "a device of that name is not a TAP device, or has another number of queues".to_owned()
        }
        _ => e.to_string(),
    };
    io::Error::new(e.kind(), format!("device {device:?}: {why}"))
}

/// A locally administered address that the device's name decides, so that neighbours find it again after a restart.
fn named_mac(device: &str) -> [u8; 6] {
    // FNV-1a: any mixing will do.
    let hash = device.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    [0x02, a, b, c, d, e]
}

impl FramePort for Tap {
    fn caps(&self) -> FrameCaps {
        vnet::caps(self.mtu, self.offload)
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn receive(&mut self, now: Instant, burst: &mut Vec<RxFrame>) -> usize {
        if self.gone.is_some() && !self.is_back(now) {
            return 0;
        }
        vnet::receive(burst, BURST_MAX, || self.read(now))
    }

    fn transmit(&mut self, _: Instant, burst: &mut VecDeque<TxFrame>) {
        if self.gone.is_some() {
            self.not_sent += burst.drain(..).len() as u64;
            return;
        }
        self.not_sent += vnet::transmit(self.file.as_raw_fd(), self.offload, burst);
    }

    fn counters(&self) -> Vec<Counted> {
        TapCounters { dropped_sending: self.not_sent, device_gone: self.gone.is_some().into() }
            .counted()
            .collect()
    }

    /// A device that is gone would wake us for ever.
    fn wake_fd(&self) -> Option<RawFd> {
        self.gone.is_none().then(|| self.file.as_raw_fd())
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.gone
    }
}
