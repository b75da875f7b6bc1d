# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: FCoE: Debian's initiator logs in without a switch; file system, fio verify, reset, aborts, cable, killed target
# nets: tap
# devices: file,file4k
# limit: 900
# needs: fio dd cmp mkfs.ext4 fsck.ext4 /etc/mke2fs.conf sg_reset sg_persist
# modules: fcoe ext4
more_config() {
  printf '[[fcoe_target]]\nname = "san"\nport = "net"\n'
  printf 'luns = [{ lun = 0, unit = "thin0" }, { lun = 1, unit = "ram0" }]\n'
}

# Class 3 repeats nothing, and a bridge drops what an emulated guest is too slow for.
link_lengthen() { for device in guest0 ptgt0; do ip link set $device txqueuelen 20000; done; }

# Starts the target again with room for frames of full length.
target_widen() {
  target_stop
  for device in bridge0 guest0 ptgt0; do ip link set $device mtu 2500; done
  sed -i 's/^mtu = 1500/mtu = 2500/' target.toml
  target_start
}

fcoe_disks() { ls -d /sys/class/fc_host/host*/device/rport*/target*/*:"$lun"/block/* 2>/dev/null; }
fcoe_disk() {
  there() { [ -n "$(fcoe_disks)" ]; }
  until_true 30 there || die "no disk"
  disk=/dev/$(basename "$(fcoe_disks)")
  until_true 20 test -b "$disk"
}

# Makes the initiator's port, and waits for its disk. Frames that come meanwhile can crash this kernel.
log_in() {
  local begin=$SECONDS
  ip link set eth0 down
  echo eth0 >/sys/module/libfcoe/parameters/create_vn2vn
  ip link set eth0 up
  fcoe_disk
  say "a disk after $((SECONDS - begin)) s, $(cat /sys/class/fc_host/host*/maxframe_size) in a frame"
}
log_out() {
  local disk
  # Otherwise it flushes them when it has no target any more.
  for disk in /sys/class/fc_host/host*/device/rport*/target*/*/delete; do echo 1 >"$disk"; done
  echo eth0 >/sys/module/libfcoe/parameters/destroy
}

job() {
  on_host link_lengthen
  modprobe -a fcoe sd_mod sg ext4
  log_in
  pattern 3 8388608 >before
  dd if=before of="$disk" bs=1M seek=300 oflag=direct conv=fsync 2>/dev/null
  cmp_before || die "data differs"
  mkfs.ext4 -q -F "$disk" 128m
  mkdir -p mnt
  mount "$disk" mnt
  for n in $(seq 20); do head -c $((n * 33331)) before >"mnt/file$n"; done
  cp before mnt/whole
  umount mnt
  fsck.ext4 -fn "$disk" >fsck 2>&1 || { cat fsck; die "the file system has errors"; }
  mount -o ro "$disk" mnt
  cmp before mnt/whole || die "a file differs"
  umount mnt
  say "a file system is good"

  persist() { sg_persist -n "$@" "$disk"; }
  persist --out --register --param-sark=0xabc || die "no registration"
  persist --in --read-full-status >persist
  grep -q '20005254 *00770000\|20 00 52 54 00 77 00 00\|2000525400770000' persist || { cat persist; die "not the initiator's name"; }
  persist --out --register --param-rk=0xabc || die "the registration stays"
  say "a registration has the initiator's name"

  # Less than a busy machine needs, so that commands that are lost are aborted soon.
  echo 6 >"$(attribute timeout)"
  start_load "$disk" bs=4k,64k iodepth=8 size=64m offset=136m
  sg_reset --no-escalate --device "$disk" || die "sg_reset fails"
  load_progresses
  say "the load goes on after a reset of the logical unit"

  local answered before
  at_target target_freeze
  sleep 9
  at_target target_thaw
  load_progresses
  answered=$(counter aborts)
  [ "$answered" -gt 0 ] || die "nothing was aborted"
  say "the load goes on after $answered aborts"

  on_host link_cut 0
  sleep 3
  on_host link_join 0
  load_progresses
  say "the load goes on after the cable was pulled"

  at_target target_crash 1
  load_progresses
  say "the load goes on after the target was killed"
  end_load
  cmp_before || die "data of before the load is gone"

  before=$(at_target target_log 'has left')
  log_out
  left() { [ "$(at_target target_log 'has left')" -gt "$before" ]; }
  until_true 10 left || die "the initiator has not logged out"
  at_target target_widen
  ip link set eth0 mtu 2500
  log_in
  grep -q '^2112 ' /sys/class/fc_host/host*/maxframe_size || die "frames are not of full length"
  echo 30 >"$(attribute timeout)"
  cmp_before || die "data differs in frames of full length"
  dd if=before of="$disk" bs=1M seek=310 oflag=direct conv=fsync 2>/dev/null
  dd if="$disk" bs=1M skip=310 count=8 iflag=direct 2>/dev/null | cmp - before || die "data differs in frames of full length"
  log_out
}

cmp_before() { dd if="$disk" bs=1M skip=300 count=8 iflag=direct 2>/dev/null | cmp - before; }

# A counter of the target's port.
counter() { at_target target_counter "$1"; } # NAME
target_counter() { "$PTGT" status --json | jq ".ports[0].counters.$1"; }
