# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: the kernel's tape driver: mt, dd with blocks of many lengths, tar over the end of a tape, a kill of the target
# nets: tap,kernel,inside-kernel
# limit: 600
# needs: mt-st tar dd cmp sg_persist sg_logs sg_read_attr sg_read_block_limits sg_raw sg_turs sg_vpd stinit tapeinfo sg_inq
# modules: st sg
# expected: \[st[0-9]\] |detected conn error \(1020\)|Power-on or device reset occurred
tapes=$iqn:tapes

more_config() {
  local n
  for n in 0 1; do
    printf '[[tape]]\nname = "tape%d"\nstore = "file"\npath = "var/lib/ptgt/tape%d.ptt"\nsize = "24MiB"\ncreate = true\n' $n $n
  done
  printf '[[tape]]\nname = "tape2"\nstore = "ram"\nsize = "16MiB"\npersonality = "ibm-ult3580-td8"\n'
  printf '[[target]]\nname = "%s"\nluns = [{ lun = 0, unit = "tape0" }, { lun = 1, unit = "tape1" }, { lun = 2, unit = "tape2" }]\n' "$tapes"
  printf 'portals = ["four"]\n'
}

tape() { mt-st -f /dev/nst0 "$@"; }
# What `mt tell` says.
block() { tape tell | grep -oE '[0-9]+'; }
is_at() { [ "$(block)" = "$1" ] || die "the tape is at block $(block), not at $1"; }
# The file number and block number of `mt status`.
place() { tape status | sed -nE 's/^File number=(-?[0-9]+), block number=(-?[0-9]+).*/\1 \2/p'; }
is_in() { [ "$(place)" = "$*" ] || die "the tape is in file and block $(place), not in $*"; }
found() { [ -c /dev/nst0 ] && [ -c /dev/nst1 ] && [ -c /dev/nst2 ]; }

