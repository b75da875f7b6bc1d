#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# suite.sh tap|kernel [OPTIONS OF libiscsi.sh]: the libiscsi gate on a fresh thin disk.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
shift
log=warn
configuration test.toml
start test.toml
"$root/ci/suites/libiscsi.sh" "$@" "$disk" -S
grep -qi 'panic' target.log && die "the log tells of a panic"
stop TERM 10 0
