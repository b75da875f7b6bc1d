# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: launch.sh takes a network adapter from the kernel, ptgt polls it through DPDK, and the host reads and writes
# nets: vfio-virtio,vfio-e1000e,uio-virtio,uio-e1000e
# devices: ram
# limit: 900
# needs: /usr/bin/python3 tail flock /usr/lib/python3.*/*.py /usr/lib/python3.*/encodings /usr/lib/python3.*/json /usr/lib/python3.*/re /usr/lib/python3.*/tomllib /usr/lib/python3.*/collections /usr/lib/python3.*/importlib /usr/lib/x86_64-linux-gnu/librte_bus_pci.so.?? /usr/lib/x86_64-linux-gnu/librte_bus_vdev.so.?? /usr/lib/x86_64-linux-gnu/librte_mempool_ring.so.?? /usr/lib/x86_64-linux-gnu/librte_net_virtio.so.?? /usr/lib/x86_64-linux-gnu/librte_net_e1000.so.??
# modules: e1000e vfio-pci vfio_iommu_type1 uio_pci_generic
hugepages=require log=info,dpdk=debug ram_mib=96

# Frames of 9000 bytes through one of the adapters.
mtu=1500
[ "${net#*-}" != e1000e ] || mtu=9000

# One reactor; or two, with a queue for each, over which the adapter spreads flows, or one that is spread over in software.
reactors='[0]' cores=1 as='1 queue,'
case $net in
  vfio-virtio) reactors='[0, 1]' cores=2 as='2 queues,' ;;
  vfio-*) reactors='[0, 1]' cores=2 as='1 queue spread over the reactors in software,' ;;
esac

# Drivers of DPDK by name: the guest has not all of them in their directory.
more_config() {
  printf '[dpdk]\narguments = ['
  for name in bus_pci bus_vdev mempool_ring net_virtio net_e1000; do
    printf '"-d", "%s", ' /usr/lib/x86_64-linux-gnu/librte_$name.so.??
  done
  printf ']\n'
}
device_driver() { basename "$(readlink "/sys/bus/pci/devices/$pci_address/driver")"; }
huge_pages() { cat /proc/sys/vm/nr_hugepages; }

before_target() {
  modprobe -a virtio_net e1000e
  had=$(device_driver)
  sed -i -e "s/^driver = \"dpdk\"/&\nmtu = $mtu/" -e "s/^reactors = .*/reactors = $reactors/" target.toml
  [ "$(huge_pages)" -eq 0 ] || die "there are huge pages already"
}
target_start() {
  PTGT=$PTGT bash /usr/lib/rig/configs/launch.sh --bind target.toml >target.log 2>&1 &
  target_pid=$!
  serving() { "$PTGT" status --config target.toml >/dev/null 2>&1; }
  until_true 120 eval "serving || ! kill -0 $target_pid" && serving || { cat target.log; die "the daemon does not serve"; }
}
# Ends it: all is as it was before.
target_stop() {
  stop TERM 60 0
  [ "$(grep -c 'all buffers were returned' target.log)" -eq $((3 * cores)) ] || die "a pool was closed with buffers out"
  as_before() { [ "$(device_driver)" = "$had" ] && [ "$(huge_pages)" -eq 0 ]; }
  until_true 20 as_before || die "not as before: driver $(device_driver), huge pages $(huge_pages)"
  say "given back: the adapter to $had, and all huge pages"
}

# On the host.
initiator_reads_and_writes() {
  local port=pci url
  make_image one.img 24 "$root/src" &&
    iscsi-ls -s "iscsi://$host" && iscsi-ls -s "iscsi://[$host6]" &&
    upload one.img "$ram" && (same one.img "$ram") &&
    upload one.img "$url6/0" && (same one.img "$disk") &&
    "$PTGT" bench --verify --reads 60 --block 16KiB --seconds "${1:-5}" "$ram" >bench.out &&
    cat bench.out && ! grep -q '(0 operations' bench.out
}
# Clients that end under load.
initiator_vanishes() {
  local n client
  for n in 1 2 3; do
    "$PTGT" bench --block 64KiB --seconds 30 "$ram" >/dev/null 2>&1 &
    client=$!
    sleep 1
    kill -KILL $client
    wait $client 2>/dev/null || true
  done
}
# Many sessions at once, over IPv4 and IPv6, which verify what they read.
initiator_begins() { # SECONDS
  local url
  loads=
  for url in "$ram" "$url6/0"; do
    "$PTGT" bench --verify --reads 50 --connections 12 --block 16KiB --depth 2 --seconds "$1" "$url" >"load.${url##*/}" 2>&1 &
    loads="$loads $!"
  done
}
initiator_ends() {
  local load
  for load in $loads; do wait "$load" || { cat load.?; return 1; }; done
  grep -h verified: load.?
}
# Finds the target anew, over IPv4 by broadcast and over IPv6 by multicast.
initiator_finds() {
  ip neighbour flush dev bridge0
  timeout 20 iscsi-ls -s "iscsi://$host" >/dev/null && timeout 20 iscsi-ls -s "iscsi://[$host6]" >/dev/null &&
    ip neighbour show dev bridge0
}
# Frames of a protocol for experiments, to an address that the target need not have.
initiator_sends() { # NUMBER MAC
  python3 -c 'import socket, sys, time
to = bytes.fromhex(sys.argv[2].replace(":", ""))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("bridge0", 0))
for _ in range(int(sys.argv[1])):
    wire.send(to + bytes.fromhex("029900000001" "88b5") + bytes(50))
    time.sleep(0.001)' "$@"
}

