# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: open-iscsi logs in: digests, IPv6, discovery, several sessions
# nets: tap,kernel,inside-tap,inside-kernel
# devices: file,ram
# limit: 200
# needs: cmp
job() {
  start_initiator
  local digests header payload number=0

  say "discovery"
  iscsiadm -m discovery -t sendtargets -p "$address" | tee found
  grep -qF "$address:3260,1 $iqn" found || die "SendTargets does not tell of $address"
  node -o delete

  for digests in None,None CRC32C,None None,CRC32C CRC32C,CRC32C; do
    header=${digests%,*} payload=${digests#*,}
    say "header digest $header, data digest $payload"
    know "$address" "node.conn[0].iscsi.HeaderDigest=$header" "node.conn[0].iscsi.DataDigest=$payload"
    login "$address"
    wait_for_disks "$lun"
    iscsiadm -m session -P 2 >session
    grep -qE "HeaderDigest: $header" session || die "header digests are not $header"
    grep -qE "DataDigest: $payload" session || die "data digests are not $payload"
    exchange "$disk" $((number += 1))
    logout
    node -o delete
  done

  say "IPv6"
  know "[$host6]"
  login "[$host6]"
  wait_for_disks "$lun"
  exchange "$disk" $((number += 1))

  say "four sessions to one target"
  for number in 1 2 3 4; do
    iscsiadm -m iface -o new -I "if$number" >/dev/null
    iscsiadm -m iface -o update -I "if$number" -n iface.initiatorname -v "$(initiator_name "$number")" >/dev/null
    node -p "$address" -I "if$number" -o new >/dev/null
    node -p "$address" -I "if$number" --login >/dev/null
  done
  wait_for_disks "$lun" 5
  for disk in $disks; do exchange "$disk" $((number += 1)); done
  for disk in $disks; do
    blockdev --flushbufs "$disk"
    dd if="$disk" bs=64k count=4 skip=16 iflag=direct 2>/dev/null | cmp - data || die "$disk shows something else"
  done
  logout
}

# Writes a pattern and reads it back.
exchange() { # DISK SEED
  pattern "$2" 262144 >data
  dd if=data of="$1" bs=64k seek=16 oflag=direct 2>/dev/null
  dd if="$1" bs=64k count=4 skip=16 iflag=direct 2>/dev/null | cmp - data || die "$1 reads something else"
}
