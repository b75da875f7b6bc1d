#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# slow.sh tap|kernel: a slow read holds up nobody but itself. On one reactor, reads that are at hand go on beside reads that
# a rule delays, and beside random reads of an image that is larger than the memory which its pages may take.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
memory=160 image=512 # MiB
ram_mib=64 configuration all.toml
{
  sed -e "s/^size = \"1GiB\"/size = \"${image}MiB\"/" -e 's/disk = "ram0" }/&, { lun = 2, disk = "late" }/' all.toml
  printf '[[disk]]\nname = "late"\nstore = "ram"\nsize = "64MiB"\nblock_size = 512\n'
  printf 'faults = [{ operation = "read", delay = "300ms" }]\n'
} >test.toml
# Of random bytes, so that nothing in between can make them smaller.
head -c ${image}M /dev/urandom >var/lib/ptgt/disk0.img
sync var/lib/ptgt/disk0.img

# A group whose pages, those in the page cache included, take no more than $memory: by the second or the first version.
group=
trap '[ $? -eq 0 ] || failed; [ -z "$group" ] || { kill -KILL "$target_pid" 2>/dev/null; wait "$target_pid" 2>/dev/null; rmdir "$group"; }' EXIT
limited() {
  local name=ptgt-slow.$$ root
  for root in /sys/fs/cgroup/memory /sys/fs/cgroup; do
    mkdir "$root/$name" 2>/dev/null || continue
    for limit in memory.max memory.limit_in_bytes; do
      if [ -f "$root/$name/$limit" ] && echo $((memory << 20)) >"$root/$name/$limit"; then
        echo "$target_pid" >"$root/$name/cgroup.procs" && { group=$root/$name; return 0; }
      fi
    done
    rmdir "$root/$name"
  done
  return 1
}

start test.toml
load() { # LUN DEPTH SECONDS FILE [OPTION]...
  local lun=$1 depth=$2 seconds=$3 file=$4; shift 4
  "$PTGT" bench "$url/$lun" --depth "$depth" --seconds "$seconds" --warm-up 0.2 --quiet --json "$file" "$@" >"$file.log" 2>&1 ||
    die "$(cat "$file.log")"
}
show() { # NAME FILE
  jq -r --arg name "$1" '"\($name): \(.per_second | floor) reads/s, p50 \(.reads.p50) us, p99 \(.reads.p99) us, max \(.reads.max) us"' "$2"
}
holds() { # FACT FILE
  jq -e "$1" "$2" >/dev/null || die "not so of $2: $1"
}
# Of the disk at hand, as the daemon has counted it since its start, in microseconds: busy clients are not in it.
told() { "$PTGT" status --json | jq -r '.disks[] | select(.name == "ram0").latencies[] | select(.kind == "read" and .stage == "total") | "p99.9 \(.quantiles_ns["p99.9"] / 1000) us, max \(.max_ns / 1000) us"'; }

load 1 8 2 alone.json
show "at hand, alone" alone.json

say "beside reads that take 300 ms"
load 2 4 4 late.json &
late=$!
sleep 0.5
load 1 8 2 beside.json
wait $late || die "the late reads"
show "at hand, beside them" beside.json
show "late" late.json
holds '.reads.min > 299000' late.json
holds '.reads.p99 < 100000' beside.json

if [ "$(stat -f -c %T var/lib/ptgt)" = tmpfs ]; then
  say "beside an image larger than memory: left out, $work is in memory"
elif ! limited; then
  say "beside an image larger than memory: left out, no group of processes with a limit of memory can be made"
else
  say "beside random reads of an image of $image MiB, with $memory MiB for its pages"
  # What is in the cache was put there by others than the group.
  python3 -c 'import os, sys; os.posix_fadvise(os.open(sys.argv[1], os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)' var/lib/ptgt/disk0.img
  load 0 32 6 misses.json &
  misses=$!
  sleep 1
  load 1 8 3 beside-misses.json
  wait $misses || die "the reads of the image"
  show "at hand, beside them" beside-misses.json
  show "of the image" misses.json
  "$PTGT" status --json | jq -r '.disks[] | select(.name == "thin0").latencies[] | select(.kind == "read") | "image, \(.stage): \(.count) reads, p50 \(.quantiles_ns.p50 / 1000) us, p99 \(.quantiles_ns.p99 / 1000) us"' | tee stages
  # Most of the reads had to wait, and those at hand are not as slow as the image for that.
  "$PTGT" status --json | jq -e '[.disks[] | select(.name == "thin0").latencies[] | select(.kind == "read")] |
    (.[] | select(.stage == "store").count) > (.[] | select(.stage == "total").count) / 4' >/dev/null || die "too few reads missed the cache"
  holds '.reads.p50 < '"$(jq .reads.p50 misses.json)" beside-misses.json
fi
say "the daemon's own figures for the disk at hand: $(told)"
if [ -n "$group" ]; then
  kill -TERM "$target_pid"
  wait "$target_pid" || die "the daemon ended with an error"
  rmdir "$group"
  group=
else
  stop TERM 10 0
fi
