#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# identity.sh: whom initiators take a disk for, over restarts, moves and copies, and on two machines; and that check and run
# refuse the same pairs of disks that would be one.
. "$(dirname "$0")/../lib.sh"

use_port kernel
uuid=123e4567-e89b-12d3-a456-426614174000

# A machine is its id, its state directory and its images.
machine() { # NAME
  mkdir -p "$1"
  echo "$1" | md5sum | cut -c-32 >"$1/id"
  mount --bind "$1/id" /etc/machine-id
  here=$work/$1
}

# The test's configuration with everything of this machine.
here_configuration() { # FILE
  configuration "$1"
  sed -i "s|^\[daemon\]|&\nstate_dir = \"$here/state\"|; s|/var/lib/ptgt|$here|" "$1"
}

# All that a unit says of who it is, as long as its target is the same.
identity() { iscsi-inq -e 1 -c 128 "$1" && iscsi-inq -e 1 -c 131 "$1"; }

# Both disks' identities with the configuration.
served() { # CONFIGURATION NAME
  : >target.log
  start "$1"
  identity "$disk" >"$2.disk"
  identity "$ram" >"$2.ram"
  stop TERM 10 0
}

same_unit() { cmp -s "$1" "$2" || { diff "$1" "$2"; die "$3"; }; }
other_unit() {
  cmp -s "$1" "$2" && die "$3"
  # Not one of the names is the same.
  grep -Eo '[0-9a-f]{16,}' "$1" | sort -u >names
  ! grep -qFf names "$2" || { cat "$1" "$2"; die "$3: a name in common"; }
}

# Whether check and run refuse a configuration, with this in both messages.
refused() { # FILE PATTERN
  local how
  for how in "check $1" "run --config $1"; do
    # shellcheck disable=SC2086
    timeout 10 "$PTGT" $how >said 2>&1 && { cat said; die "$how: takes $1"; }
    grep -q -- "$2" said || { cat said; die "$how says not: $2"; }
  done
}

say "two machines with one configuration have different disks"
[ -e /etc/machine-id ] || { echo "this machine has no /etc/machine-id to put another one in place of"; exit 77; }
machine one
here_configuration one.toml
served one.toml one
[ -f one/disk0.img.ptgt ] || die "no record beside the image"
machine two
here_configuration two.toml
served two.toml two
for unit in disk ram; do
  other_unit one.$unit two.$unit "$unit is the same on two machines"
done

say "a disk stays the same over restarts, other names and moves"
served two.toml again
same_unit two.disk again.disk "another disk after a restart"
same_unit two.ram again.ram "another disk in memory after a restart"
sed 's/thin0/renamed/' two.toml >renamed.toml
served renamed.toml renamed
same_unit two.disk renamed.disk "another disk under another name"
mkdir -p moved
mv two/disk0.img two/disk0.img.ptgt moved/
rm -r two/state
sed "s|$here/disk0|$work/moved/disk0|" two.toml >moved.toml
served moved.toml moved
same_unit two.disk moved.disk "another disk in another place"
rm moved/disk0.img.ptgt
served moved.toml kept
same_unit two.disk kept.disk "another disk without the record beside it"

say "an image that is gone is not made again, though its record is gone, too"
rm moved/disk0.img moved/disk0.img.ptgt
refused moved.toml 'there was an image before'

say "an image that was there keeps the identity of its name, with a warning"
machine three
here_configuration three.toml
truncate -s 1G three/disk0.img
served three.toml three
grep -q 'WARN.*thin0.*identity comes from its name' target.log || { cat target.log; die "no warning"; }
said=$(grep -o 'uuid = "[^"]*"' target.log | head -n 1)
machine four
here_configuration four.toml
sed -i "s|^name = \"thin0\"|&\n$said|" four.toml
served four.toml four
same_unit three.disk four.disk "what the warning says is not its identity"

say "no two disks are one"
machine five
here_configuration five.toml
truncate -s 4M five/a.img five/b.img
ln -s a.img five/symlink.img
ln five/a.img five/hardlink.img
cp five/a.img five/copy.img
for image in a copy; do
  printf 'uuid = "%s"\nfrom = "random"\n' $uuid >five/$image.img.ptgt
done
pair() { # MORE-OF-ONE MORE-OF-THE-OTHER
  cp five.toml pair.toml
  printf '[[disk]]\nname = "%s"\n%s\n' one "$1" other "$2" >>pair.toml
}
file() { printf 'store = "file"\npath = "%s/five/%s"\n%s\n' "$work" "$1" "${2:-}"; }
memory() { printf 'store = "ram"\nsize = "4MiB"\n%s\n' "$1"; }
for other in a.img ../five/a.img symlink.img hardlink.img; do
  pair "$(file a.img)" "$(file $other)"
  refused pair.toml 'belongs to the disk "one"'
done
pair "$(file a.img)" "$(file copy.img)"
refused pair.toml "UUID $uuid already belongs to the disk \"one\""
pair "$(file b.img "uuid = \"$uuid\"")" "$(file a.img)"
refused pair.toml 'already belongs to the disk "one"'
for other in $uuid ${uuid^^} "${uuid//-/}"; do
  pair "$(memory "uuid = \"$uuid\"")" "$(memory "uuid = \"$other\"")"
  refused pair.toml 'already belongs to the disk "one"'
done
pair "$(memory 'serial = "S1"')" "$(memory 'serial = "S1"')"
refused pair.toml 'serial number "S1" already belongs to the disk "one"'
pair "$(file b.img)" "$(memory 'serial = "S1"')"
served pair.toml pair

say "1,100 images get their records before the daemon serves"
machine many
{
  printf '[daemon]\nstate_dir = "%s/state"\n[[port]]\nname = "net"\ndriver = "kernel"\n' "$here"
  printf '[[portal]]\nname = "four"\nport = "net"\naddress = "%s:3260"\n' "$host"
  seq 1100 | sed "s|.*|[[disk]]\nname = \"d&\"\nstore = \"file\"\npath = \"$here/&.img\"|"
  printf '[[target]]\nname = "%s"\nluns = [{ lun = 0, disk = "d1" }]\n' "$iqn"
} >many.toml
seq 1100 | sed "s|.*|$here/&.img|" | xargs truncate -s 64K
: >target.log
start many.toml
stop TERM 20 0
for records in "$here"/*.ptgt "$here"/state/images/*; do echo "$records"; done >records
[ "$(wc -l <records)" -eq 2200 ] || die "$(wc -l <records) records, wanted 2200"
[ "$(grep -c "WARN.*identity" target.log)" -eq 8 ] && grep -q 'WARN.*1092 more disks' target.log || { cat target.log; die "not 8 warnings and a sum"; }

say "an identity that cannot be kept is an error unless it is given"
machine six
here_configuration six.toml
truncate -s 1G six/disk0.img
mkdir six/state
mount --bind six six
mount -o remount,bind,ro six
sed 's|^name = "thin0"|&\nread_only = true|; s|^create = true||' six.toml >six-ro.toml
refused six-ro.toml 'identity cannot be kept'
sed -i "s|^name = \"thin0\"|&\nuuid = \"$uuid\"|" six-ro.toml
"$PTGT" check six-ro.toml >said 2>&1 || { cat said; die "refuses it with a uuid"; }
umount six
