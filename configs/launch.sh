#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# launch.sh [--bind] [CONFIG]
#
# Installs the packages that are missing, builds ptgt, sets huge pages aside on the NUMA nodes where CONFIG wants them, says
# what else would make it faster, and runs CONFIG in the foreground (default: configs/quickstart.toml). With --bind,
# network adapters that CONFIG drives through DPDK are taken from the kernel's drivers (not if they have addresses) and
# bound to vfio-pci. Ctrl-C or SIGTERM stops it, a second one stops it at once; the exit status is the daemon's, and huge
# pages and adapters are given back. Needs root or sudo. PTGT=FILE runs that binary; then nothing is installed or built.
set -eu -o pipefail
bind=
[ "${1:-}" != --bind ] || { bind=--bind; shift; }
case ${1:-} in -h | --help) sed -n '3,10s/^# \{0,1\}//p' "$0"; exit 0 ;; -*) echo "launch.sh: see --help" >&2; exit 2 ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)
config=$(realpath "${1:-$root/configs/quickstart.toml}")
if [ -n "${PTGT:-}" ]; then
  ptgt=$PTGT
else
  PATH=$PATH:$HOME/.cargo/bin
  command -v cargo >/dev/null || { echo "launch.sh: no cargo in PATH: install Rust from https://rustup.rs" >&2; exit 1; }
  "$root/ci/setup.sh" build
  echo "launch: building; on two cores this takes about 3 minutes the first time, and seconds after that"
  quiet=--quiet
  [ ! -t 2 ] || quiet=
  (cd "$root" && cargo build $quiet --release)
  ptgt=${CARGO_TARGET_DIR:-$root/target}/release/ptgt
fi
"$ptgt" check "$config"

# From here on as root: huge pages and network devices are not for everybody.
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "launch.sh: run this as root" >&2; exit 1; }
  exec sudo --preserve-env=PATH,HOME,CARGO_TARGET_DIR,PTGT "$root/configs/launch.sh" $bind "$config"
fi

# What the machine lacks, as the daemon's own eyes see it: "pages NODE MISSING" and "device ADDRESS DRIVER".
lacks() {
  "$ptgt" doctor --json --config "$config" | python3 -c '
import json, sys
report = json.load(sys.stdin)
for node in report["huge_pages"]:
    print("pages", node["node"], max(0, node["wanted"] - node["free"]))
for device in report["devices"]:
    if not device["usable"]:
        print("device", device["address"], device["driver"] or "-")
' || true
}

# Huge pages, NUMA node by NUMA node.
. "$root/configs/hugepages.sh"
alone_with_pages return_left_pages
pool() { # NODE
  local node=/sys/devices/system/node/node$1/hugepages/hugepages-2048kB/nr_hugepages
  [ -e "$node" ] && echo "$node" || echo /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
}
add_pages() { # NODE MISSING
  if [ "$2" -eq 0 ]; then
    echo "launch: huge pages of 2 MiB on node $1: enough are free"
    return
  fi
  take_pages "$(pool "$1")" "$2"
  echo "launch: huge pages of 2 MiB on node $1: $2 wanted, $pages_taken added"
}

# Network adapters, and the drivers that they had before.
declare -A drivers=()
pci=/sys/bus/pci
rebind() { # ADDRESS DRIVER (or - for the one that the kernel chooses)
  local device=$pci/devices/$1
  [ "$2" = - ] && echo >"$device/driver_override" || echo "$2" >"$device/driver_override"
  [ ! -e "$device/driver" ] || echo "$1" >"$device/driver/unbind"
  echo "$1" >$pci/drivers_probe
}
bind_device() { # ADDRESS DRIVER
  local driver=vfio-pci interface
  [ -e "$pci/devices/$1" ] || { echo "launch: there is no device $1" >&2; return; }
  for interface in "$pci/devices/$1"/net/*; do
    [ -e "$interface" ] || continue
    if ip -o address show dev "${interface##*/}" scope global | grep -q .; then
      echo "launch: $1 is ${interface##*/}, which has addresses: not taken from the system" >&2
      exit 1
    fi
  done
  if [ -z "$(ls /sys/class/iommu 2>/dev/null)" ]; then
    driver=uio_pci_generic
    echo "launch: no IOMMU: $1 may write anywhere in memory (intel_iommu=on or amd_iommu=on)"
  fi
  modprobe $driver || { echo "launch: the kernel has no module $driver" >&2; exit 1; }
  drivers[$1]=$2
  rebind "$1" $driver
  echo "launch: $1 bound to $driver, before $2"
}

# What was taken from the system.
give_back() {
  local each
  give_pages_back
  for each in "${!drivers[@]}"; do
    rebind "$each" -
    echo "launch: $each given back to ${drivers[$each]}"
  done
}
trap give_back EXIT

while read -r what which how; do
  case $what in
    pages) add_pages "$which" "$how" ;;
    device)
      if [ -n "$bind" ]; then
        bind_device "$which" "$how"
      else
        echo "launch: $which is bound to $how: --bind gives it to vfio-pci while the daemon runs"
      fi
      ;;
  esac
done < <(lacks)
echo "launch: the machine, as ptgt doctor finds it now:"
"$ptgt" doctor --config "$config" | grep -v '^good' || true

# How to reach it, in the words of the clients.
connect() {
  python3 - "$config" <<'PY'
import sys, tomllib
config = tomllib.load(open(sys.argv[1], "rb"))
portals = {portal["name"]: portal["address"] for portal in config["portal"]}
for target in config["target"]:
    name = target["name"]
    portal = portals[target.get("portals", list(portals))[0]]
    print(f"launch: {name} is up. For example:")
    print(f"  iscsi-ls -s iscsi://{portal}")
    print(f"  sudo iscsiadm -m discovery -t sendtargets -p {portal} && sudo iscsiadm -m node -T {name} --login")
    for lun in target.get("luns", [])[:1]:
        url = f"iscsi://{portal}/{name}/{lun['lun']}"
        print(f"  qemu-img convert -n -O raw disk.img {url}")
        print(f"  qemu-system-x86_64 -m 1G -drive file={url},format=raw,if=virtio")
print("launch: Ctrl-C stops it")
PY
}

# This process becomes the daemon, so signals and the exit status are its own. What is left to do waits beside it.
address=$(python3 -c 'import sys, tomllib; print(tomllib.load(open(sys.argv[1], "rb"))["portal"][0]["address"])' "$config")
host=${address%:*} host=${host#[} host=${host%]}
(
  trap '' INT TERM HUP
  trap - EXIT
  # However long it takes: the kernel zeroes huge pages first.
  while kill -0 $$ 2>/dev/null; do
    if timeout 1 bash -c "exec 3<>/dev/tcp/$host/${address##*:}" 2>/dev/null; then connect; break; fi
    sleep 0.1
  done
  tail --pid=$$ -s 0.2 -f /dev/null
  give_back
) &
trap - EXIT
exec "$ptgt" run --config "$config"
