#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# lossy.sh: our TCP against the kernel's over a wire that loses, repeats, overtakes and delays frames by seed. What is
# written comes back byte for byte, and the counters show that there was something to repair. So does what a reader gets who
# stalls until its window is shut, says nothing until keep-alives ask for it, or ends while data are on their way.
. "$(dirname "$0")/../lib.sh"
use_port tap
ip link add bridge0 type bridge 2>/dev/null || { echo "needs the kernel's bridge"; exit 77; }

configuration all.toml 1500
sed -e '/^host_address/d' -e 's/^size = .*/size = "16MiB"/' all.toml >test.toml
# Of the two that ask whether an initiator is there, TCP's keep-alive is to be seen.
printf 'iscsi = { nop_interval = "0s" }\n' >>test.toml
start_on_wire test.toml

counter() { "$PTGT" status --json | jq ".ports[0].counters.$1"; }
kernel_counter() { nstat -asz "$1" | awk -v name="$1" '$1 == name { print $2 }'; }
# What the relay has seen so far: direction 0 comes from the daemon, direction 1 from the kernel.
seen() { # COUNTER DIRECTION
  local lines; lines=$(wc -l <relay.out)
  kill -USR1 "$relay"
  until_true 5 eval "[ \$(wc -l <relay.out) -gt $lines ]" || die "the relay does not answer"
  tail -n 1 relay.out | jq ".$1[$2]"
}
ends() { python3 -B "$root/ci/system/ends.py" "$1" "$host" "$iqn" two.img || die "$1"; }
sessions() { "$PTGT" status --json | jq '.sessions | length'; }
make_image one.img 10 "$root/src"
make_image two.img 10 "$root/ci"
upload two.img "$ram"
mkfifo silence
python3 -B "$root/ci/system/ends.py" idle "$host" "$iqn" two.img <silence >idle.out &
idle=$! begin=$SECONDS
exec 8>silence
until_true 10 grep -q idle idle.out || die "no session"
for seed in 1 2 3; do
  say "seed $seed: both ways over IPv4 and IPv6"
  ours=$(counter retransmitted_bytes) theirs=$(kernel_counter TcpRetransSegs)
  wire "seed=$seed loss=0.01 duplicate=0.01 reorder=0.02 reorder_ms=2 delay=0.3"
  upload one.img "$disk"
  same one.img "$disk"
  upload two.img "$url6/1"
  same two.img "$url6/1"
  ours=$(($(counter retransmitted_bytes) - ours)) theirs=$(($(kernel_counter TcpRetransSegs) - theirs))
  say "sent again: $ours bytes by us, $theirs segments by the kernel"
  [ "$ours" -gt 1000 ] && [ "$theirs" -gt 10 ] || die "the wire has lost too little to prove anything"
done

say "a session without a word is asked whether it is there, and reads on"
until_true $((60 + begin - SECONDS)) eval '[ $(seen probes 0) -gt 0 ]' || die "no keep-alive within 60 s"
exec 8>&-
wait "$idle" || die "the idle session"

wire "loss=0.01"
say "a reader that stalls until its window is shut gets the rest"
shut=$(seen shut 1) probes=$(seen probes 0)
ends stall
say "windows shut: $(($(seen shut 1) - shut)), probes: $(($(seen probes 0) - probes))"
[ "$(seen shut 1)" -gt "$shut" ] || die "the window was never shut"
say "FIN and RST cross data"
ends fin
ends rst
until_true 10 eval '[ "$(sessions)" -eq 0 ]' || die "sessions are left: $(sessions)"

grep -qi panic target.log && die "the log tells of a panic"
stop TERM 10 0
kill -TERM "$relay"
wait "$relay" || true
say "the wire: $(tail -n 1 relay.out)"
