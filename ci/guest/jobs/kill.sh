# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: the target is killed and started again ten times under fio verify; four times with --short
# nets: tap,kernel,inside-tap,inside-kernel
# devices: file,file4k
# limit: 900
# needs: fio cmp
# expected: detected conn error \((1011|1019|1020)\)
job() {
  attach node.session.timeo.replacement_timeout=600
  say "a region that nobody writes to afterwards"
  pattern 3 8388608 >before
  dd if=before of="$disk" bs=1M seek=200 oflag=direct conv=fsync 2>/dev/null

  start_load "$disk" bs=4k,16k iodepth=16 size=128m
  local round rounds=10
  [ -z "$quick" ] || rounds=4
  for round in $(seq $rounds); do
    sleep "0.$((RANDOM % 10))"
    at_target target_crash "$((round % 3))"
    load_progresses
    say "round $round: the load goes on after the target was killed"
  done
  end_load
  dd if="$disk" bs=1M skip=200 count=8 iflag=direct 2>/dev/null | cmp - before || die "data of before the load is gone"
  logout
}
