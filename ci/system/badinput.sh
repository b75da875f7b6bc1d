#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# badinput.sh tap|kernel: peers that break the protocol, as badinput.py tells.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
log=warn
configuration test.toml
# A target that asks soon whether its initiators are alive.
printf '[[target]]\nname = "%s:soon"\nluns = [{ lun = 1, disk = "ram0" }]\n' "$iqn" >>test.toml
printf '[target.iscsi]\nnop_interval = "1s"\nnop_timeout = "1s"\n' >>test.toml
ulimit -n 8192
start test.toml
python3 -B "$root/ci/system/badinput.py" "$host" "$iqn" "${ram##*/}" "$target_pid"
if grep -i 'panic' target.log; then die "the log tells of a panic"; fi
stop TERM 10 0
