#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# limits.sh tap|kernel: initiators that ask for all that they may, at once: pings, aborts, and three sessions of one name
# that write 100 MiB each. All is served: to an initiator of our own, and to QEMU.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
log=warn
configuration test.toml 65521 "$two_reactors"
sed -i 's/^memory = .*/memory = "256MiB"/; s/disk = "ram0" }/&, { lun = 2, disk = "slow" }/' test.toml
{
  printf '[[disk]]\nname = "slow"\nstore = "ram"\nsize = "16MiB"\nfaults = [{ operation = "read", delay = "500ms" }, { operation = "write", delay = "500ms" }]\n'
} >>test.toml
start test.toml
python3 -B "$root/ci/system/limits.py" "$host" "$iqn" "${ram##*/}"

say "three times QEMU, with 100 writes of 1 MiB at a time"
for n in 1 2 3; do
  timeout 15 qemu-img bench -w -t none -f raw -c 150 -d 100 -s 1M "$url/2" >"qemu$n.log" 2>&1 &
  qemu[n]=$!
done
for n in 1 2 3; do
  wait "${qemu[n]}" || { cat "qemu$n.log"; die "QEMU's session $n was not served"; }
done
stop TERM 10 0
