#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# stop.sh tap|kernel: SIGTERM under load ends the daemon in order within its ten seconds, a second signal at once.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"

configuration test.toml
load() {
  qemu-img bench -f raw -w -c 100000000 -d 32 -s 65536 "$disk" >/dev/null 2>&1 &
  clients=$!
  qemu-img bench -f raw -c 100000000 -d 32 -s 4096 "$ram" >/dev/null 2>&1 &
  clients="$clients $!"
  sleep 2
}
unload() {
  kill -KILL $clients 2>/dev/null || true
  wait $clients 2>/dev/null || true
}

say "one signal under load"
start test.toml
load
kill -0 $clients || die "the load does not run"
stop TERM 10 0
unload

say "SIGINT does the same without load"
start test.toml
stop INT 10 0

say "a second signal ends it at once"
start test.toml
load
kill -TERM "$target_pid"
kill -STOP $clients
sleep 0.2
if kill -0 "$target_pid" 2>/dev/null; then stop TERM 2 130; else wait "$target_pid"; fi
unload
start test.toml
iscsi-inq "$disk" >/dev/null || die "the disk is not served after that"
stop TERM 10 0

say "a reactor that cannot start is the end of the others"
configuration test.toml '' "[0, $(nproc --all)]"
status=0
timeout -s KILL 20 "$PTGT" run --config test.toml >said 2>&1 || status=$?
[ $status -eq 1 ] && grep -q "reactor 1: cannot run on processor" said || { cat said; die "exit status $status, wanted 1 and the reason"; }
