#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# dpdk.sh [DEVICE]...: DPDK's virtual devices on devices of the kernel (af_packet, af_xdp, net_tap), each with huge pages and
# with ordinary ones: log in, write and read back, verify, verify again while frames are lost, connections that are cut under
# load, figures of a short load, and an end after which every buffer is home. Then the model of an adapter, in one process.
. "$(dirname "$0")/../lib.sh"
[ $# -gt 0 ] || set -- af_packet af_xdp net_tap
has_dpdk || { echo "this ptgt was built without the feature dpdk"; exit 77; }

# Huge pages for one daemon: 64 MiB of payload, a disk of 64 MiB, frame buffers.
. "$root/configs/hugepages.sh"
trap 'status=$?; give_pages_back; [ $status -eq 0 ] || failed' EXIT
wanted=96
take_pages /proc/sys/vm/nr_hugepages $wanted

count() { "$PTGT" status --config test.toml --json | jq ".ports[0].counters.$1 // 0"; }
is_zero() { [ "$(count "$1")" -eq 0 ]; }

# A segment of three hundred is lost, in either direction.
lose() {
  nft add table inet loss
  nft add chain inet loss in '{ type filter hook input priority 0; }'
  nft add chain inet loss out '{ type filter hook output priority 0; }'
  nft add rule inet loss in tcp sport 3260 numgen random mod 300 == 0 counter drop
  nft add rule inet loss out tcp dport 3260 numgen random mod 300 == 0 counter drop
}

one() { # DEVICE HUGEPAGES
  hugepages=$2 log=info,dpdk=debug
  use_port "$1"
  configuration test.toml
  sed -i 's/^size = "256MiB"/size = "64MiB"/' test.toml
  if [ "$1 $2" = "af_xdp require" ]; then
    # The largest frames of AF_XDP: a buffer fills a page.
    sed -i "0,/^driver = .*/s//&\nmtu = 3430/" test.toml
    ip link set va mtu 3430
    ip link set vb mtu 3430
  fi
  rm -rf var/lib/ptgt/disk0.img var/lib/ptgt/state
  : >target.log
  start test.toml
  grep -q "^[^ ]* INFO *. DPDK: .* MiB of frame buffers needed, in $([ "$2" = never ] && echo ordinary || echo huge) pages" target.log ||
    die "other pages than asked for"
  grep -vE '^\[[0-9TZ:.-]+ [A-Z]+ *\] [^[<]' target.log && die "this is not in the log's form"
  sed -n 's/^\[[^]]*\] //p' target.log | grep -v 'libbpf: elf: skipping' | sort | uniq -d | grep . && die "this is there twice"
  iscsi-ls -s "iscsi://$host" >list
  iscsi-ls -s "iscsi://[$host6]" >list6
  cmp -s list list6 || die "IPv4 and IPv6 show different targets"

  upload one.img "$disk"
  same one.img "$disk"
  upload one.img "$ram"
  same one.img "$ram"

  lose
  upload two.img "$ram"
  same two.img "$ram"
  nft list table inet loss | awk '/packets/ { for (i = 1; i < NF; i++) if ($i == "packets") lost += $(i + 1) }
    END { if (lost < 3) { print "only", lost, "segments were lost"; exit 1 } print "  " lost " segments were lost" }'
  nft delete table inet loss

  # Connections that end under load: the buffers of what was on its way come home.
  local n
  for n in 1 2 3; do
    "$PTGT" bench --block 64KiB --seconds 10 "$ram" >/dev/null 2>&1 &
    local client=$!
    sleep 0.3
    kill -KILL $client
    wait $client 2>/dev/null || true
  done
  "$PTGT" bench --seconds 1 --warm-up 0.2 "$ram"
  "$PTGT" bench --block 256KiB --depth 8 --pattern sequential --seconds 1 --warm-up 0.2 "$ram"
  same two.img "$ram"

  local in_place copied
  in_place=$(count sent_in_place) copied=$(count sent_copied)
  say "  sent from where it lies: $in_place frames, copied: $copied"
  if [ "$1" = net_tap ]; then
    [ "$in_place" -gt 1000 ] || die "a device that takes frames of several buffers got copies"
    until_true 5 is_zero sent_waiting || die "the device keeps payload: $(count sent_waiting) frames"
  fi
  [ "$(count link_up)" -eq 1 ] || die "the link is not up"
  stop TERM 15 0
  grep -q "buffers were not returned\|still with the device\|panic" target.log && die "something were not returned"
  [ "$(grep -c 'all buffers were returned\|the device has kept' target.log)" -eq 3 ] || die "not all pools were closed"
  if [ "$1" != af_xdp ]; then
    [ "$(grep -c 'all buffers were returned' target.log)" -eq 3 ] || die "a pool was closed with buffers out"
  fi
}

make_image one.img 48 "$root/src"
head -c 3M /dev/urandom >two.img
for which in "$@"; do
  for pages in never require; do
    if [ $pages = require ] && [ "$pages_taken" -lt $wanted ]; then
      echo "no $wanted huge pages of 2 MiB to be had: only ordinary pages" >&2
      continue
    fi
    say "$which, huge pages: $pages"
    one "$which" $pages
  done
done

# Two reactors: a queue for each (net_tap), or one queue that is spread over in software.
if [ "$(nproc)" -gt 1 ]; then
  for which in "$@"; do
    case $which in
      net_tap) as='2 queues' home=6 ;;
      af_packet) as='1 queue spread over the reactors in software' home=6 ;;
      # AF_XDP keeps buffers of its queue's pool.
      af_xdp) as='1 queue spread over the reactors in software' home=5 ;;
    esac
    say "$which with two reactors"
    use_port "$which"
    hugepages=never log=info,dpdk=debug
    configuration test.toml 1500 '[0, 1]'
    sed -i -e "0,/^driver = .*/s//&\npromiscuous = true/" -e 's/^size = "256MiB"/size = "64MiB"/' test.toml
    rm -rf var/lib/ptgt/disk0.img var/lib/ptgt/state
    : >target.log
    start test.toml
    grep -q "device .*: MTU 1500, $as" target.log || die "not as wanted: $as"
    upload one.img "$disk"
    same one.img "$disk"
    "$PTGT" bench --connections 8 --depth 4 --reads 50 --verify --block 16KiB --seconds 1 --warm-up 0.2 "$ram"
    # Sessions are where their flows are: on both reactors. Which of them gets a flow is up to its ports' hash: so many
    # sessions are all on one of the two once in 2 thousand million runs, eight would be once in 128.
    "$PTGT" bench --connections 32 --seconds 2 "$ram" >/dev/null &
    client=$!
    both() { [ "$("$PTGT" status --config test.toml --json | jq '[.sessions[].reactor] | unique | length')" -eq 2 ]; }
    until_true 2 both || die "one reactor serves all sessions"
    wait $client || die "the load has failed"
    [ "$(count dropped_overrun)" -eq 0 ] || say "  dropped between the reactors: $(count dropped_overrun) frames"
    stop TERM 15 0
    [ "$(grep -c 'all buffers were returned' target.log)" -eq "$home" ] || die "a pool was closed with buffers out"
    grep -q "were not returned\|still with the device\|panic" target.log && die "something were not returned"
  done
