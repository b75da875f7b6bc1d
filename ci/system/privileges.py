# SPDX-License-Identifier: GPL-2.0-or-later
"""privileges.py threads PID MASK: all threads have these capabilities, in hexadecimal, and no way to gain others.
privileges.py dump PID SECRET...: what a core dump of the process would hold, and what it leaves out.
privileges.py register ADDRESS IQN: a registration that has to survive a restart (APTPL)."""

import glob
import re
import struct
import sys

from initiator import Connection


def threads(pid, mask):
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path) as file:
            status = dict(re.findall(r"^(\w+):\s*(.*)$", file.read(), re.M))
        # The thread that writes the log needs none.
        wanted = 0 if status["Name"] == "log" else int(mask, 16)
        for key in "CapPrm", "CapEff", "CapBnd":
            assert int(status[key], 16) == wanted, f"{status['Name']}: {key} {status[key]}, wanted {wanted:016x}"
        for key in "CapInh", "CapAmb":
            assert int(status[key], 16) == 0, f"{status['Name']}: {key} {status[key]}"
        assert status["NoNewPrivs"] == "1", f"{status['Name']}: may gain privileges"


def mappings(pid):
    """Address, end and flags of each mapping that can be read."""
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            if place := re.match(r"([0-9a-f]+)-([0-9a-f]+) (....)", line):
                begin, end = (int(number, 16) for number in place.groups()[:2])
                readable = place[3][0] == "r"
            elif line.startswith("VmFlags:") and readable and "[v" not in line:
                yield begin, end, line.split()[1:]


def dump(pid, *secrets):
    secrets = [secret.encode() for secret in secrets]
    hidden = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for begin, end, flags in mappings(pid):
            if "io" in flags:
                continue
            try:
                memory.seek(begin)
                data = memory.read(end - begin)
            except (OSError, OverflowError):
                continue  # The kernel's own pages.
            for secret in secrets:
                found = data.count(secret)
                if "dd" in flags:
                    hidden += found
                else:
                    assert not found, f"{secret} is in a core dump, at {begin + data.find(secret):x} ({' '.join(flags)})"
    assert hidden >= len(secrets), f"{hidden} secrets found: this test finds nothing"


def register(address, iqn):
    with Connection(address).session(iqn) as c:
        while c.ready(0) != 0:
            pass
        parameters = struct.pack(">QQIBBH", 0, 7, 0, 1, 0, 0)
        status = c.finish(c.command(b"\x5f\0\0\0\0\0\0\0\x18\0", 0, 0xA0, 24, parameters))[0]
        assert status == 0, status


{"threads": threads, "dump": dump, "register": register}[sys.argv[1]](*sys.argv[2:])
