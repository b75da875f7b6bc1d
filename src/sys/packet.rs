// SPDX-License-Identifier: GPL-2.0-or-later
//! AF_PACKET sockets with a mapped receive ring (TPACKET_V2, packet(7)) and vnet headers, and what is to be known of a
//! network device.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::mapping;
use super::tap::{check, datagram_socket, device_index, request};

/// Length of a vnet header (struct virtio_net_hdr).
const VNET: usize = 10;

/// Bytes of a slot of the ring; longer frames are marked, and taken from the socket's queue.
const SLOT: usize = 2048;

/// Bytes of a block of slots.
const BLOCK: usize = 1 << 20;

/// Bytes of long frames that may wait in the socket's queue.
const QUEUE: libc::c_int = 64 << 20;

// linux/if_packet.h
const PACKET_ADD_MEMBERSHIP: libc::c_int = 1;
const PACKET_DROP_MEMBERSHIP: libc::c_int = 2;
const PACKET_RX_RING: libc::c_int = 5;
const PACKET_STATISTICS: libc::c_int = 6;
const PACKET_COPY_THRESH: libc::c_int = 7;
const PACKET_VERSION: libc::c_int = 10;
const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_FANOUT: libc::c_int = 18;
const PACKET_QDISC_BYPASS: libc::c_int = 20;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const TPACKET_V2: libc::c_int = 1;
const TP_STATUS_KERNEL: u32 = 0;
const TP_STATUS_USER: u32 = 1;
const TP_STATUS_COPY: u32 = 2;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
const MR_MULTICAST: u16 = 0;
const MR_PROMISC: u16 = 1;
const MR_UNICAST: u16 = 3;

/// struct tpacket2_hdr.
#[repr(C)]
struct Header {
    status: AtomicU32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    sec: u32,
    nsec: u32,
    vlan_tci: u16,
    vlan_tpid: u16,
    padding: [u8; 4],
}

#[repr(C)]
struct RingRequest {
    block_size: u32,
    block_nr: u32,
    frame_size: u32,
    frame_nr: u32,
}

#[repr(C)]
struct Membership {
    ifindex: i32,
    kind: u16,
    len: u16,
    address: [u8; 8],
}

/// What waits at the front of a ring.
pub struct Waiting<'a> {
    /// The vnet header.
    pub vnet: [u8; VNET],
    /// The bytes from the Ethernet header on; of a long frame, its first part.
    pub bytes: &'a [u8],
    /// A VLAN tag that the kernel took off, as it was behind the addresses: its type, and priority and identifier.
    pub vlan: Option<[u8; 4]>,
    /// Length of the whole frame if it is a long one, which [`PacketSocket::read_long`] reads.
    pub long: Option<usize>,
    /// The frame is longer than the slot, and there was no memory for it elsewhere.
    pub lost: bool,
}

/// What the kernel has counted since it was asked last.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketDrops {
    /// Frames that found the ring full.
    pub ring_full: u32,
}

/// A socket and its ring, for one queue.
pub struct PacketSocket {
    file: File,
    index: i32,
    base: NonNull<u8>,
    len: usize,
    slots: usize,
    at: usize,
    memberships: Vec<[u8; 6]>,
}

// SAFETY: the ring is memory of the process that this value alone reads.
unsafe impl Send for PacketSocket {}

fn set<T>(fd: RawFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the value is readable for its size.
    check(unsafe { libc::setsockopt(fd, libc::SOL_PACKET, option, std::ptr::from_ref(value).cast(), len) })
}

