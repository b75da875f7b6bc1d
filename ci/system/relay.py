# SPDX-License-Identifier: GPL-2.0-or-later
"""relay.py SEED DEVICE DEVICE CONTROL [FAULT=VALUE]...

Two TAP devices, and a wire between them that loses, repeats, overtakes and delays frames as the seed decides. Faults are
shares of frames (loss, duplicate, reorder) or milliseconds (delay, reorder_ms). Lines written to the FIFO CONTROL change
them while it runs: `loss=1` cuts the wire, `seed=7` rolls other dice. When told to end (SIGTERM), it prints what it has
done in each direction, as JSON.
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
under_way, order = [], 0


def ended(*_):
    print(json.dumps(counts), flush=True)
    os._exit(0)


signal.signal(signal.SIGTERM, ended)
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