fi

# Ports of two drivers in one daemon: both serve one disk at once, each with buffers, link and counters of its own.
say "af_packet and net_tap in one daemon"
use_port af_packet
hugepages=never log=info,dpdk=debug
configuration test.toml 1500 "$two_reactors"
sed -i -e 's/^size = "256MiB"/size = "64MiB"/' test.toml
cat >>test.toml <<'END'
[[port]]
name = "second"
driver = "dpdk"
device = "net_tap0,iface=ptgt0"
address = ["10.78.0.2/24"]
[[portal]]
name = "other"
port = "second"
address = "10.78.0.2:3260"
END
rm -rf var/lib/ptgt/disk0.img var/lib/ptgt/state
: >target.log
# The host side of the second device has no address until somebody gives it one: see address_net_tap.
(until_true 20 ip link show ptgt0 >/dev/null && ip address replace 10.78.0.1/24 dev ptgt0) &
start test.toml "$host" 10.78.0.2
other=iscsi://10.78.0.2:3260/$iqn
# What one port writes the other one reads.
upload one.img "$disk"
same one.img "$other/0"
upload two.img "$other/1"
same two.img "$ram"
# On each disk one port writes and verifies, while the other one reads.
load="--connections 2 --depth 4 --block 16KiB --range 64MiB --seconds 2 --warm-up 0.2"
clients=()
# shellcheck disable=SC2086  # words
for over in "--reads 50 --verify $ram" "$other/1" "--reads 50 --verify $other/0" "$disk"; do
  "$PTGT" bench $load $over >"said.${#clients[@]}" 2>&1 &
  clients+=($!)
