#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# listeners.sh: whose a connection is. Each pair of portals of different kinds, as listeners.py says; a second daemon at an
# address that is taken, over each way to the network; a daemon that comes back to an address where connections have ended.
. "$(dirname "$0")/../lib.sh"

say "each pair of portals"
veth
ip address add fe80::77/64 dev va nodad
PYTHONPATH=$root/ci/system python3 -B "$root/ci/system/listeners.py" "$two_reactors" || die "pairs of portals"

# The configuration of a daemon that has all its own but the addresses of its portals.
daemon() { # NAME REACTORS
  configuration base.toml 65521 "$2"
  sed "s|^\[daemon\]|&\ncontrol_socket = \"$1.sock\"\nstate_dir = \"$1.state\"|; s|disk0.img|$1.img|" base.toml >"$1.toml"
}

# Whether what a daemon has said tells which portal cannot be, and why.
tells() { # FILE
  grep -q 'ERROR.*portal "four".*in use' "$1" || { cat "$1"; die "no clear error"; }
}

second() { # PORT REACTORS
  say "a second daemon: $1, reactors $2"
  use_port "$1"
  daemon one "$2"
  daemon two "$2"
  start one.toml "$host" "$host6"
  status=0
  timeout 10 "$PTGT" run --config two.toml >said 2>&1 || status=$?
  [ $status -eq 1 ] || { cat said; die "the second daemon: exit status $status, wanted 1"; }
  tells said
  iscsi-inq "$ram" >/dev/null || die "the first daemon serves no more"
  stop TERM 10 0
}

second packet '[0]'
ip link delete va
second tap "$two_reactors"
second kernel '[0]'
second kernel "$two_reactors"

say "two daemons that start at once"
for _ in 1 2 3 4 5; do
  "$PTGT" run --config one.toml >one.log 2>&1 &
  one=$!
  "$PTGT" run --config two.toml >two.log 2>&1 &
  two=$!
  until_true 10 eval "! kill -0 $one || ! kill -0 $two" || die "both run"
  until_true 10 eval "connects $host || { ! kill -0 $one && ! kill -0 $two; }"
  if kill -0 $one 2>/dev/null; then lost=two winner=$one; else lost=one winner=$two; fi
  kill -0 $winner 2>/dev/null || { cat one.log two.log; die "none of them runs"; }
  tells $lost.log
  kill $winner
  wait $winner $one $two 2>/dev/null || true
done

say "back at once, whatever connections have been left"
start one.toml "$host"
mkfifo hold
PYTHONPATH=$root/ci/system python3 -B -c '
import sys
from initiator import Connection
sessions = [Connection(sys.argv[1]).session(sys.argv[2]) for _ in range(16)]
print("there", flush=True)
sys.stdin.readline()
for session in sessions[::2]:
    session.close()
print("half", flush=True)
sys.stdin.readline()' "$host" "$iqn" <hold >sixteen &
client=$!
exec 8>hold
until_true 20 grep -q there sixteen || die "no sessions"
kill -KILL $target_pid
wait $target_pid 2>/dev/null || true
echo >&8
until_true 20 grep -q half sixteen || die "the sessions do not end"
in_state() { [ "$(ss -Htn state "$1" "sport = :3260" | wc -l)" -ge 8 ]; }
for state in time-wait fin-wait-2; do
  # Clients acknowledge the end of the killed daemon's streams when they like.
  until_true 5 in_state $state || { ss -tan; die "no connections in $state"; }
done
start one.toml "$host"
iscsi-inq "$ram" >/dev/null || die "the daemon does not serve again"
echo >&8
wait $client
stop TERM 10 0
