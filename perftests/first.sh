#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# first.sh [--smoke] [--rounds N] [--seconds N]
#
# ptgt over its TAP port and over kernel sockets beside Debian's tgtd (tuned): 4 KiB random reads at queue depth 32,
# 256 KiB sequential reads and 4 KiB random writes on a disk in memory, in alternating rounds on one machine. Prints
# medians with the lowest and highest round, and the target's processor time per operation; all rounds as JSON lines in
# target/perf/first.json. The target runs on the last processor, the client on the first, each in a session of its own
# with the highest autogroup priority. Before it measures it checks that the data read is the data written.
rounds=5 seconds=3
while [ $# -gt 0 ]; do
  case $1 in
    --smoke) rounds=1 seconds=0.5 ;;
    --rounds) rounds=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    -h | --help) sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "first.sh: see --help" >&2; exit 2 ;;
  esac
  shift
done
set -- --rounds "$rounds" --seconds "$seconds"
. "$(dirname "$0")/../ci/lib.sh"

results=$root/target/perf
mkdir -p "$results"
cc -O2 -Wall -Wextra -o load "$root/perftests/load.c" -liscsi
exec 8>"$results/lock"
flock 8
last=$(($(nproc) - 1))

# ahead PROCESSOR COMMAND...: pinned, and before all other sessions of the machine when run by setsid.
cat >ahead <<'EOF'
#!/bin/sh
echo -20 >/proc/self/autogroup
exec taskset -c "$@"
EOF
chmod +x ahead

# Starts a candidate; sets target_pid and ram. All get 256 MiB of memory to serve.
launch() { # ptgt-tap|ptgt-kernel|tgtd
  case $1 in
    ptgt-*)
      use_port "${1#ptgt-}"
      log=warn
      configuration test.toml 65521 "[$last]"
      setsid ./ahead "$last" "$PTGT" run --config test.toml >>target.log 2>&1 &
      ;;
    tgtd)
      use_port kernel
      [ -f /dev/shm/tgtd.img ] || truncate -s 256M /dev/shm/tgtd.img
      rm -f tgtd.sock.7 tgtd.sock.7.lock
      TGT_IPC_SOCKET=$work/tgtd.sock setsid ./ahead "$last" tgtd -f -C 7 --iscsi portal=127.0.0.1:3260 >>target.log 2>&1 &
      ;;
  esac
  target_pid=$!
  if [ "$1" = tgtd ]; then
    until_true 10 test -S tgtd.sock.7 || die "tgtd does not start"
    local adm="env TGT_IPC_SOCKET=$work/tgtd.sock tgtadm -C 7 --lld iscsi" key
    $adm --op new --mode target --tid 1 -T "$iqn"
    for key in MaxRecvDataSegmentLength=262144 MaxXmitDataSegmentLength=262144 MaxBurstLength=1048576 \
      FirstBurstLength=262144 InitialR2T=No ImmediateData=Yes; do
      $adm --op update --mode target --tid 1 --name "${key%=*}" --value "${key#*=}"
    done
    $adm --op new --mode logicalunit --tid 1 --lun 1 -b /dev/shm/tgtd.img
    $adm --op bind --mode target --tid 1 -I ALL
  fi
  until_true 10 connects "$host" || die "$1 does not come up"
}

end() {
  kill -KILL "$target_pid"
  wait "$target_pid" 2>/dev/null || true
}

# Processor time of the target so far, in clock ticks.
spent() { awk '{ print $14 + $15 }' "/proc/$target_pid/stat"; }

candidates='tgtd ptgt-kernel ptgt-tap'
mount -t tmpfs tmpfs /dev/shm
: >"$results/first.json"
for round in $(seq 0 "$rounds"); do
  for candidate in $candidates; do
    launch "$candidate"
    if [ "$round" -eq 0 ]; then
      setsid -w ./ahead 0 ./load "$url/1" write sequential 262144 8 1 >/dev/null
      setsid -w ./ahead 0 ./load "$url/1" check random 4096 32 0.5 >/dev/null || die "$candidate: wrong data"
      end
      continue
    fi
    for work_load in 'read random 4096 32' 'read sequential 262144 8' 'write random 4096 32'; do
      before=$(spent)
      # shellcheck disable=SC2086
      line=$(setsid -w ./ahead 0 ./load "$url/1" $work_load "$seconds")
      after=$(spent)
      jq -c --arg candidate "$candidate" --arg load "$work_load" --argjson round "$round" \
        --argjson ticks $((after - before)) --argjson hz "$(getconf CLK_TCK)" --argjson seconds "$seconds" \
        '{candidate: $candidate, load: $load, round: $round} + .
         + {target_cpu_us: ($ticks * 1e6 / $hz / (.operations * ($seconds + 0.3) / $seconds) * 100 | round / 100)}' \
        <<<"$line" >>"$results/first.json"
    done
    end
  done
done

jq -rs '
  def median: sort | .[length / 2 | floor];
  def cell(f): [.[] | f] | "\(median) (\(min)-\(max))";
  ["LOAD", "TARGET", "OPS/S", "MIB/S", "P50 US", "P99 US", "TARGET CPU US/OP", "CLIENT CPU US/OP"],
  (group_by(.load, .candidate)[] | [.[0].load, .[0].candidate, cell(.per_second), ([.[].mib_per_second] | median),
    ([.[].p50_us] | median), ([.[].p99_us] | median), cell(.target_cpu_us), ([.[].client_cpu_us] | median)])
  | @tsv' "$results/first.json" | column -t -s $'\t'
