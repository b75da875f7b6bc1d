# SPDX-License-Identifier: GPL-2.0-or-later
"""copy.py ADDRESS copies|label TEXT|labelled TEXT: EXTENDED COPY between the disks that a session sees and those that it
does not, and identifying information."""

import select
import struct
import sys
import time

from initiator import Connection, keys

IQN = "iqn.2026-11.com.example.ptgt:test"
GOOD, CHECK = 0, 2
COPY_ABORTED, DATA_PROTECT = 10, 7
UNREACHABLE, THIRD_PARTY = 0x0D02, 0x0D01
FILE, RAM = 0, 1
ITSELF = 0xFFFF


class Initiator(Connection):
    def __init__(self, address, number, target=IQN, luns=(FILE, RAM)):
        super().__init__(address, timeout=30)
        name = f"iqn.2026-11.com.example:copier{number}"
        text = keys(InitiatorName=name, SessionType="Normal", TargetName=target)
        self.session(target, text=text, isid=struct.pack(">IH", 0x80000000, number))
        for lun in luns:
            while self.run(bytes(6), lun)[0] == CHECK:
                pass

    def name(self, lun):
        """The NAA designator of a disk."""
        data = self.run(bytes([0x12, 1, 0x83, 4, 0, 0]), lun, room=1024)[1]
        at = 4
        while data[at + 1] & 0x3F != 3:
            at += 4 + data[at + 3]
        return data[at + 4 : at + 4 + data[at + 3]]

    def fill(self, lun, lba, blocks, seed):
        for at in range(0, blocks, 16):
            self.write(lun, lba + at, pattern(lba + at, min(16, blocks - at), seed))

    @staticmethod
    def list(names, segments, identifier=1):
        """The CDB and the parameter list; segments: source, destination, blocks, from, to."""
        targets = b"".join(
            bytes([0xE4, 0, 0, 0, 1, 3, 0, len(name)]) + name.ljust(20, b"\0") + struct.pack(">I", 512) for name in names
        )
        copies = b"".join(
            struct.pack(">BBHHHHHQQ", 2, 0, 24, source, destination, 0, blocks, at, to)
            for source, destination, blocks, at, to in segments
        )
        data = struct.pack(">BBHIII", identifier, 0, len(targets), 0, len(copies), 0) + targets + copies
        return bytes([0x83]).ljust(10, b"\0") + struct.pack(">IBB", len(data), 0, 0), data

    def copy(self, lun, names, segments):
        """Copies, and answers key and code, or None."""
        cdb, data = self.list(names, segments)
        status, _, sense = self.run(cdb, lun, data)
        assert status in (GOOD, CHECK), status
        return sense and sense[:2]

    def results(self, lun, action, identifier=1):
        cdb = bytes([0x84, action, identifier]).ljust(10, b"\0") + struct.pack(">IBB", 512, 0, 0)
        return self.run(cdb, lun, room=512)[0:2]

    def reserve(self, lun, action, kind, key, action_key=0):
        cdb = struct.pack(">BBBHIB", 0x5F, action, kind, 0, 24, 0)
        assert self.run(cdb, lun, struct.pack(">QQIBBH", key, action_key, 0, 0, 0, 0))[0] == GOOD


def pattern(lba, blocks, seed):
    return b"".join(struct.pack(">QQ", seed, at).ljust(512, bytes([at % 251 + 1])) for at in range(lba, lba + blocks))


