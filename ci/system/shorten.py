# SPDX-License-Identifier: GPL-2.0-or-later
"""shorten.py ADDRESS TARGET FILE: shortens the file of LUN 0 again and again; no command that writes behind its end 10 ms
later may succeed, or make it longer."""

import os
import struct
import sys
import time

from initiator import Connection

address, target, path = sys.argv[1:]
BLOCK = bytes(512)


def run(connection, cdb, data):
    while True:
        status, _, sense = connection.run(cdb, data=data)
        if not sense or sense[0] != 6:  # a unit attention
            return status, sense and sense[:2]


with Connection(address) as connection:
    connection.session(target)
    for name, cdb, data in (
        ("WRITE(10)", lambda last: struct.pack(">BBIBHB", 0x2A, 0, last, 0, 1, 0), BLOCK),
        ("WRITE(10) with FUA", lambda last: struct.pack(">BBIBHB", 0x2A, 8, last, 0, 1, 0), BLOCK),
        ("WRITE SAME(16)", lambda last: struct.pack(">BBQIBB", 0x93, 0, last, 1, 0, 0), BLOCK),
        ("WRITE SAME(16) with ANCHOR", lambda last: struct.pack(">BBQIBB", 0x93, 0x18, last, 1, 0, 0), BLOCK),
        ("COMPARE AND WRITE", lambda last: struct.pack(">BBQ3xBBB", 0x89, 0, last, 1, 0, 0), BLOCK + BLOCK),
        ("WRITE ATOMIC(16)", lambda last: struct.pack(">BBQHHBB", 0x9C, 0, last, 0, 1, 0, 0), BLOCK),
    ):
        size = os.path.getsize(path)
        cdb = cdb(size // 512 - 1)
        assert (end := run(connection, cdb, data)) == (0, None), f"{name}: {end}"
        os.truncate(path, size // 2)
        time.sleep(0.01)
        assert (end := run(connection, cdb, data)) == (2, (5, 0x2100)), f"{name}: {end}"
        assert os.path.getsize(path) == size // 2, f"{name} makes the file longer"
