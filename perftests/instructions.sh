#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# instructions.sh [--update | --print]
#
# Counts under valgrind, in one process and without a wire (ptgt bench --in-process), what a READ and a WRITE cost each
# layer: instructions of the target's turns by callgrind, and bytes that were copied by dhat, which intercepts memcpy and
# its like. The instructions of memcpy itself are a column of their own and in no total: callgrind counts a "rep movsb" as
# one per byte. For stores other than memory only the bytes that are copied are counted: in the iscsi layer, which is what
# kernel sockets carry (the kernel's own copies are in no count), and over TCP, as a TAP device carries it. The layer dpdk adds
# the driver for DPDK's devices and the model of an adapter that offloads, dpdk-plain one that does not; what DPDK's own
# functions and the model take is a column. Compares with
# perftests/instructions.baseline and fails if anything costs more than 1 % more instructions, or copies more payload.
# --update writes the baseline anew, --print compares with nothing.
#
# Counts do not depend on the machine's load, but on the compiler: another one than the baseline's is told, and skipped.
set -eu -o pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
PTGT=${PTGT:-$root/target/release/ptgt}
baseline=$root/perftests/instructions.baseline
mode=compare
case ${1:-} in
  '') ;;
  --update | --print) mode=${1#--} ;;
  -h | --help) sed -n '3,16s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "instructions.sh: see --help" >&2; exit 2 ;;
esac
command -v valgrind >/dev/null || { echo "needs valgrind: ci/setup.sh perf"; exit 77; }
[ -x "$PTGT" ] || { echo "no $PTGT: cargo build --release"; exit 1; }
work=$(mktemp -d -t ptgt-perf.XXXXXX)
memory=$(mktemp -d /dev/shm/ptgt-perf.XXXXXX)
image=$memory/image
trap 'rm -rf "$work" "$memory"' EXIT
compiler=$(rustc --version | cut -d' ' -f1,2)

# Runs valgrind's TOOL over the operations of a case. Instructions are counted in turns under load only; the few bytes that
# a login copies are spread over all operations.
operations() { if [ "$1" -gt 65536 ]; then echo 200; else echo 1000; fi; } # BLOCK
run() { # TOOL LAYERS READS BLOCK STORE
  local tool=$1 layers=$2 reads=$3 block=$4 store=$5 count name options
  count=$(operations "$block")
  name=$work/$tool.$layers.$reads.$block.$store
  case $store in file | mapped) store=$store:$image ;; esac
  case $tool in
    callgrind) options="--toggle-collect=ptgt::bench::inprocess::*::turn*" ;;
    dhat) options="--mode=copy --num-callers=60" ;;
  esac
  # shellcheck disable=SC2086
  valgrind -q --tool="$tool" $options --"$tool"-out-file="$name" "$PTGT" bench --in-process "$layers" --store "$store" \
    --size 64MiB --reads "$reads" --block "$block" --depth 8 --count $count --virtual-clock --quiet >"$name.log" 2>&1 ||
    { cat "$name.log"; return 1; }
}

# Rows: layers, direction, block, store, what is counted if not everything.
cases='
scsi  read  4096   ram
scsi  write 4096   ram
iscsi read  4096   ram
iscsi write 4096   ram
tcp   read  4096   ram
tcp   write 4096   ram
tcp   read  262144 ram
tcp   write 262144 ram
dpdk  read  4096   ram
dpdk  write 4096   ram
dpdk  read  262144 ram
dpdk  write 262144 ram
dpdk-plain read 4096 ram
iscsi read  4096   null   copies
iscsi write 4096   null   copies
tcp   read  4096   null   copies
tcp   write 4096   null   copies
iscsi read  4096   file   copies
iscsi write 4096   file   copies
tcp   read  4096   file   copies
tcp   write 4096   file   copies
dpdk  write 262144 file   copies
iscsi read  4096   mapped copies
iscsi write 4096   mapped copies
tcp   read  4096   mapped copies
tcp   write 4096   mapped copies
'
while read -r layers direction block store only; do
  [ -n "$layers" ] || continue
  reads=100
  [ "$direction" = read ] || reads=0
  [ -n "$only" ] || run callgrind "$layers" $reads "$block" "$store" &
  run dhat "$layers" $reads "$block" "$store" || exit 1
  wait $! || exit 1
done <<<"$cases"

python3 - "$work" "$mode" "$baseline" "$compiler" "$cases" <<'PYTHON'
import collections, json, re, sys

work, mode, baseline, compiler, cases = sys.argv[1:]

# Copies of fewer bytes are headers and states, not payload.
PAYLOAD = 1024

# The rooms of src/, and what is behind them. Code that the compiler put into its caller counts as the caller's.
GROUPS = [("smoltcp", "smoltcp"), ("ptgt::net", "net"), ("ptgt::fabrics", "iscsi"), ("ptgt::engine", "engine"),
          ("ptgt::adapters", "engine"),
          ("ptgt::scsi", "devices"), ("ptgt::devices", "devices"), ("ptgt::stores", "stores"),
          ("ptgt::memory", "memory"), ("ptgt::time", "library"), ("ptgt::ports", "ports"), ("ptgt::bench", "bench"),
          ("ptgt_", "dpdk"), ("rte_", "dpdk"), ("eth_ring", "dpdk"), ("common_ring", "dpdk"), ("bucket_", "dpdk"),
          ("mem", "copy"), ("__mem", "copy")]


