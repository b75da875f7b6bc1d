#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# sharing.sh [--print]
#
# Counts which cache lines two cores that serve one disk share for a command: a shard in each of two threads (ptgt bench
# --in-process tcp --threads 2 --take-turns), with TCP/IP over frames in memory, under valgrind's lackey, which tells every
# access to memory. The threads take turns, so the run is always the same. Of each, two turns are its start, and those
# counted its steady state. A line of 64 bytes is shared if one core writes it in the steady state and the other touches
# it there. Not counted are the blocks of the disk itself, which initiators write. Prints how often shared lines are
# accessed per 1000 commands of 4 KiB on a disk in memory, half of them READs and half WRITEs, from where in the code, and
# fails if that is ever; --print does it for READs and for WRITEs, and tells how many lines each uses.
#
# What the kernel does for a port is in no count: the port is memory. The load's own accesses are in it.
set -eu -o pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
PTGT=${PTGT:-$root/target/release/ptgt}
print=
case ${1:-} in
  '') ;;
  --print) print=1 ;;
  -h | --help) sed -n '3,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "sharing.sh: see --help" >&2; exit 2 ;;
esac
command -v valgrind >/dev/null || { echo "needs valgrind: ci/setup.sh perf"; exit 77; }
[ -x "$PTGT" ] || { echo "no $PTGT: cargo build --release"; exit 1; }
work=$(mktemp -d -t ptgt-perf.XXXXXX)
lines=$(mktemp -d /dev/shm/ptgt-perf.XXXXXX)
trap 'rm -rf "$work" "$lines"' EXIT

# Operations of a turn, and turns of both cores: what they warm up in, in which all blocks are written, and what is counted.
turn=16 warm=4 counted=6

# Accesses within the counted turns: core, kind, address and bytes, instruction, how often.
cat >"$work/turns.awk" <<'AWK'
function number(hex,  i, n) {
  n = 0
  for (i = 3; i <= length(hex); i++) n = n * 16 + index("0123456789abcdef", substr(hex, i, 1)) - 1
  return n
}
/^I/ { instruction = $2; next }
/^marks/ {
  at = number(substr($3, 1, length($3) - 1))
  for (core = 0; core < 2; core++) {
    begin[sprintf("%08x,8", at + core * $4)] = core + 1
    end[sprintf("%08x,8", at + core * $4 + 8)] = core + 1
  }
  print
  next
}
/^==/ { next }
$2 in begin { running = begin[$2]; next }
$2 in end {
  if (running) turns++
  running = 0
  next
}
running && turns >= warm && turns < warm + counted { seen[running " " $1 " " $2 " " instruction]++ }
END {
  print "turns " turns + 0
  for (access in seen) print access, seen[access]
}
AWK

# lackey writes line by line, so to memory. memcpy by "rep movsb" would take three lines for a byte.
export GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824
trace() { # NAME READS
  valgrind -q --tool=lackey --trace-mem=yes --log-file="$lines/$1" "$PTGT" bench --in-process tcp --threads 2 --connections 2 \
    --depth 8 --reads "$2" --pattern sequential --range 16KiB --count $((turn * (warm + counted + 4))) --virtual-clock --take-turns $turn --quiet \
    >"$work/$1.out" 2>&1 || { cat "$work/$1.out"; return 1; }
  grep -h ^marks "$work/$1.out" | awk -v warm=$warm -v counted=$counted -f "$work/turns.awk" - "$lines/$1" >"$work/$1"
  rm "$lines/$1"
}
if [ -n "$print" ]; then
  trace READs 100 &
  trace WRITEs 0
  wait $!
else
  trace commands 50
fi

python3 - "$work" "$PTGT" $((turn * counted)) $((warm + counted)) "$print" <<'PYTHON'
import bisect, collections, subprocess, sys

work, binary, tell = sys.argv[1], sys.argv[2], sys.argv[5]
operations, turns = int(sys.argv[3]), int(sys.argv[4])
LINE = 64

symbols = []
for line in subprocess.run(["nm", "-C", binary], capture_output=True, text=True, check=True).stdout.splitlines():
    address, kind, name = (line.split(" ", 2) + ["", ""])[:3]
    if address and kind in "tTwWdDbBrR":
        symbols.append((int(address, 16), name))
symbols.sort()
addresses = [address for address, _ in symbols]
marks = next(address for address, name in symbols if name.endswith("inprocess::cores::MARKS"))


def place(address, base):
    """The symbol at an address of the process."""
    at = bisect.bisect(addresses, address - base) - 1
    inside = 0 <= address - base < addresses[-1] + 0x1000
    return symbols[at][1] if inside and at >= 0 else "the heap or a library"


wrong = False
for name in ("READs", "WRITEs") if tell else ("commands",):
    rows = open(f"{work}/{name}").read().splitlines()
    if not rows[1:] or int(rows[1].split()[1]) < turns:
        sys.exit(f"the trace of {name} does not have {turns} turns: {rows[:2]}")
    words = rows[0].replace(",", "").replace(";", "").split()
    base = int(words[2], 16) - marks
    disk = int(words[8], 16)
    disk = range(disk, disk + int(words[9]))
    # By line: who writes it and who touches it, and from where.
    users, writers = collections.defaultdict(set), collections.defaultdict(set)
    uses = collections.defaultdict(collections.Counter)
    for row in rows[2:]:
        core, kind, where, instruction, times = row.split()
        address, size = int(where.split(",")[0], 16), int(where.split(",")[1])
        if address in disk:
            continue
        for line in range(address // LINE, (address + size - 1) // LINE + 1):
            users[line].add(core)
            if kind != "L":
                writers[line].add(core)
            uses[line][core, kind, int(instruction.split(",")[0], 16)] += int(times)
    if len(set().union(*users.values())) != 2:
        sys.exit(f"the trace of {name} does not have two cores")
    shared = [line for line in users if writers[line] and len(users[line]) > 1]
    accesses = sum(sum(uses[line].values()) for line in shared)
    if tell:
        both = sum(len(cores) > 1 for cores in users.values())
        print(f"{name}: {len(users)} lines used, {sum(map(bool, writers.values()))} written, {both} read by both cores")
    print(f"{accesses * 1000 / operations:.0f} accesses to {len(shared)} shared lines per 1000 {name}")
    for line in shared[:20]:
        wrong = True
        print(f"  line {line * LINE:#x}, in {place(line * LINE, base)}:")
        places = collections.Counter()
        for (core, kind, instruction), times in uses[line].items():
            verb = {"L": "reads", "S": "writes", "M": "changes"}[kind]
            places[core, f"core {core} {verb} it {{}} times in {place(instruction, base)}"] += times
        for core in sorted(users[line]):
            for (_, text), times in [it for it in places.most_common() if it[0][0] == core][:4]:
                print("    " + text.format(times))
sys.exit(wrong)
PYTHON
