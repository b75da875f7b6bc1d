// SPDX-License-Identifier: GPL-2.0-or-later
//! TAP devices: opening a queue, and setting up the host's side of the link.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUN_F_CSUM: libc::c_ulong = 1;
const TUN_F_TSO4: libc::c_ulong = 2;
const TUN_F_TSO6: libc::c_ulong = 4;

pub(super) fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: an all-zero ifreq is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a network device"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

pub(super) fn check(rc: libc::c_int) -> io::Result<()> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens a queue of a TAP device, which is made if there is none of that name. Frames come and go behind a vnet header
/// of 10 bytes; with `offload` they may be up to 64 KiB long, and lack checksums.
pub fn open_tap(name: &str, multi_queue: bool, offload: bool) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = request(name)?;
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if multi_queue {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the request is valid for the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    let features = if offload { TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 } else { 0 };
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, features) })?;
    Ok(file)
}

/// Sets the MTU of a network device, lets at least so many frames wait in each of its queues, and brings it up. What is
/// as it should be needs no privilege; fewer waiting frames are no error.
pub fn bring_up(name: &str, mtu: u16, waiting: libc::c_int) -> io::Result<()> {
    let socket = datagram_socket()?;
    let mut request = request(name)?;
    let ask = |what, request: &mut libc::ifreq| {
        // SAFETY: the request is valid for the call.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_mut(request)) })
    };
    ask(libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: SIOCGIFMTU has written it.
    if unsafe { request.ifr_ifru.ifru_mtu } != i32::from(mtu) {
        request.ifr_ifru.ifru_mtu = mtu.into();
        ask(libc::SIOCSIFMTU, &mut request)?;
    }
    // The length of a queue is in the place of the index (`ifr_qlen` of netdevice(7)).
    ask(libc::SIOCGIFTXQLEN, &mut request)?;
    // SAFETY: SIOCGIFTXQLEN has written it.
    if unsafe { request.ifr_ifru.ifru_ifindex } < waiting {
        request.ifr_ifru.ifru_ifindex = waiting;
        _ = ask(libc::SIOCSIFTXQLEN, &mut request);
    }
    ask(libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has written the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let up = i16::try_from(libc::IFF_UP).map_err(|_| io::ErrorKind::InvalidInput)?;
    if flags & up == 0 {
        request.ifr_ifru.ifru_flags = flags | up;
        ask(libc::SIOCSIFFLAGS, &mut request)?;
    }
    Ok(())
}

pub(super) fn datagram_socket() -> io::Result<OwnedFd> {
    socket(libc::AF_INET, libc::SOCK_DGRAM, 0)
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    check(fd)?;
    // SAFETY: fd is a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of a network device.
pub(super) fn device_index(name: &str) -> io::Result<libc::c_int> {
    let name = std::ffi::CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the name ends with a zero byte.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    match libc::c_int::try_from(index) {
        Ok(0) | Err(_) => Err(io::Error::last_os_error()),
        Ok(index) => Ok(index),
    }
}

/// The number of the network device that the zone of an IPv6 address means: a name, or a number (RFC 4007 11.2).
pub fn zone_index(zone: &str) -> Option<u32> {
    let named = device_index(zone).ok().and_then(|index| u32::try_from(index).ok());
    named.or_else(|| zone.parse().ok().filter(|index| has_device(*index)))
}

fn has_device(index: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the name has room for any that a device has.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    !found.is_null()
}

/// Gives a network device an address (RTM_NEWADDR over netlink). One that it has already is fine.
pub fn add_address(name: &str, ip: IpAddr, prefix: u8) -> io::Result<()> {
    const RTM_NEWADDR: u16 = 20;
    const FLAGS: u16 = 0x01 | 0x04 | 0x400; // REQUEST, ACK, CREATE
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_F_NODAD: u8 = 0x02;
    let index = device_index(name)?;
    let (family, octets) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    let family = u8::try_from(family).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut body = vec![family, prefix, IFA_F_NODAD, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        let len = u16::try_from(4 + octets.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        body.extend_from_slice(&len.to_ne_bytes());
        body.extend_from_slice(&kind.to_ne_bytes());
        body.extend_from_slice(&octets);
    }
    let mut message = u32::try_from(16 + body.len()).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    message.extend_from_slice(&RTM_NEWADDR.to_ne_bytes());
    message.extend_from_slice(&FLAGS.to_ne_bytes());
    message.extend_from_slice(&[0; 8]); // sequence number and port
    message.extend_from_slice(&body);
    let netlink = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let fd: RawFd = netlink.as_raw_fd();
    // SAFETY: the message is readable for its length.
    let sent = unsafe { libc::send(fd, message.as_ptr().cast(), message.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = [0u8; 256];
    // SAFETY: the answer is writable for its length.
    let n = unsafe { libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0) };
    if n < 20 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // An acknowledgement is an error message whose number is 0.
    let errno = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    match -errno {
        0 | libc::EEXIST => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Writes what lies in the pieces, as one frame.
///
/// # Safety
/// Every piece must be readable memory for its length.
pub unsafe fn write_frame(fd: RawFd, pieces: &[libc::iovec]) -> io::Result<()> {
    let count = libc::c_int::try_from(pieces.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the caller vouches for the pieces.
    let n = unsafe { libc::writev(fd, pieces.as_ptr(), count) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
