#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# reservations.sh tap|kernel: the daemon is killed while registrations change; what it has acknowledged is there after,
# on all reactors. Then preemption, and states of target port groups.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
configuration test.toml 65521 "$two_reactors"
peer() { python3 "$root/ci/system/reservations.py" "$@"; }
record=/var/lib/ptgt/state
for round in 1 2 3; do
  start test.toml "$host" "$host6"
  rm -f acknowledged
  peer hold "$host" "$host6" &
  client=$!
  enough() { [ "$(cat acknowledged)" -gt $((4096 + round * 40)) ]; }
  until_true 30 enough || die "the client makes no progress"
  kill -KILL "$target_pid"
  wait "$target_pid" 2>/dev/null || true
  wait "$client" || die "the client has seen something wrong"
  say "round $round: killed after key $(cat acknowledged)"
  start test.toml "$host" "$host6"
  "$PTGT" status | grep -q 'write exclusive, registrants only, survives a restart' || die "status tells otherwise"
  peer recall "$host" "$host6"
  stop TERM 10 0
done
say "a damaged record keeps the daemon from starting"
file=$(find $record -name reservations | head -n 1)
printf 'x' | dd of="$file" bs=1 seek=9 conv=notrunc status=none
if "$PTGT" run --config test.toml 2>damaged; then die "it starts"; fi
grep -qF "$file" damaged || { cat damaged; die "the message does not name the file"; }
