#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# peers.sh [--rounds N] [--seconds N] [--candidates LIST] [--scenarios LIST] [--spdk FILE] [--sweep] [--out DIRECTORY] [--smoke]
#
# ptgt beside Debian's tgtd and istgt on one machine, in alternating rounds, with ptgt's own load generator (one thread,
# epoll). tgtd, istgt and most of the ptgt rows serve one and the same file on tmpfs (plain, or mapped: those called so, and
# dpdk); kernel-ram and tap-ram, and SPDK's iscsi_tgt if --spdk names one, serve memory of their own. The wire is a veth pair, or a
# TAP device, with an MTU of 1500. The dpdk rows are DPDK's virtual devices, each frame of which goes through the kernel: they show
# what the port costs there, and say nothing about an adapter. iscsi_tgt takes huge pages that have been set aside before.
#
#   --candidates LIST  tgtd istgt kernel tap kernel-mapped tap-mapped kernel-ram tap-ram dpdk-af-packet dpdk-af-xdp dpdk-net-tap
#                      (the default is all)
#   --scenarios LIST   of those in perftests/scenarios (the default is all)
#   --sweep            after the rounds, once over queue depths and once over numbers of connections, for the plots
#   --smoke            one short round of two scenarios, to see that it works
#
# Each target runs on the last processor, the client on the first, each in a session of its own with the highest autogroup
# priority. Every scenario is checked once for right data before the rounds. Prints the table with ratios to tgtd (median,
# lowest and highest round), and writes to DIRECTORY (target/perf/peers): rounds.jsonl, summary.json, table.md, report.html.
all_arguments=("$@")
candidates='tgtd istgt kernel tap kernel-mapped tap-mapped kernel-ram tap-ram dpdk-af-packet dpdk-af-xdp dpdk-net-tap'
rounds=5 seconds=2 scenarios='' spdk='' sweep='' out='' smoke=''
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --candidates) candidates=$2; shift ;;
    --scenarios) scenarios=$2; shift ;;
    --spdk) spdk=$(realpath "$2"); shift ;;
    --out) out=$2; shift ;;
    --sweep) sweep=1 ;;
    --smoke) smoke=1 rounds=1 seconds=0.3 scenarios='rr32 sr4' candidates='tgtd kernel tap-mapped' ;;
    -h | --help) sed -n '3,22s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "peers.sh: see --help" >&2; exit 2 ;;
  esac
  shift
done
set -- "${all_arguments[@]}"
. "$(dirname "$0")/../ci/lib.sh"

