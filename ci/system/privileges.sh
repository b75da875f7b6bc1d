#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# privileges.sh: a daemon that root starts keeps what configs/ptgt.service grants, and no more, in all of its threads; with
# that it serves, makes its device again, and keeps reservations. No secret is in a core dump.
. "$(dirname "$0")/../lib.sh"
use_port tap
look() { python3 -B "$root/ci/system/privileges.py" "$@"; }
all=$(awk '/^CapPrm/ { print $2 }' /proc/self/status)
mask() { # CAPABILITY...
  local sum=0 each
  for each in "$@"; do
    case $each in
      CAP_DAC_OVERRIDE) each=1 ;; CAP_NET_ADMIN) each=12 ;; CAP_NET_RAW) each=13 ;; CAP_IPC_LOCK) each=14 ;;
      *) die "the unit grants $each: its number is not known here" ;;
    esac
    sum=$((sum | 1 << each))
  done
  printf '%x' $((sum & 0x$all))
}
# shellcheck disable=SC2046
kept=$(mask $(sed -n 's/^CapabilityBoundingSet=//p' "$root/configs/ptgt.service"))
# shellcheck disable=SC2046
with_files=$(mask $(sed -n 's/^CapabilityBoundingSet=//p' "$root/configs/ptgt.service") CAP_DAC_OVERRIDE)

ram_mib=16 configuration base.toml 65521 "$two_reactors"
(umask 077 && printf 'targets-own-secret\n' >own.secret)
{
  sed 's/^memory = .*/memory = "16MiB"/' base.toml
  printf '[target.chap]\naccounts = ["alice"]\noutgoing = "target"\n'
  printf '[[account]]\nname = "alice"\nsecret = "alices-own-secret"\n'
  printf '[[account]]\nname = "target"\nsecret = "file:own.secret"\n'
  # Its owner is not root.
  truncate -s 16M foreign.img
  chown nobody foreign.img
  chmod 600 foreign.img
  printf '[[disk]]\nname = "foreign"\nstore = "file"\npath = "%s/foreign.img"\n' "$work"
  printf '[[target]]\nname = "%s:foreign"\nluns = [{ lun = 0, disk = "foreign" }]\n' "$iqn"
} >test.toml
chmod 600 test.toml
foreign=iscsi://$host:3260/$iqn:foreign/0
serves() {
  pattern 1 100000 >words
  upload words "$foreign"
  qemu-img convert -f raw -O raw "$foreign" back
  cmp -n 100000 words back || die "not what was written"
}

say "what stays: $kept of $all"
start test.toml
serves
look threads "$target_pid" "$kept"
grep 'INFO.*capabilities kept: ' target.log || die "the log does not say what stays"

say "a device that is gone is made again with that"
ip link delete ptgt0
until_true 20 connects "$host" || die "it does not come back"
serves
look threads "$target_pid" "$kept"

say "no secret is in a core dump"
iscsi-inq "iscsi://alice%alices-own-secret@$host:3260/$iqn/0?target_user=target&target_password=targets-own-secret" >/dev/null
serves
look dump "$target_pid" alices-own-secret targets-own-secret
stop TERM 10 0

say "a state directory of another user is written nevertheless"
mkdir -p /var/lib/ptgt/state
chown -R nobody /var/lib/ptgt/state
chmod 700 /var/lib/ptgt/state
: >target.log
start test.toml
look threads "$target_pid" "$with_files"
grep 'INFO.*CAP_DAC_OVERRIDE.*/var/lib/ptgt/state' target.log || die "the log does not say why"
look register "$host" "$iqn:foreign"
stop TERM 10 0
start test.toml
"$PTGT" status | grep -q '  key .* of ' || { "$PTGT" status; die "the registration is lost"; }
stop TERM 10 0

say "left as they were where that is asked for"
sed -i 's/^\[daemon\]/&\ndrop_privileges = false/' test.toml
start test.toml
[ "$(awk '/^CapEff/ { print $2 }' "/proc/$target_pid/status")" = "$all" ] || die "capabilities are given up"
[ "$(awk '/^NoNewPrivs/ { print $2 }' "/proc/$target_pid/status")" = 0 ] || die "no_new_privs is set"
stop TERM 10 0
