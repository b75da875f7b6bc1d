#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# status.sh tap|kernel: `ptgt status` tells who is connected to what, and counts what they do.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
configuration test.toml
printf '[[target]]\nname = "%s:events"\nluns = [{ lun = 0, disk = "thin0" }]\n' "$iqn" >>test.toml
printf '[target.iscsi]\nscsi_events = true\n' >>test.toml
start test.toml
status() { "$PTGT" status --json >now; }
is() { jq -e "$1" now >/dev/null || { jq . now; die "not so: $1"; }; }

status
is '.state == "running" and .sessions == []'
is '[.targets[0].luns[].lun] == [0, 1] and [.disks[].size_bytes] == [1073741824, 268435456]'

cat >client.py <<'EOF'
import sys
sys.path.insert(0, sys.argv[1])
from initiator import Connection, LOGOUT, IMMEDIATE, bhs
c = Connection(sys.argv[2]).session(sys.argv[3])
while c.ready(1) != 0:
    pass
c.write(1, 0, bytes(65536))
c.read(1, 0, 128)
print("there", flush=True)
sys.stdin.read()
c.send(bhs(LOGOUT | IMMEDIATE, 0x80, itt=99))
c.receive()
EOF
mkfifo hold
python3 -B client.py "$root/ci/system" "$host" "$iqn" <hold >said &
client=$!
exec 9>hold
until_true 10 grep -q there said || die "the client does not get there"
settled() { status && jq -e '.disks[] | select(.name == "ram0").counters | .write_bytes == 65536 and .read_bytes == 65536' now >/dev/null; }
until_true 10 settled || { jq . now; die "the transfers are not counted"; }
is '.sessions | length == 1'
is '.sessions[0].target == "'"$iqn"'" and (.sessions[0].initiator | startswith("iqn.2026-11.com.example"))'
is '.sessions[0].connections | length == 1'
is '.sessions[0].connections[0].local == "'"$host"':3260"'
is '.sessions[0].connections[0].negotiated.MaxBurstLength | tonumber > 0'
"$PTGT" status | tee text
grep -q "$iqn" text
exec 9>&-
wait "$client"
gone() { status && jq -e '.sessions == []' now >/dev/null; }
until_true 10 gone || { jq . now; die "the session stays in the status after its logout"; }
say "what was counted stays when the session has gone"
is '.disks[] | select(.name == "ram0").counters | .write_bytes == 65536 and .read_bytes == 65536'
say "... and how long it took"
is '[.disks[] | select(.name == "ram0").latencies[] | select(.stage == "total").kind] | sort == ["other", "read", "write"]'
is '.disks[] | select(.name == "ram0") | .counters as $done | [.latencies[] | select(.kind == "read" and .stage == "total").count] == [$done.reads]'
is '.disks[].latencies[] | .count == ([.buckets[][1]] | add) and .max_ns > 0 and .sum_ns >= .max_ns and .quantiles_ns.p99 >= .quantiles_ns.p50'

say "... and what for: writes of 1 MiB wait for the data that they ask for"
"$PTGT" bench "$ram" --reads 0 --block 1MiB --depth 2 --count 50 --quiet >bench.log || die "$(cat bench.log)"
status
is '.disks[] | select(.name == "ram0") | [.latencies[] | select(.kind == "write")] | (.[] | select(.stage == "fetch").sum_ns) as $fetch | (.[] | select(.stage == "total").sum_ns) as $total | $fetch > 0 and $fetch <= $total'

say "a file that grows while it is served: told at once where that is wanted, with the next command everywhere"
cat >grows.py <<'EOF'
import struct
import sys
sys.path.insert(0, sys.argv[1])
from initiator import Connection
plain, told = (Connection(sys.argv[2], 10).session(sys.argv[3] + name) for name in ("", ":events"))
def capacity(c):
    return struct.unpack(">I", c.finish(c.command(b"\x25" + bytes(9), 0, 0xC0, 8))[1][:4])[0]
for c in (plain, told):
    while c.ready(0) != 0:
        pass
    assert capacity(c) == (1 << 21) - 1
print("there", flush=True)
sys.stdin.readline()
pdu = told.receive()
assert (pdu.opcode, pdu.head[36], pdu.head[8:16]) == (0x32, 0, bytes(8)), pdu.head.hex()
length = struct.unpack(">H", pdu.data[:2])[0]
sense = pdu.data[2:]
assert (len(sense), sense[2] & 15, sense[12], sense[13]) == (length, 6, 0x2A, 9), sense.hex()
for c in (plain, told):
    assert c.ready(0) == 2 and c.ready(0) == 0
    assert capacity(c) == (1 << 22) - 1
print("seen", flush=True)
EOF
mkfifo grow
# What stands there is an older answer's.
: >said
python3 -B grows.py "$root/ci/system" "$host" "$iqn" <grow >said &
client=$!
exec 9>grow
until_true 10 grep -q there said || die "the client does not get there"
truncate -s 2G var/lib/ptgt/disk0.img
echo >&9
wait "$client" || die "the growth is not told as it should be"
status
is '.disks[0].size_bytes == 2147483648'
exec 9>&-
stop TERM 10 0
"$PTGT" status >said 2>&1 && die "a status without a daemon"
grep -q control.sock said || die "does not say where it looked"
