# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: Amanda with docs/backup.md's configuration: amtapetype, labels, a dump over tapes of a library, what comes back
# nets: kernel,tap
# limit: 1500
# packages: amanda-common amanda-server amanda-client libxml-simple-perl libxml-namespacesupport-perl libxml-sax-base-perl libxml-sax-perl libxml-libxml-perl libencode-locale-perl
# needs: ps uname mtx mt-st sg_turs diff perl tar gzip setpriv /usr/share/perl /usr/share/perl5 /usr/lib/x86_64-linux-gnu/perl /usr/lib/x86_64-linux-gnu/perl5 /usr/lib/x86_64-linux-gnu/perl-base /etc/perl /etc/services /etc/hosts /etc/protocols /etc/nsswitch.conf
# modules: st sg
# expected: \[st[0-9]\] |detected conn error \(1020\)|Power-on or device reset occurred
library=$iqn:library

more_config() {
  page_library
  truncate -s 300M var/lib/ptgt/library/T00001L8.ptt
}

as_backup() { setpriv --reuid=backup --regid=backup --init-groups env HOME=/var/backups "$@"; }

job() {
  attach_library
  # What the packages would do at their installation.
  local program
  for program in ambind killpgrp calcsize rundump runtar application/amgtar application/amstar; do
    chgrp backup /usr/lib/amanda/$program
    chmod 4754 /usr/lib/amanda/$program
  done
  mkdir -p /etc/amanda/daily /var/lib/amanda/daily/{log,info,index} /var/lib/amanda/gnutar-lists /var/log/amanda /var/backups /tmp /srv
  chmod 1777 /tmp
  chmod 666 /dev/st* /dev/nst* /dev/sg*
  page_block /etc/amanda/daily/amanda.conf >/etc/amanda/daily/amanda.conf
  page_block /etc/amanda/daily/disklist >/etc/amanda/daily/disklist
  touch /var/lib/amanda/daily/tapelist /var/lib/amanda/amandates
  echo "localhost backup" >/var/backups/.amandahosts
  chmod 600 /var/backups/.amandahosts
  chown -R backup:backup /etc/amanda /var/lib/amanda /var/log/amanda /var/backups
  trees home mail

  say "amtape, amtapetype"
  as_backup amtape daily inventory
  mtx -f "$changer" load 9 0
  until_true 30 sg_turs /dev/nst0
  # A minute of its test for compression would fill such a small cartridge, and three seconds have on a fast machine.
  sed -i 's/compression_check_time = 60/compression_check_time = 1/' /usr/sbin/amtapetype
  as_backup timeout 300 amtapetype -f -t LTO -b 64k /dev/tape/by-id/drive0
  mtx -f "$changer" unload 9 0

  say "labels, a dump"
  local slot
  for slot in 1 2 3 4 5 6; do as_backup amlabel daily "B000${slot}L8" slot $slot; done
  as_backup amcheck daily
  local status=0
  as_backup timeout 300 amdump daily || status=$?
  as_backup amreport daily
  [ $status -eq 0 ] || { cat /var/lib/amanda/daily/log/log.*; die "amdump: status $status"; }
  at_target target_crash 1
  wait_for_login
  mkdir -p /srv/restored
  as_backup amfetchdump -a -p daily localhost /srv/home <<<'' | tar -x -C /srv/restored
  diff -r /srv/home /srv/restored
  logout
}
