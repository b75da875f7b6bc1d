#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# setup.sh [GROUP...]
#
# Installs the Debian 12 packages that ptgt needs, and only those that are missing; all groups if none is named:
#   build  to compile it          test   clients and tools of the system tests
#   guest  the QEMU guest rig     perf   valgrind and the targets to compare with
# Rust is not among them: https://rustup.rs. Works as root or with sudo.
set -eu

packages() { # GROUP
  case $1 in
    build) echo gcc libc6-dev libclang-dev libdpdk-dev pkg-config python3 ;;
    test) echo e2fsprogs ethtool iproute2 iputils-ping jq libiscsi-bin nftables procps qemu-block-extra qemu-utils shellcheck tcpdump \
      strace tshark util-linux ;;
    guest) echo busybox-static cpio dmsetup fio kmod linux-image-amd64 lvm2 multipath-tools open-iscsi qemu-system-x86 \
      mt-st mtx sdparm sg3-utils smartmontools systemd udev xfsprogs ;;
    perf) echo istgt tgt valgrind ;;
    *) echo "setup.sh: unknown group $1 (build test guest perf)" >&2; return 2 ;;
  esac
}

case ${1:-} in -h | --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
[ $# -gt 0 ] || set -- build test guest perf

# Packages of the wanted groups that are not installed.
find_missing() {
  local group name names state
  missing=()
  for group in "${groups[@]}"; do
    names=$(packages "$group")
    for name in $names; do
      state=$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) || state=
      [ "$state" = installed ] || missing+=("$name")
    done
  done
}

groups=("$@") installed=()
find_missing
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: all packages are there ($*)"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "setup: missing: ${missing[*]}; run this as root" >&2; exit 1; }
  as_root=(sudo -E)
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Another installation may have the lock, such as that of a machine that has just booted.
apt() {
  for _ in $(seq 60); do
    "${as_root[@]}" env LC_ALL=C apt-get -q -o DPkg::Lock::Timeout=600 "$@" >"$log" 2>&1 && return
    grep -q 'Could not get lock' "$log" || break
    [ -n "${waits:-}" ] || echo "setup: waiting for another apt to end"
    waits=1
    sleep 10
  done
  tail -n 30 "$log" >&2
  exit 1
}
echo "setup: ${#missing[@]} packages are missing; they come from the package registry of this machine's Debian"
apt update
# Twice, because apt-get may remove what was there before: qemu-utils from backports does not go with Debian 12's
# qemu-block-extra, and is then missing itself.
for _ in 1 2; do
  [ ${#missing[@]} -gt 0 ] || break
  echo "setup: installing ${missing[*]}"
  apt install -y --no-install-recommends "${missing[@]}"
  installed+=("${missing[@]}")
  find_missing
done
[ ${#missing[@]} -eq 0 ] || { echo "setup: these do not go together with the rest: ${missing[*]}" >&2; exit 1; }
# The tests start daemons of their own; one that came with a package would hold port 3260.
for name in "${installed[@]}"; do
  case $name in
    tgt) service=tgt ;;
    open-iscsi) service=iscsid ;;
    multipath-tools) service=multipathd ;;
    *) continue ;;
  esac
  [ -d /run/systemd/system ] && "${as_root[@]}" systemctl disable -q --now "$service" 2>/dev/null || true
done
echo "setup: done"
