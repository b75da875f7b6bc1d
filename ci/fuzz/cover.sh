#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# cover.sh [SECONDS] [TARGET]...
#
# Fuzzes with coverage: ptgt-sim is built so that it counts the edges that it takes (in a target directory of its own; the
# compiler wrapper below leaves dependencies alone), and goes on from inputs that have found new ones. Prints executions
# and edges of each target. Inputs that were found are in target/cover/found; one that has found a fault belongs into
# ci/fuzz/corpus. Default: all targets, 10 seconds each.
set -eu -o pipefail
if [ -n "${PTGT_COVER:-}" ]; then
  # As the compiler: the command line of rustc.
  exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
fi
cd "$(dirname "$0")/../.."
seconds=${1:-10}
shift $(($# > 0))
[ $# -gt 0 ] || set -- text config control login chap cdbs stream session frames
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/cover
PTGT_COVER=1 RUSTC_WORKSPACE_WRAPPER=$PWD/ci/fuzz/cover.sh \
  cargo build --no-default-features --features sim --bin ptgt-sim
mkdir -p "$CARGO_TARGET_DIR/found"
commit=$(git rev-parse --short=8 HEAD 2>/dev/null) || commit=0
for target in "$@"; do
  "$CARGO_TARGET_DIR/debug/ptgt-sim" --fuzz "$target" --first "$((16#$commit))" --seconds "$seconds" \
    --keep "$CARGO_TARGET_DIR/found"
done
