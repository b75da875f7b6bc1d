# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: two NUMA nodes: huge pages are set aside, used and given back node by node
# nets: inside-tap
# devices: ram
# nodes: 2
# limit: 300
# needs: /usr/bin/python3 tail flock /usr/lib/python3.*/*.py /usr/lib/python3.*/encodings /usr/lib/python3.*/json /usr/lib/python3.*/re /usr/lib/python3.*/tomllib /usr/lib/python3.*/collections /usr/lib/python3.*/importlib
# Pages of 2 MiB: 16 for the memory of each reactor, 24 for the disk, which is where the first reactor is.
hugepages=require ram_mib=48

pages() { # WHAT: of node 0 and of node 1
  cat /sys/devices/system/node/node[01]/hugepages/hugepages-2048kB/"$1"_hugepages | paste -sd' '
}
# Huge pages that the daemon has on each node (numa_maps of proc(5)).
used() {
  awk '/ huge / { for (i = 1; i <= NF; i++) if (split($i, part, "=") == 2 && part[1] ~ /^N[01]$/) pages[part[1]] += part[2] }
    END { print pages["N0"] + 0, pages["N1"] + 0 }' "/proc/$target_pid/numa_maps"
}
target_start() { :; }
launch() {
  PTGT=$PTGT bash /usr/lib/rig/configs/launch.sh target.toml >target.log 2>&1 &
  target_pid=$!
  serving() { "$PTGT" status --config target.toml >/dev/null 2>&1; }
  until_true 60 eval "serving || ! kill -0 $target_pid" && serving || { cat target.log; die "the daemon does not serve"; }
}
doctor() { "$PTGT" doctor --config target.toml | grep -A 2 'huge pages' || true; }

# The first reactor on one node or the other: the disk goes with it.
round() { # REACTORS NODE0 NODE1
  say "reactors on $1"
  configuration target.toml 1500 "$1"
  sed -i 's/^memory = .*/memory = "32MiB"/' target.toml
  doctor >said
  cat said
  [ "$(grep -c '^FAILS *huge pages of 2 MiB on node [01]: 0 free' said) $(grep -c "wanted: $2\$" said) $(grep -c "wanted: $3\$" said)" = '2 1 1' ] ||
    die "doctor does not want $2 pages on one node and $3 on the other"
  launch
  grep '^launch: huge pages' target.log
  [ "$(pages nr)" = "$2 $3" ] || die "set aside: $(pages nr), not $2 $3"
  [ "$(used)" = "$2 $3" ] || die "used: $(used), not $2 $3"
  "$PTGT" bench --verify --reads 50 --block 64KiB --seconds 2 "$ram" >bench.out 2>&1 || { cat bench.out; die "no load"; }
  stop TERM 10 0
  as_before() { [ "$(pages nr)" = '0 0' ]; }
  until_true 20 as_before || die "not given back: $(pages nr)"
}
job() {
  round '[0, 1]' 40 16
  round '[1, 0]' 16 40
}
