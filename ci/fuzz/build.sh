#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# build.sh
#
# Builds ptgt-sim so that it counts the edges that it takes, with the released compiler, and prints its path: optimised, with
# the checks of a debug build, in a target directory of its own. The compiler wrapper below leaves dependencies alone.
set -eu -o pipefail
if [ -n "${PTGT_COVER:-}" ]; then
  # As the compiler: the command line of rustc.
  exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
fi
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/cover
PTGT_COVER=1 RUSTC_WORKSPACE_WRAPPER=$PWD/ci/fuzz/build.sh \
  cargo build --config profile.dev.opt-level=3 --no-default-features --features sim --bin ptgt-sim >&2
echo "$CARGO_TARGET_DIR/debug/ptgt-sim"
