#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# libiscsi.sh [--all] [--list FILE] [--second URL] URL [ISCSI-TEST-CU OPTIONS...]
#
# Runs Debian's iscsi-test-cu against a disk, one process per test with a time limit, and says for each test what came
# of it. The tool calls skipped tests passed and leaves with 0 when it ran nothing, so its text is read as well as its
# exit status. Expected skips and the tool's own faults are in libiscsi.expected beside this script, each with a reason.
# MultipathIO takes --second URL for its second path, or URL again. Exit status 0 if nothing unexpected happened.
set -u
here=$(cd "$(dirname "$0")" && pwd)
expected=$here/libiscsi.expected
suites='Mandatory NoMedia Inquiry ReportSupportedOpcodes ReadCapacity10 ReadCapacity16 Read6 Read10 Read12 Read16
  Write10 Write12 Write16 Verify10 Verify12 Verify16 WriteVerify10 WriteVerify12 WriteVerify16 Prefetch10 Prefetch16
  OrWrite CompareAndWrite MultipathIO ModeSense6 TestUnitReady StartStopUnit Unmap WriteSame10 WriteSame16 GetLBAStatus
  PrinReadKeys PrinServiceactionRange PrinReportCapabilities ProutRegister ProutReserve ProutClear ProutPreempt Reserve6
  iSCSIcmdsn iSCSIdatasn iSCSIResiduals iSCSITMF'
while [ $# -gt 0 ]; do
  case $1 in
    --all) suites=all; shift ;;
    --list) expected=$2; shift 2 ;;
    --second) second=$2; shift 2 ;;
    -h | --help) sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) break ;;
  esac
done
[ $# -ge 1 ] || { echo "usage: libiscsi.sh [--all] [--list FILE] [--second URL] URL [OPTIONS...]" >&2; exit 2; }
url=$1; shift
second=${second:-$url}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

# What the test itself says: before and after it the tool looks for reservations, and calls that skipped, too.
body() { sed 's/\[SKIPPED\] PERSISTENT RESERVE IN is not implemented\.//' "$1"; }

# The tool's exit status and text -> one word.
classify() { # status log
  case $1 in
    124 | 137) echo HANG; return ;;
    255) echo SETUP; return ;;
  esac
  if ! grep -Eq '^ +tests +[0-9]+ +1 ' "$2"; then echo NOTRUN
  elif [ "$1" -ne 0 ]; then echo FAIL
  elif body "$2" | grep -q '\[FAILED\]'; then echo SUSPECT
  elif body "$2" | grep -q '\[SKIPPED\]'; then echo SKIP
  else echo PASS; fi
}

declare -A wanted reason
while read -r verdict test why; do
  case $verdict in '' | '#'*) ;; *) wanted[$test]=$verdict; reason[$test]=$why ;; esac
done < "$expected"

pass=0 skip=0 bad=0
for test in $(iscsi-test-cu -l | tr -d ' ' | awk -F. '$1 == "ALL" && NF == 3'); do
  suite=$(cut -d. -f2 <<<"$test")
  [ "$suites" = all ] || case " $(echo $suites) " in *" $suite "*) ;; *) continue ;; esac
  log=$work/$test.log
  # Given to the other tests, too, the second path would meet the unit attentions that they cause.
  paths=("$url")
  [ "$suite" != MultipathIO ] || paths+=("$second")
  timeout -k 2 "${TEST_SECONDS:-30}" iscsi-test-cu -d "$@" -f -t "$test" "${paths[@]}" >"$log" 2>&1 </dev/null
  verdict=$(classify $? "$log")
  note=
  case $verdict in
    PASS) pass=$((pass + 1)) ;;
    "${wanted[$test]:-none}") skip=$((skip + 1)); note="expected: ${reason[$test]}" ;;
    *)
      bad=$((bad + 1)); note=unexpected
      sed 's/^/    /' "$log" | grep -vE '^ *$|CUnit|cunit.sourceforge' | tail -n 25 >"$work/show"
      ;;
  esac
  [ "$verdict" = SKIP ] && note="$note ($(body "$log" | sed -n 's/.*\[SKIPPED\] *//p' | head -n 1))"
  printf '%-8s %s %s\n' "$verdict" "${test#ALL.}" "$note"
  [ "$note" = unexpected ] || [ "${note%% *}" = unexpected ] && [ -f "$work/show" ] && cat "$work/show"
  rm -f "$work/show"
done
echo "libiscsi: $pass passed, $bad failed, $skip expected not to pass"
[ "$bad" -eq 0 ] && [ "$pass" -gt 0 ]
