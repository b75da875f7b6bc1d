#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# text.sh tap|kernel: whatever a peer says, the log and the status are lines of printable text, and few of them.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
log=trace
{
  configuration base.toml 65521 "$two_reactors"
  cat base.toml
  printf '[[account]]\nname = "alice"\nsecret = "alices-own-secret"\n'
  printf '[[target]]\nname = "%s:chap"\nluns = [{ lun = 0, disk = "ram0" }]\n[target.chap]\naccounts = ["alice"]\n' "$iqn"
} >test.toml
chmod 600 test.toml
start test.toml
"$PTGT" status >status.start
python3 -B "$root/ci/system/text.py" "$host" "$iqn" "$PTGT" target.log
stop TERM 10 0
python3 -B "$root/ci/system/text.py" --look target.log || die "the log is not lines of printable text"

say "what a configuration has in it comes to no terminal"
printf '[daemon]\n"\\u001b[2J" = "\\u202e"\nlog = "\\u001b[1m" # \302\233 \342\200\256\n' >bad.toml
printf '[daemon] # \033]0;title\007\n"\033[1m" = 1\n' >worse.toml
for file in bad.toml worse.toml; do
  if "$PTGT" check $file >>said 2>&1; then die "a bad configuration is good"; fi
  "$PTGT" check --json $file >>said 2>&1 || true
  "$PTGT" run --config $file >>said 2>&1 || true
done
grep -q 'u{1b}\[2J' said || { cat -v said; die "the key is not named"; }
python3 -B "$root/ci/system/text.py" --look said || die "what is said of the configuration is not printable"

say "nor what a control socket says"
python3 -B "$root/ci/system/text.py" --serve liar.sock &
liar=$!
until_true 10 test -S liar.sock
if "$PTGT" status --socket liar.sock >said 2>&1; then die "a status of a liar"; fi
grep -q 'liar' said || { cat -v said; die "it is not told who says so"; }
python3 -B "$root/ci/system/text.py" --look said || die "what the control socket says is not printable"
wait $liar
