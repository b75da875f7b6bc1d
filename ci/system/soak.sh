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
start_on_wire test.toml
usual="loss=0.002 duplicate=0.001 reorder=0.005 reorder_ms=3 delay=2"
wire "$usual"

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
      wire loss=1
      sleep $((RANDOM % 2 + 1))
      wire "$usual"
      cuts=$((cuts + 1))
    fi
    wait "$short" || die "an initiator that stayed: $(cat short.log)"
    stayed=$((stayed + 1))
  fi
  last=$(resident)
  [ $((SECONDS - begin)) -le $(((${#samples[@]} + 1) * seconds / 6)) ] || samples+=("$last")
done
wait "$steady" || die "the load that goes on: $(cat steady.log)"
say "$(jq -r '"\(.operations) operations"' steady.json) on four sessions: $(tail -n 3 steady.log | tr '\n' ' ')"
say "$vanished loads vanished, $stayed stayed, the wire was cut $cuts times; both reactors at work in $both rounds"
say "resident memory after each sixth of the time: ${samples[*]} KiB; at the end: $last KiB"
[ "$both" -gt 0 ] || die "all sessions were on one reactor"
# After a third of the time all has been touched that there is; in a shorter run not so early.
[ "$seconds" -lt 480 ] || [ "$last" -le $((${samples[1]} + 2048)) ] || die "the daemon's memory grows"
until_true 20 eval '[ "$("$PTGT" status --json | jq ".sessions | length")" -eq 0 ]' || die "sessions are left"
grep -qi panic target.log && die "the log tells of a panic"
"$PTGT" status
stop TERM 10 0
kill -TERM "$relay"
wait "$relay" || true
say "the wire: $(tail -n 1 relay.out)"
