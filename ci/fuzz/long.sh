#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# long.sh [SECONDS] [TARGET]...
#
# Fuzzes with coverage for so long (default: 3600 seconds), a minute of each target in turn, until each has had 10^7 inputs
# of this commit. It may be ended at any time, and the next run goes on from there: from the inputs and the tally of all
# runs, which are in target/fuzz. Prints inputs, edges and inputs per second of processor time by target and commit.
# An input that fails ends it, with the command that runs it again.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
most=10000000
end=$((SECONDS + ${1:-3600}))
shift $(($# > 0))
sim=$(ci/fuzz/build.sh)
# shellcheck disable=SC2046
[ $# -gt 0 ] || set -- $("$sim" --fuzz-targets)
mkdir -p target/fuzz
tally=target/fuzz/tally
touch "$tally"
commit=$(git rev-parse --short=8 HEAD 2>/dev/null) || commit=0

# Of a target at this commit: inputs, slices.
so_far() {
  awk -v commit="$commit" -v target="$1" '
    $1 == commit && $2 == target { inputs += $3; slices++ } END { print inputs + 0, slices + 0 }' "$tally"
}

left=1
while [ -n "$left" ] && [ $SECONDS -lt $end ]; do
  left=
  for target in "$@"; do
    read -r inputs slices < <(so_far "$target")
    [ "$inputs" -lt "$most" ] && [ $SECONDS -lt $end ] || continue
    left=1
    # Each slice has a seed of its own.
    line=$("$sim" --fuzz "$target" --first "$((16#$commit << 16 | slices))" --seeds "$((most - inputs))" \
      --seconds "$((end - SECONDS < 60 ? end - SECONDS : 60))" --keep target/fuzz)
    sed -nE "s/^([^:]+): ([0-9]+) inputs,.* in ([0-9.]+) s are clean; ([0-9]+) of.*/$commit \1 \2 \3 \4/p" \
      <<<"$line" >>"$tally"
  done
done

awk '
  { key = $1 " " $2; inputs[key] += $3; seconds[key] += $4; edges[key] = edges[key] > $5 ? edges[key] : $5 }
  !(key in place) { place[key] = ++last; order[last] = key }
  END {
    printf "%-8s %-10s %12s %8s %10s\n", "commit", "target", "inputs", "edges", "per second"
    for (i = 1; i <= last; i++) {
      key = order[i]; split(key, part)
      rate = seconds[key] ? inputs[key] / seconds[key] : 0
      printf "%-8s %-10s %12d %8d %10d\n", part[1], part[2], inputs[key], edges[key], rate
    }
  }' "$tally"
