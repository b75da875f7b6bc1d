#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# crash.sh tap|kernel: the daemon is killed while it writes; what a SYNCHRONIZE CACHE has acknowledged is there after.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"

configuration test.toml
for round in 1 2 3; do
  start test.toml
  # Each step writes 1 MiB of its own pattern and flushes it, before the next one is written.
  for step in $(seq 0 499); do
    printf 'write -P %d %dM 1M\nflush\nsleep 2\n' $(((step + round * 67) % 251 + 1)) "$step"
  done >commands
  stdbuf -oL qemu-io -f raw "$disk" <commands >acknowledged 2>&1 &
  client=$!
  enough() { [ "$(grep -c 'wrote 1048576' acknowledged)" -gt $((round * 20)) ]; }
  until_true 30 enough || die "the client makes no progress"
  kill -KILL "$target_pid"
  kill -KILL "$client" 2>/dev/null || true
  wait "$target_pid" "$client" 2>/dev/null || true
  # The last write may not have been flushed; the ones before it were, or the client would not have gone on.
  flushed=$(($(grep -c 'wrote 1048576' acknowledged) - 1))
  [ "$flushed" -lt 499 ] || die "the client was through before the target was killed"
  say "round $round: killed after $flushed flushed writes"
  start test.toml
  for step in $(seq 0 $((flushed - 1))); do
    printf 'read -P %d %dM 1M\n' $(((step + round * 67) % 251 + 1)) "$step"
  done >commands
  qemu-io -f raw "$disk" <commands >verified 2>&1
  ! grep -i 'verification failed\|error' verified || die "acknowledged data is gone"
  [ "$(grep -c 'read 1048576' verified)" -eq "$flushed" ] || die "not all was read"
  stop TERM 10 0
done
