# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: the kernel's changer driver and mtx: status, load, unload, transfer, exchange, first, next; tapes in drives; kills of the target
# nets: tap,kernel,inside-kernel
# limit: 600
# needs: mt-st mtx loaderinfo tapeinfo tar dd cmp sg_persist sg_turs
# modules: st ch sg
# expected: \[st[0-9]\] |\[ch[0-9]\] |ch [0-9:]+ tag.[0-9]+ FAILED .*DID_TRANSPORT_DISRUPTED|detected conn error \(1020\)|Power-on or device reset occurred
library=$iqn:library

more_config() {
  local n
  mkdir -p var/lib/ptgt/library
  for n in 1 2 3 4 5; do truncate -s 24M var/lib/ptgt/library/A0000${n}L6.ptt; done
  for n in 0 1; do printf '[[tape]]\nname = "drive%d"\n' $n; done
  printf '[[library]]\nname = "library"\ncartridges = "var/lib/ptgt/library"\nslots = 8\nimport_export = 2\n'
  printf 'drives = ["drive0", "drive1"]\n'
  printf '[[target]]\nname = "%s"\nportals = ["four"]\n' "$library"
  printf 'luns = [{ lun = 0, unit = "library" }, { lun = 1, unit = "drive0" }, { lun = 2, unit = "drive1" }]\n'
}

changer() { mtx -f "$changer" "$@"; }
status() { changer status; }
# The drives, and the slots with a cartridge, as mtx shows them.
shows() {
  local line
  for line in "$@"; do
    [[ $(status) == *"$line"* ]] || { status; die "the library does not show $line"; }
  done
}
found() { [ -c /dev/sch0 ] && [ -c /dev/nst0 ] && [ -c /dev/nst1 ]; }
# Drives hear that there is another cartridge.
hears() { until_true 10 sg_turs "$1"; }

job() {
  iqn=$library
  modprobe sg; modprobe st; modprobe ch
  start_initiator
  know "$address"
  login "$address"
  until_true 60 found || die "no library"
  local of drive
  for of in /sys/class/scsi_generic/sg*; do
    case $(cat "$of/device/type") in
      8) changer=/dev/${of##*/} ;;
      1) drive=/dev/${of##*/} ;;
    esac
  done
  sg_turs "$changer" || sg_turs "$changer"
  [[ $(changer inquiry) == *VIRTUAL-LIBRARY* ]] || { changer inquiry; die "another library"; }
  [[ $(loaderinfo -f "$changer") == *'Number of Storage Elements: 8'* ]] || { loaderinfo -f "$changer"; die "other elements"; }
  changer inventory
  shows '2 Drives, 10 Slots ( 2 Import/Export )' 'Data Transfer Element 0:Empty' 'Storage Element 1:Full :VolumeTag=A00001L6' \
    'Storage Element 5:Full :VolumeTag=A00005L6' 'Storage Element 6:Empty' 'Storage Element 9 IMPORT/EXPORT:Empty'

  say "load, write, unload, load into the other drive, read"
  pattern 1 8388608 >data
  changer load 1 0
  hears /dev/nst0
  shows 'Data Transfer Element 0:Full (Storage Element 1 Loaded):VolumeTag = A00001L6' 'Storage Element 1:Empty'
  dd if=data of=/dev/nst0 bs=65536 count=40 2>/dev/null
  mt-st -f /dev/nst0 offline
  changer unload 1 0
  shows 'Data Transfer Element 0:Empty' 'Storage Element 1:Full :VolumeTag=A00001L6'
  ! changer unload 1 0 2>/dev/null || die "an empty drive is unloaded"
  changer load 1 1
  hears /dev/nst1
  dd if=/dev/nst1 bs=65536 2>/dev/null | cmp - <(head -c 2621440 data) || die "the other drive reads something else"
  # Without `mt offline`: the move unloads the drive.
  changer unload 3 1 2>/dev/null && die "a cartridge goes to a slot that is taken"
  changer transfer 2 9
  shows 'Storage Element 9 IMPORT/EXPORT:Full :VolumeTag=A00002L6'
  changer transfer 9 2
  changer unload 1 1
  shows 'Data Transfer Element 1:Empty' 'Storage Element 1:Full :VolumeTag=A00001L6'

  say "first, next, exchange"
  changer first 0
  shows 'Data Transfer Element 0:Full (Storage Element 1 Loaded)'
  changer next 0
  shows 'Data Transfer Element 0:Full (Storage Element 2 Loaded):VolumeTag = A00002L6' 'Storage Element 1:Full :VolumeTag=A00001L6'
  changer unload 2 0
  changer transfer 3 6
  changer exchange 4 6 3
  shows 'Storage Element 6:Full :VolumeTag=A00004L6' 'Storage Element 3:Full :VolumeTag=A00003L6' 'Storage Element 4:Empty'

  say "the target is killed while cartridges move"
  changer load 5 1
  hears /dev/nst1
  dd if=data of=/dev/nst1 bs=65536 count=4 2>/dev/null
  mt-st -f /dev/nst1 weof 1
  before=$(status)
  at_target target_crash 1
  wait_for_login
  sg_turs "$changer" || sg_turs "$changer" || sg_turs "$changer"
  [ "$(status)" = "$before" ] || { status; die "another inventory after a kill"; }
  until_true 20 sg_turs /dev/nst1
  mt-st -f /dev/nst1 rewind
  dd if=/dev/nst1 bs=65536 2>/dev/null | cmp - <(head -c 262144 data) || die "something else is on the tape after a kill"
  local n
  for n in 1 2 3; do
    (while changer transfer 1 7 && changer transfer 7 1 && changer load 2 0 && changer unload 2 0; do :; done >/dev/null 2>&1) &
    sleep 0.$((n * 2))
    at_target target_crash 1
    kill "$!" 2>/dev/null || true
    wait "$!" 2>/dev/null || true
    wait_for_login
    sg_turs "$changer" || sg_turs "$changer" || sg_turs "$changer"
    [ "$(status | grep -o 'A0000[1-5]L6' | sort | uniq -c | awk '{ n += $1 } END { print n, NR }')" = '5 5' ] ||
      { status; die "a cartridge is lost or doubled"; }
    # All of them where they were.
    changer transfer 7 1 2>/dev/null || true
    changer unload 2 0 2>/dev/null || true
  done

  say "prevention, reservations"
  changer unload 5 1
  sg_persist --out --register --param-sark=0x77 "$changer" >/dev/null
  [[ $(sg_persist --in --read-keys "$changer") == *0x77* ]] || die "no key is registered"
  sg_persist --out --register --param-rk=0x77 --param-sark=0 "$changer" >/dev/null
  # st would wait two minutes for a cartridge.
  [[ $(tapeinfo -f "$drive") == *"Vendor ID: 'PTGT"* ]] || { tapeinfo -f "$drive"; die "another drive"; }
  logout
}
