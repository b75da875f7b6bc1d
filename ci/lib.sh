# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# lib.sh: what the system tests share. Source it first, with the test's arguments.
#
# A test runs again inside namespaces of its own (network, mounts, processes) and in a directory of its own, $work; when
# it ends, however it ends, its processes, network and files are gone. /var/lib/ptgt and /run/ptgt are private to it, so
# that the configurations of the project run unchanged. Failures show the daemon's log.
#
# Environment: PTGT (the binary), TARGET=tgtd (Debian's tgtd serves instead, to tell a fault of ours from a client's
# habit; kernel port only), KEEP=1 (leave $work and say where it is).
set -eu -o pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PTGT=${PTGT:-$root/target/release/ptgt}
TARGET=${TARGET:-ptgt}

if [ -z "${work:-}" ]; then
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || { echo "needs root or sudo without a password"; exit 77; }
    as_root=(sudo -n)
  fi
  unshare="unshare --net --mount --pid --fork --kill-child --mount-proc"
  "${as_root[@]}" $unshare true 2>/dev/null || { echo "needs the right to make namespaces"; exit 77; }
  [ "$TARGET" = tgtd ] || [ -x "$PTGT" ] || { echo "no $PTGT: cargo build --release"; exit 1; }
  work=$(mktemp -d -t ptgt-test.XXXXXX)
  [ -z "${KEEP:-}" ] || echo "files: $work"
  inner=
  clean() {
    if [ -n "$inner" ]; then
      # With it goes all that runs in its namespaces.
      "${as_root[@]}" kill -KILL "$inner" 2>/dev/null || true
      wait "$inner" 2>/dev/null || true
    fi
    [ -n "${KEEP:-}" ] || "${as_root[@]}" rm -rf "$work" || { sleep 1; "${as_root[@]}" rm -rf "$work"; }
  }
  trap clean EXIT
  trap 'exit 143' TERM
  trap 'exit 130' INT HUP
  # In the background, so that a signal is not put off until the test is done.
  "${as_root[@]}" env work="$work" PTGT="$PTGT" TARGET="$TARGET" PATH="$PATH:/usr/sbin:/sbin" \
    setpriv --pdeathsig KILL $unshare bash "$0" "$@" <&0 &
  inner=$! status=0
  wait "$inner" || status=$?
  inner=
  exit "$status"
fi

cd "$work"
ip link set lo up
for directory in var/lib/ptgt run/ptgt; do
  mkdir -p "/$directory" "$work/$directory"
  mount --bind "$work/$directory" "/$directory"
done

target_pid=
failed() {
  [ -s "$work/target.log" ] && { echo "--- log of the target:"; tail -n 60 "$work/target.log"; }
}
trap '[ $? -eq 0 ] || failed' EXIT

say() { echo "== $*"; }
die() { echo "FAILED: $*" >&2; exit 1; }

# Waits until a command succeeds; the first argument is the limit in seconds.
until_true() { # SECONDS COMMAND...
  local end=$((SECONDS + $1)); shift
  until "$@" 2>/dev/null; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.05
  done
}

iqn=iqn.2026-11.com.example.ptgt:test

# For `configuration`: a reactor on each of two processors, where there are so many.
# shellcheck disable=SC2034
two_reactors='[0]'
[ "$(nproc)" -lt 2 ] || two_reactors='[0, 1]'

# A pair of network devices, va (the host's, with addresses) and vb (the daemon's), both here.
veth() {
  ! ip link show va >/dev/null 2>&1 || return 0
  ip link add va type veth peer name vb
  for end in va vb; do
    echo 0 >/proc/sys/net/ipv6/conf/$end/accept_dad
    ip link set $end up
  done
  echo 1 >/proc/sys/net/ipv6/conf/vb/disable_ipv6
  ip address add 10.77.0.1/24 dev va
  ip address add fd77::1/64 dev va nodad
}

