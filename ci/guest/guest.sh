# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154 # what /usr/lib/rig/job sets
# guest.sh: runs a job in the guest, and what jobs share there. /usr/lib/rig/job tells which one, and how.
#
# The host is asked over a virtio serial port, one line there and one line back; the kernel's log goes to the host over
# another one as it is written, so that it is there whatever happens to the guest.
export PATH=/usr/sbin:/usr/bin:/usr/lib/busybox HOME=/root TERM=dumb LC_ALL=C
export work=/run/work PTGT=/usr/lib/rig/ptgt
mkdir -p $work /etc
. /usr/lib/rig/job # job, place, port, device, quick, TARGET and, of a target on the host, host and host6
hostname guest

rig_modules="virtio_pci virtio_console virtio_net"
modprobe -a $rig_modules
port_named() { # NAME
  local file
  for file in /sys/class/virtio-ports/*/name; do
    [ "$(cat "$file")" != "$1" ] || { file=${file%/name}; echo "/dev/${file##*/}"; return; }
  done
  echo "no virtio port $1" >&2
  return 1
}
exec 3<>"$(port_named control)" 4>"$(port_named log)"
(exec 5</dev/kmsg; while :; do cat <&5 >&4; done) &

# The end of a job, however it comes: the host gets the exit status, then the guest is switched off.
finish() {
  local status=$?
  trap - EXIT
  set +e
  [ $status -eq 0 ] || { failed; echo "--- the job ends with status $status"; }
  echo "rig: end" >/dev/kmsg
  echo "finish $status" >&3
  read -r -t 20 -u 3 _ || true
  echo o >/proc/sysrq-trigger
  while :; do :; done
}

. /usr/lib/rig/ci/lib.sh
trap finish EXIT
. /usr/lib/rig/ci/guest/target.sh
# shellcheck source=/dev/null
. "/usr/lib/rig/ci/guest/jobs/$job.sh"

# Runs a verb of target.sh where the target is, prints its answer, and fails as it does.
at_target() { # VERB [ARGUMENTS]
  if [ "$place" = inside ] && [ "${1%%_*}" = target ]; then
    "$@"
  else
    on_host "$@"
  fi
}
on_host() {
  local status answer
  echo "$*" >&3
  read -r -u 3 status answer
  [ -z "$answer" ] || echo "$answer"
  return "$status"
}

# Makes a check that Debian's tgtd may be known to fail, by its name in tgtd.txt: then it has to fail, and the job goes on.
check() { # NAME COMMAND...
  local name=$job/$1 why='' status=0; shift
  [ "$TARGET" = ptgt ] || why=$(sed -n "s,^$name  *,,p" /usr/lib/rig/ci/guest/tgtd.txt)
  [ -n "$why" ] || { "$@"; return; }
  # Within a condition the check would not end at its first error.
  set +e
  (set -e; "$@") >known 2>&1
  status=$?
  set -e
  [ $status -ne 0 ] || die "tgtd passes $name: take that off tgtd.txt"
  say "tgtd: $name: $why"
}

# --- the initiator

# A name of the initiator; without an argument the first one.
# shellcheck disable=SC2120
initiator_name() { echo "iqn.2026-11.com.example.ptgt:guest${1:-}"; }

start_initiator() {
  mkdir -p /run/lock/iscsi /etc/iscsi
  echo "InitiatorName=$(initiator_name)" >/etc/iscsi/initiatorname.iscsi
  modprobe -a iscsi_tcp sd_mod sg crc32c_generic
  iscsid
  until_true 30 iscsid_ready || die "iscsid does not start"
}
iscsid_ready() { # 21: there are no sessions
  local status=0
  iscsiadm -m session || status=$?
  [ $status -eq 0 ] || [ $status -eq 21 ]
}

if [ "$place" = inside ]; then
  [ "$port" = kernel ] || modprobe tun
  use_port "$port"
fi
# The first address of the target, and that of the second path.
address=$host address2=10.78.0.2
[ "$TARGET" = ptgt ] && thin_lun=0 ram_lun=1 || thin_lun=1 ram_lun=2
case $device in
  ram*) lun=$ram_lun ;;
  *) lun=$thin_lun ;;
esac

node() { iscsiadm -m node -T "$iqn" "$@"; }
# Makes a record for an address, with settings of iscsid.conf.
know() { # ADDRESS [NAME=VALUE]...
  local at=$1 setting; shift
  node -p "$at" -o new >/dev/null
  # A busy machine answers late; the time-outs are what a job wants them to be, not the machine.
  for setting in 'node.conn[0].timeo.noop_out_timeout=30' node.session.scan=auto "$@"; do
    node -p "$at" -o update -n "${setting%%=*}" -v "${setting#*=}"
  done
}
login() { node -p "$1" --login >/dev/null; } # ADDRESS
logout() { node ${1:+-p "$1"} --logout >/dev/null; } # [ADDRESS]
# The states of all sessions.
session_state() { cat /sys/class/iscsi_session/session*/state; }

