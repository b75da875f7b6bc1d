# SPDX-License-Identifier: GPL-2.0-or-later
"""Somebody on the link who sees nothing of others' connections, and says whatever he likes in their names."""

import errno
import itertools
import os
import random
import socket
import struct
import time

import forge
from forge import ACK, FIN, RST, SYN, VNET, checksum
from . import attack

FORGER = bytes.fromhex("026600000066")
# Frames per second of a flood, which leaves processor time for others on a machine that is attacker and target. With --full it is
# as many as go out.
FLOOD_MIN, FLOOD = 20_000, 40_000


class Device(forge.Device):
    """A device on which frames can be made before they are sent, and are lost where its queue is full."""

    def put(self, frame):
        try:
            self.socket.send(frame)
        except OSError as e:
            if e.errno != errno.ENOBUFS:
                raise

    def frame(self, *segment, **more):
        """What send() would send."""
        self.socket = Recorder(self.socket)
        self.send(*segment, **more)
        frame, self.socket = self.socket.frame, self.socket.socket
        return frame


class Recorder:
    """Takes a frame in the place of a socket."""

    def __init__(self, socket):
        self.socket = socket

    def send(self, frame):
        self.frame = frame


def own_address(victim):
    """Where the verified session comes from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((victim.address, 9))
        return socket.inet_aton(way.getsockname()[0])


def flood(victim, device, frames):
    """Puts frames out at the rate of a flood until the time is nearly up; answers the rate."""
    sent, begin = 0, time.monotonic()
    while time.monotonic() < victim.end - 0.2:
        if victim.full or sent < (time.monotonic() - begin) * FLOOD:
            for _ in range(50):
                device.put(next(frames))
            sent += 50
        else:
            time.sleep(0.001)
    return sent / (time.monotonic() - begin)


def anybody(dice):
    """An address of the target's network that nobody has."""
    return bytes([10, 77, 0, dice.randrange(100, 250)])


@attack(ports=("tap",), length=2.1)
def syn_flood(victim):
    """SYNs of everybody, as fast as they go out."""
    device, dice = Device("ptgt0", victim.address), random.Random(1)
    options = struct.pack(">BBHBBBBBB", 2, 4, 1460, 1, 3, 3, 7, 4, 2)
    frames = [device.frame(anybody(dice), dice.randrange(1024, 65536), dice.getrandbits(32), 0, SYN, options=options, mac=FORGER)
              for _ in range(4000)]
    # A flood that gets no processor is none.
    os.nice(-15)
    rate = flood(victim, device, itertools.cycle(frames))
    print(f"    {rate:.0f} SYNs per second", flush=True)
    assert rate >= FLOOD_MIN, f"{rate:.0f} SYNs per second are no flood"


@attack(ports=("tap",))
def ack_flood(victim):
    """Ends of handshakes that nobody has begun, while cookies are out."""
    device, dice = Device("ptgt0", victim.address), random.Random(2)

    def frame(number):
        flags = SYN if number % 20 == 0 else ACK
        return device.frame(anybody(dice), dice.randrange(1024, 65536), dice.getrandbits(32), dice.getrandbits(32), flags,
                            b"hello", mac=FORGER)

    flood(victim, device, itertools.cycle([frame(number) for number in range(4000)]))


@attack(ports=("tap",))
def blind_segments(victim):
    """Segments of the verified session's connection with numbers that are guessed: nothing of it comes to the forger."""
    device, dice, own = Device("ptgt0", victim.address), random.Random(3), own_address(victim)
    heard = 0
    while not victim.over():
        for _ in range(20):
            flags = dice.choice([ACK, ACK, ACK | FIN, SYN, SYN | ACK, RST, 0])
            device.send(own, victim.verified_port, dice.getrandbits(32), dice.getrandbits(32), flags,
                        bytes(dice.choice([0, 0, 1, 1000])), dice.randrange(65536), mac=FORGER)
        for _ in range(20):
            segment = device.receive(0.0005)
            if segment and segment.dport == victim.verified_port:
                heard += 1
                assert segment.dest_mac != FORGER, f"{len(segment.payload)} bytes of the session go to the forger"
    assert heard > 0, "nothing is heard of the session"


