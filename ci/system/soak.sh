#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# soak.sh [SECONDS [DEPTH]]: for half an hour, or so long, data is verified on two reactors, over a wire that loses,
# repeats and overtakes frames, that is cut for seconds now and then, and under initiators that vanish with commands under
# way. No block is wrong, nobody who stays is thrown out, and the daemon's memory does not grow.
. "$(dirname "$0")/../lib.sh"
seconds=${1:-1800} depth=${2:-8}
use_port tap
[ "$(nproc)" -ge 2 ] || { echo "needs two processors"; exit 77; }
ip link add bridge0 type bridge 2>/dev/null || { echo "needs the kernel's bridge"; exit 77; }
range=16 # MiB of each disk: all of it is soon in memory, so that what grows afterwards is a leak
ram_mib=64 configuration all.toml 1500 '[0, 1]'
# LUN 2 is for those who vanish: what they have sent may still be written when the next has begun.
sed -e '/^host_address/d' -e 's/^size = "1GiB"/size = "64MiB"/' -e 's/disk = "ram0" }/&, { lun = 2, disk = "ram1" }/' all.toml >test.toml
printf '[[disk]]\nname = "ram1"\nstore = "ram"\nsize = "64MiB"\n' >>test.toml
ip link set bridge0 up
mkfifo control
python3 -B "$root/ci/system/relay.py" 0 wire0 wire1 control >relay.out 2>relay.err &
relay=$!
until_true 30 grep -q ready relay.out || die "the relay does not start: $(cat relay.err)"
ip link set wire0 mtu 1500 master bridge0 up
ip link set wire1 mtu 1500 up
ip address add 10.77.0.1/24 dev wire1
"$PTGT" run --config test.toml >>target.log 2>&1 &
target_pid=$!
until_true 10 ip link set ptgt0 master bridge0 || die "the daemon makes no device"
until_true 20 connects "$host" || die "no connection over the wire"
faults() { echo "$*" >control; }
wire="loss=0.002 duplicate=0.001 reorder=0.005 reorder_ms=3 delay=2"
faults "$wire"

load() { # LUN SECONDS DEPTH [OPTION]...: in the background, so that it is a process of its own
  local lun=$1 time=$2 under_way=$3; shift 3
  exec "$PTGT" bench "$url/$lun" --verify --reads 50 --range ${range}MiB --connections 4 --depth "$under_way" \
    --seconds "$time" --warm-up 0 --quiet "$@"
}

load 0 "$seconds" "$depth" --json steady.json >steady.log 2>&1 &
steady=$!
begin=$SECONDS vanished=0 stayed=0 cuts=0 last=0 both=0 samples=()
RANDOM=1
while kill -0 "$steady" 2>/dev/null && [ $((SECONDS - begin)) -lt "$seconds" ]; do
  vanishes=$((RANDOM % 2))
  load $((1 + vanishes)) 6 "$depth" >short.log 2>&1 &
  short=$!
  sleep $((RANDOM % 4 + 1))
  homes=$("$PTGT" status --json | jq '[.sessions[].reactor] | unique | length')
  [ "$homes" -lt 2 ] || both=$((both + 1))
  if [ $vanishes -eq 1 ]; then
    kill -KILL "$short" 2>/dev/null || true
    gone=0
    wait "$short" 2>/dev/null || gone=$?
    # On a slow machine it may have come to its end.
    case $gone in 137) vanished=$((vanished + 1)) ;; 0) ;; *) die "an initiator before it vanished: $(cat short.log)" ;; esac
  else
    if [ $((RANDOM % 3)) -eq 0 ]; then
      faults loss=1
      sleep $((RANDOM % 2 + 1))
      faults "$wire"
      cuts=$((cuts + 1))
    fi
    wait "$short" || die "an initiator that stayed: $(cat short.log)"
    stayed=$((stayed + 1))
  fi
  last=$(resident)
  # After a sixth of the time everything has been touched.
  [ $((SECONDS - begin)) -le $(((${#samples[@]} + 1) * seconds / 6)) ] || samples+=("$last")
done
wait "$steady" || die "the load that goes on: $(cat steady.log)"
say "$(jq -r '"\(.operations) operations"' steady.json) on four sessions: $(tail -n 3 steady.log | tr '\n' ' ')"
say "$vanished loads vanished, $stayed stayed, the wire was cut $cuts times; both reactors at work in $both rounds"
say "resident memory after each sixth of the time: ${samples[*]} KiB; at the end: $last KiB"
[ "$both" -gt 0 ] || die "all sessions were on one reactor"
[ "$last" -le $((${samples[0]:-$last} + 4096)) ] || die "the daemon's memory grows"
until_true 20 eval '[ "$("$PTGT" status --json | jq ".sessions | length")" -eq 0 ]' || die "sessions are left"
grep -qi panic target.log && die "the log tells of a panic"
"$PTGT" status
stop TERM 10 0
kill -TERM "$relay"
wait "$relay" || true
say "the wire: $(tail -n 1 relay.out)"
