#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# packages.sh DIRECTORY PACKAGE...
#
# Unpacks Debian packages in DIRECTORY, where only a guest finds them: nothing is installed, no script of theirs runs. What
# they depend on is not fetched. Exit status 77: the registry does not have them, or cannot be reached.
set -eu -o pipefail
directory=$1
shift
mkdir -p "${directory%/*}"
exec 5>"$directory.lock"
flock 5
# Whoever comes second, such as a run inside a namespace without a network, finds them there.
[ "$(cat "$directory.list" 2>/dev/null)" != "$*" ] || exit 0
rm -rf "$directory" "$directory.list" "$directory.debs"
mkdir -p "$directory.debs" "$directory/usr/lib"
ln -s usr/lib "$directory/lib"
(cd "$directory.debs" && apt-get -qq download "$@" 2>apt.log) ||
  { echo "needs packages of Debian's registry: $*: $(tail -n 1 "$directory.debs/apt.log")"; exit 77; }
for package in "$directory.debs"/*.deb; do
  dpkg-deb --fsys-tarfile "$package" |
    tar -x -C "$directory" --keep-directory-symlink --no-same-owner --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/lintian'
done
# Links to what was left out, or comes with packages that are not there.
find -L "$directory" -type l -delete
rm -r "$directory.debs"
echo "$*" >"$directory.list"