job() {
  iqn=$tapes
  modprobe st
  start_initiator
  know "$address"
  login "$address"
  until_true 60 found || die "no tapes"
  sg_turs /dev/nst0 || sg_turs /dev/nst0
  [[ $(tape status) == *BOT*ONLINE* ]] || { tape status; die "the tape is not at its beginning"; }
  [[ $(sg_read_block_limits /dev/nst0 2>&1) == *'Maximum block size: 16777215'* ]] || die "other block limits"

  say "blocks of many lengths"
  pattern 1 8388608 >data
  tape setblk 0
  local bs count file=0
  for bs in 512 10240 65536 1048576; do
    count=$((bs > 65536 ? 4 : 16))
    dd if=data of=/dev/nst0 bs=$bs count=$count 2>/dev/null
    file=$((file + 1))
    is_in $file 0
  done
  tape rewind
  is_in 0 0
  is_at 0
  for bs in 512 10240 65536 1048576; do
    count=$((bs > 65536 ? 4 : 16))
    dd if=/dev/nst0 bs=$bs 2>/dev/null | cmp - <(head -c $((bs * count)) data) || die "$bs reads something else"
  done
  # A block that is longer than what is asked for.
  tape rewind
  ! dd if=/dev/nst0 of=/dev/null bs=100 count=1 2>dd.log || die "a part of a block is read"
  grep -q 'Cannot allocate memory' dd.log || { cat dd.log; die "another error"; }
  is_in 0 1

  say "motion"
  tape rewind
  tape fsf 2; is_in 2 0; is_at 34
  tape fsr 5; is_in 2 5
  tape bsr 2; is_in 2 3
  tape bsf 1; is_at 33
  tape bsfm 1; is_at 17
  tape eod; is_in 4 -1; is_at 56
  tape seek 20; is_at 20
  dd if=/dev/nst0 bs=10240 count=1 2>/dev/null | cmp - <(tail -c +$((3 * 10240 + 1)) data | head -c 10240) || die "another block"
  ! tape fsf 9 2>/dev/null || die "there are not as many files"
  tape rewind
  ! tape bsr 1 2>/dev/null || die "there is a block before the first"

  say "fixed blocks, and what is written in the middle ends the tape"
  tape rewind
  tape fsf 1
  tape setblk 1024
  dd if=data of=/dev/nst0 bs=64k count=2 2>/dev/null
  is_at 146
  tape rewind; tape fsf 1
  dd if=/dev/nst0 bs=32k 2>/dev/null | cmp - <(head -c 131072 data) || die "fixed blocks read something else"
  [ "$(dd if=/dev/nst0 bs=32k count=1 2>/dev/null | wc -c)" -eq 0 ] || die "more is there"
  tape weof 3
  tape eod
  tape setblk 0

  say "the target is killed: what is before a filemark stays"
  tape rewind
  dd if=data of=/dev/nst0 bs=65536 count=40 2>/dev/null
  at_target target_crash 1
  wait_for_login
  sg_turs /dev/nst0 || sg_turs /dev/nst0 || sg_turs /dev/nst0
  tape rewind
  dd if=/dev/nst0 bs=65536 2>/dev/null | cmp - <(head -c 2621440 data) || die "something else is there after a kill"

  say "tar, over the end of a tape"
  mkdir -p tree && head -c 6000000 data >tree/one && head -c 7000000 data >tree/two && head -c 8388608 data >tree/three
  head -c 5000000 data >tree/four
  mt-st -f /dev/nst1 rewind
  tape rewind
  tar -c -M -b 128 -f /dev/nst0 -f /dev/nst1 tree || die "tar does not write"
  tape rewind
  mt-st -f /dev/nst1 rewind
  mkdir -p back
  tar -x -M -b 128 -C back -f /dev/nst0 -f /dev/nst1 || die "tar does not read"
  for file in one two three four; do cmp tree/$file back/tree/$file; done

  say "erase, partitions, load, reservations, logs"
  tape rewind
  tape erase
  tape eod; is_at 0
  tape stsetoptions can-partitions
  tape mkpartition 4
  tape setpartition 1
  dd if=data of=/dev/nst0 bs=65536 count=3 2>/dev/null
  tape setpartition 0
  dd if=data of=/dev/nst0 bs=512 count=3 2>/dev/null
  tape setpartition 1
  tape rewind
  dd if=/dev/nst0 bs=65536 2>/dev/null | cmp - <(head -c 196608 data) || die "partition 1 reads something else"
  tape setpartition 0
  tape offline
  ! tape fsf 1 2>/dev/null || die "a tape is there that has been taken out"
  tape load
  is_at 0
  sg_persist --out --register --param-sark=0x77 /dev/nst0 >/dev/null
  [[ $(sg_persist --in --read-keys /dev/nst0) == *0x77* ]] || die "no key is registered"
  sg_persist --out --register --param-rk=0x77 --param-sark=0 /dev/nst0 >/dev/null
  [[ $(sg_logs --page=0x2e /dev/nst0) == *'Tape alert'* ]] || die "no TapeAlert page"

  say "what programs ask drives for"
  local page
  for page in 0xc 0x11 0x14 0x17 0x1b 0x31; do
    sg_logs --page=$page /dev/nst0 >logs.txt || { cat logs.txt; die "no log page $page"; }
  done
  [[ $(sg_logs --page=0xc /dev/nst0) == *'Data bytes received with WRITE commands'* ]] || die "no bytes are counted"
  sg_read_attr /dev/nst0 >attributes.txt || { cat attributes.txt; die "no attributes"; }
  grep -qE 'Medium density code: *(0x5a|90)' attributes.txt || { cat attributes.txt; die "another density"; }
  grep -q 'Medium serial number' attributes.txt || { cat attributes.txt; die "no serial number"; }
  # WRITE ATTRIBUTE, as backup programs label a cartridge: APPLICATION VENDOR.
  printf '\0\0\0\015\010\0\001\0\010JOB TAPE' >list.bin
  sg_raw -s 17 -i list.bin /dev/nst0 8d 00 00 00 00 00 00 00 00 00 00 00 00 11 00 00
  tape offline
  tape load
  [[ $(sg_read_attr --first=0x800 /dev/nst0) == *'JOB TAPE'* ]] || die "the attribute is not kept"
  local sg
  sg=$(ls "/sys/class/scsi_tape/nst0/device/scsi_generic")
  tapeinfo -f "/dev/$sg" >info.txt || { cat info.txt; die "tapeinfo fails"; }
  grep -q "Product ID: 'VIRTUAL-TAPE" info.txt || { cat info.txt; die "tapeinfo knows another product"; }
  grep -q 'MaxBlock: 16777215' info.txt || { cat info.txt; die "tapeinfo knows other limits"; }
  [[ $(sg_vpd --page=0xb0 /dev/nst0) == *'WORM'* ]] || die "no page of sequential-access capabilities"

  say "settings of stinit, compression, and a personality"
  printf 'manufacturer="PTGT" model="VIRTUAL-TAPE" {\nscsi2logical=1 can-bsr=1\nmode1 blocksize=4096 compression=1\n}\n' >stinit.def
  stinit -f stinit.def /dev/nst0 || die "stinit fails"
  [[ $(tape status) == *'Tape block size 4096 bytes'* ]] || { tape status; die "stinit sets no block size"; }
  tape setblk 0
  tape rewind
  tape compression 1
  dd if=/dev/zero of=/dev/nst0 bs=1M count=60 2>/dev/null || die "zeros are not compressed: a tape of 24 MiB is full"
  tape rewind
  [ "$(dd if=/dev/nst0 bs=1M 2>/dev/null | wc -c)" -eq $((60 << 20)) ] || die "compressed data reads otherwise"
  tape compression 0
  [[ $(mt-st -f /dev/nst2 status) == *LTO-8* ]] || { mt-st -f /dev/nst2 status; die "no LTO-8 drive"; }
  sg_inq /dev/nst2 | grep -q 'Product identification: ULT3580-TD8' || die "another product"
  dd if=data of=/dev/nst2 bs=65536 count=8 2>/dev/null
  mt-st -f /dev/nst2 rewind
  dd if=/dev/nst2 bs=65536 2>/dev/null | cmp - <(head -c 524288 data) || die "the LTO-8 drive reads something else"
  logout
}
