#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# live.sh: ports of the drivers packet and tap come to a daemon that runs and go from it, with sessions over them, while a
# session over a port that stays is verified. The binary, target/debug/ptgt, is one whose control socket takes `apply`
# (--features sim).
PTGT=${PTGT:-$(cd "$(dirname "$0")/../.." && pwd)/target/debug/ptgt}
export PTGT
. "$(dirname "$0")/../lib.sh"

veth
use_port kernel
seconds=14

# The configuration with some ports beside the first, each with a portal of its own.
with() { # FILE PORT...
  local file=$1 name at
  shift
  ram_mib=64 configuration "$file" 1500 "$two_reactors"
  for name; do
    case $name in
      packet) at=10.77.0.2 ;;
      tap) at=10.78.0.2 ;;
    esac
    {
      printf '[[port]]\nname = "%s"\ndriver = "%s"\naddress = ["%s/24"]\n' "$name" "$name" "$at"
      case $name in
        packet) printf 'device = "vb"\n' ;;
        tap) printf 'device = "ptgt1"\nhost_address = ["10.78.0.1/24"]\n' ;;
      esac
      printf '[[portal]]\nname = "%s"\nport = "%s"\naddress = "%s:3260"\n' "$name" "$name" "$at"
    } >>"$file"
  done
}

# Asks the daemon to serve a configuration.
apply() { # FILE
  python3 -B - "$work/$1" <<'PYTHON'
import json, socket, sys
control = socket.socket(socket.AF_UNIX)
control.connect("/run/ptgt/control.sock")
request = {"jsonrpc": "2.0", "id": 1, "method": "apply", "params": {"path": sys.argv[1]}}
control.sendall(json.dumps(request).encode() + b"\n")
answer = json.loads(control.makefile().readline())
sys.exit(answer["error"]["message"] if "error" in answer else 0)
PYTHON
}

# Writes, reads and compares over a port, for so long.
load() { # ADDRESS LUN SECONDS OPTION...
  local at=$1 lun=$2 time=$3
  shift 3
  exec "$PTGT" bench "iscsi://$at/$iqn/$lun" --verify --reads 50 --block 16KiB --connections 2 --depth 4 --warm-up 0 \
    --seconds "$time" --quiet "$@"
}

with base.toml
with packet.toml packet
with tap.toml tap
with both.toml packet tap
start base.toml
say "a session that stays"
(load 127.0.0.1:3260 1 $seconds --range 16MiB --json stays.json) >stays.log 2>&1 &
stays=$!

begin=$SECONDS rounds=0
while [ $((SECONDS - begin)) -lt $((seconds - 5)) ]; do
  for next in packet both tap base both base; do
    apply $next.toml || die "$next: not in force"
    for at in 10.77.0.2 10.78.0.2; do
      case $next-$at in
        packet-10.77* | tap-10.78* | both-*)
          timeout 5 iscsi-inq "iscsi://$at/$iqn/1" >/dev/null || die "$next: no answer from $at"
          ;;
        *) ! connects $at 2>/dev/null || die "$next: somebody listens at $at" ;;
      esac
    done
    case $next in
      tap | both) ip link show ptgt1 >/dev/null || die "$next: no device" ;;
      *) ! ip link show ptgt1 >/dev/null 2>&1 || die "$next: the device is still there" ;;
    esac
  done
  rounds=$((rounds + 1))
done
say "$rounds rounds"

say "ports that go under sessions"
apply both.toml || die "not in force"
(load 10.77.0.2:3260 0 20 --range 16MiB) >packet.log 2>&1 &
one=$!
"$PTGT" bench "iscsi://10.78.0.2:3260/$iqn/1" --seconds 20 --warm-up 0 --quiet >tap.log 2>&1 &
two=$!
sleep 1
kill -0 $one && kill -0 $two || { cat packet.log tap.log; die "no sessions over them"; }
apply base.toml || die "not in force"
! { wait $one || wait $two; } || die "the sessions go on"
! grep -iE "differ|wrong" packet.log tap.log || die "what was read is not what was written"

wait $stays || { cat stays.log; die "the session that stays"; }
python3 -B -c 'import json; v = json.load(open("stays.json"))["verify"]; print(v); assert v["wrong"] == 0 and v["compared"] > 100'
! grep -E "panic|has ended: |ERROR" target.log || die "the daemon complains"
stop TERM 10 0
