# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: dm-multipath over two portals: one path after the other is lost under load, and comes back
# nets: tap,kernel
# devices: file,ram
# limit: 900
# needs: fio multipath multipathd /lib/multipath dmsetup mount /lib/systemd/systemd-udevd udevadm /lib/udev/scsi_id /lib/udev/rules.d/55-dm.rules /lib/udev/rules.d/56-dm-mpath.rules /lib/udev/rules.d/60-persistent-storage.rules /lib/udev/rules.d/60-multipath.rules /lib/udev/rules.d/95-dm-notify.rules
# modules: dm_mod dm_multipath dm_round_robin dm_service_time scsi_dh_alua
# expected: CONFIG_IMA_DISABLE_HTABLE|ping timeout of [0-9]+ secs expired|detected conn error \(1022\)|session recovery timed out after 5 secs|I/O error, dev sd[a-z], sector [0-9]+ op 0x[01]:\((READ|WRITE)\)|FAILED Result: hostbyte=DID_TRANSPORT_(DISRUPTED|FAILFAST) driverbyte=DRIVER_OK|tag#[0-9]+ CDB: (Read|Write)|rejecting I/O to offline device|device-mapper: multipath: .*: (Failing|Reinstating) path|alua: rtpg failed|alua: transition timeout set|callbacks suppressed
job() {
  modprobe -a dm_mod dm_multipath dm_round_robin dm_service_time scsi_dh_alua
  cat >/etc/multipath.conf <<'X'
defaults {
  find_multipaths no
  polling_interval 2
  max_polling_interval 4
  path_grouping_policy multibus
  path_selector "round-robin 0"
  no_path_retry queue
}
X
  /lib/systemd/systemd-udevd --daemon
  multipathd -B >multipathd.log 2>&1
  start_initiator
  local at
  for at in "$address" "$address2"; do
    know "$at" 'node.conn[0].timeo.noop_out_interval=2' 'node.conn[0].timeo.noop_out_timeout=5' \
      node.session.timeo.replacement_timeout=5
    login "$at"
  done
  wait_for_disks "$lun" 2
  local paths=$disks
  until_true 60 has_map || { multipathd show paths; die "multipathd makes no map of $paths"; }
  disk=/dev/$(holder "${paths% *}")
  until_true 60 paths_up 2 || die "not two paths"
  multipath -ll
  [ "$TARGET" = tgtd ] || multipath -ll | grep -q "hwhandler='1 alua'" || die "the paths are not handled by ALUA"

  start_load "$disk" bs=4k,16k iodepth=16 size=64m
  local path
  for path in 0 1; do
    say "path $path is cut"
    on_host link_cut $path
    until_true 120 paths_up 1 || { multipath -ll; die "the path does not fail"; }
    load_progresses
    on_host link_join $path
    until_true 180 paths_up 2 || { multipath -ll; die "the path does not come back"; }
    load_progresses
    say "path $path is back, the load went on"
  done
  end_load
  multipath -F || die "the map does not go"
  logout
}

holder() { basename "$(ls -d "/sys/block/${1##*/}"/holders/dm-*)"; } # DISK
has_map() {
  local path
  for path in $paths; do ls -d "/sys/block/${path##*/}"/holders/dm-* >/dev/null || return 1; done
}
# So many paths of the map are active.
paths_up() { [ "$(dmsetup status "$(cat "/sys/block/${disk##*/}/dm/name")" | grep -oE '[0-9]+:[0-9]+ A' | wc -l)" -eq "$1" ]; } # NUMBER
