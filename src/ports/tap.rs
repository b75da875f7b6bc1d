// SPDX-License-Identifier: GPL-2.0-or-later
//! A queue of a TAP device: frames of up to 64 KiB, with checksums and segmentation left to the kernel on the other side.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use log::{info, warn};

use super::TapCounters;
use super::vnet::{self, FRAME_MAX, VNET};
use crate::counters::{Counted, CounterSet};
use crate::memory::{Arena, SegMut};
use crate::net::{Address, FrameCaps, FramePort, RxFrame, TxFrame};
use crate::sys;
use crate::time::Instant;

/// Frames taken per turn.
const BURST_MAX: usize = 32;

/// Frames that may wait for us in each queue; beyond it the kernel drops them. Of the usual 1000 too many fall when so many
/// sessions speak at once, and their peers wait 200 ms before they say it again.
const WAITING_MAX: i32 = 16 << 10;

/// Frames up to this size are copied out of their 68 KiB block, so that a slice of one does not pin all of that.
const SMALL: usize = 2048;

/// How a TAP port is set up.
#[derive(Clone, Debug)]
pub struct TapConfig {
    /// Name of the network device.
    pub device: String,
    /// Our MAC address; `None`: one that the device's name decides.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes.
    pub mtu: u16,
    /// Addresses for the host's side.
    pub host_addresses: Vec<Address>,
    /// How many queues will be opened, one per core.
    pub queues: usize,
    /// Whether checksums and segmentation are left to the kernel.
    pub offload: bool,
    /// One of the queues tells when the device goes and comes.
    pub tells: bool,
}

/// How long a device that is gone is left alone before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub struct Tap {
    /// How it is opened again; none for a file that takes its place.
    config: Option<TapConfig>,
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
    pub fn open(config: &TapConfig, arena: Arena) -> io::Result<Self> {
        let file = open(config)?;
        let TapConfig { device, mac, mtu, offload, .. } = config;
        let mac = mac.unwrap_or_else(|| named_mac(device));
        let config = Some(config.clone());
        Ok(Self {
            config,
            file,
            gone: None,
            arena,
            mac,
            mtu: *mtu,
            offload: *offload,
            spare: None,
            not_sent: 0,
        })
    }

    /// Whether the device is back, if that is to be tried now.
    fn is_back(&mut self, now: Instant) -> bool {
        let (Some(config), Some(at)) = (&self.config, self.gone) else { return true };
        if now < at {
            return false;
        }
        let Ok(file) = open(config) else {
            self.gone = Some(now + RETRY);
            return false;
        };
        if config.tells {
            info!("device {:?}: it is back", config.device);
        }
        (self.file, self.gone) = (file, None);
        true
    }

    fn lose(&mut self, now: Instant) {
        if let Some(config) = self.config.as_ref().filter(|config| config.tells) {
            warn!(
                "device {:?}: somebody has removed it; it is made again as soon as that is possible",
                config.device
            );
        }
        self.gone = Some(now + RETRY);
    }

    /// A queue whose frames, with vnet headers, come from a file and go there.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn pretended(file: File, arena: Arena) -> Self {
        let mac = [2, 0, 0, 0, 0, 1];
        Self {
            config: None,
            file,
            gone: None,
            arena,
            mac,
            mtu: 1500,
            offload: true,
            spare: None,
            not_sent: 0,
        }
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
fn open(config: &TapConfig) -> io::Result<File> {
    let TapConfig { device, mtu, host_addresses, queues, offload, .. } = config;
    let file = sys::open_tap(device, *queues > 1, *offload).map_err(|e| explain(&e, device))?;
    let fail =
        |what: &str, e: &io::Error| io::Error::new(e.kind(), format!("device {device:?}: {what}: {e}"));
    let up = format!(
        "cannot be brought up with MTU {mtu} (ip link set {device} mtu {mtu} txqueuelen {WAITING_MAX} up)"
    );
    sys::bring_up(device, *mtu, WAITING_MAX).map_err(|e| fail(&up, &e))?;
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
