#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test.sh [--list] [--full] [--only PART]...
#
# Runs the tests of ptgt, part by part: from formatting to real initiators against the daemon. --full adds the long
# parts, --only runs the named parts alone. The output of a part goes to target/ci/PART.log and is shown if it fails.
# Parts that cannot run here are skipped with their reason. The last line counts the parts and adds up their times; exit
# status 0: none failed. The first part installs packages from Debian's registry (ci/setup.sh: QEMU, a kernel image, tgt,
# istgt and others), and cargo fetches crates from crates.io.
set -u
cd "$(dirname "$0")/.." || exit 1
logs=target/ci
export CARGO_TERM_COLOR=never CARGO_TERM_QUIET=true

# Part, "default" or "full", time limit in seconds, command.
parts='
setup          default  900 ci/setup.sh
fmt            default   60 cargo fmt --all --check
clippy         default  600 cargo clippy --workspace --all-targets -- -D warnings
doc            default  300 env RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps
scripts        default   60 scripts
tidy           default  300 cargo test -p tidy
unit           default 1200 cargo test --features sim --lib --bins
interleavings  default  600 cargo test --features sim --test interleavings
world          default  900 ci/world.sh
world-long     full    3600 ci/world.sh 1200
sanitize       full    3600 ci/sanitize.sh
miri           full    7200 ci/miri.sh
deny           full    1800 ci/deny.sh --install
cover          full    3600 ci/fuzz/cover.sh 60
fuzz-long      full   14400 ci/fuzz/long.sh 10800
memcheck       full     900 memcheck
build          default  600 cargo build --release
configs        default   60 ci/system/configs.sh
harm           default  120 ci/system/harm.sh
identity       default  120 ci/system/identity.sh
start          default  180 ci/system/start.sh
launch         default  300 ci/system/launch.sh
tap-disk       default  180 ci/system/disk.sh tap
tap-crash      default  120 ci/system/crash.sh tap
mapped         default  180 ci/system/mapped.sh tap
tap-stop       default  120 ci/system/stop.sh tap
tap-portals    default  180 ci/system/portals.sh tap
privileges     default  120 ci/system/privileges.sh
listeners      default  120 ci/system/listeners.sh
live           default  600 cargo build --features sim --bin ptgt && ci/system/live.sh
tap-status     default   60 ci/system/status.sh tap
tap-reserve    default  180 ci/system/reservations.sh tap
tap-faults     default  120 ci/system/faults.sh tap
tap-copy       default   60 ci/system/copy.sh tap
tap-bad        default  300 ci/system/badinput.sh tap
tap-access     default  120 ci/system/access.sh tap
tap-text       default  120 ci/system/text.sh tap
tap-many       default  120 ci/system/many.sh tap
tap-limits     default   60 ci/system/limits.sh tap
capture        default  120 ci/system/capture.sh
lossy          default  180 ci/system/lossy.sh
suite          default  600 ci/system/suite.sh tap
packet-disk    default  180 ci/system/disk.sh packet
packet-suite   full     600 ci/system/suite.sh packet thin
dpdk           default  300 ci/system/dpdk.sh
dpdk-suite     full     600 ci/system/suite.sh af_packet thin
dpdk-tap-suite full     600 ci/system/suite.sh net_tap thin
kernel-disk    default  180 ci/system/disk.sh kernel
kernel-crash   default  120 ci/system/crash.sh kernel
kernel-stop    default  120 ci/system/stop.sh kernel
kernel-portals default  180 ci/system/portals.sh kernel
kernel-status  default   60 ci/system/status.sh kernel
kernel-reserve default  180 ci/system/reservations.sh kernel
kernel-faults  default  120 ci/system/faults.sh kernel
kernel-copy    default   60 ci/system/copy.sh kernel
kernel-bad     default  300 ci/system/badinput.sh kernel
kernel-many    default  120 ci/system/many.sh kernel
kernel-limits  default   60 ci/system/limits.sh kernel
descriptors    default   60 ci/system/descriptors.sh
kernel-access  default  120 ci/system/access.sh kernel
kernel-text    default  120 ci/system/text.sh kernel
guest-quick    default 1200 ci/guest/run --quick
guest          full    2400 ci/guest/run --all
guest-matrix   full    5400 ci/guest/run --matrix
tap-hostile    full     180 ci/system/hostile.sh tap
kernel-hostile full     180 ci/system/hostile.sh kernel
tap-syscalls   default   60 ci/system/syscalls.sh tap
kernel-syscalls default  60 ci/system/syscalls.sh kernel
slow           default  120 ci/system/slow.sh tap
soak           full    2400 ci/system/soak.sh
bare           default  900 cargo build --no-default-features --bin ptgt && ci/system/bare.sh
perf-count     default  180 perftests/instructions.sh
perf-sharing   default  180 perftests/sharing.sh
perf-smoke     default  120 perftests/peers.sh --smoke
perf           full    1800 perftests/peers.sh
'

# Shell scripts without the faults that shellcheck knows.
scripts() {
  git ls-files -z '*.sh' .ci/run ci/guest/run | xargs -0 shellcheck -x -S warning
}

# The daemon under valgrind, over each way to the network.
memcheck() {
  ci/system/memcheck.sh kernel && ci/system/memcheck.sh tap && ci/system/memcheck.sh packet
}

list() { awk 'NF { print $1, ($2 == "full" ? "(only with --full)" : "") }' <<<"$parts"; }

only=() full=
while [ $# -gt 0 ]; do
  case $1 in
    --list) list; exit 0 ;;
    --full) full=1 ;;
    --only)
      list | grep -q "^${2:-} " || { echo "test.sh: no part ${2:-}: see --list" >&2; exit 2; }
      only+=("$2"); shift ;;
    -h | --help) sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "test.sh: unknown option $1: see --help" >&2; exit 2 ;;
  esac
  shift
done

chosen() { # PART KIND
  [ ${#only[@]} -eq 0 ] || { case " ${only[*]} " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
  [ "$2" = default ] || [ -n "$full" ]
}

command -v cargo >/dev/null || { echo "test.sh: no cargo in PATH: install Rust from https://rustup.rs" >&2; exit 1; }
mkdir -p "$logs"
export -f scripts memcheck
passed=0 failed=0 skipped=0
while read -r part kind limit command; do
  [ -n "$part" ] && chosen "$part" "$kind" || continue
  log=$logs/$part.log
  begin=$SECONDS
  [ ! -t 1 ] || printf '%-15s running, output in %s\r' "$part" "$log"
  timeout -k 10 "$limit" bash -c "$command" >"$log" 2>&1 </dev/null
  status=$?
  case $status in
    0) verdict=passed; passed=$((passed + 1)); note= ;;
    77) verdict=skipped; skipped=$((skipped + 1)); note=": $(tail -n 1 "$log")" ;;
    124 | 137) verdict=FAILED; failed=$((failed + 1)); note=": over its limit of $limit s" ;;
    *) verdict=FAILED; failed=$((failed + 1)); note=": exit status $status" ;;
  esac
  [ ! -t 1 ] || printf '\033[K'
  printf '%-15s %-8s %4d s%s\n' "$part" "$verdict" $((SECONDS - begin)) "$note"
  [ "$verdict" = FAILED ] && { echo "--- $log"; tail -n 200 "$log"; echo "--- end of $log"; }
done <<<"$parts"
echo "$passed passed, $failed failed, $skipped skipped in $((SECONDS / 60)) min $((SECONDS % 60)) s"
[ "$failed" -eq 0 ]
