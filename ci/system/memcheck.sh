#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# memcheck.sh kernel|tap|packet
#
# The daemon under valgrind's memcheck, with real clients and a stop in order: no access to memory that is not there or was
# not written, and nothing lost that was allocated. Payload memory is mapped, not allocated: who may touch that is what the
# test world looks at.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?kernel, tap or packet}"
command -v valgrind >/dev/null || { echo "needs valgrind: ci/setup.sh perf"; exit 77; }

# What is reachable when the process ends is kept on purpose: the logger, and what lives as long as the daemon. So is what
# is only "possibly" lost: an Arc points into the middle of its block, and the thread of the logger never ends.
cat >checked <<END
#!/bin/sh
exec valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect \\
  --errors-for-leak-kinds=definite,indirect --error-exitcode=99 --num-callers=25 --log-file=$work/memcheck.log \\
  $PTGT "\$@"
END
chmod +x checked
PTGT=$work/checked
trap '[ $? -eq 0 ] || { failed; tail -n 100 memcheck.log; }' EXIT

say "the daemon serves under memcheck"
ram_mib=32
configuration test.toml 1500 '[0, 1]'
start test.toml
mkdir tree
cp "$root"/src/*.rs tree
make_image image 8 tree
for url in "$disk" "$ram"; do
  iscsi-inq "$url" >/dev/null || die "no INQUIRY"
  upload image "$url"
  same image "$url"
done
for test in ALL.Read16 ALL.Write16 ALL.CompareAndWrite ALL.Unmap ALL.iSCSITMF.AbortTaskSimpleAsync ALL.ProutReserve; do
  timeout 120 iscsi-test-cu -d -g -t "$test" "$ram" >suite.log 2>&1 || { cat suite.log; die "$test"; }
done
qemu-img bench -f raw -w -c 300 -d 16 -s 16384 "$disk" >/dev/null || die "writes"
qemu-img bench -f raw -c 300 -d 16 -s 65536 "$ram" >/dev/null || die "reads"

say "it stops under load"
qemu-img bench -f raw -w -c 100000000 -d 8 -s 4096 "$disk" >/dev/null 2>&1 &
client=$!
sleep 2
stop TERM 60 0
kill -KILL $client 2>/dev/null || true
[ ! -s memcheck.log ] || { cat memcheck.log; die "memcheck has something to say"; }
say "memcheck has found nothing"
