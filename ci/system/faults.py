# SPDX-License-Identifier: GPL-2.0-or-later
"""faults.py ADDRESS faults|save WCE [unsaved]|saved WCE|write|grown FILE [DEVICE]: an initiator that looks at sense data, at the clock
and at mode pages. With DEVICE, FILE is what is behind that loop device, which is LUN 2."""

import os
import struct
import subprocess
import sys
import time

from initiator import Connection, keys

IQN = "iqn.2026-11.com.example.ptgt:test"
GOOD, CHECK, CONDITION_MET, BUSY, TASK_SET_FULL, ACA_ACTIVE = 0, 2, 4, 8, 0x28, 0x30
MEDIUM_ERROR, ILLEGAL_REQUEST, UNIT_ATTENTION, DATA_PROTECT, ABORTED_COMMAND = 3, 5, 6, 7, 0xB
FILE, RAM, DEVICE = 0, 1, 2


class Initiator(Connection):
    def __init__(self, address, number=1, luns=(FILE, RAM)):
        super().__init__(address, timeout=20)
        name = f"iqn.2026-11.com.example:faults{number}"
        text = keys(InitiatorName=name, SessionType="Normal", TargetName=IQN)
        self.session(IQN, text=text, isid=struct.pack(">IH", 0x80000000, number))
        for lun in luns:
            while (answer := self.run(lun, bytes(6)))[0] == CHECK:
                assert answer[2][0] == UNIT_ATTENTION, answer

    def run(self, lun, cdb, data=b"", room=0):
        return super().run(cdb, lun, data, room)

    def block(self, opcode, lun, lba, blocks=1, control=0):
        cdb = struct.pack(">BBIBHB", opcode, 0, lba, 0, blocks, control)
        return self.run(lun, cdb, bytes(512 * blocks) if opcode == 0x2A else b"", 512 * blocks if opcode == 0x28 else 0)

    def reads(self, lba, blocks=1):
        return self.block(0x28, RAM, lba, blocks)[0::2]

    def writes(self, lba, blocks=1):
        return self.block(0x2A, RAM, lba, blocks)[0::2]

    def page(self, lun, control, code):
        status, data, _ = self.run(lun, bytes([0x1A, 8, control << 6 | code, 0, 255, 0]), room=255)
        assert status == GOOD, f"MODE SENSE: status {status}"
        return bytearray(data[4:])

    def select(self, lun, page, save):
        page = bytes([page[0] & 0x7F]) + bytes(page[1:])
        status, _, sense = self.run(lun, bytes([0x15, 0x10 | save, 0, 0, 4 + len(page), 0]), bytes(4) + page)
        assert status == GOOD, f"MODE SELECT: status {status}, sense {sense}"


def faults(address):
    one = Initiator(address)
    bad = lambda code, lba: (CHECK, (MEDIUM_ERROR, code, lba))
    assert one.reads(100) == bad(0x1100, 100) and one.reads(90, 20) == bad(0x1100, 100)
    assert one.writes(100) == bad(0x0C00, 100) and one.writes(96, 8) == bad(0x0C00, 100)
    verify = struct.pack(">BBIBHB", 0x2F, 0, 99, 0, 4, 0)
    assert one.run(RAM, verify)[0::2] == bad(0x1100, 100)
    assert [one.reads(200)[0] for _ in range(5)] == [GOOD, CHECK, CHECK, GOOD, GOOD]
    assert one.writes(500) == (CHECK, (DATA_PROTECT, 0x2707, None))
    assert one.writes(600)[0] == BUSY
    # The shortest of five: a busy machine makes reads longer, and never shorter.
    times = []
    for lba in (299, 300, 399, 400):
        begin = [time.monotonic()]
        for _ in range(5):
            assert one.reads(lba)[0] == GOOD
            begin.append(time.monotonic())
        times.append(min(end - start for start, end in zip(begin, begin[1:])))
    assert times[0] < 0.1 and times[3] < 0.1, times
    assert 0.15 <= times[1] < 0.3 and 0.15 <= times[2] < 0.3, times
    failed = [lba for lba in range(1000, 1200) if one.reads(lba)[0] != GOOD]
    assert 10 <= len(failed) <= 45, len(failed)
    print("the lottery:", *failed)
    commands(one)
    aca(one)


