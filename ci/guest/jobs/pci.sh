# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: launch.sh takes a network adapter from the kernel, ptgt polls it through DPDK, and the host reads and writes
# nets: vfio-virtio,vfio-e1000e,uio-virtio,uio-e1000e
# devices: ram
# limit: 600
# needs: /usr/bin/python3 tail flock /usr/lib/python3.*/*.py /usr/lib/python3.*/encodings /usr/lib/python3.*/json /usr/lib/python3.*/re /usr/lib/python3.*/tomllib /usr/lib/python3.*/collections /usr/lib/python3.*/importlib /usr/lib/x86_64-linux-gnu/librte_bus_pci.so.?? /usr/lib/x86_64-linux-gnu/librte_bus_vdev.so.?? /usr/lib/x86_64-linux-gnu/librte_mempool_ring.so.?? /usr/lib/x86_64-linux-gnu/librte_net_virtio.so.?? /usr/lib/x86_64-linux-gnu/librte_net_e1000.so.??
# modules: e1000e vfio-pci vfio_iommu_type1 uio_pci_generic
hugepages=require log=info,dpdk=debug ram_mib=96

# Frames of 9000 bytes through one of the adapters.
mtu=1500
[ "${net#*-}" != e1000e ] || mtu=9000

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
  sed -i "s/^driver = \"dpdk\"/&\nmtu = $mtu/" target.toml
  [ "$(huge_pages)" -eq 0 ] || die "there are huge pages already"
}
target_start() {
  PTGT=$PTGT bash /usr/lib/rig/configs/launch.sh --bind target.toml >>target.log 2>&1 &
  target_pid=$!
  serving() { "$PTGT" status --config target.toml >/dev/null 2>&1; }
  until_true 120 eval "serving || ! kill -0 $target_pid" && serving || { cat target.log; die "the daemon does not serve"; }
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

job() {
  local driver=vfio-pci
  [ "${net%%-*}" = vfio ] || driver=uio_pci_generic
  say "$(sed -n 's/^launch: //p' target.log)"
  [ "$(device_driver)" = $driver ] || die "the adapter is bound to $(device_driver)"
  grep "device $pci_address .*: MTU $mtu" target.log
  ("$PTGT" doctor --config target.toml || true) | grep -F -e "$pci_address" -e 'port "net"'
  on_host initiator_reads_and_writes "$(seconds 8)"
  on_host initiator_vanishes
  on_host initiator_reads_and_writes "$(seconds 8)"
  "$PTGT" status --config target.toml --json >status.json
  python3 - <<'END'
import json
counters = json.load(open("status.json"))["ports"][0]["counters"]
print("  " + ", ".join(f"{name} {value}" for name, value in counters.items() if value and not name.startswith("device_")))
print("  " + ", ".join(f"{name} {value}" for name, value in counters.items() if name.startswith("device_")))
assert counters["link_up"] == 1 and counters["sent_in_place"] > 1000, "nothing was sent from where it lies"
END
  stop TERM 60 0
  [ "$(grep -c 'all buffers are home' target.log)" -eq 3 ] || die "a pool was closed with buffers out"
  as_before() { [ "$(device_driver)" = "$had" ] && [ "$(huge_pages)" -eq 0 ]; }
  until_true 20 as_before || die "not as before: driver $(device_driver), huge pages $(huge_pages)"
  say "given back: the adapter to $had, and all huge pages"
}
