# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: fio verifies what it has written: random and mixed, block sizes mixed, with flushes
# nets: tap,kernel,inside-tap,inside-kernel
# devices: file,file4k,ram,ram4k
# limit: 900
# needs: fio
job() {
  attach
  say "random writes of 512 bytes to 256 KiB, a flush every 32 of them"
  run_fio "$disk" rw=randwrite bsrange=4k-256k iodepth=16 size=64m fsync=32 do_verify=1
  say "reads and writes mixed"
  run_fio "$disk" rw=randrw bs=4k,16k iodepth=32 size=128m time_based=1 "runtime=$(seconds 60)" verify_backlog=256
  say "sequential, synchronous"
  run_fio "$disk" rw=write bs=64k ioengine=psync sync=dsync size=16m offset=200m do_verify=1
  logout
}