def commands(one):
    """Faults by operation code and service action."""
    ended = lambda cdb, room=0: one.run(RAM, cdb, room=room)[0::2]
    fetch = struct.pack(">BBIBHB", 0x34, 0, 0, 0, 1, 0)
    aborted = (CHECK, (ABORTED_COMMAND, 0x4703, None))
    assert [ended(fetch) for _ in range(4)] == [(CONDITION_MET, None), aborted, aborted, (CONDITION_MET, None)]
    capacity = struct.pack(">BBQIBB", 0x9E, 0x10, 0, 32, 0, 0)
    begin = time.monotonic()
    assert ended(capacity, 32)[0] == GOOD
    assert time.monotonic() - begin >= 0.15
    # The operation code alone stands for both service actions.
    timestamp, information = (struct.pack(">BBIIBB", 0xA3, action, 0, 32, 0, 0) for action in (0x0F, 0x05))
    assert [ended(cdb, 32)[0] for cdb in (timestamp, timestamp, information, information)] == [GOOD, BUSY, BUSY, GOOD]
    verify = struct.pack(">BBQIBB", 0x8F, 0, 0, 1, 0, 0)
    full = [number for number in range(64) if ended(verify)[0] == TASK_SET_FULL]
    assert 4 <= len(full) <= 32, full
    print("the lottery of commands:", *full)


def aca(one):
    """A bad block in the middle of a queue: with NACA it holds the rest until CLEAR ACA."""
    assert one.block(0x28, RAM, 100, control=4)[0] == CHECK
    assert one.reads(0)[0] == ACA_ACTIVE, "the queue is held"
    assert Initiator(one.socket.getpeername()[0], 2).reads(0)[0] == GOOD, "that of another initiator is not"
    other = Initiator(one.socket.getpeername()[0], 1)
    assert other.reads(0)[0] == GOOD, "a new login of the same name is a new nexus"


def save(address, wce, unsaved=None):
    one, other = Initiator(address), Initiator(address, 2)
    page = one.page(FILE, 0, 0x08)
    assert page[0] & 0x80, "the page can be saved"
    before, page[2] = page[2], page[2] & ~4 | int(wce) << 2
    one.select(FILE, page, save=1)
    assert one.page(FILE, 3, 0x08)[2] == page[2]
    if page[2] != before:
        assert other.run(FILE, bytes(6))[2][:2] == (UNIT_ATTENTION, 0x2A01)
    if unsaved:
        # It is gone after the kill.
        control = one.page(FILE, 0, 0x0A)
        control[2] ^= 4
        one.select(FILE, control, save=0)


def saved(address, wce):
    one = Initiator(address)
    for control in (0, 3):
        assert one.page(FILE, control, 0x08)[2] & 4 == int(wce) << 2, "the saved write cache"
        assert one.page(FILE, control, 0x0A)[2] & 4 == 0, "the sense format that was not saved"
    assert one.page(FILE, 2, 0x08)[2] & 4 == 4, "the default"


def write(address):
    one = Initiator(address)
    for lba in range(64):
        assert one.block(0x2A, FILE, lba)[0] == GOOD


def grown(address, path, device=None):
    lun = DEVICE if device else FILE
    one, other = Initiator(address, 1, [lun]), Initiator(address, 2, [lun])
    capacity = lambda: struct.unpack(">I", one.run(lun, bytes([0x25] + [0] * 9), room=8)[1][:4])[0] + 1
    before = capacity()
    os.truncate(path, (before + 2048) * 512)
    if device:
        assert capacity() == before, "the device does not know yet"
        subprocess.run(["losetup", "-c", device], check=True)
    end = time.monotonic() + 10
    for initiator in (one, other):
        while (sense := initiator.run(lun, bytes(6))[2]) is None:
            assert time.monotonic() < end, "nobody is told"
            time.sleep(0.05)
        assert sense[:2] == (UNIT_ATTENTION, 0x2A09), sense
    assert capacity() == before + 2048
    last = struct.pack(">BBIBHB", 0x2A, 0, before + 2047, 0, 1, 0)
    assert one.run(lun, last, b"grown..." * 64)[0] == GOOD
    assert one.run(lun, struct.pack(">BBIBHB", 0x35, 0, 0, 0, 0, 0))[0] == GOOD, "SYNCHRONIZE CACHE"
    assert one.block(0x28, lun, before + 2047)[:2] == (GOOD, b"grown..." * 64)
    assert one.block(0x28, lun, before + 2048)[2][:2] == (ILLEGAL_REQUEST, 0x2100)
    with open(path, "rb") as file:
        file.seek((before + 2047) * 512)
        assert file.read() == b"grown..." * 64, "the new end is not in the file"


globals()[sys.argv[2]](sys.argv[1], *sys.argv[3:])
