#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# initramfs.sh OUTPUT KERNEL INIT "MODULES" "NEEDS" [SOURCE=PLACE]...
#
# Makes an initramfs: busybox, bash and modprobe, kernel modules of KERNEL with those that they need, and NEEDS: programs
# (with their libraries) by name, other files and directories by their path. Each SOURCE goes to its PLACE; a directory adds
# to what is there. Of programs
# that busybox has, too, the real ones come first in PATH=/usr/sbin:/usr/bin:/usr/lib/busybox.
set -eu -o pipefail
output=$1 kernel=$2 init=$3 modules=$4 needs=$5
shift 5
stage=$(mktemp -d)
# The root directory is everybody's.
chmod 755 "$stage"
trap 'rm -rf "$stage"' EXIT

# Files are put where they are on this machine, under the names they are asked for; libraries come with them.
put() { # PATH [PLACE]
  local place=$stage${2:-$1} library
  mkdir -p "${place%/*}"
  cp -aLT "$1" "$place"
  find "$place" -type f \( -perm -u+x -o -name '*.so*' \) | while read -r file; do
    { ldd "$file" 2>/dev/null || true; } | sed -n 's|.*[[:space:]]\(/[^ ]*\) (0x.*|\1|p'
  done | sort -u | while read -r library; do
    [ -e "$stage$library" ] || { mkdir -p "$stage${library%/*}"; cp -L "$library" "$stage$library"; }
  done
}

mkdir -p "$stage"/{dev,proc,sys,tmp,run,etc,root,mnt,var/lib,usr/bin,usr/sbin,usr/lib/busybox,usr/lib64}
for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$stage/$directory"; done
ln -s /run "$stage/var/run"
for name in busybox bash modprobe $needs; do
  case $name in
    /*) path=$name ;;
    *) path=$(type -P "$name") || { echo "initramfs: no program $name: ci/setup.sh guest" >&2; exit 1; } ;;
  esac
  put "$path"
done
# What pthread_cancel() loads, so that ldd does not show it.
put /lib/x86_64-linux-gnu/libgcc_s.so.1
busybox --list | while read -r applet; do ln -s /usr/bin/busybox "$stage/usr/lib/busybox/$applet"; done
[ -e "$stage/usr/bin/sh" ] || ln -s bash "$stage/usr/bin/sh"

for module in $modules; do
  # A stand-alone line, so that a module that does not exist is an error.
  list=$(modprobe -S "$kernel" --show-depends "$module")
  sed -n 's/^insmod \([^ ]*\).*/\1/p' <<<"$list" | while read -r file; do
    mkdir -p "$stage${file%/*}"
    cp "$file" "$stage$file"
  done
done
mkdir -p "$stage/lib/modules/$kernel"
cp /lib/modules/"$kernel"/modules.{order,builtin,builtin.modinfo} "$stage/lib/modules/$kernel"
depmod -b "$stage" "$kernel"

for pair in "$@"; do put "${pair%%=*}" "${pair#*=}"; done
cp "$init" "$stage/init"
(cd "$stage" && find . -print0 | cpio --quiet -0 -o -H newc -R 0:0) >"$output"
