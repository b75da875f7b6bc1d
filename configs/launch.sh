#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# launch.sh [CONFIG]
#
# Installs the packages that are missing, sets huge pages aside, builds ptgt and runs CONFIG in the foreground (default:
# configs/quickstart.toml). Ctrl-C or SIGTERM stops it, a second one stops it at once; the exit status is the daemon's,
# and huge pages that were added are given back. Needs root or sudo.
set -eu -o pipefail
case ${1:-} in -h | --help) sed -n '3,7s/^# \{0,1\}//p' "$0"; exit 0 ;; -*) echo "launch.sh: see --help" >&2; exit 2 ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)
config=$(realpath "${1:-$root/configs/quickstart.toml}")
PATH=$PATH:$HOME/.cargo/bin
command -v cargo >/dev/null || { echo "launch.sh: no cargo in PATH: install Rust from https://rustup.rs" >&2; exit 1; }

"$root/ci/setup.sh" build
echo "launch: building"
(cd "$root" && cargo build --quiet --release)
ptgt=${CARGO_TARGET_DIR:-$root/target}/release/ptgt
"$ptgt" check "$config"

# From here on as root: huge pages and network devices are not for everybody.
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "launch.sh: run this as root" >&2; exit 1; }
  exec sudo --preserve-env=PATH,HOME,CARGO_TARGET_DIR "$root/configs/launch.sh" "$config"
fi

# Huge pages: the payload memory of each reactor, and the disks that live in memory.
wanted=$(python3 - "$config" <<'PY'
import re, sys, tomllib
config = tomllib.load(open(sys.argv[1], "rb"))
def size(value):
    number = re.match("[0-9]*", str(value)).group()
    unit = str(value)[len(number):].strip()
    power = "KMGTP".find(unit[:1].upper()) + 1 if unit else 0
    return int(number) * (1000 if len(unit) == 2 else 1024) ** power
daemon = config.get("daemon", {})
pools = [size(daemon.get("memory", "256MiB"))] * len(daemon.get("reactors", [0]))
pools += [size(disk["size"]) for disk in config.get("disk", []) if disk["store"] == "ram"]
print(0 if daemon.get("hugepages") == "never" else sum(-(-pool // (2 << 20)) for pool in pools))
PY
)
pages=/sys/kernel/mm/hugepages/hugepages-2048kB
before=
free=$(cat $pages/free_hugepages 2>/dev/null || echo "$wanted")
if [ "$free" -lt "$wanted" ]; then
  before=$(cat $pages/nr_hugepages)
  echo $((before + wanted - free)) >$pages/nr_hugepages || true
  echo "launch: $wanted huge pages of 2 MiB wanted, $free free, $(($(cat $pages/nr_hugepages) - before)) added"
else
  echo "launch: $wanted huge pages of 2 MiB wanted, and free"
fi

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
  for _ in $(seq 100); do
    kill -0 $$ 2>/dev/null || break
    if timeout 1 bash -c "exec 3<>/dev/tcp/$host/${address##*:}" 2>/dev/null; then connect; break; fi
    sleep 0.1
  done
  tail --pid=$$ -s 0.2 -f /dev/null
  [ -z "$before" ] || echo "$before" >$pages/nr_hugepages
) &
exec "$ptgt" run --config "$config"
