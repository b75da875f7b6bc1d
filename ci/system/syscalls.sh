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
# The calls of the daemon for so many READs of a disk, as a table; those that are not named are few, and the named ones no more
# than AT MOST per READ.
counted() { # URL READS AT-MOST CALLS...
  local disk=$1 reads=$2 most=$3 tracer; shift 3
  strace -f -qq -c -o counts -p "$target_pid" &
  tracer=$!
  sleep 1
  "$PTGT" bench "$disk" --depth 32 --count "$reads" --quiet >bench.log || die "$(cat bench.log)"
  kill -INT $tracer
  wait $tracer || true
  awk -v allowed="$*" -v reads="$reads" -v most="$most" '
    BEGIN { split(allowed, names, " "); for (i in names) ours[names[i]] = 1 }
    $1 + 0 == $1 && $NF != "total" {
      calls = $4; name = $NF
      printf "%-16s %7d  %8.1f per 1000 READs\n", name, calls, calls * 1000 / reads
      # Connecting, logging, the end of it and the first growth of the heap take a few calls of other kinds.
      if (name in ours) expected += calls; else others += calls
    }
    END {
      printf "%.1f expected calls and %.2f others per 1000 READs\n", expected * 1000 / reads, others * 1000 / reads
      if (expected == 0) { print "FAILED: nothing was counted"; exit 1 }
      if (others > 300) { print "FAILED: a reactor makes system calls that are not its port'\''s or its store'\''s"; exit 1 }
      if (expected > most * reads) { print "FAILED: more than " most " calls per READ"; exit 1 }
    }' counts
}

say "a disk in memory: the port, and sleeping"
# shellcheck disable=SC2086
counted "$url/1" $operations 5 $allowed

# A read that is not in the page cache asks for it once (preadv2 with RWF_NOWAIT), and those of a turn go to the kernel in
# one io_uring_enter.
if [ "$(stat -f -c %T var/lib/ptgt)" = tmpfs ]; then
  say "a disk that has to be waited for: left out, $work is in memory"
else
  say "a disk that has to be waited for: one look at the page cache per READ, and io_uring_enter at most once per turn"
  head -c 256M /dev/urandom | dd of=var/lib/ptgt/disk0.img conv=notrunc bs=1M status=none
  python3 -c 'import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); os.fsync(fd); os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)' var/lib/ptgt/disk0.img
  # shellcheck disable=SC2086
  counted "$url/0" 10000 7 $allowed preadv2 io_uring_enter
  awk '$NF == "io_uring_enter" { enters = $4 } END { if (enters == 0 || enters > 10100) { print "FAILED: io_uring_enter " enters " times for 10000 READs"; exit 1 } }' counts
fi
stop TERM 10 0
