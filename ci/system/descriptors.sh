#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# descriptors.sh: a daemon on kernel sockets that has no descriptors left: it rests, says so once, and goes on when there are
# some again.
. "$(dirname "$0")/../lib.sh"
use_port kernel
configuration test.toml
start test.toml
prlimit --pid "$target_pid" --nofile=64:64
python3 -B - "$root" "$host" "$iqn" "$target_pid" <<'PYTHON'
import sys, time

root, address, target, pid = sys.argv[1:]
sys.path.append(f"{root}/ci/system")
from initiator import Connection


def seconds():
    """Processor time of the daemon."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


# Its backlog takes more than it can.
connections = [Connection(address) for _ in range(150)]
time.sleep(0.3)
before = seconds()
time.sleep(1.5)
used = seconds() - before
print(f"{used:.2f} s of processor time in 1.5 s with {len(connections)} connections")
assert used < 0.5, "it spins"
for connection in connections:
    connection.close()
began = time.monotonic()
with Connection(address, 5) as connection:
    connection.session(target)
print(f"a login takes {time.monotonic() - began:.2f} s when they are gone")
assert time.monotonic() - began < 2
PYTHON
told=$(grep -c "cannot accept more connections at the moment: .*open files" target.log || true)
[ "$told" = 1 ] || die "the log tells of it $told times"
stop TERM 20 0
