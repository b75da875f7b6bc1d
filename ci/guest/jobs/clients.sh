# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: the commands of docs/clients.md for Linux, as they stand there: CHAP both ways and for discovery, over all portals, which are of one group
# nets: tap,kernel
# limit: 300
# needs: cmp
target_start() {
  sed -i 's/^group = 2$/group = 1/' target.toml
  start target.toml
}
more_config() {
  printf '[[account]]\nname = "web1"\nsecret = "correct-horse-1"\n'
  printf '[[account]]\nname = "storage"\nsecret = "battery-staple-3"\n'
  printf '[target.chap]\naccounts = ["web1"]\noutgoing = "storage"\n'
  printf '[discovery]\naccounts = ["web1"]\n'
}

job() {
  start_initiator
  commands >typed
  [ "$(grep -c '^ *iscsiadm' typed)" -eq 6 ] || { cat typed; die "other commands than this job knows"; }
  say "discovery, settings, login"
  bash -e typed || die "status $?"
  is_there
  say "what open-iscsi.service does at boot"
  logout
  iscsiadm -m node --loginall=automatic
  is_there
  logout

  say "discovery sets the records back"
  sed '/--discover$/q' typed | bash -e || die "status $?"
  settings_are None manual
}

# The shell commands of the section, but for what installs, and what udev would have to do. Discovery without CHAP is refused.
commands() {
  sed -n '/^## Linux$/,/^### Multipath$/p' /usr/lib/rig/docs/clients.md | sed -n '/^```sh$/,/^```$/p' |
    sed -E "/^(\`\`\`|apt-get|cat |ls |iscsiadm -m discovery )/d
      s/^P=.*/P=$address T=$iqn/; s/SECRET2/battery-staple-3/; s/SECRET/correct-horse-1/"
}
# Three portals: IPv4, IPv6, and the one on the second network. Each has the settings, a session, and the same disk.
is_there() {
  local each
  settings_are CHAP automatic
  wait_for_disks "$lun" 3
  [ "$(session_state | sort | uniq -c | xargs)" = '3 LOGGED_IN' ] || die "sessions: $(session_state)"
  pattern $RANDOM 65536 >data
  dd if=data of="${disks##* }" bs=64k oflag=direct 2>/dev/null
  for each in $disks; do
    dd if="$each" bs=64k count=1 iflag=direct 2>/dev/null | cmp - data || die "$each reads something else"
  done
}
settings_are() { # AUTHMETHOD STARTUP
  local setting name
  for setting in "node.session.auth.authmethod = $1" "node.startup = $2"; do
    name=${setting%% *}
    node -o show | grep "^${name//./\\.} = " >records || die "no records"
    [ "$(grep -cxF "$setting" records)" -eq 3 ] || { cat records; die "not three times: $setting"; }
  done
}