# The disks of a LUN, as sessions have them, first come first.
disks_of() { # LUN
  local directory
  for directory in $(ls -d /sys/class/iscsi_session/session*/device/target*/*:"$1"/block/* | sort -V); do
    echo "/dev/${directory##*/}"
  done
}
# Waits for the disks of a LUN, so many of them, and names them in $disk (the first one) and $disks.
wait_for_disks() { # LUN [NUMBER]
  local number=${2:-1}
  there() { disks=$(disks_of "$1" 2>/dev/null | paste -sd' ') && [ "$(wc -w <<<"$disks")" -eq "$2" ]; }
  until_true 60 there "$1" "$number" || die "not $number disks of LUN $1: ${disks:-none}"
  disk=${disks%% *}
}
# Starts the initiator and logs in over the first path: $disk is the job's device.
attach() { # [NAME=VALUE]...
  start_initiator
  know "$address" "$@"
  login "$address"
  wait_for_disks "$lun"
}
attribute() { echo "/sys/block/${disk##*/}/device/$1"; } # NAME
# Waits until the only session is there again.
wait_for_session() {
  logged_in() { [ "$(session_state)" = LOGGED_IN ] && [ "$(cat "$(attribute state)")" = running ]; }
  until_true 120 logged_in || die "the session does not come back: $(session_state), $(cat "$(attribute state)")"
}

# Waits until the session is there again, of a target without disks.
wait_for_login() {
  logged_in() { [ "$(session_state)" = LOGGED_IN ]; }
  until_true 120 logged_in || die "the session does not come back: $(session_state)"
}

# The library's devices, under the names that they have in the page.
library_devices() {
  local of name
  mkdir -p /dev/tape/by-id
  for of in /sys/class/scsi_generic/sg*; do
    case $(cat "$of/device/type") in
      8) changer=/dev/${of##*/}; ln -sf "$changer" /dev/tape/by-id/library ;;
    esac
  done
  for name in 0 1; do
    [ -c "/dev/nst$name" ] && ln -sf "/dev/nst$name" "/dev/tape/by-id/drive$name"
  done
  [ -c "$changer" ]
}

# --- loads and checks

# Logs in to $library, and waits for its devices.
attach_library() {
  iqn=$library
  start_initiator
  know "$address"
  login "$address"
  modprobe -a st sg
  until_true 60 library_devices || die "no library"
  sg_turs "$changer" || sg_turs "$changer"
}

# Trees of files of many lengths, below /srv.
trees() { # NAME...
  local name seed=0 size
  for name in "$@"; do
    for size in 1 100 65536 1000000 8000000 12000000 16000000; do
      seed=$((seed + 1))
      mkdir -p "/srv/$name/$seed"
      pattern $seed $size >"/srv/$name/$seed/file"
    done
  done
}

# The configuration of fio for one load: a disk or file, and options. It verifies what it reads.
fio_config() { # FILE NAME=VALUE...
  local file=$1; shift
  printf '[load]\nfilename=%s\nioengine=libaio\ndirect=1\nfallocate=none\nallow_mounted_write=1\n' "$file"
  printf 'verify=crc32c\nverify_fatal=1\nverify_dump=0\n'
  printf '%s\n' "$@"
}
run_fio() { # FILE NAME=VALUE...
  fio_config "$@" >load.fio
  fio load.fio >fio.log 2>&1 || { cat fio.log; die "fio has found an error"; }
  grep -E '^ *(read|write):' fio.log
}
# A load in the background, without an end of its own: reads and writes mixed; what was written is read back soon.
start_load() { # FILE NAME=VALUE...
  fio_config "$@" rw=randrw time_based=1 runtime=1d verify_backlog=64 >load.fio
  fio load.fio >fio.log 2>&1 &
  load=$!
  load_progresses
}
# The load goes on: within two minutes some more has been written.
load_progresses() {
  local before
  before=$(sectors_written)
  more_written() { [ "$(sectors_written)" -gt $(($1 + 200)) ] || ! kill -0 $load; }
  until_true 120 more_written "$before" || { cat fio.log; die "the load does not go on"; }
  kill -0 $load 2>/dev/null || { cat fio.log; die "the load has ended early"; }
}
sectors_written() { awk '{ print $7 }' "/sys/block/${disk##*/}/stat"; }
# 128 is how fio says that it was told to end, and has found no error until then.
end_load() {
  local status=0
  kill -TERM $load
  wait $load || status=$?
  [ $status -eq 128 ] || { cat fio.log; die "the load has found an error: status $status"; }
  grep -E '^ *(read|write):' fio.log
}

# How many seconds of a load: all of them, or a quarter in the quick set.
seconds() { [ -z "${quick:-}" ] && echo "$1" || echo $(($1 / 4 + 1)); }

# --- from here on the job runs

if [ "$place" = host ]; then
  for n in 0 1; do
    until_true 10 test -e "/sys/class/net/eth$n"
    # No wait for duplicate addresses.
    echo 0 >"/proc/sys/net/ipv6/conf/eth$n/accept_dad"
    ip link set "eth$n" up
    ip addr add "10.7$((7 + n)).0.10/24" dev "eth$n"
  done
  ip addr add fd77::10/64 dev eth0
else
  target_config
  [ "$(type -t before_target)" != function ] || before_target
  target_start
fi
say "the guest is up after $(cut -d' ' -f1 /proc/uptime) s"
echo "rig: begin" >/dev/kmsg
job
say "done after $(cut -d' ' -f1 /proc/uptime) s"
exit 0
