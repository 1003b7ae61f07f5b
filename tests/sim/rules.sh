#!/bin/bash
# Each safety rule: without it the recorded seeds do harm that a checker catches, with it the same seeds do none.
#   tests/sim/rules.sh [-b BUILD] [RULE...]       all rules, or those named ("R5"); BUILD: the build folder, default build
# The table is told in tests/README.md. A "unit" line names a test that plays its own seeds with the rule off and on.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=build
if [ "${1:-}" = -b ]; then
    build=${2:?-b needs a folder}
    shift 2
fi
jobs=${SLUICE_JOBS:-2}

# rule, switch, seeds, profile; or rule, "unit", test program, test
table='
R1   unit raft_rules_test r1_ack_clamp
R2   unit raft_rules_test r2_hold_back
R3   --disable-raft=0x8      1-10     -
R4   --disable-raft=0x10     10-20    full-disk
R5   --disable-raft=0x20     1-60     slow-disk
R5   unit raft_rules_test r5_persist_before_send
R6   unit raft_rules_test r6_installing
R7   --disable-raft=0x80     31-60    moves
R7   unit raft_rules_test r7_membership
R8   --disable-raft=0x100    1-20     -
R9   --disable-raft=0x200    1-3      backlog
R10  --disable-raft=0x400    1-10     -
R12  --disable-raft=0x1000   1-60     sole
R12  unit raft_rules_test r12_sole_voter
F1   --disable-journal=0x1   1-20     -
F2   unit storage_safety_test test_f2
F3   --disable-journal=0x4   1-60     kill-power
F7   --disable-journal=0x8   300-420  recycle
F8   unit storage_safety_test test_f8
SYNC --disable-journal=0x20  1-20     -
F21  unit server_reshard_sim_test closed_is_told_when_it_is_committed
F29  --disable-server=0x10    1-60     reshard
F29o --disable-server=0x20    1-60     reshard-cut
F33  --disable-server=0x80    1-60     reshard
'

failed=0
log=$(mktemp "${TMPDIR:-/tmp}/sluice-rules.XXXXXX") || exit 1
trap 'rm -f "$log"' EXIT

say() { printf '%-5s %-5s %s\n' "$1" "$2" "$3"; }

# attempt RULE TEXT COMMAND...
attempt()
{
    local rule=$1 text=$2
    shift 2
    if "$@" >"$log" 2>&1; then
        say ok "$rule" "$text"
    else
        say FAIL "$rule" "$text"
        grep -v '^event ' "$log" | tail -n 10 | cut -c 1-300 | sed 's/^/      | /'
        failed=1
    fi
}

while read -r rule how seeds profile; do
    if [ -z "$rule" ] || { [ $# -gt 0 ] && [[ " $* " != *" $rule "* ]]; }; then
        continue
    fi
    if [ "$how" = unit ]; then
        attempt "$rule" "off: harm is seen, on: none: $seeds $profile" "$build/unit/$seeds" "$profile"
        continue
    fi
    play=("$build/sluice-sim" --jobs "$jobs" --seeds "$seeds")
    if [ "$profile" != - ]; then
        play=("$build/sluice-sim" --profile "$profile" --jobs "$jobs" --seeds "$seeds")
    fi
    attempt "$rule" "off: harm is caught: sluice-sim ${play[*]:1} $how" "${play[@]}" "$how" --expect-harm
    attempt "$rule" "on: none: sluice-sim ${play[*]:1}" "${play[@]}"
done <<<"$table"
exit "$failed"
