# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP as somebody makes it who writes the frames himself: raw segments over IPv4 on a network device, from addresses that are
nobody's, so that the kernel's own TCP has no part in it."""

import socket
import struct
import time

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
VNET = 10
SOL_PACKET, PACKET_VNET_HDR = 263, 15


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Segment:
    """A received segment."""

    def __init__(self, frame, packet, tcp):
        self.source_mac, self.dest_mac = frame[6:12], frame[0:6]
        self.source, self.dest = packet[12:16], packet[16:20]
        self.sport, self.dport, self.seq, self.ack = struct.unpack(">HHII", tcp[:12])
        self.flags, self.window = tcp[13], struct.unpack(">H", tcp[14:16])[0]
        self.options, self.payload = tcp[20:(tcp[12] >> 4) * 4], tcp[(tcp[12] >> 4) * 4:]


class Device:
    """A device to send frames on, and what comes back on it from the target."""

    def __init__(self, name, address, port=3260):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        # The kernel computes checksums, or leaves them out where it may.
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self.socket.bind((name, 0))
        self.mac = self.socket.getsockname()[4]
        self.address, self.port = socket.inet_aton(address), port
        self.target_mac = neighbour(name, address)

    def send(self, source, sport, seq, ack, flags, payload=b"", window=65535, options=b"", mac=None):
        """A segment from an address, which may be anybody's; `mac` is that of the sender."""
        options += bytes(-len(options) % 4)
        tcp = struct.pack(">HHIIBBH", sport, self.port, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, (20 + len(options)) // 4 << 4,
                          flags, window)
        length = len(tcp) + 4 + len(options) + len(payload)
        pseudo = checksum(source + self.address + struct.pack(">HH", 6, length))
        tcp += struct.pack(">HH", pseudo, 0) + options
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, 6, 0) + source + self.address
        ip = ip[:10] + struct.pack(">H", checksum(ip) ^ 0xFFFF) + ip[12:]
        vnet = struct.pack("=BBHHHH", 1, 0, 0, 0, 34, 16)
        self.socket.send(vnet + self.target_mac + (mac or self.mac) + b"\x08\x00" + ip + tcp + payload)

    def receive(self, seconds):
        """The next segment of the target's, or None."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                frame = self.socket.recv(70000)[VNET:]
            except (TimeoutError, BlockingIOError):
                return None
            packet = frame[14:]
            if len(packet) < 40 or packet[9] != 6 or packet[12:16] != self.address:
                continue
            packet = packet[:struct.unpack(">H", packet[2:4])[0]]
            return Segment(frame, packet, packet[(packet[0] & 15) * 4:])
        return None

    def connect(self, peers, seconds=2.0):
        """Opens a connection from each (address, port), and answers those that have become one, by their peer."""
        # Maximum segment size, window scale 7.
        options = struct.pack(">BBHBBBB", 2, 4, 65000, 3, 3, 7, 1)
        peers = [(socket.inet_aton(address), port) for address, port in peers]
        first = {peer: 0x10000 * port & 0xFFFFFFFF for peer, port in ((peer, peer[1]) for peer in peers)}
        for source, port in peers:
            self.send(source, port, first[source, port], 0, SYN, options=options)
        open_ones, end = {}, time.monotonic() + seconds
        while len(open_ones) < len(peers) and (left := end - time.monotonic()) > 0:
            segment = self.receive(left)
            if segment is None:
                break
            peer = segment.dest, segment.dport
            if peer in first and segment.flags & (SYN | ACK) == SYN | ACK and peer not in open_ones:
                open_ones[peer] = Peer(self, peer, first[peer] + 1, segment.seq + 1)
                open_ones[peer].send()
        return open_ones


class Peer:
    """A connection of a forger's."""

    def __init__(self, device, peer, seq, ack):
        self.device, (self.source, self.sport), self.seq, self.ack = device, peer, seq, ack

    def send(self, payload=b"", ahead=0, flags=ACK, **more):
        """A segment so many bytes ahead of what is next; what comes next stays the same."""
        self.device.send(self.source, self.sport, self.seq + ahead, self.ack, flags, payload, **more)


def neighbour(device, address):
    """The link address that the kernel knows of; it is made to ask."""
    for _ in range(50):
        with open("/proc/net/arp") as table:
            for line in table:
                words = line.split()
                if words[0] == address and words[5] == device and words[3] != "00:00:00:00:00:00":
                    return bytes.fromhex(words[3].replace(":", ""))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.sendto(b"?", (address, 9))
        time.sleep(0.02)
    raise OSError(f"no neighbour {address}")
