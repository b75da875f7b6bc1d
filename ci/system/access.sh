#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# access.sh tap|kernel: CHAP, access rules, LUN masking, redirection, limits, and sessions with several connections on two
# reactors, as access.py and libiscsi see them.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
secret='alices-own-secret' own='targets-own-secret'
(umask 077 && printf '%s\n' "$own" >own.secret)

target() { # NAME LUNS
  printf '[[target]]\nname = "%s%s"\nluns = [%s]\n' "$iqn" "$1" "$2"
}
lun() { printf '{ lun = %s, disk = "%s" }' "$1" "$2"; }
{
  configuration base.toml 65521 "$two_reactors"
  sed '/^\[\[target\]\]/,$d; s/^name = "six"/&\ngroup = 2/' base.toml
  printf '[[disk]]\nname = "ram1"\nstore = "ram"\nsize = "16MiB"\n'
  printf '[[account]]\nname = "alice"\nsecret = "%s"\n' "$secret"
  printf '[[account]]\nname = "bob"\nsecret = "a secret of bob'"'"'s"\n'
  printf '[[account]]\nname = "target"\nsecret = "file:own.secret"\n'
  printf '[discovery]\naccounts = ["alice"]\noutgoing = "target"\n'
  one=$(lun 0 ram0) all="$(lun 0 ram0), $(lun 1 thin0), $(lun 2 ram1)"
  target :chap "$one"
  printf '[target.chap]\naccounts = ["alice", "bob"]\noutgoing = "target"\n'
  target :masked "$all"
  printf '[[target.access]]\ninitiators = ["iqn.2026-11.com.example:one"]\nluns = [0, 2]\n'
  printf '[[target.access]]\ninitiators = ["iqn.2026-11.com.example:tw*"]\nluns = [1]\n'
  target :here "$one"
  printf '[[target.access]]\naddresses = ["10.77.0.0/24", "127.0.0.0/8"]\n'
  target :elsewhere "$one"
  printf '[[target.access]]\naddresses = ["192.0.2.0/24", "2001:db8::/32"]\n'
  target :account "$all"
  printf '[target.chap]\naccounts = ["alice", "bob"]\n[[target.access]]\naccounts = ["alice"]\nluns = [2]\n'
  target :moved "$one"
  printf '[[target.redirect]]\naddress = "10.1.2.3:3260"\npermanent = true\n'
  target :away "$one"
  printf '[[target.redirect]]\naddress = "there.example:3261"\ngroup = 1\n'
  target :far "$(lun 300 ram1)"
  printf '[[target]]\nname = "eui.02004567A425678D"\nluns = [%s]\n' "$one"
  printf '[[target.access]]\ninitiators = ["IQN.2026-11.com.example:One", "naa.62004567BA64678D0123456789ABCD*"]\n'
  target :many "$one"
  printf '[target.iscsi]\nmax_connections = 4\n'
  target :small "$one"
  printf '[target.limits]\nsessions = 2\n'
} >test.toml

say "a secret that others may read is not taken"
chmod 600 test.toml
"$PTGT" check test.toml 2>warned.log
[ ! -s warned.log ] || { cat warned.log; die "check warns of files that nobody else reads"; }
chmod 640 own.secret
! "$PTGT" check test.toml 2>warned.log || die "check takes a secret that run refuses"
grep -A 1 'own.secret.*users other than its owner' warned.log | grep 'chmod 600' || die "check does not tell of the file of a secret"
if "$PTGT" run --config test.toml 2>refused.log; then die "the daemon starts"; fi
grep 'own.secret.*chmod 600' refused.log || die "the log does not tell"
chmod 600 own.secret
chmod 644 test.toml
"$PTGT" check test.toml 2>warned.log
grep 'holds the secrets of "alice", "bob", and others.*mode 644' warned.log || die "check does not warn of test.toml"
"$PTGT" check --json test.toml | jq -e '.[0] | (.errors | length == 0) and (.warnings | length == 1)' >/dev/null ||
  die "check --json does not warn"
! grep -F -e "$secret" -e "$own" warned.log || die "a secret is told"
chmod 600 test.toml

say "our own initiator"
start test.toml
mkfifo go
python3 -B "$root/ci/system/access.py" "$host" "$iqn" <go >access.log &
client=$!
exec 9>go
until_true 90 eval "grep -q '^status' access.log || ! kill -0 $client" || die "access.py does not get to its end"
"$PTGT" status --json >status.json || true
echo >&9
wait "$client" || { cat access.log; die "access.py"; }
cat access.log
if [ "$(nproc)" -ge 2 ]; then
  handed=$(jq '[.ports[].counters.taken_over] | add' status.json)
  say "connections that were handed to the reactor of their session: $handed"
  [ "$handed" -gt 0 ] || { jq .ports status.json; die "the handover was not used"; }
fi
jq -e --arg target "$iqn:many" '.sessions[] | select(.target == $target)
  | (.connections | length == 3) and .connections[0].negotiated.MaxConnections == "4"' status.json >/dev/null ||
  { jq .sessions status.json; die "the status does not show three connections in one session"; }

say "CHAP by libiscsi, which knows MD5: right, wrong, missing, and both ways"
good() { iscsi-inq "$@" >libiscsi.log 2>&1 || { cat libiscsi.log; die "refused: $*"; }; }
bad() { if iscsi-inq "$@" >libiscsi.log 2>&1; then die "let in: $*"; fi; }
good "iscsi://alice%$secret@$host/$iqn:chap/0"
bad "iscsi://alice%another-secret@$host/$iqn:chap/0"
bad "iscsi://$host/$iqn:chap/0"
bad "iscsi://nobody%$secret@$host/$iqn:chap/0"
export LIBISCSI_CHAP_TARGET_USERNAME=target LIBISCSI_CHAP_TARGET_PASSWORD="$own"
good "iscsi://alice%$secret@$host/$iqn:chap/0"
LIBISCSI_CHAP_TARGET_PASSWORD=not-the-targets-one
bad "iscsi://alice%$secret@$host/$iqn:chap/0"
grep 'Invalid CHAP_R' libiscsi.log || die "libiscsi does not find out that the target has another secret"
unset LIBISCSI_CHAP_TARGET_USERNAME LIBISCSI_CHAP_TARGET_PASSWORD

say "libiscsi: a name in capitals, LUN 300 as it encodes that, and a target without LUN 0"
far=$iqn:far
good -i iqn.2026-11.com.example:ONE "iscsi://$host/EUI.02004567a425678D/0"
good "iscsi://$host/$far/300"
grep -q 'VIRTUAL-DISK' libiscsi.log || { cat libiscsi.log; die "no disk at LUN 300"; }
bad "iscsi://$host/$far/0"
iscsi-ls -i iqn.2026-11.com.example:ONE "iscsi://alice%$secret@$host" >libiscsi.log || { cat libiscsi.log; die "iscsi-ls"; }
grep -qF 'Target:eui.02004567a425678d ' libiscsi.log || { cat libiscsi.log; die "the name is not told as it is compared"; }

say "refusals are told with their reasons, secrets never"
for reason in 'no access rule of the target' 'wrong CHAP response' 'the initiator returned the target' 'requires CHAP' \
  'the target has moved' 'no such session to join' 'too many sessions' 'reinstated'; do
  grep -q "$reason" target.log || die "the log does not tell: $reason"
done
! grep -F -e "$secret" -e "$own" target.log status.json access.log || die "a secret is told"
stop TERM 10 0
