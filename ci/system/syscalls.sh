#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# syscalls.sh tap|kernel: the system calls of a reactor under load, counted by strace: none but those of its port, of
# sleeping, and io_uring_enter where a disk waits; and how many per 1000 READs.
. "$(dirname "$0")/../lib.sh"
command -v strace >/dev/null || { echo "needs strace"; exit 77; }
use_port "$1"
log=warn configuration test.toml
start test.toml
operations=100000
# The calls of a port, for frames or for byte streams. A reactor that is idle sleeps in ppoll.
case $port in
  tap) allowed='read writev ppoll' ;;
  kernel) allowed='recvfrom read sendmsg epoll_wait ppoll accept4' ;;
esac
strace -f -qq -c -o counts -p "$target_pid" &
tracer=$!
sleep 1
"$PTGT" bench "$url/1" --depth 32 --count $operations --quiet >bench.log || die "$(cat bench.log)"
kill -INT $tracer
wait $tracer || true
awk -v allowed="$allowed" -v operations=$operations '
  BEGIN { split(allowed, names, " "); for (i in names) ours[names[i]] = 1 }
  $1 + 0 == $1 && $NF != "total" {
    calls = $4; name = $NF
    printf "%-16s %7d  %8.1f per 1000 READs\n", name, calls, calls * 1000 / operations
    # Connecting, logging, the end of it and the first growth of the heap take a few calls of other kinds.
    if (name in ours) port += calls; else others += calls
  }
  END {
    printf "%.1f calls of the port and %.2f others per 1000 READs\n", port * 1000 / operations, others * 1000 / operations
    if (port == 0) { print "FAILED: nothing was counted"; exit 1 }
    if (others > 300) { print "FAILED: a reactor makes system calls that are not its port'\''s"; exit 1 }
    if (port > 5 * operations) { print "FAILED: more than five calls per READ"; exit 1 }
  }' counts