# What the daemon counts at its port.
counter() { # NAME
  "$PTGT" status --config target.toml --json >status.json
  python3 -c 'import json, sys; print(json.load(open("status.json"))["ports"][0]["counters"].get(sys.argv[1], 0))' "$1" 2>/dev/null
}
# Sends 200 frames to an address: so many of them are to arrive at a counter. The host has frames of its own to send, too.
hears() { # MAC COUNTER NUMBER
  local before heard
  before=$(counter "$2")
  on_host initiator_sends 200 "$1"
  sleep 1
  heard=$(($(counter "$2") - before))
  say "of 200 frames to $1: $2 $heard"
  [ $heard -ge "$3" ] && [ $heard -lt $(($3 + 20)) ] || die "not $3"
}

# Many flows: both reactors have some. With queues of its own the adapter's hash of addresses and ports says which one; the
# key is that of DPDK's driver.
spreads() {
  on_host initiator_begins "$(seconds 16)"
  all_there() { [ "$(counter flows)" -ge 24 ]; }
  until_true 20 all_there || die "not 24 sessions"
  python3 - "$net" <<'END'
import json, socket, sys
KEY = int("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa", 16)

def toeplitz(data):
    bits = "".join(f"{byte:08b}" for byte in data)
    result = 0
    for at, bit in enumerate(bits):
        if bit == "1":
            result ^= KEY >> (320 - 32 - at) & 0xFFFFFFFF
    return result

def end(text):
    host, port = text.rsplit(":", 1)
    family = socket.AF_INET6 if "[" in host else socket.AF_INET
    return socket.inet_pton(family, host.strip("[]")), int(port).to_bytes(2, "big")

seen = {}
for session in json.load(open("status.json"))["sessions"]:
    for connection in session["connections"]:
        (peer, peer_port), (local, local_port) = end(connection["peer"]), end(connection["local"])
        version, reactor = {4: "IPv4", 16: "IPv6"}[len(peer)], session["reactor"]
        if sys.argv[1] == "vfio-virtio":
            queue = toeplitz(peer + local + peer_port + local_port) % 2
            assert reactor == queue, f"{connection['peer']} is on reactor {reactor}, and its hash on {queue}"
        seen[version, reactor] = seen.get((version, reactor), 0) + 1
print("  flows: " + ", ".join(f"{number} of {version} on reactor {reactor}" for (version, reactor), number in sorted(seen.items())))
assert {reactor for _, reactor in seen} == {0, 1}, "one reactor has them all"
assert {version for version, _ in seen} == {"IPv4", "IPv6"}
END
  on_host initiator_ends
}

job() {
  local driver=vfio-pci own=52:54:00:77:00:00 mac=02:00:00:77:00:02 other=02:99:00:00:99:66 group=33:33:ff:99:99:99
  [ "${net%%-*}" = vfio ] || driver=uio_pci_generic
  say "$(sed -n 's/^launch: //p' target.log)"
  [ "$(device_driver)" = $driver ] || die "the adapter is bound to $(device_driver)"
  grep "device $pci_address .*: MTU $mtu, " target.log
  grep -q "device $pci_address .*: MTU $mtu, $as" target.log || die "not as wanted: $as"
  ("$PTGT" doctor --config target.toml || true) | grep -F -e "$pci_address" -e 'port "net"'
  on_host initiator_reads_and_writes "$(seconds 8)"
  on_host initiator_vanishes
  on_host initiator_reads_and_writes "$(seconds 8)"
  [ $cores -eq 1 ] || spreads
  "$PTGT" status --config target.toml --json >status.json
  python3 - "$net" <<'END'
import json, sys
counters = json.load(open("status.json"))["ports"][0]["counters"]
print("  " + ", ".join(f"{name} {value}" for name, value in counters.items() if value and not name.startswith("device_")))
print("  " + ", ".join(f"{name} {value}" for name, value in counters.items() if name.startswith("device_")))
assert counters["link_up"] == 1 and counters["sent_in_place"] > 1000, "nothing was sent from where it lies"
if sys.argv[1] == "vfio-virtio":
    queues = [counters.get(f"device_rx_q{queue}_good_packets", 0) for queue in (0, 1)]
    assert min(queues) > 500, f"frames of the queues: {queues}"
    assert counters["strays"] == counters["handed_over"] == 0, "a flow has changed its reactor"
if sys.argv[1].endswith("virtio"):
    # Longer than the MTU: the host, on the same machine, does not cut what the adapter is able to take.
    long = sum(value for name, value in counters.items() if name.startswith("device_rx_q") and "_1519_max_" in name)
    print(f"  received frames above the MTU: {long}")
    assert long > 500, "no large receive"
END
  target_stop

  say "another address than the adapter's"
  sed -i "s/^driver = \"dpdk\"/&\nmac = \"$mac\"/" target.toml
  target_start
  on_host initiator_finds >found
  tr -s ' ' '\n' <found | grep -c $mac | grep -qx 2 || { cat found; die "not found at $mac"; }
  # The adapter hears its own address still, and not what is for others; QEMU's e1000e looks up single addresses in the table of
  # groups, too, by their last two bytes, so that these must not be those of a group of ours. A virtio-net hears all groups or
  # none.
  hears $own dropped_not_ours 200
  hears $other dropped_not_ours 0
  [ "${net#*-}" = virtio ] || hears $group dropped_unserved 0
  target_stop

  say "promiscuous"
  sed -i "s/^mac = .*/&\npromiscuous = true/" target.toml
  target_start
  on_host initiator_finds
  hears $other dropped_not_ours 200
  hears $group dropped_unserved 200
  target_stop
}