done
for client in "${clients[@]}"; do wait "$client" || { cat said.*; die "a load has failed"; }; done
grep -h verified said.*
[ "$(cat said.* | grep -c 'verified: .*, 0 wrong')" -eq 2 ] || die "not verified"
"$PTGT" status --config test.toml --json >status.json
jq -r '.ports[] | "  \(.name): \(.counters.frames_in) frames in, \(.counters.frames_out) out"' status.json
jq -e '[.ports[] | .counters | .link_up == 1 and .frames_in > 1000 and .frames_out > 1000
  and .device_rx_good_packets >= .frames_in and .device_tx_good_packets > 1000] | length == 2 and all' status.json >/dev/null ||
  { jq .ports status.json; die "not both ports have a link and have carried frames"; }
jq -e '.ports[1].counters.sent_in_place > 1000 and .ports[0].counters.sent_in_place == 0' status.json >/dev/null ||
  die "the counters of the ports are not their own"
stop TERM 15 0
grep -q "were not returned\|still with the device\|panic" target.log && die "something were not returned"
[ "$(grep -c 'all buffers were returned' target.log)" -eq $(($(nproc) > 1 ? 12 : 6)) ] || die "not all pools of both ports were closed"
[ "$(grep -c 'device net_[a-z_]*0: closed' target.log)" -eq 2 ] || die "not both devices were closed"

for which in dpdk dpdk-plain; do
  say "the model of an adapter: $which"
  "$PTGT" bench --in-process $which --connections 4 --depth 4 --reads 50 --verify --block 16KiB --size 64MiB --count 20000 \
    --json model.json
  jq -e '.verify.compared > 1000 and .frames.wrong_sums == 0' model.json >/dev/null || die "not verified, or wrong checksums"
  case $which in
    dpdk) jq -e '.frames.in_place > 1000' model.json >/dev/null || die "an adapter that offloads got copies" ;;
    *) jq -e '.frames.in_place == 0' model.json >/dev/null || die "payload without a checksum" ;;
  esac
done

say "bad arguments give one clear error"
use_port af_packet
hugepages=never
configuration test.toml
printf '[dpdk]\narguments = ["--no-such-thing"]\n' >>test.toml
"$PTGT" run --config test.toml >said 2>&1 && die "runs with an argument that DPDK does not know"
grep 'ERROR' said | grep -- '--no-such-thing' | grep -q "DPDK does not start" || { cat said; die "no clear error"; }
[ "$(wc -l <said)" -le 6 ] || { cat said; die "DPDK's usage is in the log"; }
configuration test.toml
printf '[dpdk]\narguments = ["--help"]\n' >>test.toml
"$PTGT" run --config test.toml >said 2>&1 || die "DPDK does not end the process any more when it is asked for help"
grep -q -- '--no-huge' said || { cat said; die "what DPDK says before it ends the process is lost"; }
configuration test.toml
sed -i 's/net_af_packet0,iface=vb/net_af_packet0,iface=nowhere/' test.toml
"$PTGT" run --config test.toml >said 2>&1 && die "runs on a device that is not there"
grep -q 'ERROR.*port "net".*nowhere.*No such device' said || { cat said; die "no clear error"; }

say "a port that does not start takes the others down at once"
configuration test.toml 1500 "$two_reactors"
printf '[[port]]\nname = "second"\ndriver = "dpdk"\ndevice = "net_tap0,iface=a-name-that-is-too-long"\naddress = ["10.78.0.2/24"]\n' >>test.toml
SECONDS=0
"$PTGT" run --config test.toml >said 2>&1 && die "runs without one of its ports"
[ $SECONDS -lt 4 ] || { cat said; die "took $SECONDS s"; }
grep -q 'ERROR.*port "second"' said || { cat said; die "no clear error"; }
! grep 'still uses it\|were not returned' said || die "the port that had started did not end well"
