#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# launch.sh: the first command of the README does what it says, and leaves the machine's huge pages as they were; the unit
# for systemd is one that systemd takes, and the daemon tells it what it wants to hear.
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

say "killed with all that belongs to it, it leaves huge pages, which the next one gives back"
: >target.log
setsid "$root/configs/launch.sh" >target.log 2>&1 &
until_true 120 up || die "it does not come up"
group=$(ps -o pgid= -p "$(pgrep -n -f "run --config $root/configs/quickstart.toml")" | tr -d ' ')
kill -KILL -- "-$group"
left=$(($(cat $pages) - before))
say "  left: $left"
if grep -q 'huge pages.* wanted, [1-9][0-9]* added' target.log; then
  [ $left -gt 0 ] || die "nothing was left: this shows nothing"
fi
# What has been killed holds its locks until the kernel is done with it.
given_back() { bash -c '. "$1/configs/hugepages.sh"; alone_with_pages return_left_pages' - "$root" && as_before; }
until_true 10 given_back || die "huge pages: $(cat $pages), before $before"

say "a broken configuration does not get that far"
sed 's/driver = "tap"/driver = "cap"/' "$root/configs/quickstart.toml" >broken.toml
"$root/configs/launch.sh" broken.toml >said 2>&1 && die "runs a broken configuration"
grep -q driver said

say "as a service: READY, signs of life, STOPPING"
use_port kernel
configuration service.toml
python3 -B "$root/ci/system/service.py" 1 "$PTGT" run --config service.toml

if command -v systemd-analyze >/dev/null; then
  say "the unit"
  # With the binary of this run, since it is to be there.
  mkdir -p units
  sed "s,/usr/local/bin/ptgt,$PTGT," "$root/configs/ptgt.service" >units/ptgt.service
  systemd-analyze verify --man=no "$PWD/units/ptgt.service" >said 2>&1 || { cat said; die "systemd does not take the unit"; }
  ! grep ptgt.service said || die "systemd has something to say of the unit"
  # What the unit leaves open to the daemon, from 0 to 10.
  systemd-analyze security --offline=true --no-pager --threshold=26 "$PWD/units/ptgt.service" | tail -n 1
else
  echo "no systemd-analyze: the unit is not verified"
fi
