#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# mapped.sh PORT: disks on mapped files in memory, on tmpfs and on hugetlbfs: an image goes there and comes back, also after
# the daemon has gone and come; what a shortened file has lost is an error of that disk alone; what cannot be is refused.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?a port of ci/lib.sh}"

size=192 # MiB

huge_pages() { # the pages that the image takes: given back at the end
  local pool=/proc/sys/vm/nr_hugepages
  [ -e $pool ] || return 1
  . "$root/configs/hugepages.sh"
  trap 'status=$?; give_pages_back; [ $status -eq 0 ] || failed' EXIT
  take_pages $pool $((size / 2))
  [ "$(awk '/^HugePages_Free/ { print $2 }' /proc/meminfo)" -ge $((size / 2)) ]
}

mapped_configuration() { # PATH SIZE MAPPED
  configuration "$work/plain.toml"
  awk -v path="$1" -v size="$2" -v mapped="$3" '
    /^path = / { print "path = \"" path "\""; print "mapped = " mapped; next }
    /^size = "1GiB"/ { print "size = \"" size "\""; next }
    { print }' plain.toml >test.toml
}

mkdir memory
make_image one.img 100 "$root/src"
for system in tmpfs hugetlbfs; do
  options=
  if [ $system = hugetlbfs ]; then
    huge_pages || { echo "no $((size / 2)) huge pages of 2 MiB to be had: hugetlbfs is left out" >&2; continue; }
    options="-o pagesize=2M"
  fi
  # shellcheck disable=SC2086
  mount -t $system $options none memory
  mapped_configuration "$work/memory/disk.img" ${size}MiB true

  say "$system: an image goes to the disk and comes back"
  start test.toml
  upload one.img "$disk"
  same one.img "$disk"
  cmp -n "$(stat -c %s one.img)" one.img memory/disk.img || die "the file has other bytes than the disk"

  say "$system: the data outlives the target, and its murder"
  stop TERM 10 0
  start test.toml
  same one.img "$disk"
  kill -KILL "$target_pid"; wait "$target_pid" || true
  start test.toml
  same one.img "$disk"

  say "$system: libiscsi's tests of reading and writing"
  for test in Read10 Read16 Write10 Write16 WriteSame10.Simple WriteSame16.Simple CompareAndWrite OrWrite Verify16; do
    iscsi-test-cu --dataloss --test "ALL.$test" "$disk" >suite.log 2>&1 || true
    ! grep -F '[FAILED]' suite.log || die "$test: see above"
    grep -q 'asserts' suite.log || die "$test did not run"
  done

  say "$system: what a shortened file has lost is an error of that disk alone"
  upload one.img "$ram"
  truncate -s 0 memory/disk.img
  ! qemu-img convert -f raw -O raw "$disk" back.img 2>errors || die "what is lost can be read"
  # Through a mapping there is nothing to write to.
  ! upload one.img "$disk" 2>>errors || die "what is lost can be written"
  same one.img "$ram"
  kill -0 "$target_pid" || die "the target has ended"
  stop TERM 10 0
  umount memory
done

say "what cannot be is refused in one line"
refused() { # TEXT
  ! timeout 20 "$PTGT" run --config test.toml >refused.log 2>&1 || die "accepted"
  grep -q "$1" refused.log || { cat refused.log; die "the error does not say: $1"; }
}
if [ -n "${options:-}" ]; then
  mount -t hugetlbfs -o pagesize=2M none memory
  mapped_configuration "$work/memory/disk.img" ${size}MiB false
  refused 'set .mapped = true.'
  mapped_configuration "$work/memory/disk.img" 3MiB true
  refused 'multiple of its pages of 2097152 bytes'
  mapped_configuration "$work/memory/disk.img" 1TiB true
  refused 'takes 524288 huge pages'
  umount memory
fi
mapped_configuration "$work/disk.img" ${size}MiB true
if [ "$(stat -f -c %T "$work")" != tmpfs ]; then refused 'only a file on tmpfs or hugetlbfs can be mapped'; fi
