#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# libiscsi.sh --fixture NAME [--results FILE] [--second URL] [--only SUITE[.TEST]]... [--seconds N] URL
# libiscsi.sh --coverage RESULTS...
#
# Runs all tests of Debian's iscsi-test-cu, those that lose data and those that sanitize included, against a disk: one
# process per test with a time limit. Says for each test what came of it. The tool calls skipped tests passed and leaves
# with 0 when it ran nothing, so its text is read as well as its exit status. What does not pass on a disk of this kind is
# in libiscsi.expected beside this script, with the reason; what is LEFT there is not run. Whatever else does not pass, and
# whatever passes although it is listed, makes the exit status 1. MultipathIO runs where there is a --second URL.
#
# With --coverage it reads what --results has written for all fixtures: each test has to have passed on one of them, or to
# be listed as a fault of the tool, or for all of them (fixture *), as at most five tests are that run nowhere.
set -u
here=$(cd "$(dirname "$0")" && pwd)
expected=$here/libiscsi.expected
fixture='' results=/dev/null second='' only='' coverage='' seconds=30
while [ $# -gt 0 ]; do
  case $1 in
    --fixture) fixture=$2; shift 2 ;;
    --results) results=$2; shift 2 ;;
    --second) second=$2; shift 2 ;;
    --only) only="$only $2"; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --coverage) coverage=1; shift ;;
    -h | --help) sed -n '3,15s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) break ;;
  esac
done
[ $# -ge 1 ] || { echo "usage: libiscsi.sh --fixture NAME [OPTIONS] URL: see --help" >&2; exit 2; }

tests=$(iscsi-test-cu -l | tr -d ' ' | awk -F. '$1 == "ALL" && NF == 3')

if [ -n "$coverage" ]; then
  nowhere=0 never=0 all=0
  while read -r name; do
    grep -rqw "fn $name" "$here/../../src" && continue
    never=$((never + 1)); echo "the list names a test of ours that is not there: $name"
  done < <(sed -n 's/.*(own test: \(.*\))$/\1/p' "$expected")
  while read -r fault; do
    never=$((never + 1)); echo "the list names no test of ours: $fault"
  done < <(grep 'fault of the tool' "$expected" | grep -v '(own test: .*)$')
  for test in $tests; do
    all=$((all + 1))
    grep -qx "PASS $test" "$@" -h && continue
    reason=$(awk -v test="$test" '($1 == "*" || /fault of the tool/) && test ~ "^" $3 "$" { $1 = $2 = $3 = ""; print }' "$expected")
    case $reason in
      '') never=$((never + 1)); echo "passes on no fixture, and the list does not say why: ${test#ALL.}" ;;
      *'fault of the tool'*) ;;
      *) nowhere=$((nowhere + 1)); echo "runs on no fixture: ${test#ALL.}:$reason" ;;
    esac
  done
  echo "libiscsi: $all tests, $nowhere run on no fixture, $never without a reason"
  [ "$never" -eq 0 ] && [ "$nowhere" -le 5 ]
  exit
fi

url=$1
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
while read -r of verdict test why; do
  case ,$of, in ,'*', | *,"$fixture",*) ;; *) continue ;; esac
  for each in $(grep -xE "$test" <<<"$tests"); do
    wanted[$each]=$verdict reason[$each]=$why
  done
done < <(grep -v '^ *\(#\|$\)' "$expected")

pass=0 listed=0 bad=0 left=0
for test in $tests; do
  suite=$(cut -d. -f2 <<<"$test")
  [ -z "$only" ] || case " $only " in *" $suite "* | *" ${test#ALL.} "*) ;; *) continue ;; esac
  if [ "${wanted[$test]:-}" = LEFT ]; then
    left=$((left + 1))
    printf '%-8s %s %s\n' LEFT "${test#ALL.}" "${reason[$test]}"
    continue
  fi
  log=$work/log
  # Given to the other tests, too, the second path would meet the unit attentions that they cause.
  paths=("$url")
  if [ "$suite" = MultipathIO ]; then
    [ -n "$second" ] || continue
    paths+=("$second")
  fi
  timeout -k 2 "$seconds" iscsi-test-cu -d -S -f -t "$test" "${paths[@]}" >"$log" 2>&1 </dev/null
  verdict=$(classify $? "$log")
  echo "$verdict $test" >>"$results"
  note=unexpected
  case $verdict in
    "${wanted[$test]:-PASS}") note=${reason[$test]:-} ;;
  esac
  case $verdict/$note in
    */unexpected) bad=$((bad + 1)) ;;
    PASS/*) pass=$((pass + 1)) ;;
    *) listed=$((listed + 1)); note="expected: $note" ;;
  esac
  [ "$verdict" = SKIP ] && note="$note ($(body "$log" | sed -n 's/.*\[SKIPPED\] *//p' | head -n 1))"
  printf '%-8s %s %s\n' "$verdict" "${test#ALL.}" "$note"
  case $note in
    unexpected*) sed 's/^/    /' "$log" | grep -vE '^ *$|CUnit|cunit.sourceforge' | tail -n 25 ;;
  esac
done
echo "libiscsi, $fixture: $pass passed, $bad failed, $listed expected not to pass, $left left out"
[ "$bad" -eq 0 ] && [ "$pass" -gt 0 ]
