# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: the cable is pulled: for a moment, for longer than the pings allow, for longer than the session may take to recover
# nets: tap,kernel
# devices: file,ram
# limit: 600
# needs: fio dd
# expected: ping timeout of [0-9]+ secs expired|detected conn error \(1022\)|session recovery timed out after 5 secs|rejecting I/O to offline device|I/O error, dev sd[a-z], sector [0-9]+ op 0x0:\(READ\)
job() {
  attach 'node.conn[0].timeo.noop_out_interval=3' 'node.conn[0].timeo.noop_out_timeout=6' \
    node.session.timeo.replacement_timeout=300
  start_load "$disk" bs=4k,16k iodepth=8 size=64m
  local seconds
  for seconds in 1 20; do
    say "no link for $seconds s"
    on_host link_cut 0
    sleep "$seconds"
    on_host link_join 0
    load_progresses
  done
  end_load
  logout
  node -o delete

  say "the session may take 5 s to recover, and the link is gone for longer: errors, and none afterwards"
  know "$address" 'node.conn[0].timeo.noop_out_interval=2' 'node.conn[0].timeo.noop_out_timeout=4' \
    node.session.timeo.replacement_timeout=5
  login "$address"
  wait_for_disks "$lun"
  # The other disk is not of interest, but the kernel must have looked for partitions on it.
  attached() { [ "$(dmesg | grep -c 'Attached SCSI disk')" -eq 4 ]; }
  until_true 60 attached || die "the disks are not attached"
  on_host link_cut 0
  ! dd if="$disk" of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null || die "a read without a link succeeds"
  on_host link_join 0
  wait_for_session
  run_fio "$disk" rw=randwrite bs=4k iodepth=8 size=8m do_verify=1
  logout
}
