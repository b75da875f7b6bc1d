#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# world.sh [SECONDS]
#
# The test world on all processors, and targets that are broken on purpose, each of which it must notice. Without an
# argument it runs seeds that are the same for every commit, so that a change is judged by itself. With one it hunts for so
# long, from a seed that comes from the commit, so that a failure can be repeated.
set -eu -o pipefail
cd "$(dirname "$0")/.."
cargo clippy --features sim --bin ptgt-sim -- -D warnings
cargo build --features sim --bin ptgt-sim
sim=${CARGO_TARGET_DIR:-target}/debug/ptgt-sim
commit=$(git rev-parse --short=8 HEAD 2>/dev/null) || commit=0
"$sim" --canary --seeds 2000
for target in $("$sim" --fuzz-targets); do
  "$sim" --fuzz "$target" --first "$((16#$commit))" --seconds 3
done
if [ $# -gt 0 ]; then
  "$sim" --first "$((16#$commit))" --seconds "$1"
else
  "$sim" --first 1000 --seeds 600
fi
