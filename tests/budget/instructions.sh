#!/bin/bash
# Instructions per record of put, apply, read and push, held to tests/budget/budget.tsv: tests/budget/instructions.sh [--record | --top N]
#   --record  writes what was measured into the table instead of holding it to it
#   --top N   prints, for each path and role, where the instructions go: per folder, and the N most expensive functions
# No clock is involved: sluice-budget plays the same course each time, callgrind counts. The counts depend on the compiler and on which of its variants libc
# takes for the processor; so the build is the one of tests/run (gcc, Release) and libc is held to the variants that every x86-64 has.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/table.bash"
build=$(cd "$here/../.." && pwd)/build
top=0 record=no
while [ $# -gt 0 ]; do
    case $1 in
    --record) record=yes ;;
    --top)
        top=${2:?--top needs a number}
        shift
        ;;
    *)
        sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
    esac
    shift
done

[ "$(uname -m)" = x86_64 ] || skip "the table is for x86-64; this is $(uname -m)"
command -v valgrind >/dev/null || skip "valgrind is missing: deploy/packages test"
[ -x "$build/sluice-budget" ] || { echo "FAIL: $build/sluice-budget is missing: build it first"; exit 1; }
value() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
[ "$(value CMAKE_BUILD_TYPE)" = Release ] || skip "build/ is not a Release build"
[ -z "$(value CMAKE_C_FLAGS)" ] || skip "build/ has compiler flags of its own"
compiler=$("$(value CMAKE_C_COMPILER)" --version | sed -n '1s/^[^ ]* //p') # gcc and cc are one
if [ "$record" = no ] && [ "$top" = 0 ]; then
    recorded_with=$(sed -n 's/^# compiler: //p' "$table")
    [ "$compiler" = "$recorded_with" ] || skip "recorded with $recorded_with; this is $compiler: record anew (tests/README.md)"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-budget.XXXXXX")
trap 'rm -rf "$work"' EXIT

# libc's plainest variants, and its sizes fixed: rep movsb counts as an instruction per byte, and thresholds follow the caches.
export GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-SSE4_2,-SSE4_1,-SSSE3,-BMI2,-MOVBE:glibc.cpu.x86_shared_cache_size=0x2000000:glibc.cpu.x86_data_cache_size=0x8000:glibc.cpu.x86_non_temporal_threshold=0x10000000

# count ROLE HOST OPTION...: one run. A dump per phase: $work/ROLE.1, .2, ...; the phases in their order in $work/ROLE.phases.
count() {
    local role=$1 host=$2
    shift 2
    valgrind --quiet --tool=callgrind --instr-atstart=no --compress-strings=no --compress-pos=no "$@" \
        --callgrind-out-file="$work/$role" "$build/sluice-budget" "$host" >"$work/$role.phases" 2>"$work/$role.err" ||
        { echo "FAIL: sluice-budget for $role:"; tail -n 5 "$work/$role.err"; exit 1; }
}

# Two at a time. For `all` every turn counts, for `apply` what runs in the sinks of the three replicas.
for role in leader follower producer reader; do
    echo "$role $role --collect-atstart=no"
done >"$work/runs"
echo "apply none --toggle-collect=sink_apply" >>"$work/runs"
echo "all none --collect-atstart=yes" >>"$work/runs"
while read -r role host option; do
    while [ "$(jobs -rp | wc -l)" -ge "${SLUICE_JOBS:-2}" ]; do
        wait -n
    done
    count "$role" "$host" "$option" &
done <"$work/runs"
for job in $(jobs -p); do
    wait "$job" || exit 1
done

# figures ROLE PHASE: what costs.awk says of it.
figures() {
    local i=0 phase n
    while read -r _ phase n; do
        i=$((i + 1))
        if [ "$phase" = "$2" ]; then
            awk -f "$here/costs.awk" -v n="$n" -v top="$top" "$work/$1.$i"
        fi
    done <"$work/$1.phases"
}

# What is measured: path, who, and (for `all`) how often what is asked of the operating system. Apply is per replica.
while read -r path role; do
    figures "$role" "$path" >"$work/figures"
    if [ "$top" != 0 ]; then
        printf '== %s %s\n' "$path" "$role"
        cat "$work/figures"
        continue
    fi
    if [ "$role" = all ]; then
        for call in sim_io_submit=disk sim_conn_write=sends sim_timer_start=timers; do
            measured "$path" all "${call#*=}" "$(awk -v c="${call%=*}" '$1 == "call" && $2 == c { print $3 * 1000; found = 1 } END { if (!found) { print 0 } }' "$work/figures")"
        done
    else
        measured "$path" "$role" instructions "$(awk -v by="$([ "$role" = apply ] && echo 3 || echo 1)" '$1 == "total" { print $2 / by }' "$work/figures")"
    fi
done <<'PATHS'
put-1k leader
put-1k follower
put-1k producer
put-1k apply
put-1k all
put-100 leader
put-100 follower
put-100 producer
put-100 apply
put-alone leader
put-alone follower
put-alone producer
put-alone apply
put-alone all
follow-alone leader
follow-alone reader
follow-alone all
follow-1k leader
follow-1k reader
read-disk leader
read-disk reader
read-disk all
read-cache leader
read-cache reader
PATHS
[ "$top" = 0 ] || exit 0
settle "$record" instructions "$compiler"
