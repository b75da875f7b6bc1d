#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# miri.sh [TEST]...
#
# Unit tests under Miri, which follows every reference and every byte: those of the rooms with `unsafe` that need nothing of
# the system but memory. Rooms that call the kernel (most of sys, ports, stores/file) cannot run there; ci/sanitize.sh
# and ci/system/memcheck.sh run them, and the rings that hold nothing are outside of the language's rules: docs/soundness.md.
set -eu -o pipefail
cd "$(dirname "$0")/.."
miri="cargo +nightly miri"
$miri --version >/dev/null 2>&1 || {
  echo "needs Miri: rustup toolchain install nightly --component miri"
  exit 77
}
export MIRIFLAGS="${MIRIFLAGS:--Zmiri-disable-isolation}" CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/miri PROPTEST_CASES=8
[ $# -gt 0 ] || set -- memory:: ports::vnet ports::memory stores::ram wire:: time::
$miri test --lib --no-default-features -- --skip nothing "$@"
