#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# hostile.sh tap|kernel [--full] [ATTACK]...: hostile peers beside a session that verifies what it writes, as hostile.py
# tells; once with one reactor and, where there are two processors, once with two. --full runs the long attacks, too, and
# each for longer.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
shift
ulimit -n "$(ulimit -H -n)"
[ "$(ulimit -n)" -ge 8192 ] || { echo "needs 8192 descriptors (ulimit -n)"; exit 77; }
ram_mib=4
# Whose reads and writes need memory of the daemon's, and no disk of this machine's.
mount -t tmpfs tmpfs /var/lib/ptgt
sets=('[0]')
[ "$two_reactors" = '[0]' ] || sets+=("$two_reactors")
for reactors in "${sets[@]}"; do
  say "reactors = $reactors"
  configuration test.toml 65521 "$reactors"
  : >target.log
  start test.toml
  count=$(tr -cd , <<<"$reactors" | wc -c)
  python3 -B "$root/ci/system/hostile.py" --address "$host" --target "$iqn" --lun "${disk##*/}" --pid "$target_pid" \
    --port "$port" --resident $((64 * (count + 1) + ram_mib)) --log "$work/target.log" "$@"
  if grep -i 'panic' target.log; then die "the log tells of a panic"; fi
  stop TERM 20 0
done
