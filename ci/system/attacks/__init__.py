# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry of attacks, for hostile.py.

An attack is a function in a module of this package, marked with @attack(). It is called in a process of its own with a Victim,
does its harm until victim.over() or for as long as it likes, and returns; the process then keeps its sockets until the attack's
time is up, and is killed. What it raises by way of Closed and OSError is printed, and is no failure: a target may
throw it out. Any other exception is one: an attack may assert what it finds.
"""

import dataclasses
import importlib
import os
import pkgutil
import random
import selectors
import socket
import struct
import time
from typing import Callable

from initiator import NOP_OUT, Connection, bhs, keys

ENTRIES = []


@dataclasses.dataclass
class Entry:
    name: str
    function: Callable
    # The ports that it is for.
    ports: tuple
    # It runs with --full only.
    full: bool
    # Its time, as a multiple of the usual.
    length: float
    # Lines that the daemon may write about it.
    lines: int


def attack(ports=("tap", "kernel"), full=False, length=1.0, lines=400):
    def add(function):
        ENTRIES.append(Entry(function.__name__, function, ports, full, length, lines))
        return function
    return add


def load():
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        importlib.import_module(f"{__name__}.{module.name}")
    return ENTRIES


class Victim:
    """What an attack needs to know, and the tools of its trade."""

    def __init__(self, options, end, verified_port):
        # The TCP port of the verified session.
        self.verified_port = verified_port
        self.address, self.target, self.lun, self.port = options.address, options.target, options.lun, options.port
        self.full, self.end = options.full, end

    def over(self):
        return time.monotonic() >= self.end

    def connect(self, **more):
        """A connection without a login."""
        return Connection(self.address, **more)

    def login(self, name=None, kind="Normal", **more):
        """A session, under a name of its own unless one is given."""
        c = Connection(self.address, 5)
        c.isid = struct.pack(">HI", 0x8000, random.getrandbits(32))
        name = name or f"iqn.2026-11.com.example:hostile.{os.getpid()}.{random.getrandbits(48):x}"
        text = {"InitiatorName": name, "SessionType": kind, **more}
        if kind == "Normal":
            text["TargetName"] = self.target
        c.login(self.target, text=keys(**text))
        answer = c.receive()
        assert answer.status == 0, hex(answer.status)
        return c

    def discovery(self, **more):
        return self.login(kind="Discovery", **more)

    def pour(self, connections, make):
        """Sends make(connection, number) for number 0, 1, ... to each connection, all at the same time and as fast as they
        take it, until make() answers None, the target has ended the connection, or the time is up."""
        selector = selectors.DefaultSelector()
        for c in connections:
            c.socket.setblocking(False)
            selector.register(c.socket, selectors.EVENT_WRITE, [c, 0, b""])
        while not self.over() and selector.get_map():
            for key, _ in selector.select(0.1):
                state = key.data
                c, number, rest = state
                if not rest:
                    data = make(c, number)
                    if data is None:
                        selector.unregister(key.fileobj)
                        continue
                    state[1], rest = number + 1, memoryview(data)
                try:
                    state[2] = rest[c.socket.send(rest):]
                except BlockingIOError:
                    state[2] = rest
                except OSError:
                    selector.unregister(key.fileobj)


def ping(c, size, itt):
    """A NOP-Out with payload, for immediate delivery."""
    rest = struct.pack(">III", 0xFFFFFFFF, c.cmd_sn, c.stat_sn + 1)
    return bhs(NOP_OUT | 0x40, 0x80, size, 0, itt, rest=rest) + bytes(size)


def command(c, cdb, number, flags=0xC0, length=0, lun=0, data=b""):
    """A SCSI command as bytes, the `number`th after those that the connection has sent."""
    rest = struct.pack(">III", length, c.cmd_sn + number, c.stat_sn + 1) + cdb.ljust(16, b"\0")
    return bhs(1, flags, len(data), lun, 0x1000 + number, rest=rest) + data
