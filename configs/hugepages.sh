# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# hugepages.sh: huge pages of 2 MiB that a script sets aside for as long as it and what it has started live. Source it; as root.
#
# What has been taken stands in a file that is locked until the last of these processes has ended, however it ended. Files
# that nobody has locked are of scripts that were killed: the next one gives back what they name.
pages_records=/run/ptgt-huge-pages
pages_record=
pages_taken=0

# Runs a command while no other script takes pages or gives them back.
alone_with_pages() { # COMMAND...
  local alone
  mkdir -p "$pages_records"
  exec {alone}<"$pages_records"
  flock "$alone"
  "$@"
  exec {alone}<&-
}

return_pages() { # RECORD
  local pool count
  while read -r pool count; do echo $(($(cat "$pool") - count)) >"$pool" || true; done <"$1"
  rm -f "$1"
}

return_left_pages() {
  local each
  for each in "$pages_records"/*; do
    [ ! -e "$each" ] || ! flock -n "$each" true || return_pages "$each"
  done
}

take_pages_alone() { # POOL COUNT
  local had
  if [ -z "$pages_record" ]; then
    pages_record=$(mktemp "$pages_records/XXXXXX")
    exec {pages_lock}<"$pages_record"
    flock "$pages_lock"
  fi
  had=$(cat "$1")
  # Free memory may be in small pieces: the kernel is asked to put it together.
  for _ in 1 2 3 4 5; do
    echo $((had + $2)) >"$1" || true
    pages_taken=$(($(cat "$1") - had))
    [ $pages_taken -lt "$2" ] || break
    echo 1 >/proc/sys/vm/compact_memory || true
    sleep 0.2
  done
  echo "$1 $pages_taken" >>"$pages_record"
}

# Adds up to so many pages to a pool (a file nr_hugepages); $pages_taken is how many.
take_pages() { # POOL COUNT
  alone_with_pages return_left_pages
  alone_with_pages take_pages_alone "$@"
}

# Gives all of them back.
give_pages_back() {
  [ -n "$pages_record" ] || return 0
  alone_with_pages return_pages "$pages_record"
  exec {pages_lock}<&-
  pages_record=
}
