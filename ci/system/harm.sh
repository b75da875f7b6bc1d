#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# harm.sh: what the daemon has not made stays as it is, whatever the configuration says, and check and run agree on what can
# be served (harm.py); images are made when that is asked for and nothing was there before, for their owner alone; a file that
# is shortened stays short (shorten.py); every disk is flushed at the end.
. "$(dirname "$0")/../lib.sh"
use_port kernel

say "whatever a path may be, and whatever is asked of it"
mkdir table
(cd table && python3 -B "$root/ci/system/harm.py" "$PTGT")
umount table/in-memory
rm -rf /var/lib/ptgt/state

# A disk in a file, and what its table has beside path and size.
one_disk() { # PATH [LINE]...
  local path=$1; shift
  configuration all.toml
  awk -v path="$path" -v lines="$(printf '%s\\n' "$@")" '/^path = / { print "path = \"" path "\""; print lines; next }
    /^size = "1GiB"/ { print "size = \"16MiB\""; next } !/^create = / { print }' all.toml >test.toml
}
refused() { # TEXT
  ! timeout 20 "$PTGT" check test.toml >said 2>&1 || die "check does not say: $1"
  grep -q "$1" said || { cat said; die "check does not say: $1"; }
  ! timeout 20 "$PTGT" run --config test.toml >said 2>&1 || die "runs without a word of: $1"
  grep -q "$1" said || { cat said; die "run does not say: $1"; }
}

say "a file system that is not mounted is not an empty disk"
mkdir real data
mount --bind real data
one_disk "$work/data/disk.img" 'create = true'
start test.toml
[ "$(grep -c "created $work/data/disk.img: 16777216 bytes, sparse" target.log)" -eq 1 ] || die "not told, or not once"
pattern 1 100000 >words
qemu-img convert -n -f raw -O raw words "$disk"
stop TERM 10 0
umount data
if [ "$(stat -f -c %T "$work")" = tmpfs ]; then
  say "left out: an image in memory may be made again, and $work lies there"
else
  refused "data/disk.img is not there, but there was an image before"
  grep -q 'remove that record' said || die "no remedy"
  [ -z "$(ls data)" ] || die "something was made: $(ls data)"
  mount --bind real data
  start test.toml
  same words "$disk"
  stop TERM 10 0
  umount data
  record=$(find /var/lib/ptgt/state -name image)
  grep -qF "$record" said || { cat said; die "the record is not named"; }
  rm "$record"
  start test.toml
  stop TERM 10 0
  cmp -s -n 4096 data/disk.img /dev/zero || die "not an empty disk"
fi
rm -rf /var/lib/ptgt/state
one_disk "$work/data/none.img" 'create = false'
refused 'none.img is not there'
grep -q 'create = true' said || die "no remedy"

say "what is too large for the file system, and what takes more space than there is"
mkdir small
truncate -s 20M small.img
mke2fs -q -t ext4 small.img
mount -o loop small.img small
one_disk "$work/small/disk.img" 'create = true'
sed -i 's/^size = "16MiB"/size = "16TiB"/' test.toml
refused 'can have'
one_disk "$work/small/disk.img" 'create = true' 'thin = false'
sed -i 's/^size = "16MiB"/size = "64MiB"/' test.toml
refused 'it takes 67108864 bytes'
[ "$(ls small)" = lost+found ] || die "something was made: $(ls small)"
umount small

