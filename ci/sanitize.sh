#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# sanitize.sh [TEST]...
#
# The unit tests, the test world among them, with AddressSanitizer: what `unsafe` does with memory of the allocator is
# looked at byte by byte. (Payload memory is mapped; who may touch that is what the world's canaries and the memory room's
# own tests look at.) The sanitizer is an unstable option of the compiler, which the released one takes when it is told
# that it may. Leaks are looked for, too. Without arguments all tests run.
set -eu -o pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="${RUSTFLAGS:-} -Zsanitizer=address" CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/asan
probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
echo 'fn main() {}' >"$probe/main.rs"
if ! rustc -Zsanitizer=address --target "$host" -o "$probe/main" "$probe/main.rs" 2>"$probe/why" || ! "$probe/main"; then
  cat "$probe/why"
  echo "this compiler has no AddressSanitizer for $host"
  exit 77
fi
cargo test --lib --no-default-features --target "$host" -- "$@"
