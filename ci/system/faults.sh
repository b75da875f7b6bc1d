#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# faults.sh tap|kernel: stores that fail and are slow by rule, seen by QEMU's initiator and, sense by sense, by one of our
# own; mode pages that are saved, with the daemon killed in between; a write cache that is off; a file that grows.
command -v strace >/dev/null || { echo "needs strace"; exit 77; }
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
peer() { python3 "$root/ci/system/faults.py" "$host" "$@"; }
configuration test.toml
# One bad block, four of the first reads of another, slow reads of a range, no space in one, and a lottery.
awk '{ print } /^name = "ram0"/ {
  print "fault_seed = 7"
  print "faults = ["
  print "  { lba = 100, blocks = 1, error = \"medium\" },"
  print "  { operation = \"read\", lba = 200, blocks = 1, error = \"medium\", after = 1, times = 2 },"
  print "  { operation = \"read\", lba = 300, blocks = 100, delay = \"150ms\", jitter = \"20ms\" },"
  print "  { operation = \"write\", lba = 500, blocks = 8, error = \"space\" },"
  print "  { operation = \"write\", lba = 600, blocks = 8, error = \"busy\" },"
  print "  { operation = \"read\", lba = 1000, blocks = 1000, error = \"medium\", one_in = 8 },"
  print "]"
  print "command_faults = ["
  print "  { command = \"PRE-FETCH(10)\", answer = \"0b/47/03\", after = 1, times = 2 },"
  print "  { command = \"READ CAPACITY(16)\", delay = \"150ms\" },"
  print "  { command = \"0xa3\", answer = \"busy\", after = 1, times = 2 },"
  print "  { command = \"VERIFY(16)\", answer = \"task-set-full\", one_in = 4 },"
  print "]"
}' test.toml >faults.toml
start faults.toml
grep -q 'its store injects faults' target.log || die "the log does not warn"
grep -q 'commands are delayed or fail, by 4 rules' target.log || die "the log does not warn of commands"

"$PTGT" status | grep -q 'injects faults, by 10 rules' || die "status tells nothing of faults"

say "QEMU sees a bad block, and what is beside it"
io() { qemu-io -f raw -c "$1" "$ram" 2>&1 || true; }
io 'read 51200 512' | grep -q 'read failed: Input/output error' || die "the bad block is read: $(io 'read 51200 512')"
io 'write 51200 512' | grep -q 'write failed: Input/output error' || die "the bad block is written"
io 'read 0 51200' | grep -q '51200/51200 bytes' || die "what is beside it is not read"
io 'write 256000 512' | grep -q 'No space left\|Input/output error' || die "there is space"

say "sense by sense"
peer faults >first
say "the same seed gives the same faults"
# The rule of the bad block takes the flush at the end, too.
stop TERM 10 1
grep -q 'ERROR.*may not be on stable storage: disk "ram0" (write error)' target.log || die "the disk is not named"
start faults.toml
peer faults >second
cmp first second
cat first
stop TERM 10 1

say "saved mode pages, killed in between"
for round in 1 2 3; do
  start test.toml
  peer save $((round % 2)) unsaved
  kill -KILL "$target_pid"
  wait "$target_pid" 2>/dev/null || true
  start test.toml
  peer saved $((round % 2))
  [ $((round % 2)) = 1 ] || "$PTGT" status | grep -q 'mode pages saved by an initiator; write cache off' || die "status"
  stop TERM 10 0
done

say "without a write cache each write is stable before its status"
start test.toml
peer save 0
strace -f -qq -e trace=io_uring_enter,pwritev2,fdatasync -o calls -p "$target_pid" &
tracer=$!
traced() { ! grep -q 'TracerPid:[[:space:]]*0$' /proc/"$target_pid"/task/*/status; }
until_true 10 traced || die "strace does not begin"
peer write
kill "$tracer"
wait "$tracer" 2>/dev/null || true
grep -q io_uring_enter calls || die "nothing was traced"
if grep -q 'pwritev2' calls; then grep pwritev2 calls; die "a write has ended in the page cache"; fi
peer save 1

say "a file that grows is told"
peer grown var/lib/ptgt/disk0.img
stop TERM 10 0
truncate -s 1G var/lib/ptgt/disk0.img

say "a block device that grows is told"
truncate -s 64M behind.img
if loop=$(losetup --find --show behind.img 2>why); then
  # shellcheck disable=SC2154 # status is set in the trap
  trap 'status=$?; losetup -d "$loop" 2>/dev/null; [ $status -eq 0 ] || failed' EXIT
  sed '/^luns/s/]$/, { lun = 2, disk = "device" }]/' test.toml >device.toml
  printf '[[disk]]\nname = "device"\nstore = "file"\npath = "%s"\n' "$loop" >>device.toml
  start device.toml
  # From now on the device goes with the daemon, however that ends.
  losetup -d "$loop"
  peer grown behind.img "$loop"
  stop TERM 10 0
  gone() { ! losetup "$loop" >/dev/null; }
  until_true 10 gone || die "the loop device is still there"
  trap '[ $? -eq 0 ] || failed' EXIT
else
  say "there is no loop device here, so this was not seen: $(cat why)"
fi
say "a damaged record keeps the daemon from starting"
file=$(find /var/lib/ptgt/state -name mode | head -n 1)
printf 'x' | dd of="$file" bs=1 seek=9 conv=notrunc status=none
if "$PTGT" run --config test.toml 2>damaged; then die "it starts"; fi
grep -qF "$file" damaged || { cat damaged; die "the message does not name the file"; }