say "what is made is for its owner alone, whatever the umask"
for mask in 000 077; do
  rm -rf /var/lib/ptgt/* /run/ptgt/*
  one_disk /var/lib/ptgt/new/directory/disk.img 'create = true'
  (umask $mask && exec "$PTGT" run --config test.toml >>target.log 2>&1) &
  target_pid=$!
  until_true 20 connects "$host" || die "does not start"
  find /var/lib/ptgt/new /var/lib/ptgt/state -type d ! -perm 700 -print -o -type f ! -perm 600 -print >others
  find /run/ptgt -name '*.lock' ! -perm 600 -print >>others
  [ ! -s others ] || { xargs ls -ld <others; die "others may use them, with umask $mask"; }
  [ "$(find /var/lib/ptgt -type f | wc -l)" -ge $((1 + $([ "$(stat -f -c %T "$work")" = tmpfs ]; echo $?))) ] || die "nothing was made"
  stop TERM 10 0
done

say "a user who may only read an image holds nothing up, or is named"
as_nobody() { setpriv --reuid nobody --regid nogroup --clear-groups "$@"; }
chmod 755 "$work"
truncate -s 16M public.img
one_disk "$work/public.img"
stranger() { # flock|lockf EX|SH
  : >locked
  python3 -c 'import fcntl, os, sys, time
os.setgroups([]), os.setgid(65534), os.setuid(65534)
file = open(sys.argv[1])
getattr(fcntl, sys.argv[2])(file, getattr(fcntl, "LOCK_" + sys.argv[3]))
print("locked", flush=True)
time.sleep(600)' "$work/public.img" "$@" >locked &
  stranger=$!
  until_true 20 grep -q locked locked || die "the stranger has no lock"
}
stranger flock EX
start test.toml
stop TERM 10 0
kill "$stranger"
stranger lockf SH
! timeout 20 "$PTGT" run --config test.toml >said 2>&1 || die "starts"
grep -q "public.img is locked for reading by process $stranger" said || { cat said; die "the stranger is not named"; }
kill "$stranger"

say "a user without rights: check warns, run refuses, nothing is changed"
chmod 600 public.img
cp "$PTGT" ptgt
before=$(stat -c '%a %s %Y' public.img)
mkdir -m 777 mine
sed -i "/^\[daemon\]/a control_socket = \"$work/mine/socket\"\nstate_dir = \"$work/mine/state\"" test.toml
as_nobody ./ptgt check test.toml >said 2>&1 || { cat said; die "check is certain of what another user may do"; }
grep -q 'warning: disk "thin0": .*public.img cannot be opened: Permission denied' said || { cat said; die "no warning"; }
! as_nobody ./ptgt run --config test.toml >said 2>&1 || die "runs"
grep -q 'ERROR.*public.img cannot be opened: Permission denied' said || { cat said; die "not told"; }
[ "$(stat -c '%a %s %Y' public.img)" = "$before" ] || die "changed"

say "a file that is shortened stays short, whatever is written 10 ms later"
truncate -s 16M short.img
one_disk "$work/short.img"
start test.toml
python3 -B "$root/ci/system/shorten.py" "$host" "$iqn" "$work/short.img" || die "see above"
stop TERM 20 0

say "1,100 disks are flushed at the end, and one that cannot be is named"
many() { # CONFIGURATION [LINE]
  {
    printf '[daemon]\nmemory = "16MiB"\nhugepages = "never"\nlog = "warn"\n[[port]]\nname = "net"\ndriver = "kernel"\n'
    printf '[[portal]]\nname = "four"\nport = "net"\naddress = "%s:3260"\n' "$host"
    seq 1100 | awk -v work="$work" -v line="${2:-}" '{
      printf "[[disk]]\nname = \"d%s\"\nstore = \"file\"\npath = \"%s/many/%s\"\n", $1, work, $1
      printf "uuid = \"%032x\"\n", $1
      if ($1 == 7) print line }'
    printf '[[target]]\nname = "%s"\nluns = [{ lun = 0, disk = "d1" }]\n' "$iqn"
  } >"$1"
}
mkdir many
seq 1100 | sed "s|^|$work/many/|" | xargs truncate -s 64K
many test.toml
: >target.log
# Each disk takes a descriptor: the daemon sees to it that there are enough.
ulimit -S -n 512
start test.toml
stop TERM 20 0
[ ! -s target.log ] || { cat target.log; die "not a word was expected"; }
many test.toml 'faults = [{ operation = "flush", error = "medium" }]'
start test.toml
stop TERM 20 1
grep -q 'ERROR.*may not be on stable storage: disk "d7" (write error)$' target.log || { cat target.log; die "the disk is not named"; }
