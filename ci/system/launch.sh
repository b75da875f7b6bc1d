#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# launch.sh: the first command of the README does what it says, and leaves the machine's huge pages as they were.
. "$(dirname "$0")/../lib.sh"
pages=/proc/sys/vm/nr_hugepages
before=$(cat $pages)

"$root/configs/launch.sh" >target.log 2>&1 &
target_pid=$!
up() { grep -q 'quickstart is up' target.log; }
until_true 120 eval "up || ! kill -0 $target_pid" && up || die "it does not come up"
target=iqn.2026-11.com.example.ptgt:quickstart
iscsi-ls -s iscsi://10.77.0.2 | tee list
grep -q "Target:$target Portal:10.77.0.2:3260" list
# The commands that it proposes are those of the clients: one of them as it stands.
make_image disk.img 100 "$root/src"
bash -c "$(grep -o 'qemu-img convert.*' target.log)"
same disk.img "iscsi://10.77.0.2/$target/0"
stop TERM 10 0
as_before() { [ "$(cat $pages)" -eq "$before" ]; }
until_true 5 as_before || die "huge pages: $(cat $pages), before $before"

say "a broken configuration does not get that far"
sed 's/driver = "tap"/driver = "cap"/' "$root/configs/quickstart.toml" >broken.toml
"$root/configs/launch.sh" broken.toml >said 2>&1 && die "runs a broken configuration"
grep -q driver said
