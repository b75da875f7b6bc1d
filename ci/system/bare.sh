#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# bare.sh: ptgt without features is a whole target without a C library but libc, and says which feature is missing; a
# machine that lacks DPDK is told by the build how to get it. The binary is target/debug/ptgt (--no-default-features).
PTGT=${PTGT:-$(cd "$(dirname "$0")/../.." && pwd)/target/debug/ptgt}
export PTGT
. "$(dirname "$0")/../lib.sh"

say "libraries"
ldd "$PTGT"
ldd "$PTGT" | grep -vE 'linux-vdso|libc\.so|libm\.so|libgcc_s\.so|ld-linux' && die "it needs more than libc"

for which in tap packet kernel; do
  say "$which"
  use_port $which
  configuration test.toml
  start test.toml
  make_image one.img 24 "$root/src"
  for lun in "$disk" "$ram"; do
    upload one.img "$lun"
    same one.img "$lun"
  done
  stop TERM 10 0
done

say "a port that needs DPDK is refused, with what to do"
use_port af_packet
configuration test.toml
"$PTGT" check test.toml >said 2>&1 && die "takes a port that it has not"
cat said
grep -q 'test.toml:.*built without DPDK' said && grep -q -- '--features dpdk' said || die "no clear error"

# What cargo runs to build the bindings, as it would be on a machine without the package.
say "the build without DPDK's package names it"
script=$(find "$root"/target/*/build/dpdk-sys-* -name build-script-build -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2-)
[ -n "$script" ] || die "no build script of dpdk-sys: cargo build --release"
mkdir out
(cd "$root/ffi/dpdk-sys" && OUT_DIR=$work/out PKG_CONFIG_LIBDIR=/nonexistent PKG_CONFIG_PATH='' TARGET=x86_64-unknown-linux-gnu \
  HOST=x86_64-unknown-linux-gnu "$script") >said 2>&1 && die "builds without DPDK"
grep -v '^cargo:' said
grep -q 'apt-get install .*libdpdk-dev' said || die "does not name the package"
grep -q -- '--no-default-features' said || die "does not name the way without"
grep -q panicked said && die "a panic is no error message"
exit 0
