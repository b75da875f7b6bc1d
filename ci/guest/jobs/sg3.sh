# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: what sg3-utils, sdparm and smartctl ask a disk, with the answers looked at
# nets: tap,kernel,inside-kernel
# devices: file,file4k,ram,ram4k
# limit: 300
# needs: sg_inq sg_vpd sg_readcap sg_luns sg_modes sg_opcodes sg_requests sg_turs sg_rtpg sg_stpg sg_logs sg_verify sg_sync sg_start sg_dd sg_read sg_compare_and_write sg_get_lba_status sg_unmap sg_write_same sg_write_verify sg_xcopy sg_raw sg_senddiag sdparm smartctl cmp blockdev dd
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
  shows 'lbpme=1, lbprz=1' sg_readcap --16 "$disk"
  shows '^ +000[01]0{12}$' sg_luns --select=2 "$disk"
  shows 'No additional sense information' sg_requests "$disk"

  say "vital product data"
  local page pages to
  pages=$(sg_vpd --page=sv --raw "$disk" | od -An -v -tx1 -j4)
  for page in $pages; do
    sg_vpd --page=0x"$page" "$disk" >answer 2>&1 || { cat answer; die "VPD page $page"; }
  done
  sg_vpd --all "$disk" >answer 2>&1 || { cat answer; die "sg_vpd --all"; }
  cp answer pages
  answers 'designator type: NAA' 'T10 vendor identification'
  check ports answers 'Relative target port: 0x1' "$iqn,t,0x0001"
  answers "Block limits" 'Logical block provisioning' 'Block device characteristics'
  answers 'Maximum unmap LBA count: -?[1-9]' 'Maximum unmap block descriptor count: -?[1-9]'
  answers 'Unmap command supported \(LBPU\): 1' 'Write same \(16\) with unmap bit supported \(LBPWS\): 1' \
    'LBPRZ\): 1' 'thin provisioned'
  answers 'Maximum compare and write length: [1-9]'
  check limits answers 'Maximum transfer length: [1-9]' 'Non-rotating medium'
  # After another login the names are the same.
  logout
  login "$address"
  wait_for_disks "$lun"
  sg_vpd --all "$disk" | cmp - pages || die "the vital product data have changed"

  say "mode pages"
  shows 'DpoFua=1' sg_modes --all "$disk"
  shows '>> Caching, page_control: current' sg_modes --all "$disk"
  shows '>> Control, page_control: current' sg_modes --all "$disk"
  check saved-values write_cache

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
  check task-management shows 'Logical unit reset' sg_opcodes --no-inquiry --tmf "$disk"
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
  sg_unmap --force --lba=$((16 * eight)) --num=$eight "$disk" || die "sg_unmap"
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
    # Group 1 is the one that this session has come by; group 2 that of the second portal, if there is one.
    state_of 1 'active/optimized'
    sg_stpg --tp=1 --state=an "$disk"
    state_of 1 'active/non optimized'
    sg_stpg --tp=1 --state=s "$disk"
    state_of 1 standby
    status=0
    sg_turs -v "$disk" >answer 2>&1 || status=$?
    [ $status -eq 2 ] && grep -q 'target port in standby state' answer || { cat answer; die "standby: status $status"; }
    if [ "$place" = host ]; then
      state_of 2 'active/optimized'
      sg_stpg --tp=1,2 --state=ao,u "$disk"
      state_of 2 unavailable
      sg_stpg --tp=2 --state=ao "$disk"
      state_of 2 'active/optimized'
    else
      sg_stpg --tp=1 --state=ao "$disk"
    fi
    state_of 1 'active/optimized'
    sg_turs "$disk" || die "not ready when active again"
    # Its exit status is 0 all the same.
    sg_stpg --tp=99 --state=s "$disk" >answer 2>&1 || true
    grep -q 'Illegal request' answer || { cat answer; die "a group that does not exist changes"; }
  fi

  say "logs"
  check logs logs

  say "self tests"
  check self-test shows '.' sg_senddiag --test "$disk"
  [ "$TARGET" = tgtd ] || shows '0x00 +Supported diagnostic pages' sg_senddiag --list "$disk"
  check self-test-log shows 'Short Background Self Test has begun' smartctl -t short "$disk"

  if offers 'Extended copy'; then
    say "EXTENDED COPY"
    local other
    wait_for_disks "$thin_lun"; other=$disk
    [ "$lun" != "$thin_lun" ] || { wait_for_disks "$ram_lun"; other=$disk; }
    wait_for_disks "$lun"
    dd if=data of="$disk" bs=65536 seek=20 oflag=direct 2>/dev/null
    for to in "$disk" "$other"; do
      sg_xcopy if="$(generic "$disk")" of="$(generic "$to")" bs="$block" skip=$((20 * eight)) seek=$((24 * eight)) count=$eight >answer 2>&1 ||
        { cat answer; die "sg_xcopy"; }
      dd if="$to" bs=65536 skip=24 count=1 iflag=direct 2>/dev/null | cmp - data || die "the copy on $to differs"
    done
  fi

  say "smartctl"
  status=0
  smartctl -x "$disk" >answer 2>&1 || status=$?
  # 4: tgtd has no log of background scans, which is optional.
  [ $status -eq 0 ] || { [ "$TARGET" = tgtd ] && [ $status -eq 4 ]; } || { cat answer; die "smartctl -x: status $status"; }
  answers 'Serial number: +[^ ]' "Logical block size: +$block" "User Capacity: .*$(printf '%d' $((sectors * block)) | sed ':a;s/\B[0-9]\{3\}\>/,&/;ta')"
  check smart answers 'SMART Health Status: OK' 'LU is thin provisioned' 'no scans active' 'Writeback Cache is: +Enabled' 'Non-medium error count: +0'

  say "what is not there is refused"
  status=0
  sg_raw "$disk" f0 00 00 00 00 00 2>answer || status=$?
  [ $status -eq 9 ] || { cat answer; die "an unknown command: status $status"; }
  status=0
  sg_raw -r 512 "$disk" 88 00 7f ff ff ff ff ff ff ff 00 00 00 01 00 00 2>answer || status=$?
  [ $status -ne 0 ] && grep -qi 'block address out of range' answer || { cat answer; die "a block past the end: status $status"; }
  logout
}

