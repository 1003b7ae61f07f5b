#!/bin/bash
# Replays the seeds that once failed (regression_seeds): tests/sim/regressions.sh [-b BUILD]
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=build
if [ "${1:-}" = -b ]; then
    build=${2:?-b needs a folder}
fi
failed=0
while read -r line; do
    if [ -z "$line" ] || [ "${line:0:1}" = '#' ]; then
        continue
    fi
    read -ra options <<<"$line"
    if ! out=$("$build/sluice-sim" --jobs "${SLUICE_JOBS:-2}" "${options[@]}" 2>/dev/null); then
        printf 'FAIL  sluice-sim %s\n%s\n' "$line" "$(head -n 3 <<<"$out" | cut -c 1-300)"
        failed=1
    fi
done <tests/sim/regression_seeds
exit "$failed"
