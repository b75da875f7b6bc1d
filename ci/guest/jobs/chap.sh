# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: CHAP of open-iscsi: each algorithm, both ways, discovery; wrong, unknown and missing secrets are refused
# nets: tap,kernel,inside-kernel
# limit: 300
# needs: cmp
# expected: detected conn error \(1020\)|Login/Text in progress
more_config() {
  printf '[[account]]\nname = "initiator"\nsecret = "correct-horse-1"\n'
  printf '[[account]]\nname = "other"\nsecret = "correct-horse-2"\n'
  printf '[[account]]\nname = "target"\nsecret = "battery-staple-3"\n'
  printf '[target.chap]\naccounts = ["initiator"]\noutgoing = "target"\nalgorithms = ["SHA3-256", "SHA-256", "SHA1", "MD5"]\n'
  printf '[discovery]\naccounts = ["other"]\n'
}
more_tgtadm() { # TGTADM
  $1 --mode account --op new --user initiator --password correct-horse-1
  $1 --mode account --op new --user other --password correct-horse-2
  $1 --mode account --op new --user target --password battery-staple-3
  $1 --mode account --op bind --tid 1 --user initiator
  $1 --mode account --op bind --tid 1 --user target --outgoing
  $1 --mode account --op bind --user other
}

job() {
  start_initiator
  local algorithm
  for algorithm in MD5 SHA1 SHA256 SHA3-256; do
    say "$algorithm"
    credentials initiator correct-horse-1 "node.session.auth.chap_algs=$algorithm"
    check "$algorithm" works
  done
  say "both ways"
  credentials initiator correct-horse-1 node.session.auth.username_in=target node.session.auth.password_in=battery-staple-3
  works
  say "the target does not know the secret that the initiator expects of it"
  credentials initiator correct-horse-1 node.session.auth.username_in=target node.session.auth.password_in=battery-staple-4
  is_refused
  say "wrong secrets"
  credentials initiator correct-horse-2
  is_refused
  credentials initiator correct-horse
  is_refused
  say "an account that is not for this target, and one that does not exist"
  credentials other correct-horse-2
  is_refused
  credentials nobody correct-horse-1
  is_refused
  say "no secret"
  know "$address"
  is_refused
  [ -z "$(ls /sys/class/iscsi_session)" ] || die "a session is there"

  say "discovery"
  ! iscsiadm -m discovery -t sendtargets -p "$address" >found 2>&1 || die "targets are told without a secret"
  discover other correct-horse-1 && die "targets are told for a wrong secret"
  discover other correct-horse-2 || { cat found; die "discovery with a secret fails"; }
  grep -qF "$iqn" found || die "discovery does not show the target"
  credentials initiator correct-horse-1
  works
}

credentials() { # NAME SECRET [SETTING]...
  local name=$1 secret=$2; shift 2
  node -o delete >/dev/null 2>&1 || true
  know "$address" node.session.auth.authmethod=CHAP "node.session.auth.username=$name" "node.session.auth.password=$secret" "$@"
}
works() {
  login "$address" || die "the login fails"
  wait_for_disks "$lun"
  pattern 1 65536 >data
  dd if=data of="$disk" bs=64k oflag=direct 2>/dev/null
  dd if="$disk" bs=64k count=1 iflag=direct 2>/dev/null | cmp - data || die "$disk reads something else"
  logout
  node -o delete
}
is_refused() { # 24: refused for reasons of authentication
  local status=0
  node -p "$address" --login >refused 2>&1 || status=$?
  [ $status -eq 24 ] || [ $status -eq 19 ] || { cat refused; die "login: status $status"; }
  node -o delete
}
discover() { # NAME SECRET
  local record="iscsiadm -m discoverydb -t sendtargets -p $address" setting
  $record -o delete >/dev/null 2>&1 || true
  $record -o new >/dev/null
  for setting in authmethod=CHAP "username=$1" "password=$2"; do
    $record -o update -n "discovery.sendtargets.auth.${setting%%=*}" -v "${setting#*=}"
  done
  $record --discover >found 2>&1
}