generic() { echo "/dev/$(ls "/sys/block/${1##*/}/device/scsi_generic")"; } # DISK
offers() { # COMMAND, as sg_opcodes names it
  grep -qiF "$1" opcodes || { [ "$TARGET" = ptgt ] && say "not offered: $1"; return 1; }
}
logs() {
  sg_logs --all "$disk" >answer 2>&1 || { cat answer; die "sg_logs --all"; }
  answers 'Supported log pages'
  answers 'Write error counter page' 'Read error counter page' 'Total uncorrected errors = 0' 'Start-stop cycle counter page' \
    'Self-test results page' 'Informational Exceptions page' '[Nn]umber of read commands = [1-9]'
  [ "${device#ram}" != "$device" ] || answers 'Used LBA mapping threshold resource count'
}
write_cache() {
  wce_is 1
  sdparm --clear=WCE "$disk" >answer 2>&1 || { cat answer; die "sdparm --clear=WCE"; }
  wce_is 0
  sdparm --set=WCE "$disk" >answer 2>&1 || { cat answer; die "sdparm --set=WCE"; }
  wce_is 1
  # Saved values, as they are after a reset, and back.
  sdparm --set=WCE=0 --save "$disk" >answer 2>&1 || { cat answer; die "sdparm --set=WCE=0 --save"; }
  wce_is 0 0
  sdparm --set=WCE=1 --save "$disk" >answer 2>&1 || { cat answer; die "sdparm --set=WCE=1 --save"; }
  wce_is 1 1
}
# The last answer has lines with each of these.
answers() { # PATTERN...
  local pattern
  for pattern in "$@"; do grep -qE -- "$pattern" answer || { cat answer; die "no $pattern is shown"; }; done
}
wce_is() { # CURRENT [SAVED]
  sdparm --get=WCE "$disk" >answer 2>&1 || { cat answer; die "sdparm --get=WCE"; }
  answers "^WCE +$1 .*${2:+sav: *$2}"
}
state_of() { # GROUP STATE
  sg_rtpg --decode "$disk" >answer 2>&1 || { cat answer; die "sg_rtpg"; }
  grep -A 1 "target port group id : 0x$1 " answer | grep -qF "($2)" || { cat answer; die "group $1 is not $2"; }
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
