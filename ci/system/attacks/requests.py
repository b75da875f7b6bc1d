# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions that ask for as much work as they can, and for the answers as slowly as they like.

A core's time is shared among its sessions: one that is beside three others, which always have work for it, has a quarter. So those
attacks that do nothing but work have three sessions.
"""

import random
import select
import socket
import struct

from initiator import DATA_OUT, IMMEDIATE, LOGOUT, NO_TAG, TASK, TEXT, Closed, bhs, keys

from . import attack, command, ping
from .budget import MIB, read10, write10

# Blocks that neither the verified session nor newcomers touch.
FIRST, BLOCKS = 64 << 11, 512 << 11
NAME = "iqn.2026-11.com.example:hostile"


def drain(connections):
    """Reads what has come, and forgets it; leaves out those that have ended."""
    there, _, _ = select.select([c.socket for c in connections], [], [], 0.01)
    for c in list(connections):
        if c.socket in there:
            try:
                c.socket.setblocking(False)
                if not c.socket.recv(1 << 18):
                    connections.remove(c)
            except BlockingIOError:
                pass
            except OSError:
                connections.remove(c)


@attack(lines=2000)
def reinstatements(victim):
    """One name and one ISID: each login ends the session before it, with commands under way."""
    kept = []
    while not victim.over():
        c = victim.connect()
        c.login(victim.target, text=keys(InitiatorName=NAME, SessionType="Normal", TargetName=victim.target),
                isid=b"\x80\0\0\0\0\1")
        try:
            if c.receive().status == 0:
                for _ in range(8):
                    c.command(read10(0, 2048), victim.lun, 0xC0, MIB)
        except Closed:
            pass
        # The newest few keep their sockets, so that it is the target that ends them.
        kept = [*kept[-20:], c]


@attack(lines=2000)
def resets_while_reading(victim):
    """Connections that are reset by their peer in the middle of what they have asked for."""
    while not victim.over():
        c = victim.login(MaxRecvDataSegmentLength=262144)
        for _ in range(8):
            c.command(read10(0, 2048), victim.lun, 0xC0, MIB)
        c.socket.recv(4096)
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()


@attack()
def slow_readers(victim):
    """A byte at a time of a great deal of data, so that there is always some progress."""
    sessions = [victim.login(MaxRecvDataSegmentLength=262144) for _ in range(60)]
    for c in sessions:
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        for _ in range(16):
            c.command(read10(0, 2048), victim.lun, 0xC0, MIB)
    while not victim.over():
        for c in sessions:
            c.socket.recv(1)


@attack()
def byte_by_byte(victim):
    """Pings whose every byte is a segment of its own."""
    sessions = [victim.login() for _ in range(50)]
    for c in sessions:
        c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    whole = ping(sessions[0], 64, 1)
    victim.pour(sessions, lambda c, n: whole[n % len(whole):][:1])


@attack()
def pings_without_end(victim):
    """The smallest request there is, as fast as it goes out, with the answers read."""
    sessions = [victim.login() for _ in range(3)]
    burst = b"".join(ping(sessions[0], 0, n) for n in range(200))
    for c in sessions:
        c.socket.setblocking(False)
    while not victim.over() and sessions:
        for c in sessions:
            try:
                c.socket.send(burst)
            except OSError:
                pass  # Its window is closed, or it has ended, which drain() finds.
        drain(sessions)


@attack()
def text_without_end(victim):
    """Text requests that go on for ever."""
    sessions = [victim.login() for _ in range(40)]
    text = (b"X-ptgt.example=" + b"a" * 4000 + b"\0").ljust(8192, b"\0")

    def make(c, n):
        rest = struct.pack(">III", NO_TAG, c.cmd_sn + n, c.stat_sn + 1)
        return bhs(TEXT, 0x40, len(text), 0, 7, rest=rest) + text

    victim.pour(sessions, make)


@attack()
def unanswered_requests_for_data(victim):
    """Writes whose data never comes, as many as there may be."""
    sessions = [victim.login(MaxBurstLength=16 * MIB - 512, MaxOutstandingR2T=8) for _ in range(100)]
    victim.pour(sessions, lambda c, n: command(c, write10(FIRST, 32768), n, 0xA0, 16 * MIB, victim.lun) if n < 200 else None)


@attack(lines=2000)
def data_that_nobody_asked_for(victim):
    """Data-Out for tags, offsets and numbers that are not."""
    dice, payload = random.Random(5), bytes(8192)
    while not victim.over():
        sessions = [victim.login(InitialR2T="No", FirstBurstLength=65536) for _ in range(10)]

        def make(c, n):
            if n == 0:
                return command(c, write10(FIRST, 2048), 0, 0x20, MIB, victim.lun)
            if n > 50:
                return None
            numbers = dice.getrandbits(32), 0, c.stat_sn + 1, 0, dice.getrandbits(8), dice.getrandbits(20)
            rest = struct.pack(">IIIIII", *numbers)
            return bhs(DATA_OUT, 0, len(payload), victim.lun, 0x1000 + dice.randrange(4), rest=rest) + payload

        victim.pour(sessions, make)
        for c in sessions:
            c.close()


@attack(lines=2000)
def task_management(victim):
    """Reads that are aborted at once, one by one and all together."""
    sessions = [victim.login() for _ in range(3)]

    def make(c, n):
        number, abort = divmod(n, 2)
        if not abort:
            return command(c, read10(0, 256), number, 0xC0, 131072, victim.lun)
        # ABORT TASK of the last, or ABORT TASK SET.
        function = 1 if number % 8 else 2
        rest = struct.pack(">IIIII", 0x1000 + number, c.cmd_sn + number + 1, c.stat_sn + 1, c.cmd_sn + number, 0)
        return bhs(TASK | IMMEDIATE, 0x80 | function, 0, victim.lun, 0x8000_0000 + number, rest=rest)

    for c in sessions:
        c.socket.setblocking(False)
    queue = {c: (0, b"") for c in sessions}
    while not victim.over() and sessions:
        for c in sessions:
            number, rest = queue[c]
            try:
                while rest := rest or make(c, number):
                    sent = c.socket.send(rest)
                    number, rest = number + (sent == len(rest)), rest[sent:]
                    if number % 64 == 0:
                        break
            except OSError:
                pass
            queue[c] = number, rest
        drain(sessions)


@attack()
def the_same_everywhere(victim):
    """WRITE SAME and VERIFY of half a gigabyte in each command."""
    sessions = [victim.login() for _ in range(10)]
    block = bytes(range(256)) * 2
    same = struct.pack(">BBQIBB", 0x93, 0, FIRST, BLOCKS, 0, 0)
    verify = struct.pack(">BBQIBB", 0x8F, 0, FIRST, BLOCKS, 0, 0)

    def make(c, n):
        if n >= 32:
            return None
        return command(c, verify, n, 0x80, 0, victim.lun) if n % 2 else command(c, same, n, 0xA0, 512, victim.lun, block)

    victim.pour(sessions, make)


@attack(lines=2000)
def registrations(victim):
    """Reservation keys that come and go, and are kept on disk each time."""
    sessions = [victim.login() for _ in range(3)]
    for turn in range(1 << 30):
        for c in sessions:
            # REGISTER AND IGNORE EXISTING KEY, with APTPL.
            key = struct.pack(">QQ", 0, turn % 3) + b"\0\0\0\0\1\0\0\0"
            c.command(struct.pack(">BBBHIB", 0x5F, 6, 0, 0, len(key), 0), victim.lun, 0xA0, len(key), key)
            if victim.over():
                return
        for c in sessions:
            while c.receive().opcode != 0x21:
                pass


@attack(lines=2000)
def logins_and_logouts(victim):
    """Whole sessions, one after the other, as fast as they come."""
    while not victim.over():
        c = victim.login()
        rest = struct.pack(">HHII", 0, 0, c.cmd_sn, c.stat_sn + 1)
        c.send(bhs(LOGOUT | IMMEDIATE, 0x80, itt=9, rest=rest))
        try:
            c.receive()
        except Closed:
            pass
        c.close()
