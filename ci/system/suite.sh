#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# suite.sh [PORT] [FIXTURE...]: the libiscsi gate. Every test of iscsi-test-cu, on fresh disks of each kind: thin
# (behind the named port), and over the kernel's TCP two-portals, thick, removable and read-only; and the one test that
# wants a sanitize operation to last, on a disk whose store is slow. Each test has to pass on one of them, but for those
# that libiscsi.expected beside the script of the suite says otherwise of. The fixtures run at the same time, each on a
# target of its own. The first two are served by two reactors where there are two processors, to which the two portals
# lead. The others are served by one: there the end of a connection is noticed before a later one logs in.
. "$(dirname "$0")/../lib.sh"
use_port "${1:-tap}"
[ $# -eq 0 ] || shift
fixtures=("$@")
[ $# -gt 0 ] || fixtures=(thin two-portals thick removable read-only slow)

# What a fixture's disk has beside its file.
options() { # FIXTURE
  case $1 in
    two-portals) echo 'physical_exponent = 0' ;;
    thick) echo 'thin = false' ;;
    removable) echo 'removable = true' ;;
    read-only) echo 'read_only = true' ;;
    slow) echo 'thin = false'; echo 'removable = true'; echo 'faults = [{ operation = "write", delay = "100ms" }]' ;;
  esac
}

portals() { # PORT ADDRESS...
  local address port=$1; shift
  for address in "$@"; do
    printf '[[portal]]\nname = "%s"\nport = "%s"\naddress = "%s:3260"\n' "$address" "$port" "$address"
  done
}

# The configuration of one of the two daemons.
daemon() { # NAME REACTORS FIXTURE...
  local name=$1 reactors=$2 fixture; shift 2
  printf '[daemon]\nreactors = %s\nmemory = "64MiB"\nlog = "warn"\nhugepages = "never"\n' "$reactors"
  printf 'control_socket = "/run/ptgt/%s.sock"\n' "$name"
  printf '[[port]]\nname = "kernel"\ndriver = "kernel"\n'
  case $name in
    first) portals kernel 127.0.0.1 '[::1]' ;;
    second) portals kernel 127.0.0.2 ;;
  esac
  if [ "$name" = first ] && [ "$port" != kernel ]; then
    port_table 65521
    portals net "$host"
  fi
  for fixture in "$@"; do
    truncate -s 128M "var/lib/ptgt/$fixture.img"
    printf '[[disk]]\nname = "%s"\nstore = "file"\npath = "/var/lib/ptgt/%s.img"\n' "$fixture" "$fixture"
    printf 'atomic_writes = true\n'
    options "$fixture"
    printf '[[target]]\nname = "%s-%s"\nluns = [{ lun = 0, disk = "%s" }]\n' "$iqn" "$fixture" "$fixture"
    # Sanitize.Reset sleeps for a minute at a time without answering, after which a connection ends by default: whether
    # the tool or the target was the first was chance.
    [ "$fixture" != slow ] || printf '[target.iscsi]\nnop_interval = "120s"\n'
  done
}
daemon first "$two_reactors" thin two-portals >first.toml
daemon second '[0]' thick removable read-only slow >second.toml
start first.toml 127.0.0.1 "$host"
first_pid=$target_pid
start second.toml 127.0.0.2
second_pid=$target_pid

begin=$SECONDS
declare -A job
for fixture in "${fixtures[@]}"; do
  address=127.0.0.2 more=()
  case $fixture in
    thin) address=$host ;;
    two-portals) address=127.0.0.1 more=(--second "iscsi://[::1]:3260/$iqn-$fixture/0") ;;
    slow) more=(--only Sanitize.Reset --seconds 200) ;;
  esac
  "$root/ci/suites/libiscsi.sh" --fixture "$fixture" --results "$fixture.results" "${more[@]}" \
    "iscsi://$address:3260/$iqn-$fixture/0" >"$fixture.log" 2>&1 &
  job[$fixture]=$!
done
bad=0
for fixture in "${fixtures[@]}"; do
  wait "${job[$fixture]}" || bad=1
  say "$fixture"
  cat "$fixture.log"
done
say "all fixtures after $((SECONDS - begin)) s"
grep -qi 'panic' target.log && die "the log tells of a panic"
target_pid=$first_pid
stop TERM 10 0
target_pid=$second_pid
stop TERM 10 0
[ $bad -eq 0 ] || die "tests did not end as expected"
[ $# -gt 0 ] || "$root/ci/suites/libiscsi.sh" --coverage ./*.results
