# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: dd past the page cache with odd sizes at odd places, and badblocks
# nets: tap,kernel,inside-tap,inside-kernel
# devices: file,file4k,ram,ram4k
# limit: 400
# needs: dd cmp badblocks
job() {
  attach
  local block size places place count=0
  block=$(cat "/sys/block/${disk##*/}/queue/logical_block_size")
  pattern 5 16777216 >data
  dd if=/dev/zero of="$disk" bs=1M count=32 oflag=direct 2>/dev/null
  truncate -s 32M mirror
  # In blocks: around what a page, an R2T, a burst, and one command of the kernel take.
  local sizes="1 2 3 7 8 9 127 128 129 511 513"
  [ "$block" -ne 512 ] || sizes="$sizes 2047 2048 2049 2559 4095"
  for size in $sizes; do
    for place in $((size * 5 % 4093)) $((size * 3 + 1)); do
      dd if=data of="$disk" bs=$((size * block)) count=1 skip=1 seek=$((place * block)) oflag=direct,seek_bytes 2>/dev/null
      dd if=data of=mirror bs=$((size * block)) count=1 skip=1 seek=$((place * block)) oflag=seek_bytes conv=notrunc 2>/dev/null
      count=$((count + 1))
    done
    dd if="$disk" bs=$((size * block)) count=2 skip=1 iflag=direct 2>/dev/null >piece
    dd if=mirror bs=$((size * block)) count=2 skip=1 2>/dev/null | cmp - piece || die "reads of $size blocks differ"
  done
  dd if="$disk" bs=1M count=32 iflag=direct 2>/dev/null | cmp - mirror || die "the disk differs from its mirror"
  say "$count writes are where they belong"

  say "badblocks"
  badblocks -w -t random -t 0xa5 -b 4096 -c 128 -o bad "$disk" 4095 0
  [ ! -s bad ] || die "bad blocks: $(head bad)"
  logout
}