# Chooses a port: where the portals of the test are. Ports of DPDK are its virtual devices on devices of the kernel.
use_port() { # tap|packet|kernel|af_packet|af_xdp|net_tap|pci
  port=$1
  case $port in
    packet) veth; host=10.77.0.2 host6=fd77::2 ;;
    # An adapter at the address $pci_address.
    pci) host=10.77.0.2 host6=fd77::2 ;;
    af_packet | af_xdp | net_tap)
      host=10.77.0.2 host6=fd77::2
      if [ "$port" = net_tap ]; then
        # Its own device gets the addresses.
        ip link delete va 2>/dev/null || true
      else
        veth
        # These devices know neither partial checksums nor frames above the MTU.
        for end in va vb; do
          ethtool -K $end tx off tso off gso off gro off >/dev/null
          ip link set $end mtu 1500
        done
      fi
      ;;
    kernel)
      host=127.0.0.1 host6=::1
      [ -z "${bridge:-}" ] || host=10.77.0.2 host6=fd77::2
      ;;
    tap)
      [ -c /dev/net/tun ] || { echo "needs /dev/net/tun (module tun)"; exit 77; }
      host=10.77.0.2 host6=fd77::2
      ;;
    *) die "no port $port: tap, packet, kernel, af_packet, af_xdp or net_tap" ;;
  esac
  [ "$TARGET" = ptgt ] || [ "$port" = kernel ] || die "tgtd has the kernel port only"
  url=iscsi://$host:3260/$iqn
  url6=iscsi://[$host6]:3260/$iqn
  disk=$url/0 ram=$url/1
  [ "$TARGET" = ptgt ] || { disk=$url/1 ram=$url/2; }
}

# The chosen port in a configuration. In a $bridge a TAP device has no addresses of the host's.
port_table() { # MTU
  printf '[[port]]\nname = "net"\n'
  [ "$port" = kernel ] || printf 'address = ["10.77.0.2/24", "fd77::2/64"]\n'
  case $port in
    kernel) printf 'driver = "kernel"\n' ;;
    tap)
      printf 'driver = "tap"\ndevice = "ptgt0"\nmtu = %s\n' "$1"
      [ -n "${bridge:-}" ] || printf 'host_address = ["10.77.0.1/24", "fd77::1/64"]\n'
      ;;
    packet) printf 'driver = "packet"\ndevice = "vb"\n' ;;
    pci) printf 'driver = "dpdk"\ndevice = "%s"\n' "${pci_address:?}" ;;
    net_tap) printf 'driver = "dpdk"\ndevice = "net_tap0,iface=ptgt0"\n' ;;
    *) printf 'driver = "dpdk"\ndevice = "net_%s0,iface=vb%s"\n' "$port" "${arguments:-}" ;;
  esac
}

# The test configuration: LUN 0 a thin file of 1 GiB, LUN 1 $ram_mib or 256 MiB of RAM, portals over IPv4 and IPv6. The
# daemon logs at level $log, or info; blocks have $block bytes, or 512. In a $bridge the portals
# are those of the TAP port whatever the port.
configuration() { # FILE [MTU] [REACTORS]
  {
    printf '[daemon]\nreactors = %s\nmemory = "64MiB"\nlog = "%s"\n' "${3:-[0]}" "${log:-info}"
    [ -z "${hugepages:-}" ] || printf 'hugepages = "%s"\n' "$hugepages"
    port_table "${2:-65521}"
    printf '[[portal]]\nname = "four"\nport = "net"\naddress = "%s:3260"\n' "$host"
    printf '[[portal]]\nname = "six"\nport = "net"\naddress = "[%s]:3260"\n' "$host6"
    printf '[[disk]]\nname = "thin0"\nstore = "file"\npath = "/var/lib/ptgt/disk0.img"\nsize = "1GiB"\ncreate = true\n'
    printf 'block_size = %s\natomic_writes = true\n' "${block:-512}"
    printf '[[disk]]\nname = "ram0"\nstore = "ram"\nsize = "%sMiB"\nblock_size = %s\natomic_writes = true\n' "${ram_mib:-256}" "${block:-512}"
    printf '[[target]]\nname = "%s"\n' "$iqn"
    printf 'luns = [{ lun = 0, disk = "thin0" }, { lun = 1, disk = "ram0" }]\n'
  } >"$1"
}

# Whether ptgt has the driver dpdk, which one built without that feature has not.
has_dpdk() { "$PTGT" check --offline "$root/configs/lab.toml" >/dev/null 2>&1; }

# DPDK makes the device of net_tap when it starts, and gives its host side no address.
address_net_tap() {
  until_true 20 ip link show ptgt0 >/dev/null || die "DPDK makes no device"
  ip address replace 10.77.0.1/24 dev ptgt0
  ip address replace fd77::1/64 dev ptgt0 nodad
}

connects() { timeout 1 bash -c "exec 3<>/dev/tcp/$1/3260"; }