impl PacketSocket {
    /// Opens a socket on a device, with a ring of `bytes`. With a `group`, the sockets of that number share the
    /// device's frames by flow. `promiscuous`: the device hears what is sent to others, too.
    pub fn open(device: &str, bytes: usize, group: Option<u16>, promiscuous: bool) -> io::Result<Self> {
        // No protocol: nothing is received before the ring is there.
        // SAFETY: no memory is involved.
        let fd = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
        };
        check(fd)?;
        // SAFETY: fd is a fresh descriptor that nobody else owns.
        let file = unsafe { File::from_raw_fd(fd) };
        let index = device_index(device)?;
        set(fd, PACKET_VERSION, &TPACKET_V2)?;
        for option in [PACKET_VNET_HDR, PACKET_COPY_THRESH, PACKET_QDISC_BYPASS, PACKET_IGNORE_OUTGOING] {
            set(fd, option, &1)?;
        }
        // As much as root may have; without the right, as much as the system's limit allows.
        for option in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF] {
            let (value, len) = (std::ptr::from_ref(&QUEUE).cast(), 4);
            // SAFETY: the value is a readable int.
            if unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, value, len) } == 0 {
                break;
            }
        }
        let len = bytes.next_multiple_of(BLOCK);
        let count = |n: usize| u32::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        let ring = RingRequest {
            block_size: count(BLOCK)?,
            block_nr: count(len / BLOCK)?,
            frame_size: count(SLOT)?,
            frame_nr: count(len / SLOT)?,
        };
        set(fd, PACKET_RX_RING, &ring)?;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let base = mapping::map(len, prot, libc::MAP_SHARED, Some(fd))?;
        let socket = Self { file, index, base, len, slots: len / SLOT, at: 0, memberships: Vec::new() };
        if promiscuous {
            let membership = Membership { ifindex: index, kind: MR_PROMISC, len: 0, address: [0; 8] };
            set(fd, PACKET_ADD_MEMBERSHIP, &membership)?;
        }
        // SAFETY: an all-zero sockaddr_ll is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).map_err(|_| io::ErrorKind::InvalidInput)?;
        address.sll_protocol = 3u16.to_be(); // ETH_P_ALL
        address.sll_ifindex = index;
        let len =
            libc::socklen_t::try_from(size_of_val(&address)).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the address is readable for its size.
        check(unsafe { libc::bind(fd, (&raw const address).cast(), len) })?;
        if let Some(group) = group {
            const HASH: u32 = 0;
            set(fd, PACKET_FANOUT, &(u32::from(group) | HASH << 16))?;
        }
        Ok(socket)
    }

    /// One whose ring nobody fills but [`PacketSocket::fill`], and whose long frames come from a file.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn pretended(file: File) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let base = mapping::map(SLOT * 4, libc::PROT_READ | libc::PROT_WRITE, flags, None)?;
        Ok(Self { file, index: 0, base, len: SLOT * 4, slots: 4, at: 0, memberships: Vec::new() })
    }

    /// Puts these bytes into the slot that is next, header included, as far as there is room.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn fill(&mut self, bytes: &[u8]) {
        // SAFETY: the slot is inside the mapping, which nobody else knows, and no frame is borrowed.
        let slot = unsafe { std::slice::from_raw_parts_mut(self.header().cast::<u8>(), SLOT) };
        let len = bytes.len().min(SLOT);
        slot[..len].copy_from_slice(&bytes[..len]);
    }

    fn header(&self) -> *mut Header {
        // SAFETY: at < slots, so the slot is inside the mapping, which is aligned to pages.
        unsafe { self.base.as_ptr().add(self.at * SLOT).cast() }
    }

    /// The frame at the front of the ring. It stays there until [`PacketSocket::release`].
    pub fn front(&self) -> Option<Waiting<'_>> {
        let header = self.header();
        // SAFETY: a slot begins with a header, whose status both sides access atomically.
        let status = unsafe { (*header).status.load(Ordering::Acquire) };
        if status & TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the slot is ours until its status is given back. The kernel has put the frame at `mac` in it, behind
        // the vnet header; the lengths are checked against the slot, though it is the kernel that wrote them.
        let (len, snaplen, mac, tag, slot) = unsafe {
            let h = &*header;
            let slot = std::slice::from_raw_parts(header.cast::<u8>(), SLOT);
            (h.len as usize, h.snaplen as usize, usize::from(h.mac), (h.vlan_tpid, h.vlan_tci), slot)
        };
        let bytes = slot.get(mac..mac + snaplen).unwrap_or_default();
        let vnet =
            mac.checked_sub(VNET).and_then(|at| slot.get(at..mac)?.try_into().ok()).unwrap_or_default();
        let tpid = if status & TP_STATUS_VLAN_TPID_VALID != 0 { tag.0 } else { 0x8100 };
        let tag = (u32::from(tpid) << 16 | u32::from(tag.1)).to_be_bytes();
        let (copied, cut) = (status & TP_STATUS_COPY != 0, snaplen < len);
        Some(Waiting {
            vnet,
            bytes,
            vlan: (status & TP_STATUS_VLAN_VALID != 0).then_some(tag),
            long: copied.then_some(len),
            lost: cut && !copied,
        })
    }

    /// Gives the slot at the front back to the kernel.
    pub fn release(&mut self) {
        // SAFETY: as in front().
        unsafe { (*self.header()).status.store(TP_STATUS_KERNEL, Ordering::Release) };
        self.at = (self.at + 1) % self.slots;
    }

    /// Reads the long frame that the front of the ring announces, behind its vnet header.
    pub fn read_long(&self, into: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut &self.file, into)
    }

    /// Receives what is sent to these unicast and multicast addresses, and no longer to those given before.
    pub fn accept(&mut self, addresses: &[[u8; 6]]) -> io::Result<()> {
        for &address in addresses {
            if !self.memberships.contains(&address) {
                self.membership(PACKET_ADD_MEMBERSHIP, address)?;
                self.memberships.push(address);
            }
        }
        // What is wanted before and after is never missed.
        while let Some(index) = self.memberships.iter().position(|address| !addresses.contains(address)) {
            let address = self.memberships.swap_remove(index);
            self.membership(PACKET_DROP_MEMBERSHIP, address)?;
        }
        Ok(())
    }

    fn membership(&self, option: libc::c_int, address: [u8; 6]) -> io::Result<()> {
        let kind = if address[0] & 1 != 0 { MR_MULTICAST } else { MR_UNICAST };
        let mut membership = Membership { ifindex: self.index, kind, len: 6, address: [0; 8] };
        membership.address[..6].copy_from_slice(&address);
        set(self.file.as_raw_fd(), option, &membership)
    }

    /// What has been dropped since the last call.
    pub fn drops(&self) -> PacketDrops {
        let mut stats = [0u32; 2];
        let mut len: libc::socklen_t = 8;
        let fd = self.file.as_raw_fd();
        // SAFETY: stats is writable for `len` bytes.
        let rc = unsafe {
            libc::getsockopt(fd, libc::SOL_PACKET, PACKET_STATISTICS, stats.as_mut_ptr().cast(), &raw mut len)
        };
        PacketDrops { ring_full: if rc == 0 { stats[1] } else { 0 } }
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        // SAFETY: base and len are those of the mmap call, and nobody else unmaps it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// What is to be known of a network device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// MAC address.
    pub mac: [u8; 6],
    /// MTU in bytes.
    pub mtu: u16,
    /// It is up.
    pub up: bool,
}

/// Looks a network device up.
pub fn link(name: &str) -> io::Result<Link> {
    let socket = datagram_socket()?;
    let fd = socket.as_raw_fd();
    let ask = |what| -> io::Result<libc::ifreq> {
        let mut request = request(name)?;
        // SAFETY: the request is valid for the call.
        check(unsafe { libc::ioctl(fd, what, &raw mut request) })?;
        Ok(request)
    };
    let (hardware, mtu, flags) =
        (ask(libc::SIOCGIFHWADDR)?, ask(libc::SIOCGIFMTU)?, ask(libc::SIOCGIFFLAGS)?);
    // SAFETY: each request has written its member.
    let (hardware, mtu, flags) =
        unsafe { (hardware.ifr_ifru.ifru_hwaddr.sa_data, mtu.ifr_ifru.ifru_mtu, flags.ifr_ifru.ifru_flags) };
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(hardware) {
        *to = from.cast_unsigned();
    }
    let up = libc::c_int::from(flags) & libc::IFF_UP != 0;
    Ok(Link { mac, mtu: u16::try_from(mtu).unwrap_or(u16::MAX), up })
}
