# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: blkdiscard and fstrim give back what the image occupied
# nets: tap,kernel,inside-kernel
# devices: file,file4k
# limit: 300
# needs: blkdiscard fstrim mkfs.ext4 fsck.ext4 /etc/mke2fs.conf cmp dd
# modules: ext4 crc32c_generic libcrc32c
job() {
  [ "$device" = file ] || [ "$device" = file4k ] || die "only a file has blocks to give back"
  attach
  [ "$(cat "/sys/block/${disk##*/}/queue/discard_max_bytes")" -gt 0 ] || die "the disk offers no discard"

  say "blkdiscard"
  pattern 1 67108864 >data
  dd if=data of="$disk" bs=1M oflag=direct conv=fsync 2>/dev/null
  occupies_between 65536 69632
  blkdiscard -o $((16 << 20)) -l $((32 << 20)) "$disk"
  occupies_between 32768 36864
  dd if="$disk" bs=1M skip=16 count=32 iflag=direct 2>/dev/null | cmp -n $((32 << 20)) - /dev/zero || die "discarded blocks are not zero"
  dd if="$disk" bs=1M count=16 iflag=direct 2>/dev/null | cmp -n $((16 << 20)) - data || die "too much is gone"
  dd if="$disk" bs=1M skip=48 count=16 iflag=direct 2>/dev/null >rest
  dd if=data bs=1M skip=48 2>/dev/null | cmp - rest || die "too much is gone"
  blkdiscard -z -o $((48 << 20)) -l $((8 << 20)) "$disk"
  dd if="$disk" bs=1M skip=48 count=8 iflag=direct 2>/dev/null | cmp -n $((8 << 20)) - /dev/zero || die "zeroed blocks are not zero"
  blkdiscard "$disk"
  occupies_between 0 1024

  say "fstrim"
  modprobe ext4
  mkdir -p mnt
  mkfs.ext4 -q -F "$disk"
  mount -t ext4 "$disk" mnt
  cp data mnt/kept
  cp data mnt/gone
  sync
  local full
  full=$(at_target target_allocated)
  rm mnt/gone
  sync
  fstrim -v mnt
  occupies_between $((full - 69632)) $((full - 60000))
  echo 3 >/proc/sys/vm/drop_caches
  cmp data mnt/kept || die "fstrim has taken a file"
  umount mnt
  fsck.ext4 -fn "$disk" >fsck 2>&1 || { cat fsck; die "the file system has errors"; }
  logout
}

occupies_between() { # KIB KIB
  local now
  now=$(at_target target_allocated)
  say "the image occupies $now KiB"
  [ "$now" -ge "$1" ] && [ "$now" -le "$2" ] || die "the image occupies $now KiB, not $1 to $2"
}
