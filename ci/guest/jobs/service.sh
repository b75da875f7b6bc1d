# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: configs/ptgt.service under systemd: ready when it serves, few rights, watched, ended in order, and it tells what is wrong
# nets: inside-tap
# first: systemd
# limit: 600
# needs: useradd /etc/login.defs fio
# modules: tun veth
# expected: detected conn error \((1011|1019|1020)\)
ram_mib=32
hugepages=require

files=/usr/lib/rig
unit_property() { systemctl show --value -p "$1" ptgt.service; } # NAME
main_pid() { unit_property MainPID; }
of_process() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$(main_pid)/status"; } # KEY
journal_has() { journal >journal.txt; grep -E -m 1 "$1" journal.txt || die "not in the journal: $1"; } # PATTERN
journal() { journalctl --no-pager -o cat -u ptgt.service; }

# As the unit's own comments say.
target_config() {
  # In a test these are directories of the test.
  umount /var/lib/ptgt /run/ptgt
  rmdir /var/lib/ptgt /run/ptgt
  sh -c "$(sed -n 's/^# .*: \(useradd .*\)/\1/p' $files/configs/ptgt.service)"
  mkdir -p /usr/local/bin /etc/ptgt
  cp $files/ptgt /usr/local/bin/ptgt
  cp $files/configs/ptgt.service /etc/systemd/system
  # As udev has it.
  chmod 666 /dev/net/tun
  veth
  ip address flush dev va
  ip address add 10.78.0.1/24 dev va
  ip link set lo up
  {
    configuration /dev/stdout 1500 '[0, 1]' | sed 's/^memory = .*/memory = "16MiB"/'
    printf '[[port]]\nname = "packet"\ndriver = "packet"\ndevice = "vb"\naddress = ["10.78.0.2/24"]\n'
    printf '[[portal]]\nname = "packet"\nport = "packet"\naddress = "10.78.0.2:3260"\n'
    printf '[[port]]\nname = "kernel"\ndriver = "kernel"\n'
    printf '[[portal]]\nname = "kernel"\nport = "kernel"\naddress = "127.0.0.1:3260"\n'
  } >/etc/ptgt/ptgt.toml
  cp /etc/ptgt/ptgt.toml target.toml
}
target_start() { systemctl daemon-reload; }
# The journal is the daemon's log.
failed() { echo "--- journal:"; journal | tail -n 60; }
# Also of a unit that systemd starts again at once.
start_fails() { ! systemctl start ptgt.service 2>said || die "systemctl start says that all is well"; }

# What the unit may leave open at most, as `systemd-analyze security` counts it, in tenths.
exposure=26

rights() {
  local mask=0 number each
  # CAP_NET_ADMIN, CAP_NET_RAW and CAP_IPC_LOCK.
  for number in 12 13 14; do mask=$((mask | 1 << number)); done
  mask=$(printf '%016x' $mask)
  for each in CapEff CapPrm CapBnd; do
    [ "$(of_process $each)" = "$mask" ] || die "$each is $(of_process $each), not $mask"
  done
  [ "$(of_process Uid | cut -f2)" = "$(id -u ptgt)" ] || die "runs as $(of_process Uid)"
  [ "$(of_process NoNewPrivs)$(of_process Seccomp)" = 12 ] || die "privileges are to be gained, or all system calls are there"
}
# As the daemon sees the file system.
there() { nsenter -t "$(main_pid)" -m -- "$@"; }
walls() {
  local each
  for each in /etc/ptgt/x /usr/local/bin/x /x /proc/sys/vm/nr_hugepages /sys/kernel/mm/ksm/run; do
    there sh -c "echo 1 >$each" 2>said && die "it may write to $each"
    grep -q -i 'read-only' said || die "$each: $(cat said)"
  done
  : >~root/x
  there test -e ~root/x && die "it sees the home of root"
  there sh -c 'echo 1 >/var/lib/ptgt/x && rm /var/lib/ptgt/x' || die "it may not write to its own directory"
}

