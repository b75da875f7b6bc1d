#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# many.sh PORT: with more sessions than the cache holds what is served goes through stages. 600 of them verify a disk while
# 400 others are killed with commands under way, and come again; then all of them are gone.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?a port of ci/lib.sh}"
ulimit -n "$(ulimit -H -n)"
[ "$(ulimit -n)" -ge 4000 ] || { echo "needs 4000 descriptors (ulimit -n)"; exit 77; }
log=warn configuration all.toml 1500 "$two_reactors"
# A second disk for those who vanish: what they have sent may still be written when others have begun.
sed 's/disk = "ram0" }/&, { lun = 2, disk = "ram1" }/' all.toml >test.toml
cat >>test.toml <<'EOF'
[[disk]]
name = "ram1"
store = "ram"
size = "64MiB"
[target.iscsi]
queue_depth = 8
[target.limits]
sessions = 2000
connections = 2000
initiator_sessions = 2000
initiator_connections = 2000
EOF
start test.toml

load() { # LUN SESSIONS SECONDS [OPTION]...: in the background, so that it is a process of its own
  local lun=$1 sessions=$2 time=$3; shift 3
  exec "$PTGT" bench "$url/$lun" --verify --reads 50 --range 32MiB --connections "$sessions" --depth 2 --seconds "$time" --warm-up 0 --quiet "$@"
}
sessions() { "$PTGT" status --json | jq '.sessions | length'; }

say "600 sessions verify, 400 come and are killed"
load 1 600 20 --json steady.json >steady.log 2>&1 &
steady=$!
for round in 1 2; do
  load 2 400 60 >short.log 2>&1 &
  short=$!
  until_true 20 eval '[ "$(sessions)" -ge 900 ]' || { cat short.log; die "in round $round there are $(sessions) sessions"; }
  sleep 1
  kill -KILL "$short" || { cat short.log; die "in round $round the others have ended by themselves"; }
  wait "$short" 2>/dev/null || true
  # All of them go, and none of those that stay.
  until_true 20 eval '[ "$(sessions)" -le 600 ]' || die "after round $round there are $(sessions) sessions"
  kill -0 "$steady" && [ "$(sessions)" -eq 600 ] || { cat steady.log; die "after round $round $(sessions) sessions have stayed"; }
done
wait "$steady" || { cat steady.log; die "the sessions that stay do not get what they wrote"; }
[ "$(jq .verify.compared steady.json)" -gt 1000 ] || die "too little was verified: $(jq .verify.compared steady.json) blocks"

say "all are gone"
until_true 20 eval '[ "$(sessions)" -eq 0 ]' || die "$(sessions) sessions are left"
stop TERM 20 0
