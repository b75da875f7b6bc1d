#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# sessions.sh [tap|kernel [SESSIONS]...]
#
# What sessions cost that do nothing, and what they leave for others: resident memory of the daemon for each of 1,000 and of
# 10,000 idle sessions (or as many as are given), its processor time while nobody does anything, and reads of 4 KiB by 1,000
# sessions and by 128, queue depth 1, with none beside them and with all of these. Memory that the kernel has for sockets is
# not the daemon's; what it has for TCP is told beside it. Needs root.
case ${1:-} in -h | --help) sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
. "$(dirname "$0")/../ci/lib.sh"
use_port "${1:-tap}"
shift || true
[ $# -gt 0 ] || set -- 1000 10000
ulimit -n "$(ulimit -H -n)"
[ "$(ulimit -n)" -ge 11000 ] || { echo "needs 11000 descriptors (ulimit -n)"; exit 77; }
log=warn configuration test.toml
# A session gets queue_depth of the initiator's commands.
printf '[target.iscsi]\nqueue_depth = 32\n[target.limits]\nsessions = 20000\nconnections = 20000\ninitiator_sessions = 20000\ninitiator_connections = 20000\ninitiator_commands = 1000000\n' >>test.toml

cat >idle.py <<'EOF'
import sys
sys.path.insert(0, sys.argv[1])
from initiator import Connection
kept = [Connection(sys.argv[2], 60).session(sys.argv[3]) for _ in range(int(sys.argv[4]))]
print(len(kept), "sessions", flush=True)
sys.stdin.read()
EOF

busy() { # SESSIONS FILE
  "$PTGT" bench "$ram" --connections "$1" --depth 1 --seconds 3 --warm-up 1 --quiet --json "$2" >/dev/null || die "the load of $1"
  jq -r '"\(.per_second | floor) reads/s, p50 \(.reads.p50 | floor) us, p99 \(.reads.p99 | floor) us"' "$2"
}
processor_ms() { awk -v tick="$(getconf CLK_TCK)" '{ print ($14 + $15) * 1000 / tick }' "/proc/$target_pid/stat"; }
tcp_pages() { awk '/^TCP:/ { print $NF }' /proc/net/sockstat; }

for sessions in "$@"; do
  start test.toml
  say "$sessions sessions over $port"
  echo "128 busy, none idle:  $(busy 128 none128.json)"
  echo "1000 busy, none idle: $(busy 1000 none.json)"
  # What busy sessions have left stays with the daemon, for the next: memory is counted from a fresh start.
  stop TERM 20 0 >/dev/null
  start test.toml
  before=$(resident) pages=$(tcp_pages)
  mkfifo hold
  python3 -B idle.py "$root/ci/system" "$host" "$iqn" "$sessions" <hold >idle.out 2>idle.err &
  client=$!
  exec 9>hold
  until_true 300 eval 'grep -q sessions idle.out || ! kill -0 $client'
  grep -q sessions idle.out || die "the sessions do not come up: $(cat idle.err)"
  after=$(resident)
  echo "resident: $before KiB without, $after KiB with them: $(((after - before) * 1024 / sessions)) bytes each; pages of the kernel's TCP: $pages, $(tcp_pages)"
  begin=$(processor_ms)
  sleep 10
  echo "processor time in 10 s, while they are idle: $(($(processor_ms) - begin)) ms"
  echo "128 busy beside them:  $(busy 128 beside128.json)"
  echo "1000 busy beside them: $(busy 1000 beside.json)"
  exec 9>&-
  wait $client || die "a session has ended: $(tail -n 3 idle.err)"
  rm hold
  stop TERM 60 0
done
