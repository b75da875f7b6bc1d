#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# serial.sh [ROUNDS]
#
# What a tape drive costs a disk of another reactor: reads of 4 KiB, queue depth 32, by one session of reactor 0, while two
# sessions of reactor 1, which owns the drive, write records of 8 KiB; and for comparison while they write as much to a second
# disk, or nothing. Windows of a second in an order drawn anew for each round; medians of 16 rounds. The processor time is
# that of reactor 0. Needs root and two processors.
case ${1:-} in -h | --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
. "$(dirname "$0")/../ci/lib.sh"
use_port kernel
rounds=${1:-16}
[ "$(nproc)" -ge 2 ] || { echo "needs two processors"; exit 77; }
mkdir images
mount -t tmpfs none images
truncate -s 1G images/tape
cat >test.toml <<EOF
daemon = { reactors = [0, 1], memory = "32MiB", hugepages = "never" }
port = [{ name = "net", driver = "kernel" }]
portal = [{ name = "l", port = "net", address = "127.0.0.1:3260" }]
disk = [{ name = "d", store = "ram", size = "64MiB" }, { name = "e", store = "ram", size = "64MiB" }]
tape = [{ name = "t", store = "file", path = "$PWD/images/tape" }]
target = [{ name = "$iqn", luns = [{ lun = 0, unit = "d" }, { lun = 1, unit = "t" }, { lun = 2, unit = "e" }] }]
EOF
"$PTGT" run --config test.toml >target.log 2>&1 &
target_pid=$!
until_true 10 "$PTGT" status >/dev/null || die "the daemon does not start"

cat >serial.py <<'EOF'
import json, random, statistics, subprocess, sys, threading, time
sys.path.insert(0, sys.argv[1])
from initiator import Connection
ptgt, iqn, pid, rounds = sys.argv[2:5] + [int(sys.argv[5])]
NOTHING, TAPE, DISK = range(3)

def status():
    return json.loads(subprocess.run([ptgt, "status", "--json"], capture_output=True, check=True).stdout)

def processor_time():
    return int(open(f"/proc/{pid}/task/{reactor}/schedstat").read().split()[0]) / 1000

tasks = subprocess.run(["ls", f"/proc/{pid}/task"], capture_output=True, text=True).stdout.split()
reactor = next(task for task in tasks if open(f"/proc/{pid}/task/{task}/comm").read() == "reactor-0\n")
sessions = [Connection("127.0.0.1", 60).session(iqn) for _ in range(4)]
for session in sessions:
    for lun in (0, 1, 2):
        while session.run(bytes(6), lun)[0]:
            pass
on = {it["connections"][0]["peer"].rsplit(":", 1)[1]: it["reactor"] for it in status()["sessions"]}
writers = [it for it in sessions if on[str(it.socket.getsockname()[1])] == 1]
[it.close() for it in sessions if it not in writers]
time.sleep(1)
mode, written = NOTHING, 0

def write(session, number):
    global written
    while mode is not None:
        began = time.time()
        if mode == TAPE:
            status, _, sense = session.run(b"\x0a\0" + (8192).to_bytes(3, "big") + b"\0", 1, bytes(8192))
            if status:
                # The end of the tape: from the beginning.
                session.run(b"\x01" + bytes(5), 1)
        elif mode == DISK:
            session.run(b"\x2a\0" + (number * 16).to_bytes(4, "big") + b"\0\0\x10\0", 2, bytes(8192))
        written += mode != NOTHING
        time.sleep(max(0, began + 0.002 - time.time()))

load = subprocess.Popen([ptgt, "bench", f"iscsi://127.0.0.1/{iqn}/0", "--seconds", str(5 * rounds + 10), "--quiet"],
                        stdout=subprocess.DEVNULL)
time.sleep(2)
assert sorted(it["reactor"] for it in status()["sessions"]) == [0, 1, 1], "sessions are elsewhere"
threads = [threading.Thread(target=write, args=it) for it in zip(writers, range(2))]
[it.start() for it in threads]
seen = {it: [] for it in (NOTHING, TAPE, DISK)}
look = lambda: (status()["disks"][0]["counters"]["reads"], processor_time(), written, time.time())
for _ in range(rounds):
    for mode in random.sample(list(seen), 3):
        time.sleep(0.15)
        before = look()
        time.sleep(1)
        reads, spent, others, seconds = [new - old for old, new in zip(before, look())]
        seen[mode].append((reads / seconds, spent / reads, others / seconds))
mode = None
load.kill()
[it.join() for it in threads]
for name, mode in (("alone", NOTHING), ("beside the tape drive", TAPE), ("beside the second disk", DISK)):
    rate, spent, others = [statistics.median(it) for it in zip(*seen[mode])]
    share = statistics.median(now[0] / alone[0] for alone, now in zip(seen[NOTHING], seen[mode]))
    print(f"{name}: {rate:.0f} reads/s, {share:.3f} of those alone (median of the rounds), {spent:.2f} us of reactor 0 for each; "
          f"{others:.0f} writes/s")
EOF
python3 serial.py "$root/ci/system" "$PTGT" "$iqn" "$target_pid" "$rounds"