# Reads and writes over each port, and every byte is looked at.
serves() {
  local each
  for each in 10.77.0.2 10.78.0.2 127.0.0.1; do
    "$PTGT" bench --verify --reads 50 --block 16KiB --seconds "$(seconds 4)" "iscsi://$each:3260/$iqn/1" >bench.out 2>&1 ||
      { cat bench.out; die "no load over $each"; }
    ! grep -q '(0 operations' bench.out || die "no operation over $each"
  done
  "$PTGT" status --json >status.json
  [ "$(grep -c '"driver": "\(tap\|packet\|kernel\)"' status.json)" -eq 3 ] || die "ports: $(cat status.json)"
}
# Of each portal, without waiting.
serving() { local each; for each in 10.77.0.2 10.78.0.2 127.0.0.1; do connects $each || die "$each: up, but nobody there"; done; }

job() {
  local unit=/etc/systemd/system/ptgt.service pid

  say "the unit, as systemd sees it"
  systemd-analyze verify --man=no $unit >said 2>&1 && [ ! -s said ] || { cat said; die "systemd has something to say of the unit"; }
  systemd-analyze security --offline=true --no-pager --threshold=$exposure $unit | tail -n 1

  say "without huge pages it does not start, and says so"
  start_fails
  journal_has 'huge pages of 2 MiB on node 0: 0 free'
  systemctl stop ptgt

  say "up when it serves"
  echo 40 >/proc/sys/vm/nr_hugepages
  systemctl start ptgt
  serving
  rights
  walls
  [ "$(stat -c '%U %a' /run/ptgt /run/ptgt/control.sock /var/lib/ptgt /var/lib/ptgt/disk0.img | paste -sd,)" = \
    'ptgt 755,ptgt 660,ptgt 755,ptgt 600' ] || { ls -laR /run/ptgt /var/lib/ptgt; die "files of others, or for others"; }
  serves

  say "restarted under load"
  attach node.session.timeo.replacement_timeout=600
  start_load "$disk" bs=4k,16k iodepth=8 size=64m
  pid=$(main_pid)
  systemctl restart ptgt
  [ "$(main_pid)" != "$pid" ] || die "it was not restarted"
  load_progresses

  say "killed"
  kill -KILL "$(main_pid)"
  load_progresses
  [ "$(unit_property NRestarts)" -eq 1 ] || die "started again $(unit_property NRestarts) times, not once"

  say "a daemon that stands still is killed, and started again"
  mkdir -p $unit.d
  printf '[Service]\nWatchdogSec=3\n' >$unit.d/watchdog.conf
  systemctl daemon-reload
  systemctl restart ptgt
  load_progresses
  pid=$(main_pid)
  kill -STOP "$pid"
  again() { [ "$(main_pid)" != "$pid" ] && [ "$(unit_property ActiveState)" = active ]; }
  until_true 30 again || die "it is not started again: $(unit_property ActiveState)"
  journal_has 'Watchdog timeout'
  load_progresses
  end_load

  say "stopped in order"
  systemctl stop ptgt
  [ "$(unit_property Result) $(unit_property ExecMainStatus) $(unit_property ActiveState)" = 'success 0 inactive' ] || die "$(systemctl status --no-pager ptgt)"
  journal_has '^stopped$'
  [ ! -e /run/ptgt ] && [ ! -e /sys/class/net/ptgt0 ] || die "something is left"
  systemctl start ptgt
  wait_for_session
  logout

  say "a configuration that is wrong"
  systemctl stop ptgt
  sed -i 's/"tap"/"cap"/' /etc/ptgt/ptgt.toml
  start_fails
  journal_has '^/etc/ptgt/ptgt.toml:[0-9]+:[0-9]+: port\[0\]\.driver: '
  cp target.toml /etc/ptgt/ptgt.toml
  # It has not given up.
  until_true 30 systemctl is-active -q ptgt || die "it is not started again: $(unit_property ActiveState)"
  serving
  systemctl stop ptgt
}
