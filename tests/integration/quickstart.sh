#!/bin/bash
# deploy/quickstart on a file of its own: exit status 0, the text that says what was verified, and nothing left behind. Twice: a file of
# ordinary lines, and one of those that are easily lost.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

quickstart() { TMPDIR=$work exits "$@"; }
processes() { pgrep -cf "$work/sluice-quickstart" || true; }

seq 1 30000 | awk '{ printf "2024-01-01 00:00:%02d entry %d %s\n", $1 % 60, $1, substr("the quick brown fox jumps over the lazy dog", 1, $1 % 44) }' >"$work/plain.log"
from=$(now_ms)
check "quickstart succeeds" quickstart 0 "$tree/deploy/quickstart" "$work/plain.log"
took=$(($(now_ms) - from))
check "it says what was verified" says 'verified: 30000 of 30000 records, none lost, none twice'
check "it killed a leader" says 'killed node [123], the leader of'
check "another took over" says 'node [123] leads it now'
check "it tells the time of the failover" says 'failover +[0-9]+ ms'
check "it tells where to go next" says 'Where to go next'
check "the putting was paced" [ "$took" -ge 5000 ]
check "nothing is left behind" bash -c '! find "$1" -maxdepth 1 -name "sluice-quickstart.*" | grep -q .' sh "$work"
check "no process is left" [ "$(processes)" -eq 0 ]

{ printf '\n\n  \n\xff\xfe\r\n'; seq 1 200; printf 'the same\nthe same\nthe same\nno newline at the end'; } >"$work/odd.log"
check "quickstart succeeds on odd lines" quickstart 0 "$tree/deploy/quickstart" "$work/odd.log"
check "it says what was verified" says 'verified: 208 of 208 records'

check "a file that is not there fails" quickstart 1 "$tree/deploy/quickstart" "$work/nothing"
: >"$work/empty"
check "an empty file fails" quickstart 1 "$tree/deploy/quickstart" "$work/empty"
check "an unknown option is usage" quickstart 2 "$tree/deploy/quickstart" --no-such-option
check "no process is left" [ "$(processes)" -eq 0 ]
