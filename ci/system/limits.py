# SPDX-License-Identifier: GPL-2.0-or-later
"""limits.py ADDRESS TARGET LUN: LUN 2 takes half a second for each read. Whatever the command window admits is served, however late the answers are read."""

import itertools
import struct
import sys
import threading
import time

from initiator import (IMMEDIATE, NOP_IN, NOP_OUT, NO_TAG, R2T, RESPONSE, TASK, TASK_DONE, Connection, bhs, keys)

ADDRESS, TARGET, LUN, SLOW = sys.argv[1], sys.argv[2], int(sys.argv[3]), 2
MIB = 1 << 20
WINDOW = 128


NAMES = (f"iqn.2026-11.com.example:limits-{n}" for n in itertools.count())


def session(name=None, **more):
    """A session with the whole window, as its initiator is another each time, or the one that is named."""
    c = Connection(ADDRESS, timeout=20)
    c.login(TARGET, text=keys(InitiatorName=name or next(NAMES), SessionType="Normal", TargetName=TARGET, **more))
    answer = c.receive()
    assert answer.status == 0, hex(answer.status)
    for lun in LUN, SLOW:
        c.ready(lun)  # What it says is that the session is new.
    c.max_cmd_sn = window_end(answer) + 2
    assert name or c.max_cmd_sn - c.cmd_sn == WINDOW - 1
    return c


def window_end(pdu):
    return struct.unpack(">I", pdu.head[32:36])[0]


def has_room(c):
    return (c.max_cmd_sn - c.cmd_sn) & 0xFFFFFFFF < 1 << 31


def request(c, opcode, flags, rest=b"", data=b"", lun=0, referenced=NO_TAG):
    """A request, as bytes; one that is not immediate takes its place in the order."""
    c.itt += 1
    rest = struct.pack(">III", referenced, c.cmd_sn, c.stat_sn + 1) + rest
    head = bhs(opcode, flags, len(data), lun, c.itt, rest=rest)
    c.cmd_sn += 0 if opcode & IMMEDIATE else 1
    return head + data


def answers(c, opcode, count):
    got = []
    while len(got) < count:
        pdu = c.receive()
        if pdu.opcode == NOP_IN and pdu.itt == NO_TAG:
            continue
        assert pdu.opcode == opcode, f"opcode {pdu.opcode:#x} after {len(got)} answers of {count}"
        got.append(pdu)
    return got


def aborts():
    """Of tasks under way, and of tasks that are not there."""
    for immediate, tasks, count in ((0, 32, 32), (IMMEDIATE, 32, 32), (IMMEDIATE, WINDOW, WINDOW), (IMMEDIATE, 0, 100),
                                    (0, 0, 100)):
        with session() as c:
            begun = []
            for _ in range(tasks):
                begun.append((c.cmd_sn, c.command(struct.pack(">BBIBHB", 0x28, 0, 0, 0, 1, 0), SLOW, 0xC0, 512)))
            burst = b""
            for cmd_sn, itt in begun or [(c.cmd_sn - 1, NO_TAG)] * count:
                burst += request(c, TASK | immediate, 0x81, struct.pack(">I", cmd_sn), lun=SLOW, referenced=itt)
            c.socket.sendall(burst)
            responses = {pdu.head[2] for pdu in answers(c, TASK_DONE, count)}
            assert responses == ({0} if tasks else {1}), f"{count} ABORT TASKs were answered with {responses}"
            assert c.ready(LUN) == 0


def pings():
    for opcode, count, size in ((NOP_OUT, 65, 0), (NOP_OUT, WINDOW, 8192), (NOP_OUT | IMMEDIATE, 300, 0),
                                (NOP_OUT | IMMEDIATE, 300, 8192), (NOP_OUT, WINDOW, 1 << 18)):
        with session(MaxRecvDataSegmentLength=1 << 18) as c:
            burst = b"".join(request(c, opcode, 0x80, data=bytes([n & 255]) * size) for n in range(count))
            # Sent as it is taken; the answers are read late.
            sender = threading.Thread(target=c.socket.sendall, args=(burst,))
            sender.start()
            time.sleep(0.3)
            for n, pdu in enumerate(answers(c, NOP_IN, count)):
                assert pdu.data == bytes([n & 255]) * size, f"ping {n} comes back with something else"
            sender.join()
            assert c.ready(LUN) == 0


class Writer(threading.Thread):
    """A session that writes as much as it may at once."""

    # Long enough for the threads here to have their turns.
    COUNT = 600

    def __init__(self):
        super().__init__()
        self.done, self.failed, self.others = 0, None, None

    def run(self):
        try:
            with session("iqn.2026-11.com.example:one", InitialR2T="No", MaxBurstLength=MIB, FirstBurstLength=1 << 16) as c:
                TOGETHER.wait()
                self.write(c)
        except BaseException as error:
            self.failed = error

    def write(self, c):
        sent, data = 0, bytes(1 << 18)
        while self.done < self.COUNT:
            while sent < self.COUNT and has_room(c):
                c.command(struct.pack(">BBIBHB", 0x2A, 0, sent % 64 * 2048, 0, 2048, 0), LUN, 0xA0, MIB)
                sent += 1
            pdu = c.receive()
            c.max_cmd_sn = window_end(pdu)
            if pdu.opcode == R2T:
                offset, length = struct.unpack(">II", pdu.head[40:48])
                for at in range(0, length, len(data)):
                    part = min(len(data), length - at)
                    c.data_out(pdu.itt, pdu.ttt, data[:part], at // len(data), offset + at, 0x80 if at + part == length else 0)
            elif pdu.opcode == RESPONSE:
                assert pdu.scsi_status == 0, f"status {pdu.scsi_status:#x} after {self.done} writes"
                self.done += 1
            else:
                assert pdu.opcode == NOP_IN, f"opcode {pdu.opcode:#x}"
        self.others = [other.done for other in WRITERS if other is not self]


def writes():
    for writer in WRITERS:
        writer.start()
    for writer in WRITERS:
        writer.join()
        if writer.failed:
            raise writer.failed
    # When the first has ended, all have got on.
    first = max((writer for writer in WRITERS), key=lambda writer: sum(writer.others) * -1)
    print(f"  when the first session has written {Writer.COUNT} MiB, the others have {first.others}", flush=True)
    assert min(first.others) >= Writer.COUNT // 10, "the sessions do not share what there is"


WRITERS = [Writer() for _ in range(3)]
TOGETHER = threading.Barrier(len(WRITERS), timeout=20)
for test in (aborts, pings, writes):
    began = time.monotonic()
    test()
    print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)
