# SPDX-License-Identifier: GPL-2.0-or-later
"""relay.py SEED DEVICE DEVICE CONTROL [FAULT=VALUE]...

Two TAP devices, and a wire between them that loses, repeats, overtakes and delays frames as the seed decides. Faults are
shares of frames (loss, duplicate, reorder) or milliseconds (delay, reorder_ms). Lines written to the FIFO CONTROL change
them while it runs: `loss=1` cuts the wire, `seed=7` rolls other dice. When told to end (SIGTERM), or on the way (SIGUSR1),
it prints what it has done and seen in each direction, as JSON.
"""

import fcntl
import heapq
import json
import os
import random
import select
import signal
import struct
import sys
import time

TUNSETIFF, TAP_WITHOUT_HEADER = 0x400454CA, 0x1002
FRAME_MAX = 70000


def tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP_WITHOUT_HEADER))
    return fd


seed, first, second, control = sys.argv[1:5]
faults = {"loss": 0.0, "duplicate": 0.0, "reorder": 0.0, "reorder_ms": 2.0, "delay": 0.0}


def change(words):
    for word in words:
        name, value = word.split("=")
        if name == "seed":
            dice.seed(int(value))
        else:
            faults[name] = float(value)


dice = random.Random(int(seed))
change(sys.argv[5:])
ends = [tap(first), tap(second)]
fifo = os.open(control, os.O_RDWR | os.O_NONBLOCK)
counts = {"sent": [0, 0], "lost": [0, 0], "duplicated": [0, 0], "reordered": [0, 0], "unwritten": [0, 0]}
# Segments that say that a window is shut, and those with one byte: probes of a window, and keep-alives.
counts |= {"shut": [0, 0], "probes": [0, 0]}
under_way, order = [], 0


def tell(*_):
    print(json.dumps(counts), flush=True)


def ended(*_):
    tell()
    os._exit(0)


def look(frame, end):
    """Counts what a TCP segment over IPv4 says about windows."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return
    tcp = 14 + (frame[14] & 15) * 4
    length = 14 + int.from_bytes(frame[16:18], "big") - tcp - (frame[tcp + 12] >> 4) * 4
    flags, window = frame[tcp + 13], frame[tcp + 14 : tcp + 16]
    counts["shut"][end] += window == b"\0\0" and flags & 0x14 == 0x10
    counts["probes"][end] += length == 1


signal.signal(signal.SIGTERM, ended)
signal.signal(signal.SIGUSR1, tell)
print("ready", flush=True)
while True:
    now = time.monotonic()
    while under_way and under_way[0][0] <= now:
        _, _, to, frame = heapq.heappop(under_way)
        try:
            os.write(ends[to], frame)
        except OSError:
            counts["unwritten"][1 - to] += 1
    wait = under_way[0][0] - now if under_way else None
    readable, _, _ = select.select([*ends, fifo], [], [], wait)
    if fifo in readable:
        change(os.read(fifo, 4096).decode().split())
    for end in (0, 1):
        for _ in range(64 if ends[end] in readable else 0):
            try:
                frame = os.read(ends[end], FRAME_MAX)
            except OSError:
                break
            counts["sent"][end] += 1
            look(frame, end)
            if dice.random() < faults["loss"]:
                counts["lost"][end] += 1
                continue
            due = time.monotonic() + faults["delay"] / 1000
            if dice.random() < faults["reorder"]:
                counts["reordered"][end] += 1
                due += dice.random() * faults["reorder_ms"] / 1000
            copies = 1
            if dice.random() < faults["duplicate"]:
                counts["duplicated"][end] += 1
                copies = 2
            for _ in range(copies):
                order += 1
                heapq.heappush(under_way, (due, order, 1 - end, frame))