here=$root/perftests
out=${out:-$root/target/perf/peers}
case $out in /*) ;; *) out=$root/$out ;; esac
mkdir -p "$out" "$root/target/perf"
last=$(($(nproc) - 1))
[ -n "$scenarios" ] || scenarios=$(awk '!/^#/ && NF { printf "%s ", $1 }' "$here/scenarios")
[ -z "$spdk" ] || candidates="$candidates spdk"
if ! has_dpdk && [[ $candidates == *dpdk-* ]]; then
  echo "this ptgt was built without the feature dpdk: no rows of it"
  candidates=$(tr ' ' '\n' <<<"$candidates" | grep -v '^dpdk-' | paste -sd' ')
fi
exec 8>"$root/target/perf/lock"
flock 8

# ahead PROCESSOR COMMAND...: pinned, and before all other sessions of the machine when run by setsid.
cat >ahead <<'END'
#!/bin/sh
echo -20 >/proc/self/autogroup
exec taskset -c "$@"
END
chmod +x ahead

# The far network, where targets on kernel sockets are, and the wire to it.
mkdir -p far
unshare --net sh -c 'echo $$ >far/pid; exec sleep infinity' &
far_process=$!
until_true 5 test -s far/pid || die "no second network namespace"
ip link add wire0 mtu 1500 type veth peer name wire1 netns "$(cat far/pid)" || { echo "needs the module veth"; exit 77; }
far=(nsenter --net="/proc/$(cat far/pid)/ns/net")
ip address add 10.78.0.1/24 dev wire0
ip link set wire0 up
"${far[@]}" ip address add 10.78.0.2/24 dev wire1
"${far[@]}" ip link set wire1 up
"${far[@]}" ip link set lo up

# The disk: 1 GiB on tmpfs, all of it written.
mount -t tmpfs -o size=3g tmpfs /dev/shm
image=/dev/shm/disk.img
dd if=/dev/urandom of=/dev/shm/seed bs=1M count=16 status=none
for _ in $(seq 64); do cat /dev/shm/seed; done >$image
rm /dev/shm/seed

ptgt_configuration() { # tap|kernel|dpdk file|mapped|ram
  printf '[daemon]\nreactors = [%s]\nmemory = "256MiB"\nlog = "warn"\nhugepages = "auto"\n' "$last"
  case $1 in
    tap)
      printf '[[port]]\nname = "net"\ndriver = "tap"\ndevice = "ptgt0"\nmtu = 1500\n'
      printf 'address = ["10.77.0.2/24"]\nhost_address = ["10.77.0.1/24"]\n'
      ;;
    dpdk) port_table 1500 ;;
    kernel) printf '[[port]]\nname = "net"\ndriver = "kernel"\n' ;;
  esac
  printf '[[portal]]\nname = "four"\nport = "net"\naddress = "%s:3260"\n' "$host"
  if [ "$2" = ram ]; then
    printf '[[disk]]\nname = "disk"\nstore = "ram"\nsize = "1GiB"\n'
  else
    printf '[[disk]]\nname = "disk"\nstore = "file"\npath = "%s"\nmapped = %s\n' "$image" \
      "$([ "$2" = mapped ] && echo true || echo false)"
  fi
  printf '[[target]]\nname = "%s"\nluns = [{ lun = 1, disk = "disk" }]\n' "$iqn"
  printf '[target.limits]\ninitiator_commands = 1000000\ninitiator_memory = "1TiB"\ninitiator_connections = 65000\n'
}

istgt_configuration() {
  cat <<END
[Global]
  NodeBase "iqn.2026-11.com.example.ptgt"
  PidFile $work/istgt.pid
  AuthFile $work/istgt.auth
  LogFacility "local7"
  Timeout 30
  NopInInterval 20
  DiscoveryAuthMethod Auto
  MaxSessions 256
  MaxConnections 1
  MaxR2T 32
  MaxOutstandingR2T 16
  DefaultTime2Wait 2
  DefaultTime2Retain 60
  FirstBurstLength 262144
  MaxBurstLength 1048576
  MaxRecvDataSegmentLength 262144
  InitialR2T Yes
  ImmediateData Yes
  DataPDUInOrder Yes
  DataSequenceInOrder Yes
  ErrorRecoveryLevel 0
[UnitControl]
  AuthMethod None
  Portal UC1 10.78.0.2:3261
  Netmask 10.78.0.2
[PortalGroup1]
  Portal DA1 10.78.0.2:3260
[InitiatorGroup1]
  InitiatorName "ALL"
  Netmask 10.78.0.0/24
[LogicalUnit1]
  TargetName "test"
  Mapping PortalGroup1 InitiatorGroup1
  AuthMethod None
  UseDigest Auto
  UnitType Disk
  QueueDepth 255
  LUN0 Storage $image 1GB
END
}

# What SPDK's applications load at their start: the requests of their JSON-RPC, by subsystem. There has to be a LUN 0.
spdk_configuration() {
  jq -n --arg iqn "$iqn" '{subsystems: [
    {subsystem: "bdev", config: [
      {method: "bdev_malloc_create", params: {name: "Malloc0", num_blocks: 2097152, block_size: 512}}]},
    {subsystem: "iscsi", config: [
      {method: "iscsi_set_options", params: {max_sessions: 1024, max_queue_depth: 128, immediate_data: true}},
      {method: "iscsi_create_portal_group", params: {tag: 1, portals: [{host: "10.78.0.2", port: "3260"}]}},
      {method: "iscsi_create_initiator_group", params: {tag: 1, initiators: ["ANY"], netmasks: ["ANY"]}},
      {method: "iscsi_create_target_node", params: {name: $iqn, alias_name: "disk", queue_depth: 128, disable_chap: true,
        pg_ig_maps: [{pg_tag: 1, ig_tag: 1}], luns: [{bdev_name: "Malloc0", lun_id: 0}]}}]}]}'
}

# Starts a candidate; sets host, target_pid and cost, the arguments that tell the load generator whom to measure.
launch() { # CANDIDATE
  local key adm
  host=10.78.0.2 cost=
  case $1 in
    tap*) host=10.77.0.2 ;;
  esac
  case $1 in
    tap* | kernel*)
      key=$(case $1 in *-*) echo "${1#*-}" ;; *) echo file ;; esac)
      ptgt_configuration "${1%-*}" "$key" >ptgt.toml
      if [ "${1%-*}" = tap ]; then
        setsid ./ahead "$last" "$PTGT" run --config ptgt.toml >>target.log 2>&1 &
      else
        "${far[@]}" setsid ./ahead "$last" "$PTGT" run --config ptgt.toml >>target.log 2>&1 &
      fi
      target_pid=$!
      cost="--target-socket /run/ptgt/control.sock --target-config ptgt.toml"
      ;;
    dpdk-*)
      key=${1#dpdk-}
      use_port "${key//-/_}"
      ptgt_configuration dpdk mapped >ptgt.toml
      setsid ./ahead "$last" "$PTGT" run --config ptgt.toml >>target.log 2>&1 &
      target_pid=$!
      [ "$port" != net_tap ] || address_net_tap
      cost="--target-socket /run/ptgt/control.sock --target-config ptgt.toml"
      ;;
    tgtd)
      mkdir -p /run/tgtd
      rm -f tgtd.sock.7 tgtd.sock.7.lock
      TGT_IPC_SOCKET=$work/tgtd.sock "${far[@]}" setsid ./ahead "$last" tgtd -f -C 7 --iscsi portal=10.78.0.2:3260 >>target.log 2>&1 &
      target_pid=$!
      until_true 10 test -S tgtd.sock.7 || die "tgtd does not start"
      adm="env TGT_IPC_SOCKET=$work/tgtd.sock tgtadm -C 7 --lld iscsi"
      $adm --op new --mode target --tid 1 -T "$iqn"
      for key in MaxRecvDataSegmentLength=262144 MaxXmitDataSegmentLength=262144 MaxBurstLength=1048576 \
        FirstBurstLength=262144 InitialR2T=No ImmediateData=Yes MaxQueueCmd=128; do
        $adm --op update --mode target --tid 1 --name "${key%=*}" --value "${key#*=}"
      done
      $adm --op new --mode logicalunit --tid 1 --lun 1 -b $image
      $adm --op bind --mode target --tid 1 -I ALL
      ;;
    istgt)
      istgt_configuration >istgt.conf
      : >istgt.auth
      "${far[@]}" setsid ./ahead "$last" istgt -D -c istgt.conf >>target.log 2>&1 &
      target_pid=$!
      ;;
    spdk)
      spdk_configuration >spdk.json
      "${far[@]}" setsid ./ahead "$last" "$spdk" -m "[$last]" -r "$work/spdk.sock" -c "$work/spdk.json" >>target.log 2>&1 &
      target_pid=$!
      ;;
    *) die "no candidate $1" ;;
  esac
  until_true 20 connects "$host" || die "$1 does not come up"
  # The process itself, behind nsenter and setsid, which replace themselves.
  cost="$cost --target-pid $target_pid"
  case $1 in
    istgt | spdk) url=iscsi://$host/$iqn/0 ;;
    *) url=iscsi://$host/$iqn/1 ;;
  esac
}

end() {
  kill -KILL "$target_pid" 2>/dev/null || true
  wait "$target_pid" 2>/dev/null || true
  # A TAP device, and a listener's port, are gone a little after their process.
  until_true 5 eval '! connects "$host"' || true
  # Its addresses are those of the TAP device, too.
  ip link delete va 2>/dev/null || true
}

# A target that does not get on is not waited for.
patience=60
bench() { setsid -w timeout "$patience" ./ahead 0 "$PTGT" bench "$url" --quiet "$@"; }

# The arguments of a scenario.
scenario() { awk -v name="$1" '$1 == name { $1 = ""; print }' "$here/scenarios"; }

record() { # FILE CANDIDATE SCENARIO ROUND: takes a result from standard input
  jq -c --arg candidate "$2" --arg scenario "$3" --argjson round "$4" \
    '{candidate: $candidate, scenario: $scenario, round: $round} + .' >>"$1"
}

# One point of a sweep; a target that cannot do it is told, and is not asked for more.
point() { # depth|connections NUMBER ARGUMENTS...
  # istgt takes about one login per second: 32 connections are up in time, 64 are not.
  local patience=45
  # shellcheck disable=SC2086
  if bench "${@:3}" --seconds 0.7 --warm-up 0.2 $cost --json point.json >point.log 2>&1; then
    record "$out/sweep.jsonl" "$candidate" "$1" "$2" <point.json
  else
    echo "$candidate is left out of the sweep from $2 ($1) on: $(tail -n 1 point.log | grep . || echo "no answer for $patience s")"
    return 1
  fi
}

: >"$out/rounds.jsonl"
: >"$out/sweep.jsonl"
: >refused
failing() { grep -qx "$1 $2" refused; }
for round in $(seq 0 "$rounds"); do
  for candidate in $candidates; do
    launch "$candidate"
    case $candidate in
      *-ram | spdk) bench --reads 0 --pattern sequential --block 1MiB --depth 8 --count 1024 >/dev/null ;;
    esac
    for name in $scenarios; do
      failing "$candidate" "$name" && continue
      load=$(scenario "$name")
      [ -n "$load" ] || die "no scenario $name"
      if [ "$round" -eq 0 ]; then
        # What a scenario reads is what one like it has written, and a target that cannot do it is known from now on.
        # shellcheck disable=SC2086
        bench ${load/--reads 0/} --reads 50 --verify --range 512MiB --warm-up 0 --seconds 0.3 >verify.log 2>&1 && continue
        if grep -q 'other data' verify.log; then cat verify.log; die "$candidate, $name: wrong data"; fi
        echo "$candidate cannot do $name: $(tail -n 1 verify.log | grep . || echo "no answer for $patience s")"
        echo "$candidate $name" >>refused
        kill -0 "$target_pid" 2>/dev/null || launch "$candidate"
        continue
      fi
      # shellcheck disable=SC2086
      bench $load --seconds "$seconds" --warm-up 0.3 $cost --label "$candidate" --json - |
        record "$out/rounds.jsonl" "$candidate" "$name" "$round" || die "$candidate, $name"
    done
    if [ -n "$sweep" ] && [ "$round" -eq "$rounds" ]; then
      for depth in 1 2 4 8 16 32 64 128; do point depth $depth --depth $depth || break; done
      for connections in 1 2 4 8 16 32 64 128 256 1000; do
        point connections $connections --connections $connections --depth 1 || break
      done
    fi
    end
  done
done
kill "$far_process"
python3 "$here/report.py" "$out" $smoke
