#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# copy.sh tap|kernel: copies between the disks of a target, by an initiator of our own; identifying information is there
# after the daemon was killed.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
peer() { python3 "$root/ci/system/copy.py" "$host" "$@"; }
configuration test.toml 65521 "$two_reactors"
{
  printf '[[disk]]\nname = "hidden"\nstore = "ram"\nsize = "16MiB"\n'
  printf '[[target]]\nname = "%s-hidden"\nluns = [{ lun = 0, disk = "hidden" }]\n' "$iqn"
} >>test.toml
sed 's/^reactors = .*/reactors = [0]/' test.toml >one.toml
say "copies between the disks of a target, and no others: one reactor"
start one.toml
peer copies
stop TERM 10 0
say "two reactors"
start test.toml
peer copies
for round in 1 2 3; do
  say "round $round: identifying information, and the daemon is killed"
  peer label "rack $round"
  kill -KILL "$target_pid"
  wait "$target_pid" 2>/dev/null || true
  start test.toml
  peer labelled "rack $round"
done
stop TERM 10 0
grep -qi 'panic' target.log && die "the log tells of a panic"
exit 0
