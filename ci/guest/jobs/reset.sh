# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: logical unit and target resets under load
# nets: tap,kernel,inside-tap,inside-kernel
# devices: file,file4k,ram,ram4k
# limit: 600
# needs: fio sg_reset
job() {
  attach node.session.timeo.replacement_timeout=300
  start_load "$disk" bs=4k,64k iodepth=32 size=64m
  local kind
  for kind in --device --target; do
    for _ in 1 2 3; do
      say "sg_reset $kind"
      sg_reset --no-escalate $kind "$disk" || die "sg_reset $kind fails"
      load_progresses
    done
  done
  end_load
  logout
}
