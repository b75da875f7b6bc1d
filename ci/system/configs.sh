#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# configs.sh: `ptgt check --offline` accepts the configurations of the project, and names the line and the remedy in broken ones.
. "$(dirname "$0")/../lib.sh"
use_port kernel

# Whatever this machine has.
"$PTGT" check --offline "$root"/configs/*.toml

broken() { # WHAT-IT-MUST-SAY SED-EXPRESSION
  configuration good.toml
  sed "$2" good.toml >broken.toml
  cmp -s good.toml broken.toml && die "$2 changes nothing"
  "$PTGT" check broken.toml >said 2>&1 && die "accepts: $2"
  grep -q "$1" said || { cat said; die "does not say $1"; }
  "$PTGT" run --config broken.toml >said 2>&1 && die "runs: $2"
  grep -q "$1" said || { cat said; die "run does not say $1"; }
  say "refused with a word about \"$1\""
}
broken 'driver' 's/driver = "kernel"/driver = "colonel"/'
broken 'disk' 's/disk = "ram0"/disk = "ram1"/'
broken 'size' 's/size = "1GiB"/size = "1 gigabyte"/'
broken 'portnumber\|port' 's/port = "net"/port = "nets"/'
broken 'address' 's/:3260"/:326000"/'
broken 'iscsi\|name' 's/iqn.2026-11/iqn-2026/'
broken 'lun' 's/lun = 1/lun = 0/'
broken 'TOML\|expected' 's/\[\[disk\]\]/[[disk]/'
broken 'colour' 's/^\[daemon\]/[daemon]\ncolour = "red"/'
"$PTGT" check nowhere.toml >said 2>&1 && die "accepts a file that is not there"
grep -q nowhere.toml said

say "an address in use is an error with a name, not a panic"
configuration good.toml
python3 -c 'import socket, time
s = socket.socket(); s.bind(("127.0.0.1", 3260)); s.listen(); time.sleep(60)' &
holder=$!
until_true 5 connects 127.0.0.1
status=0
timeout 10 "$PTGT" run --config good.toml >said 2>&1 || status=$?
kill "$holder"
[ "$status" -eq 1 ] || { cat said; die "exit status $status with the address in use"; }
grep -qi 'in use' said || { cat said; die "does not say that the address is in use"; }
