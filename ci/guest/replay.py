#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""replay.py LOG DISK MIB: replays a log of dm-log-writes, mark by mark.

Makes DISK, of MIB mebibytes, as it was at each mark, prints the mark on a line, and goes on when it has read a line.
At the end of the log it exits with status 0. The format is that of the kernel's drivers/md/dm-log-writes.c: a
super block, then entries of one sector each, followed by the data of writes; a mark's name is in the entry itself.
"""
import os
import struct
import sys

MAGIC = 0x6A736677736872
DISCARD, MARK = 1 << 2, 1 << 3


def main():
    log_path, disk_path, mib = sys.argv[1:4]
    log = open(log_path, "rb")
    magic, version, entries, sector_bytes = struct.unpack("<QQQI", log.read(28))
    if (magic, version) != (MAGIC, 1):
        sys.exit(f"{log_path}: not a log of dm-log-writes")
    disk = os.open(disk_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.ftruncate(disk, int(mib) << 20)
    log.seek(sector_bytes)
    for _ in range(entries):
        entry = log.read(sector_bytes)
        sector, sectors, flags, name_bytes = struct.unpack_from("<QQQQ", entry)
        if flags & MARK:
            print(entry[32 : 32 + name_bytes].split(b"\0")[0].decode(), flush=True)
            if not sys.stdin.readline():
                return
        elif flags & DISCARD:
            # What a discard leaves is undefined: this leaves what nobody may rely on.
            os.pwrite(disk, b"\xdb" * (sectors * sector_bytes), sector * sector_bytes)
        elif sectors:
            os.pwrite(disk, log.read(sectors * sector_bytes), sector * sector_bytes)


main()
