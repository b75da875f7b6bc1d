# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: the target stands still for longer than the commands' time-out: the kernel aborts, resets, and logs in again
# nets: tap,kernel
# devices: file,ram
# limit: 900
# needs: fio
# expected: detected conn error \(1021\)
job() {
  # Without pings it is the commands that time out.
  attach 'node.conn[0].timeo.noop_out_interval=0' 'node.conn[0].timeo.noop_out_timeout=0' \
    node.session.err_timeo.abort_timeout=5 node.session.err_timeo.lu_reset_timeout=5 \
    node.session.err_timeo.tgt_reset_timeout=5 node.session.timeo.replacement_timeout=600
  echo 8 >"$(attribute timeout)"
  local seconds
  for seconds in 11 40; do
    say "frozen for $seconds s"
    start_load "$disk" bs=4k,16k iodepth=8 size=64m
    at_target target_freeze
    sleep "$seconds"
    at_target target_thaw
    wait_for_session
    load_progresses
    end_load
  done
  check log tells
  logout
}

tells() {
  [ "$(at_target target_log 'ABORT TASK|aborted|LOGICAL UNIT RESET|logged in')" -gt 1 ] || die "the target tells of no abort and no login"
}
