#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# suite.sh tap|kernel [OPTIONS OF libiscsi.sh]: the libiscsi gate on a fresh thin disk, which is
# reached by two paths that lead to two reactors where there are two processors.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
shift
log=warn
reactors='[0]'
[ "$(nproc)" -lt 2 ] || reactors='[0, 1]'
configuration test.toml 65521 "$reactors"
start test.toml
"$root/ci/suites/libiscsi.sh" "$@" --second "$url6/${disk##*/}" "$disk" -S
grep -qi 'panic' target.log && die "the log tells of a panic"
stop TERM 10 0
