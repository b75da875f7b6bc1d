#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# launch.sh: the first command of the README does what it says, the others work as they stand there, and the machine's
# huge pages are left as they were; the unit for systemd is one that systemd takes, and the daemon tells it what it wants
# to hear.
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

# The commands of a section of the README, without their comments, and without sudo, as this runs as root.
commands() { # SECTION
  sed -n "/^## $1\$/,/^## /p" "$root/README.md" | sed -n '/^```sh$/,/^```$/p' | sed -E '/^(```|$)/d; s/ +# .*//; s/^sudo //'
}
# In a directory like that of the project.
mkdir -p project/target/release
ln -s "$root/configs" project/configs
ln -s "$PTGT" project/target/release/ptgt
ran=0
while read -r command; do
  say "$command"
  case $command in
    "apt-get install "*)
      for package in ${command#apt-get install }; do
        grep -qw -- "$package" "$root/ci/setup.sh" || die "ci/setup.sh does not install $package: nothing here tries what it brings"
      done
      ;;
    iscsiadm*) echo "left to ci/guest/run login: the kernel's initiator is not in a namespace" ;;
    # A machine with a disk and nothing on it stays.
    qemu-system-*)
      status=0
      (cd project && eval "timeout 4 $command -display none") >said 2>&1 </dev/null || status=$?
      [ $status -eq 124 ] && ! grep -qi 'error\|could not' said || { cat said; die "exit status $status"; }
      ;;
    *)
      cd project
      eval "$command" </dev/null || die "exit status $?"
      cd ..
      ran=$((ran + 1))
      ;;
  esac
done < <(commands Connecting)
[ $ran -ge 6 ] || die "$ran commands found: this shows nothing"

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
