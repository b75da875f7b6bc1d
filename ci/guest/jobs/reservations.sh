# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: persistent reservations and RESERVE of two initiators: who may write, preempting, after a restart with APTPL
# nets: tap,kernel,inside-kernel
# limit: 300
# needs: sg_persist sg_raw sg_turs dd
# expected: reservation conflict|critical nexus error|Parameters changed|I/O error, dev|FAILED Result|tag#|detected conn error
job() {
  start_initiator
  local which
  for which in one two; do
    iscsiadm -m iface -o new -I $which >/dev/null
    iscsiadm -m iface -o update -I $which -n iface.initiatorname -v "$(initiator_name $which)" >/dev/null
    node -p "$address" -I $which -o new >/dev/null
    node -p "$address" -I $which -o update -n node.session.timeo.replacement_timeout -v 300
    node -p "$address" -I $which --login >/dev/null
  done
  wait_for_disks "$lun" 2
  one=${disks% *} two=${disks#* }
  sg_turs "$one" && sg_turs "$two"
  may_write "$one" && may_write "$two"

  say "registration: both have keys"
  persist "$one" --register --param-sark=0xa
  persist "$two" --register --param-sark=0xb
  [ "$(keys "$one")" = "0xa 0xb" ] || die "keys: $(keys "$one")"
  refused "$two" --register --param-rk=0xc --param-sark=0xd

  say "write exclusive: others read"
  persist "$one" --reserve --param-rk=0xa --prout-type=1
  sg_persist --in --read-reservation "$two" | grep -q 'type: Write Exclusive$' || die "the reservation is not told"
  may_write "$one"; may_read "$two"; may_not_write "$two"
  refused "$two" --reserve --param-rk=0xb --prout-type=1
  say "exclusive access: others do not even read"
  persist "$one" --release --param-rk=0xa --prout-type=1
  persist "$one" --reserve --param-rk=0xa --prout-type=3
  may_write "$one"; may_not_read "$two"
  persist "$one" --release --param-rk=0xa --prout-type=3

  say "write exclusive, registrants only: whoever has a key"
  persist "$one" --reserve --param-rk=0xa --prout-type=5
  may_write "$one"; may_write "$two"
  persist "$two" --register --param-rk=0xb --param-sark=0
  may_not_write "$two"; may_read "$two"
  persist "$two" --register --param-sark=0xb
  may_write "$two"

  say "preempting takes key and reservation"
  persist "$two" --preempt --param-rk=0xb --param-sark=0xa --prout-type=1
  [ "$(keys "$two")" = "0xb" ] || die "keys: $(keys "$two")"
  may_not_write "$one"; may_write "$two"
  sg_persist --in --read-full-status "$two" >full
  grep -q 'Key=0xb' full && grep -q "$(initiator_name two)" full || { cat full; die "the full status does not name the holder"; }
  persist "$two" --clear --param-rk=0xb
  [ -z "$(keys "$one")" ] || die "keys: $(keys "$one")"
  may_write "$one"; may_write "$two"

  if sg_persist --in --report-capabilities "$one" | grep -q 'Persist Through Power Loss Capable(PTPL_C): 1'; then
    say "with APTPL the reservation is there after the target was killed"
    persist "$one" --register --param-aptpl --param-sark=0xa
    persist "$one" --reserve --param-rk=0xa --prout-type=1
    at_target target_crash 1
    all_logged_in() { [ "$(session_state | sort -u)" = LOGGED_IN ]; }
    until_true 120 all_logged_in || die "the sessions do not come back"
    sg_turs "$one" || true; sg_turs "$two" || true
    may_write "$one"; may_read "$two"; may_not_write "$two"
    persist "$one" --clear --param-rk=0xa
  fi

  say "RESERVE and RELEASE of old"
  sg_raw "$one" 16 00 00 00 00 00 2>/dev/null || die "RESERVE fails"
  may_write "$one"; may_not_write "$two"
  sg_raw "$one" 17 00 00 00 00 00 2>/dev/null || die "RELEASE fails"
  may_write "$two"
  logout
}

# A unit attention, as preempting and clearing leave behind, is looked at first, as the kernel would.
persist() { # DISK OPTION...
  local at=$1; shift
  sg_turs "$at" >/dev/null 2>&1 || true
  sg_persist --no-inquiry --out "$@" "$at" >persist 2>&1 || { cat persist; die "sg_persist $* fails"; }
}
refused() { # DISK OPTION...
  local at=$1 status=0; shift
  sg_persist --no-inquiry --out "$@" "$at" >persist 2>&1 || status=$?
  [ $status -eq 24 ] || { cat persist; die "sg_persist $*: status $status, not a reservation conflict"; }
}
keys() { # DISK
  sg_turs "$1" >/dev/null 2>&1 || true
  sg_persist --no-inquiry --in --read-keys "$1" >persist 2>&1 || { cat persist; return 1; }
  sed -n 's/^ *\(0x[0-9a-f]*\)$/\1/p' persist | sort | xargs
}
may_write() { dd if=/dev/zero of="$1" bs=4k count=1 oflag=direct 2>/dev/null || die "$1 may not write"; }
may_read() { dd if="$1" of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null || die "$1 may not read"; }
may_not_write() { ! dd if=/dev/zero of="$1" bs=4k count=1 oflag=direct 2>/dev/null || die "$1 writes in spite of the reservation"; }
may_not_read() { ! dd if="$1" of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null || die "$1 reads in spite of the reservation"; }
