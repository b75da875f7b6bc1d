# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154 # what lib.sh and run set
# target.sh: what can be done to the target, where it runs: on the host or, with --net inside-*, in the guest. Jobs call
# these as `at_target VERB`; what a verb prints is the answer.

# xfs wants 300 MiB.
ram_mib=320

target_config() {
  configuration target.toml 1500
  [ "$(type -t more_config)" != function ] || more_config >>target.toml
  [ "$place" = host ] || return 0
  more_portals=,portal=10.78.0.2:3260
  # A second way to the same target, over a network of its own.
  if [ "$port" = tap ]; then
    printf '[[port]]\nname = "net2"\ndriver = "tap"\ndevice = "ptgt1"\nmtu = 1500\naddress = ["10.78.0.2/24"]\n'
    printf '[[portal]]\nname = "second"\nport = "net2"\naddress = "10.78.0.2:3260"\ngroup = 2\n'
  else
    printf '[[portal]]\nname = "second"\nport = "net"\naddress = "10.78.0.2:3260"\ngroup = 2\n'
  fi >>target.toml
}

target_start() { start target.toml; }
# tgtd does not end while it has targets.
target_stop() { if [ "$TARGET" = tgtd ]; then target_kill; else stop TERM 30 0; fi; }
target_kill() {
  kill -KILL "$target_pid"
  wait "$target_pid" 2>/dev/null || true
}
# Kills the target, and starts it again after some seconds.
target_crash() { # SECONDS
  target_kill
  sleep "$1"
  target_start
}
target_freeze() { kill -STOP "$target_pid"; }
target_thaw() { kill -CONT "$target_pid"; }
# Gives the thin disk another size; the target is started again for that.
target_resize() { # SIZE
  target_stop
  truncate -s "${1%iB}" var/lib/ptgt/disk0.img
  sed -i "0,/^size = .*/s//size = \"$1\"/" target.toml
  target_start
}
# How many KiB the thin disk occupies.
target_allocated() { sync -f var/lib/ptgt && du -k var/lib/ptgt/disk0.img | cut -f1; }
# How many lines of the target's log match.
target_log() { grep -cE "$*" target.log || true; } # PATTERN

# Cuts the cable of a path, and joins it again.
link_cut() { ip link set "guest$1" down; }
link_join() { ip link set "guest$1" up; }

# The block of docs/backup.md that follows a name.
page_block() { # NAME
  sed -n "\,^\`$1\`:\$,,/^\`\`\`\$/p" "${root:?}/docs/backup.md" | sed '1,/^```/d; /^```$/d'
}

# The library of docs/backup.md as $library, with eight cartridges of 24 MiB.
page_library() {
  local n
  mkdir -p var/lib/ptgt/library
  for n in $(seq -w 1 8); do truncate -s 24M "var/lib/ptgt/library/B000${n}L8.ptt"; done
  page_block ptgt.toml | sed "s/^name = \"iqn.*/name = \"${library:?}\"/; s/\"main\"/\"four\"/"
}
