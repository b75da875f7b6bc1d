# SPDX-License-Identifier: GPL-2.0-or-later
"""reservations.py hold|recall ADDRESS [SECOND]: initiators that register, reserve and move on until the target is killed
(hold), and that find what was acknowledged when it is back (recall)."""

import os
import struct
import subprocess
import sys

from initiator import Closed, Connection, keys

IQN = "iqn.2026-11.com.example.ptgt:test"
GOOD, CHECK, CONFLICT = 0, 2, 0x18
KEY, OTHER = 0x1000, 0x77
WRITE_EXCLUSIVE_REGISTRANTS = 5
TOLD = "acknowledged"


class Initiator(Connection):
    """One with a name of its own that is the same in every run."""

    def __init__(self, address, number):
        super().__init__(address, timeout=20)
        name = f"iqn.2026-11.com.example:holder{number}"
        text = keys(InitiatorName=name, SessionType="Normal", TargetName=IQN)
        self.session(IQN, text=text, isid=struct.pack(">IH", 0x80000000, number))
        while self.run(bytes(6))[0] == CHECK:
            pass

    def run(self, cdb, data=b"", room=0):
        """Answers status, data, and sense key with code."""
        status, got, sense = super().run(cdb, 0, data, room)
        return status, got, sense and sense[:2]

    def out(self, action, kind, key, action_key, aptpl=1):
        cdb = struct.pack(">BBBHIB", 0x5F, action, kind, 0, 24, 0)
        return self.run(cdb, struct.pack(">QQIBBH", key, action_key, 0, aptpl, 0, 0))[0]

    def keys(self):
        status, data, _ = self.run(struct.pack(">BBIBHB", 0x5E, 0, 0, 0, 1024, 0)[:10], room=1024)
        assert status == GOOD, f"READ KEYS: status {status:#x}"
        return [struct.unpack(">Q", data[at : at + 8])[0] for at in range(8, len(data), 8)]

    def write(self):
        return self.run(struct.pack(">BBIBHB", 0x2A, 0, 0, 0, 1, 0), bytes(512))[0]

    def read(self):
        return self.run(struct.pack(">BBIBHB", 0x28, 0, 0, 0, 1, 0), room=512)[0]


def hold(address, second):
    """Registers key after key, and tells each when it is acknowledged, until the target is gone."""
    one, two = Initiator(address, 1), Initiator(second, 2)
    assert one.out(6, 0, 0, KEY) == GOOD and two.out(6, 0, 0, OTHER) == GOOD
    assert one.out(1, WRITE_EXCLUSIVE_REGISTRANTS, KEY, 0) == GOOD
    assert two.write() == GOOD, "a registrant may write"
    key = KEY
    one.socket.settimeout(5)
    try:
        while True:
            with open(TOLD + ".new", "w") as told:
                told.write(str(key))
            os.rename(TOLD + ".new", TOLD)
            assert one.out(0, 0, key, key + 1) == GOOD
            key += 1
    except (Closed, TimeoutError):
        # A target with its own TCP does not even send a FIN.
        return


def recall(address, second):
    """After the kill: the reservation, and the last acknowledged key or the one after it."""
    known = int(open(TOLD).read())
    third = Initiator(second, 3)
    found = sorted(third.keys())
    assert found[0] == OTHER and found[1] in (known, known + 1) and len(found) == 2, (known, found)
    assert third.read() == GOOD and third.write() == CONFLICT, "the reservation is gone"
    one, two = Initiator(address, 1), Initiator(second, 2)
    assert one.write() == GOOD and two.write() == GOOD, "a registrant may write"
    assert third.out(6, 0, 0, 5) == GOOD and third.write() == GOOD
    # The two others lose their registrations on both reactors, and hear of it.
    assert third.out(5, WRITE_EXCLUSIVE_REGISTRANTS, 5, found[1]) == GOOD
    assert third.out(4, WRITE_EXCLUSIVE_REGISTRANTS, 5, OTHER) == GOOD
    assert one.write() == CONFLICT and two.write() == CONFLICT
    assert one.run(bytes(6))[2] == (6, 0x2A05) and two.run(bytes(6))[2] == (6, 0x2A05)
    assert one.run(bytes(6))[0] == GOOD
    groups(third, one)
    assert third.out(3, 0, 5, 0) == GOOD and third.keys() == []


def groups(one, two):
    """The operator puts the ports into standby and back."""
    for state, codes in (("standby", {(2, 0x040B)}), ("active/optimized", {None})):
        subprocess.run([os.environ["PTGT"], "port-group", "1", state], check=True)
        for initiator in (one, two):
            assert initiator.run(bytes(6))[2] == (6, 0x2A06), state
            assert {initiator.run(bytes(6))[2]} == codes, state
            report = initiator.run(struct.pack(">BBIIH", 0xA3, 0x0A, 0, 255, 0), room=255)[1]
            assert report[4] == (2 if state == "standby" else 0), report.hex()
    wrong = subprocess.run([os.environ["PTGT"], "port-group", "1", "asleep"], capture_output=True, text=True)
    assert wrong.returncode == 1 and "active/optimized" in wrong.stderr, wrong.stderr


{"hold": hold, "recall": recall}[sys.argv[1]](sys.argv[2], sys.argv[3])
