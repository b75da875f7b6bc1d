#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# cover.sh [SECONDS] [TARGET]...
#
# Fuzzes with coverage: goes on from inputs that have taken new edges, and keeps them in target/fuzz. Prints executions and
# edges of each target; names an input that fails. Default: all targets, 10 seconds each.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-10}
shift $(($# > 0))
sim=$(ci/fuzz/build.sh)
# shellcheck disable=SC2046
[ $# -gt 0 ] || set -- $("$sim" --fuzz-targets)
mkdir -p target/fuzz
commit=$(git rev-parse --short=8 HEAD 2>/dev/null) || commit=0
for target in "$@"; do
  "$sim" --fuzz "$target" --first "$((16#$commit))" --seconds "$seconds" --keep target/fuzz
done
