#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# disk.sh PORT: what a user does first: list, inquire, write an image, read it back, stop, start, read it again.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?a port of ci/lib.sh}"

configuration test.toml
start test.toml

say "the target lists its LUNs"
iscsi-ls -s "iscsi://$host" | tee list
grep -q "Target:$iqn Portal:$host:3260" list
[ "$TARGET" = tgtd ] || grep -qE '^Lun:0 .*Size:(1023M|1G)' list || die "LUN 0 is not there or has the wrong size"
[ "$TARGET" = tgtd ] || grep -qE '^Lun:1 .*Size:25[56]M' list || die "LUN 1 is not there or has the wrong size"

say "the disk says who it is"
iscsi-inq "$disk" | tee inquiry
[ "$TARGET" = tgtd ] || grep -q '^Vendor:PTGT' inquiry
iscsi-inq -e 1 -c 128 "$disk" >/dev/null
iscsi-inq -e 1 -c 131 "$disk" >/dev/null

if [ "$TARGET" = ptgt ]; then
  say "the portal belongs to the port"
  listening=no wanted=no
  ss -Hltn 'sport = :3260' | grep -q . && listening=yes
  [ "$port" = kernel ] && wanted=yes
  [ "$listening" = "$wanted" ] || die "the kernel's TCP listens: $listening, wanted: $wanted"
fi

say "an image goes to the disk and comes back"
make_image one.img 200 "$root/src"
make_image two.img 300 /usr/share/perl
upload one.img "$disk"
same one.img "$disk"
upload two.img "$disk"
same two.img "$disk"
upload one.img "$ram"
same one.img "$ram"

say "the data outlives the target"
stop TERM 10 0
grep -qi 'panic' target.log && die "the log tells of a panic"
start test.toml
same two.img "$disk"
e2fsck -fn var/lib/ptgt/disk0.img >/dev/null 2>&1 || die "the image's file system has errors"
stop TERM 10 0