def group(name):
    # Impls are named by their type and trait, which comes first in the symbol.
    name = name.lstrip("<&")
    for prefix, room in GROUPS:
        if name.startswith(prefix):
            return room
    inner = re.search(r"ptgt::(\w+)", name)
    if inner and not name.startswith(("core::", "alloc::", "std::", "hashbrown", "smallvec", "slab")):
        rooms = dict((p.split("::")[1], r) for p, r in GROUPS if p.startswith("ptgt::"))
        return rooms.get(inner[1], "library")  # time, sys, wire: what all rooms use
    return "library"


def instructions(path):
    """Self cost of each function, from callgrind's output format."""
    names, costs, current, call = {}, collections.Counter(), None, False
    for line in open(path):
        line = line.rstrip("\n")
        if line.startswith("fn="):
            number, _, name = line[3:].partition(" ")
            if name:
                names[number] = name
            current = names[number]
        elif line.startswith(("cfn=", "fn=")):
            number, _, name = line[4:].partition(" ")
            if name:
                names[number] = name
        elif line.startswith("calls="):
            call = True
        elif line and (line[0].isdigit() or line[0] in "+-*"):
            if call:
                call = False
            else:
                costs[current] += int(line.split()[1])
    rooms = collections.Counter()
    for name, cost in costs.items():
        rooms[group(name)] += cost
    return rooms


def copied(path):
    """Bytes copied in the target's turns, payload and others, and where the former are, from dhat's JSON."""
    data = json.load(open(path))
    frames, payload, other, places = data["ftbl"], 0, 0, collections.Counter()
    for point in data["pps"]:
        stack = [re.sub(r"^0x[0-9A-F]+: ", "", frames[number]) for number in point["fs"]]
        if not any("Shard as ptgt::reactor::Poller>::turn" in f or "inprocess::scsi::turn" in f for f in stack):
            continue
        if point["tb"] / point["tbk"] >= PAYLOAD:
            payload += point["tb"]
            places[next(f for f in stack[1:] if "(library/" not in f)] += point["tb"]
        else:
            other += point["tb"]
    return payload, other, places


rows = {}
for case in cases.split("\n"):
    if not case.strip():
        continue
    layers, direction, block, store, *only = case.split()
    tail = f"{layers}.{100 if direction == 'read' else 0}.{block}.{store}"
    count = 200 if int(block) > 65536 else 1000
    counted = {} if only else instructions(f"{work}/callgrind.{tail}")
    rooms = {room: round(n / count) for room, n in counted.items()}
    payload, other, places = copied(f"{work}/dhat.{tail}")
    rooms["payload_copied"], rooms["others_copied"] = round(payload / count), round(other / count)
    if mode == "print":
        for place, n in places.most_common():
            print(f"{layers} {direction} {block} {store}: {n / count:.0f} bytes of payload copied by {place}")
    rows[f"{layers} {direction} {block} {store}"] = rooms

COLUMNS = ["total", "stores", "devices", "engine", "iscsi", "net", "smoltcp", "ports", "dpdk", "memory", "copy", "library",
           "payload_copied", "others_copied"]
for rooms in rows.values():
    if len(rooms) == 2:  # bytes only
        rooms.update({room: "-" for room in COLUMNS if not room.endswith("_copied")})
        continue
    rooms["total"] = sum(n for room, n in rooms.items() if room != "copy" and not room.endswith("_copied"))

text = [f"# Written by instructions.sh --update with {compiler}: instructions and bytes copied per operation.",
        "layers direction block store " + " ".join(COLUMNS)]
text += [name + " " + " ".join(str(rooms.get(c, 0)) for c in COLUMNS) for name, rooms in rows.items()]
cells = [line.split() for line in text[1:]]
widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
table = [text[0]] + ["  ".join(c.rjust(w) if i > 3 else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))) for row in cells]
print("\n".join(table))
if mode == "update":
    open(baseline, "w").write("\n".join(table) + "\n")
if mode != "compare":
    sys.exit(0)
lines = open(baseline).read().splitlines()
if compiler not in lines[0]:
    print(f"the baseline is of another compiler than {compiler}: instructions.sh --update")
    sys.exit(77)
header, wrong = lines[1].split(), []
for line in lines[2:]:
    old = dict(zip(header, line.split()))
    name = " ".join(old[key] for key in header[:4])
    new = rows[name]
    for column in ("total", "payload_copied"):
        if old[column] == "-":
            continue
        before, now = int(old[column]), new.get(column, 0)
        slack = 64 if column == "payload_copied" else max(20, before // 100)
        if now > before + slack:
            wrong.append(f"{name}: {column} {now}, was {before}")
        elif now < before - 2 * slack:
            print(f"better than the baseline, which instructions.sh --update writes anew: {name}: {column} {now}, was {before}")
for line in wrong:
    print("FAILED:", line)
sys.exit(bool(wrong))
PYTHON
