# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: persistent reservations and RESERVE of two initiators: all actions and types, who may write, after a restart with APTPL
# nets: tap,kernel,inside-kernel
# devices: file,ram
# limit: 300
# needs: sg_persist sg_raw sg_turs dd
# expected: reservation conflict|Parameters changed|tag#[0-9]+ FAILED Result: hostbyte=DID_(OK|TRANSPORT_DISRUPTED) driverbyte=DRIVER_OK|(critical nexus|I/O) error, dev sd[a-z], sector [0-9]+ op 0x[01]:\((READ|WRITE)\)|detected conn error \((1011|1019|1020)\)|callbacks suppressed
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

  say "capabilities"
  sg_persist --in --report-capabilities "$one" >capabilities
  check capabilities capable 'Compatible Reservation Handling' 'Specify Initiator Ports Capable' 'All Target Ports Capable' \
    'Persist Through Power Loss Capable'
  capable 'Type Mask Valid' 'Write Exclusive, all registrants' 'Exclusive Access, registrants only' \
    'Write Exclusive, registrants only' 'Exclusive Access' 'Write Exclusive' 'Exclusive Access, all registrants'

  say "registration: both have keys"
  persist "$one" --register --param-sark=0xa
  persist "$two" --register --param-sark=0xb
  keys_are "$one" 0xa 0xb
  refused "$two" --register --param-rk=0xc --param-sark=0xd
  persist "$two" --register-ignore --param-sark=0xe
  keys_are "$one" 0xa 0xe
  persist "$two" --register --param-rk=0xe --param-sark=0xb
  keys_are "$one" 0xa 0xb
  check wrong-key refused "$one" --reserve --param-rk=0xc --prout-type=1
  check full-status told one two

  local type
  for type in 1 3 5 6 7 8; do
    say "type $type: whoever has a key, and whoever has none"
    persist "$one" --reserve --param-rk=0xa --prout-type=$type
    look "$two" --read-reservation >reservation
    grep -q "type: $(name_of $type)\$" reservation || { cat reservation; die "the reservation is not told"; }
    may_write "$one"
    case $type in
      1) may_read "$two"; may_not_write "$two" ;;
      3) may_not_read "$two"; may_not_write "$two" ;;
      *) may_read "$two"; may_write "$two" ;;
    esac
    # Only where all registrants hold it may another one ask for what is there already.
    [ $type -ge 7 ] || refused "$two" --reserve --param-rk=0xb --prout-type=$type
    persist "$two" --register --param-rk=0xb --param-sark=0
    case $type in
      1 | 5 | 7) may_read "$two"; may_not_write "$two" ;;
      *) may_not_read "$two"; may_not_write "$two" ;;
    esac
    persist "$two" --register --param-sark=0xb
    persist "$one" --release --param-rk=0xa --prout-type=$type
    may_write "$two"
  done

  say "preempting takes key and reservation"
  persist "$one" --reserve --param-rk=0xa --prout-type=1
  persist "$two" --preempt --param-rk=0xb --param-sark=0xa --prout-type=1
  keys_are "$two" 0xb
  may_not_write "$one"; may_write "$two"
  look "$one" --read-reservation >reservation
  grep -q 'Key=0xb' reservation || { cat reservation; die "the reservation is not that of the other one"; }
  check full-status told two 'Reservation holder'

  say "clearing takes all keys and the reservation"
  persist "$one" --register --param-sark=0xa
  persist "$two" --clear --param-rk=0xb
  keys_are "$one"
  may_write "$one"; may_write "$two"

  say "preempting and aborting ends what the other one has under way"
  check preempt-abort preempt_abort
  [ "$TARGET" = ptgt ] || { killall dd; persist "$one" --clear --param-rk=0xa; persist "$one" --register --param-sark=0xa; }

  say "moving: the reservation goes to the other one, by name"
  persist "$two" --register --param-sark=0xb
  persist "$one" --reserve --param-rk=0xa --prout-type=1
  check move move
  [ "$TARGET" = ptgt ] || persist "$one" --clear --param-rk=0xa
  refused "$one" --clear --param-rk=0xa
  say "registering another one, by name"
  check by-name register_both
  invalid "$one" --replace-lost --param-rk=0xa --param-sark=0xb --prout-type=1

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
look() { # DISK OPTION
  sg_turs "$1" >/dev/null 2>&1 || true
  sg_persist --in "$2" "$1"
}
refused() { # DISK OPTION...
  local at=$1 status=0; shift
  sg_persist --no-inquiry --out "$@" "$at" >persist 2>&1 || status=$?
  [ $status -eq 24 ] || { cat persist; die "sg_persist $*: status $status, not a reservation conflict"; }
}
invalid() { # DISK OPTION...
  local at=$1 status=0; shift
  sg_turs "$at" >/dev/null 2>&1 || true
  sg_persist --no-inquiry --out "$@" "$at" >persist 2>&1 || status=$?
  [ $status -eq 5 ] || { cat persist; die "sg_persist $*: status $status, not an illegal request"; }
}
capable() { # NAME...
  local name
  for name in "$@"; do grep -qE "^ *$name(\(.*\))?: 1$" capabilities || { cat capabilities; die "not: $name"; }; done
}
# The full status of all registrations shows the names of these initiators, or other words.
told() { # one|two|PATTERN...
  local word
  look "$one" --read-full-status >full
  for word in "$@"; do
    case $word in one | two) word="$(initiator_name "$word"),i,0x" ;; esac
    grep -q -- "$word" full || { cat full; die "the full status does not show $word"; }
  done
}
# The name of the other initiator's port, as the full status tells it.
port_of_two() {
  look "$two" --read-full-status >full
  sed -n "s/.*\($(initiator_name two),i,0x[0-9a-f]*\).*/\1/p" full
}
name_of() { # TYPE
  case $1 in
    1) echo 'Write Exclusive' ;;
    3) echo 'Exclusive Access' ;;
    5) echo 'Write Exclusive, registrants only' ;;
    6) echo 'Exclusive Access, registrants only' ;;
    7) echo 'Write Exclusive, all registrants' ;;
    8) echo 'Exclusive Access, all registrants' ;;
  esac
}
preempt_abort() {
  persist "$one" --register --param-sark=0xa
  persist "$two" --register --param-sark=0xb
  persist "$two" --reserve --param-rk=0xb --prout-type=5
  dd if=/dev/zero of="$two" bs=64k count=100000 oflag=direct 2>writes &
  local writer=$! before
  disk=$two before=$(sectors_written)
  more_written() { [ "$(sectors_written)" -gt $((before + 2000)) ]; }
  until_true 60 more_written || die "nothing is written"
  persist "$one" --preempt-abort --param-rk=0xa --param-sark=0xb --prout-type=5
  ! wait $writer || die "the other one has written all"
  may_not_write "$two"; may_write "$one"
  keys_are "$one" 0xa
  persist "$one" --release --param-rk=0xa --prout-type=5
}
move() {
  local to
  to=$(port_of_two)
  persist "$one" --register-move --param-rk=0xa --param-sark=0xd --param-unreg --relative-target-port=1 --transport-id="$to"
  keys_are "$two" 0xd
  may_write "$two"; may_not_write "$one"
  persist "$two" --clear --param-rk=0xd
}
register_both() {
  local to
  persist "$two" --register --param-sark=0xb
  to=$(port_of_two)
  persist "$two" --register --param-rk=0xb --param-sark=0
  persist "$one" --register --param-sark=0xf --param-alltgpt --transport-id="$to"
  keys_are "$one" 0xf 0xf
  told one two
  [ "$(grep -c 'All target ports bit set' full)" -eq 2 ] || { cat full; die "not for all target ports"; }
  persist "$two" --clear --param-rk=0xf
}
keys_are() { # DISK KEY...
  local at=$1 are; shift
  are=$(keys "$at")
  [ "$are" = "$*" ] || die "keys: ${are:-none}, not ${*:-none}"
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
