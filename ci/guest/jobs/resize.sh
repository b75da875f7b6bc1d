# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: a disk that has grown is seen after a rescan, and the file system on it grows while it is mounted
# nets: tap,kernel,inside-kernel
# devices: file,file4k
# limit: 300
# needs: sha256sum mkfs.ext4 fsck.ext4 resize2fs /etc/mke2fs.conf
# modules: ext4 crc32c_generic libcrc32c
# expected: detected conn error \((1011|1019|1020)\)|detected capacity change|Capacity data has changed|EXT4-fs .*resiz
job() {
  [ "$device" = file ] || die "only a file grows"
  attach node.session.timeo.replacement_timeout=300
  [ "$(blockdev --getsize64 "$disk")" -eq $((1 << 30)) ] || die "the disk has $(blockdev --getsize64 "$disk") bytes"
  modprobe ext4
  mkdir -p mnt
  mkfs.ext4 -q -F "$disk"
  mount -t ext4 "$disk" mnt
  pattern 9 4194304 >mnt/file
  sha256sum mnt/file >sum
  sync

  at_target target_resize 2GiB
  wait_for_session
  echo 1 >"$(attribute rescan)"
  [ "$(blockdev --getsize64 "$disk")" -eq $((2 << 30)) ] || die "after the rescan: $(blockdev --getsize64 "$disk") bytes"
  resize2fs "$disk" >resize 2>&1 || { cat resize; die "the file system does not grow"; }
  [ "$(df -k mnt | awk 'END { print $2 }')" -gt 1900000 ] || die "the file system has $(df -k mnt)"
  dd if=/dev/zero of=mnt/large bs=1M count=32 conv=fsync 2>/dev/null
  umount mnt
  fsck.ext4 -fn "$disk" >fsck 2>&1 || { cat fsck; die "the file system has errors"; }
  mount -t ext4 "$disk" mnt
  sha256sum --status -c sum || die "the file has changed"
  umount mnt
  logout
}
