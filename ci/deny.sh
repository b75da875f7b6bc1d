#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# deny.sh [--install]
#
# Licences, versions and sources of all dependencies by cargo-deny, as ci/deny.toml tells, and known vulnerabilities where
# the database of RustSec can be reached. --install builds cargo-deny into target/tools if there is none, which takes
# minutes. (The part `tidy` holds Cargo.lock to the same file without it.)
set -eu -o pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin:$PWD/target/tools/bin
if ! command -v cargo-deny >/dev/null; then
  [ "${1:-}" = --install ] || { echo "needs cargo-deny: ci/deny.sh --install"; exit 77; }
  cargo install --locked --root target/tools --target-dir target/tools/build cargo-deny@0.20.2
  rm -rf target/tools/build
fi
deny() { cargo-deny --locked --config ci/deny.toml "$@"; }
cargo-deny --version
deny check licenses bans sources
if why=$(deny fetch db 2>&1); then
  deny check advisories
else
  echo "$why"
  echo "the advisories were not looked at: their database cannot be reached"
fi