def copies(address):
    one, two = Initiator(address, 1), Initiator(address, 2)
    hidden = Initiator(address, 3, IQN + "-hidden", (0,))
    file, ram, other = one.name(FILE), one.name(RAM), hidden.name(0)
    assert len({file, ram, other}) == 3

    one.fill(FILE, 0, 256, 7)
    # From disk to disk, asked for at either, and within one; the blocks of each are there when the status is.
    assert one.copy(FILE, [file, ram], [(0, 1, 256, 0, 5000)]) is None
    assert one.copy(RAM, [ram], [(0, ITSELF, 256, 5000, 9000), (ITSELF, 0, 1, 5000, 20000)]) is None
    for lba in range(0, 256, 64):
        for start in (5000, 9000):
            assert two.read(RAM, start + lba, 64) == pattern(lba, 64, 7), (start, lba)
    assert two.read(RAM, 20000, 1) == pattern(0, 1, 7)
    status, data = one.results(RAM, 0)
    assert (status, data[4], struct.unpack(">HBI", data[5:12])) == (GOOD, 1, (2, 0, 257 * 512)), data.hex()
    assert two.results(RAM, 0)[0] == CHECK, "another initiator's identifier"

    # Long ones leave room for others: a reactor never stays with one of them.
    cdb, data = one.list([file, ram], [(1, 1, 65535, 0, 65536 * i) for i in range(1, 7)] * 10)
    begin, worst, asked = time.monotonic(), 0.0, 0
    itt = one.command(cdb, FILE, 0xA0, len(data), data)
    while not select.select([one.socket], [], [], 0)[0]:
        at = time.monotonic()
        assert two.ready(RAM) == GOOD
        worst, asked = max(worst, time.monotonic() - at), asked + 1
    assert one.finish(itt)[0] == GOOD
    took = time.monotonic() - begin
    print(f"{60 * 65535 // 2048} MiB in {took:.2f} s; meanwhile {asked} commands of another, the slowest {worst:.3f} s")
    # A copy that stays with its reactor keeps one command waiting for all of it.
    assert asked > 2 and worst < 0.75 * took, "others wait for a copy"
    assert two.read(RAM, 65536 * 6 + 5000, 64) == pattern(0, 64, 7)

    # A disk that the session does not see is not there for it, whatever it knows.
    assert one.copy(FILE, [file, other], [(0, 1, 1, 0, 0)]) == (COPY_ABORTED, UNREACHABLE)
    assert hidden.copy(0, [file], [(0, ITSELF, 1, 0, 0)]) == (COPY_ABORTED, UNREACHABLE)
    status, data = one.results(FILE, 4)
    assert status == GOOD and data[56] == 2 and data[60 + 2] & 15 == COPY_ABORTED, data.hex()

    # What another has reserved: written by nobody else, read by nobody else.
    there, back = [(0, 1, 1, 0, 0)], [(1, 0, 1, 0, 0)]
    two.reserve(RAM, 6, 0, 0, 0x77)
    for kind, reads in ((1, None), (3, (COPY_ABORTED, THIRD_PARTY))):
        two.reserve(RAM, 1, kind, 0x77)
        assert one.copy(FILE, [file, ram], there) == (COPY_ABORTED, THIRD_PARTY), kind
        assert one.copy(FILE, [file, ram], back) == reads, kind
        assert two.copy(FILE, [file, ram], there) is None, "the holder"
        two.reserve(RAM, 2, kind, 0x77)
    two.reserve(RAM, 3, 0, 0x77)
    assert one.copy(FILE, [file, ram], there) is None

    # Write protection, by a mode page of the other disk.
    page = bytearray(two.run(bytes([0x1A, 8, 0x0A, 0, 255, 0]), RAM, room=255)[1][4:])
    page[0] &= 0x3F
    for protected in (True, False):
        page[4] = page[4] & ~8 | (8 if protected else 0)
        assert two.run(bytes([0x15, 0x10, 0, 0, 4 + len(page), 0]), RAM, bytes(4) + page)[0] == GOOD
        assert one.copy(FILE, [file, ram], there) == ((COPY_ABORTED, THIRD_PARTY) if protected else None)
        assert one.copy(FILE, [file, ram], back) is None


def label(address, text):
    one = Initiator(address, 1)
    cdb = bytes([0xA4, 6, 0, 0, 0, 0]) + struct.pack(">IBB", len(text), 0, 0)
    assert one.run(cdb, FILE, text.encode())[0] == GOOD


def labelled(address, text):
    one = Initiator(address, 2)
    status, data, _ = one.run(bytes([0xA3, 5, 0, 0, 0, 0]) + struct.pack(">IBB", 512, 0, 0), FILE, room=512)
    assert (status, data[4:]) == (GOOD, text.encode()), data


{"copies": copies, "label": label, "labelled": labelled}[sys.argv[2]](sys.argv[1], *sys.argv[3:])
