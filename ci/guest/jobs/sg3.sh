# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: what sg3-utils, sdparm and smartctl ask a disk, with the answers looked at
# nets: tap,kernel,inside-kernel
# limit: 300
# needs: sg_inq sg_vpd sg_readcap sg_luns sg_modes sg_opcodes sg_requests sg_turs sg_rtpg sg_stpg sg_logs sg_verify sg_sync sg_start sg_dd sg_read sg_compare_and_write sg_get_lba_status sg_unmap sg_write_same sg_xcopy sg_raw sg_senddiag sdparm smartctl cmp blockdev
# expected: Parameters changed|Asymmetric access state changed|alua:
job() {
  attach
  local block sectors
  block=$(cat "/sys/block/${disk##*/}/queue/logical_block_size")
  sectors=$(($(blockdev --getsize64 "$disk") / block))

  say "who it is, and how large"
  sg_turs --number=8 "$disk"
  shows 'Vendor identification: (PTGT|IET)' sg_inq "$disk"
  shows "Last LBA=$((sectors - 1)) .*Number of logical blocks=$sectors" sg_readcap --16 "$disk"
  shows "Logical block length=$block bytes" sg_readcap --16 "$disk"
  shows 'Lun list length = ' sg_luns "$disk"
  shows '.' sg_requests "$disk"

  say "vital product data"
  local page pages
  pages=$(sg_vpd --page=sv --raw "$disk" | od -An -v -tx1 -j4)
  for page in $pages; do
    sg_vpd --page=0x"$page" "$disk" >answer 2>&1 || { cat answer; die "VPD page $page"; }
  done
  sg_vpd --all "$disk" >answer 2>&1 || { cat answer; die "sg_vpd --all"; }
  shows 'NAA' sg_vpd --page=di "$disk"
  shows 'Maximum unmap LBA count: [1-9]' sg_vpd --page=bl "$disk"
  shows 'Unmap command supported \(LBPU\): 1' sg_vpd --page=lbpv "$disk"

  say "mode pages"
  sg_modes --all "$disk" >answer 2>&1 || { cat answer; die "sg_modes --all"; }
  # The exit status of sdparm is that of a disk without saved values, which it asks for, too.
  sdparm --get=WCE "$disk" >answer 2>&1 || true
  grep -qE 'WCE +1' answer || { cat answer; die "sdparm does not show WCE"; }

  say "commands"
  sg_opcodes --no-inquiry "$disk" >opcodes 2>&1 || { cat opcodes; die "sg_opcodes"; }
  local name
  for name in 'Read(16)' 'Write(16)' 'Synchronize cache(10)' 'Unmap' 'Write same(16)' 'Verify(10)'; do
    offers "$name" || { cat opcodes; die "$name is not offered"; }
  done
  # Every command that is offered says which bits of its CDB count.
  awk '/^ *[0-9a-f][0-9a-f] / { print $1 }' opcodes | sort -u | while read -r name; do
    sg_opcodes --no-inquiry --opcode=0x"$name" "$disk" >answer 2>&1 || sg_opcodes --no-inquiry --opcode=0x"$name",0 "$disk" >answer 2>&1 ||
      grep -qi 'illegal' answer || { cat answer; die "sg_opcodes of $name"; }
  done
  sg_verify --lba=0 --count=128 "$disk" || die "sg_verify"
  sg_sync "$disk" || die "sg_sync"
  sg_start --start "$disk" || die "sg_start"

  say "COMPARE AND WRITE"
  pattern 1 "$block" >one
  pattern 2 "$block" >two
  dd if=one of="$disk" bs="$block" seek=40 oflag=direct 2>/dev/null
  if offers 'Compare and write'; then
    sg_compare_and_write --lba=40 --in=one --inw=two --num=1 --xferlen=$((2 * block)) "$disk" || die "what is equal is not written"
    block_is two 40
    local status=0
    sg_compare_and_write --quiet --lba=40 --in=one --inw=one --num=1 --xferlen=$((2 * block)) "$disk" 2>answer || status=$?
    [ $status -eq 14 ] || { cat answer; die "status $status in place of a miscompare"; }
    block_is two 40
  fi

  say "UNMAP, WRITE SAME, GET LBA STATUS"
  local eight=$((65536 / block))
  head -c 65536 /dev/zero >zeros
  pattern 3 65536 >data
  dd if=data of="$disk" bs=65536 seek=16 oflag=direct 2>/dev/null
  lba_is $((16 * eight)) 'mapped'
  sg_unmap --lba=$((16 * eight)) --num=$eight "$disk" || die "sg_unmap"
  lba_is $((16 * eight)) 'deallocated|anchored'
  dd if="$disk" bs=65536 skip=16 count=1 iflag=direct 2>/dev/null | cmp - zeros || die "unmapped blocks are not zero"
  sg_write_same --16 --lba=$((16 * eight)) --num=$eight --in=one --xferlen="$block" "$disk" || die "WRITE SAME(16)"
  block_is one $((16 * eight)); block_is one $((17 * eight - 1))
  sg_write_same --10 --lba=$((16 * eight)) --num=$eight --in=two --xferlen="$block" "$disk" || die "WRITE SAME(10)"
  block_is two $((16 * eight)); block_is two $((17 * eight - 1))
  sg_write_same --16 --unmap --lba=$((16 * eight)) --num=$eight --in=zeros --xferlen="$block" "$disk" || die "WRITE SAME(16) with UNMAP"
  lba_is $((16 * eight)) 'deallocated|anchored'

  if offers 'Report target port groups'; then
    say "asymmetric access"
    shows 'asymmetric access state *: *0x0' sg_rtpg "$disk"
  fi
  if offers 'Log sense'; then
    say "logs"
    sg_logs --all "$disk" >answer 2>&1 || { cat answer; die "sg_logs --all"; }
  fi
  if offers 'Send diagnostic'; then
    sg_senddiag --test "$disk" >answer 2>&1 || { cat answer; die "sg_senddiag"; }
  fi
  if offers 'Extended copy'; then
    say "EXTENDED COPY"
    dd if=data of="$disk" bs=65536 seek=20 oflag=direct 2>/dev/null
    sg_xcopy if="$disk" of="$disk" bs="$block" skip=$((20 * eight)) seek=$((24 * eight)) count=$eight >answer 2>&1 || { cat answer; die "sg_xcopy"; }
    dd if="$disk" bs=65536 skip=24 count=1 iflag=direct 2>/dev/null | cmp - data || die "the copy differs"
  fi

  say "smartctl"
  shows 'Logical block size: +'"$block" smartctl -i "$disk"

  say "what is not there is refused"
  status=0
  sg_raw "$disk" f0 00 00 00 00 00 2>answer || status=$?
  [ $status -eq 9 ] || { cat answer; die "an unknown command: status $status"; }
  status=0
  sg_raw -r 512 "$disk" 88 00 7f ff ff ff ff ff ff ff 00 00 00 01 00 00 2>answer || status=$?
  [ $status -ne 0 ] && grep -qi 'block address out of range' answer || { cat answer; die "a block past the end: status $status"; }
  logout
}

offers() { # COMMAND, as sg_opcodes names it
  grep -qiF "$1" opcodes || { [ "$TARGET" = ptgt ] && say "not offered: $1"; return 1; }
}
shows() { # PATTERN COMMAND...
  local pattern=$1; shift
  "$@" >answer 2>&1 || { cat answer; die "$* ends with a fault"; }
  grep -qE "$pattern" answer || { cat answer; die "$* does not show $pattern"; }
}
block_is() { # FILE LBA
  dd if="$disk" bs="$block" skip="$2" count=1 iflag=direct 2>/dev/null | cmp - "$1" || die "block $2 differs"
}
lba_is() { # LBA STATUS
  [ "$TARGET" = ptgt ] || return 0
  sg_get_lba_status --lba="$1" "$disk" >answer 2>&1 || { cat answer; die "sg_get_lba_status"; }
  grep -qE "LBA: 0x0*$(printf %x "$1") .*($2)" answer || { cat answer; die "block $1 is not $2"; }
}
