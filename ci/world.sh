#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# world.sh SECONDS
#
# The test world for so long on all processors, and targets that are broken on purpose, each of which it must notice.
# The first seed comes from the commit, so that each commit looks at other seeds and a failure can be repeated.
set -eu -o pipefail
cd "$(dirname "$0")/.."
cargo clippy --features sim --bin ptgt-sim -- -D warnings
cargo build --features sim --bin ptgt-sim
sim=${CARGO_TARGET_DIR:-target}/debug/ptgt-sim
commit=$(git rev-parse --short=8 HEAD 2>/dev/null) || commit=0
for canary in dropped-flush mixed-tags forgotten-retransmission reused-page; do
  "$sim" --canary "$canary" --seeds 2000
done
for target in text config stream session frames; do
  "$sim" --fuzz "$target" --first "$((16#$commit))" --seconds 5
done
"$sim" --first "$((16#$commit))" --seconds "$1"
