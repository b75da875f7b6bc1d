# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: Bacula with docs/backup.md's configuration: labels, backups over tapes of two drives, restarts of the target, restores
# nets: kernel,tap
# limit: 1500
# packages: bacula-common bacula-common-sqlite3 bacula-director bacula-director-sqlite3 bacula-sd bacula-fd bacula-console libwrap0 liblzo2-2
# needs: mtx mt-st sqlite3 sg_turs cmp diff perl awk grep /etc/services /etc/hosts /etc/debian_version /etc/protocols
# modules: st sg
# expected: \[st[0-9]\] |detected conn error \(1020\)|Power-on or device reset occurred
library=$iqn:library

more_config() { page_library; }

bacula() { # COMMAND...
  printf '%s\n' "$@" | timeout 120 bconsole -n || { report; die "Bacula does not end: $*"; }
}
report() { tail -n 200 /var/log/bacula.log >&2; }

job() {
  attach_library
  ln -s mt-st /usr/bin/mt
  mkdir -p /var/lib/bacula /var/log /run/bacula /srv/home /srv/mail
  local file
  for file in bacula-sd.conf bacula-dir.conf bacula-fd.conf bconsole.conf; do page_block "/etc/bacula/$file" >"/etc/bacula/$file"; done
  sqlite3 /var/lib/bacula/bacula.db </usr/share/dbconfig-common/data/bacula-director-sqlite3/install/sqlite3 >/dev/null
  bacula-sd -c /etc/bacula/bacula-sd.conf
  bacula-fd -c /etc/bacula/bacula-fd.conf
  bacula-dir -c /etc/bacula/bacula-dir.conf
  until_true 30 eval "bconsole -n <<<version >/dev/null" || { report; die "no director"; }

  say "labels"
  bacula 'label barcodes storage=Library pool=Default slots=1-8 drive=0' yes >/dev/null
  [ "$(bacula 'list volumes' | grep -c '| B000.L8 *| Append')" -eq 8 ] || die "not all cartridges are labelled"

  say "two jobs at once, over several tapes"
  trees home mail
  bacula 'run job=Home yes' 'run job=Mail yes' wait >/dev/null
  report_is 2 'Backup OK'
  grep -q 'Using Device "Drive-1" to write' /var/log/bacula.log || { report; die "the second drive is not used"; }
  [ "$(bacula 'list volumes' | grep -c '| Full ')" -ge 2 ] || { report; die "no tape is full"; }

  say "the target is started again; what is appended then"
  # The storage daemon has a tape at its end, and goes on there. That must not be the beginning: it takes another one.
  at_target target_stop
  at_target target_start
  wait_for_login
  mkdir /srv/home/later
  pattern 9 5000000 >/srv/home/later/file
  bacula 'run job=Home level=Incremental yes' wait >/dev/null
  report_is 1 'Backup OK -- with warnings'

  say "the target is killed; restore"
  at_target target_crash 1
  wait_for_login
  bacula 'restore client=backup-fd fileset=Home select current all done yes' wait >/dev/null
  bacula 'restore client=backup-fd fileset=Mail select current all done yes' wait >/dev/null
  report_is 2 'Restore OK'
  diff -r /srv/home /srv/restored/srv/home
  diff -r /srv/mail /srv/restored/srv/mail
  logout
}

# How often Bacula has said of a job that it ended so.
report_is() { # NUMBER TEXT
  [ "$(grep -c "^ *Termination: *$2\$" /var/log/bacula.log)" -eq "$1" ] || { report; die "not $1 times $2"; }
}
