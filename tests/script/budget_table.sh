#!/bin/bash
# The budgets' table (tests/budget/table.bash) holds figures to what was recorded: too much, unknown and missing ones fail, low ones are told.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../budget" && pwd)
. "$here/table.bash"
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-budget-table.XXXXXX")
trap 'rm -rf "$work"' EXIT
table=$work/budget.tsv
: >"$table"

failures=0
# expects STATUS TEXT FIGURE...: how the figures of three paths settle.
expects() {
    local wanted=$1 text=$2 got=0 path=0 figure
    shift 2
    measurements=()
    for figure in "$@"; do
        path=$((path + 1))
        measured "path-$path" leader instructions "$figure"
    done
    settle no instructions '' >"$work/out" || got=$?
    if [ "$got" -ne "$wanted" ] || ! grep -q "$text" "$work/out"; then
        echo "FAIL: $*: exit status $got instead of $wanted, or nothing like '$text' in:"
        cat "$work/out"
        failures=$((failures + 1))
    fi
}

measured path-0 nodes all 10
settle yes syscalls 'gcc 1' >/dev/null
measurements=()
measured path-1 leader instructions 1000
measured path-2 leader instructions 20000
settle yes instructions 'gcc 2' >/dev/null
grep -q '^# compiler: gcc 2$' "$table" || { echo "FAIL: the compiler is not in the table"; exit 1; }
grep -q "^syscalls	path-0	nodes	all	30.0	10.0$" "$table" || { echo "FAIL: recording one script's figures lost the other's"; exit 1; }

expects 0 'ok .*path-1' 1000 20000
expects 0 'ok .*path-2' 1049 20900
expects 1 'FAIL: path-1 .*+6.0 %' 1060 20000
expects 1 'FAIL: path-2 ' 1000 21010
expects 0 'low .*path-1.*record anew' 800 20000
expects 1 'FAIL: 1 budgets were not measured' 1000
expects 1 'FAIL: path-3 .*no budget' 1000 20000 5
[ "$failures" -eq 0 ]