@attack(ports=("tap",))
def blind_resets(victim):
    """Resets and SYNs all over the sequence numbers, several in each window."""
    device, own = Device("ptgt0", victim.address), own_address(victim)
    frames = [device.frame(own, victim.verified_port, at, at, flags, mac=FORGER)
              for at in range(0, 1 << 32, 0x8_0001) for flags in (RST, RST | ACK, SYN)]
    flood(victim, device, itertools.cycle(frames))


@attack(ports=("tap",))
def tiny_segments(victim):
    """A peer that wants a few bytes in each segment."""
    c = victim.connect()
    c.socket.close()
    c.socket = socket.socket()
    c.socket.settimeout(5)
    # The least that the kernel lets one ask for.
    c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 88)
    c.socket.connect((victim.address, 3260))
    c.session(victim.target, MaxRecvDataSegmentLength=262144)
    own, sizes = c.socket.getsockname()[1], set()
    while c.ready(victim.lun):
        pass
    device = Device("ptgt0", victim.address)
    for _ in range(4):
        itt = c.command(struct.pack(">BBIBHB", 0x28, 0, 0, 0, 512, 0), victim.lun, 0xC0, 512 * 512)
        assert c.finish(itt)[0] == 0
    device.socket.setblocking(False)
    while True:
        try:
            raw = device.socket.recv(70000)
        except BlockingIOError:
            break
        packet = raw[VNET + 14:]
        if len(packet) > 40 and packet[20:24] == struct.pack(">HH", 3260, own):
            # What one segment of a large frame carries, or the frame itself.
            size = struct.unpack("=H", raw[4:6])[0] or len(packet) - 40
            sizes.add(size)
    # The last of each PDU may be short; of a megabyte some are full.
    assert sizes and max(sizes) >= 536, f"segments of {sorted(sizes)} bytes"


@attack(ports=("tap",))
def lies_about_the_network(victim):
    """ICMP errors about the verified session's segments, ARP of the peer's address, fragments, source routes."""
    device, dice, own = Device("ptgt0", victim.address), random.Random(4), own_address(victim)
    zero = bytes(VNET)

    def ip(protocol, body, options=b"", fragment=0x4000):
        head = struct.pack(">BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(body), 0, fragment, 64, protocol, 0)
        head += own + device.address + options
        return head[:10] + struct.pack(">H", checksum(head) ^ 0xFFFF) + head[12:] + body

    def frame(kind, body, to=device.target_mac):
        return zero + to + FORGER + kind + body

    def lies():
        ports = struct.pack(">HHI", 3260, victim.verified_port, dice.getrandbits(32))
        quoted = struct.pack(">BBHHHBBH", 0x45, 0, 1500, 0, 0x4000, 64, 6, 0) + device.address + own + ports
        kind, code = dice.choice([3, 3, 3, 4, 5, 11, 12]), dice.randrange(16)
        icmp = struct.pack(">BBHHH", kind, code, 0, 0, 68) + quoted
        icmp = icmp[:2] + struct.pack(">H", checksum(icmp) ^ 0xFFFF) + icmp[4:]
        yield frame(b"\x08\x00", ip(1, icmp))
        for operation in (1, 2):
            arp = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation) + FORGER + own + bytes(6) + dice.choice([own, device.address])
            yield frame(b"\x08\x06", arp, dice.choice([device.target_mac, b"\xff" * 6]))
        segment = struct.pack(">HHIIBBHI", victim.verified_port, 3260, dice.getrandbits(32), 0, 0x50, RST, 0, 0)
        yield frame(b"\x08\x00", ip(6, segment, fragment=dice.choice([0x2000, 1, 0x2001])))
        yield frame(b"\x08\x00", ip(6, segment, options=b"\x83\x07\x04" + own + b"\0"))
        yield frame(b"\x08\x00", ip(6, segment))

    flood(victim, device, itertools.cycle([lie for _ in range(500) for lie in lies()]))