start_tgtd() {
  mkdir -p /run/tgtd
  # What one that was killed has left.
  rm -f "$work"/tgtd.sock*
  TGT_IPC_SOCKET=$work/tgtd.sock tgtd -f -C 7 --iscsi "portal=$host:3260,portal=[$host6]:3260${more_portals:-}" >>target.log 2>&1 &
  target_pid=$!
  until_true 10 test -S "$work/tgtd.sock.7" || die "tgtd does not start"
  local adm="env TGT_IPC_SOCKET=$work/tgtd.sock tgtadm -C 7 --lld iscsi" lun digest
  [ -f var/lib/ptgt/disk0.img ] || truncate -s 1G var/lib/ptgt/disk0.img
  truncate -s "${ram_mib:-256}M" ram.img
  $adm --op new --mode target --tid 1 -T "$iqn"
  for digest in HeaderDigest DataDigest; do
    $adm --op update --mode target --tid 1 --name $digest --value CRC32C,None
  done
  lun=1
  for image in var/lib/ptgt/disk0.img ram.img; do
    $adm --op new --mode logicalunit --tid 1 --lun $lun -b "$work/$image" --blocksize "${block:-512}"
    $adm --op update --mode logicalunit --tid 1 --lun $lun --params thin_provisioning=1
    lun=$((lun + 1))
  done
  [ "$(type -t more_tgtadm)" != function ] || more_tgtadm "$adm"
  $adm --op bind --mode target --tid 1 -I ALL
}

# Starts the target and waits until the given addresses (default: $host) accept connections.
start() { # FILE [ADDRESS...]
  local config=$1 address; shift
  [ $# -gt 0 ] || set -- "$host"
  if [ "$TARGET" = tgtd ]; then
    start_tgtd
  else
    "$PTGT" run --config "$config" >>target.log 2>&1 &
    target_pid=$!
    [ "$port" != net_tap ] || address_net_tap
  fi
  for address in "$@"; do
    until_true 20 eval "connects $address || ! kill -0 $target_pid" || die "no connection to $address within 20 s"
    kill -0 $target_pid 2>/dev/null || die "the target has ended"
  done
}

# Starts the target of a TAP port on a wire that fails as it is told: the kernel's end is wire1, and from wire0, its other end, a
# bridge leads to the target's device. The configuration must not give that the host's addresses.
start_on_wire() { # FILE
  mkfifo control
  python3 -B "$root/ci/system/relay.py" 0 wire0 wire1 control >relay.out 2>relay.err &
  relay=$!
  until_true 30 grep -q ready relay.out || die "the relay does not start: $(cat relay.err)"
  ip link set bridge0 up
  ip link set wire0 mtu 1500 master bridge0 up
  ip link set wire1 mtu 1500 up
  ip address add 10.77.0.1/24 dev wire1
  ip address add fd77::1/64 dev wire1 nodad
  "$PTGT" run --config "$1" >>target.log 2>&1 &
  target_pid=$!
  until_true 10 ip link set ptgt0 master bridge0 || die "the daemon makes no device"
  until_true 20 connects "$host" || die "no connection over the wire"
}

# What the wire does from now on: see relay.py.
wire() { # FAULT=VALUE...
  echo "$*" >control
  sleep 0.1
}

# Ends the target with a signal: it has SECONDS, and must leave with STATUS.
stop() { # SIGNAL SECONDS STATUS
  local status=0 watchdog begin=$SECONDS
  kill "-$1" "$target_pid"
  (sleep "$2"; kill -KILL "$target_pid" 2>/dev/null) &
  watchdog=$!
  wait "$target_pid" || status=$?
  kill "$watchdog" 2>/dev/null || true
  wait "$watchdog" 2>/dev/null || true
  [ "$TARGET" = ptgt ] || return 0
  [ "$status" -eq "$3" ] || die "after SIG$1: exit status $status, wanted $3, within $2 s"
  say "SIG$1: exit status $status after $((SECONDS - begin)) s"
}

# The daemon's resident memory in KiB.
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$target_pid/status"; }

# Bytes that are the same whenever they are made, and differ from place to place: numbers of ten digits, a line each.
pattern() { # SEED BYTES
  { seq $((1000000000 + $1 * 10000000)) $((1000000000 + $1 * 10000000 + $2 / 11)) || true; } | head -c "$2"
}

# A file system of real files as an image.
make_image() { # FILE MIB DIRECTORY
  truncate -s "${2}M" "$1"
  mke2fs -q -t ext4 -E root_owner=0:0 -d "$3" "$1"
}

# Writes an image to a disk.
upload() { qemu-img convert -n -f raw -O raw "$1" "$2"; } # FILE URL

# Reads a disk and compares its beginning with an image, byte for byte.
same() { # FILE URL
  qemu-img convert -f raw -O raw "$2" back.img
  cmp -n "$(stat -c %s "$1")" "$1" back.img || die "$1 came back different from $2"
  rm back.img
}
