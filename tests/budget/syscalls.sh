#!/bin/bash
# System calls per 1,000 records of three real nodes on loopback, counted by strace and held to tests/budget/budget.tsv: tests/budget/syscalls.sh [--record]
#   --record  writes what was measured into the table instead of holding it to it
# How many records are handled at once depends on how fast the machine is, and strace makes calls slow and batches large: the budgets are loose, and tell a call
# per record from one per batch, not one call from two. What is exact about calls is counted in the simulator (instructions.sh, `all`).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/table.bash"
record=no
case ${1:-} in
--record) record=yes ;;
'') ;;
*)
    sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
command -v strace >/dev/null || skip "strace is missing: deploy/packages test"
strace -q -c -o /dev/null -p $$ &
try=$!
sleep 0.3
kill -INT $try 2>/dev/null || skip "this machine does not let strace attach to processes"
wait $try || true
. "$here/../integration/common.bash" # from here on something runs that must end

records=100000
must "a cluster of three comes up" cluster_up "$work/c" --set limits=off --set lanes=1
must "it warms up" "$sluice" bench put --records 20000 --depth 4096 >/dev/null

# traced PATH COMMAND...: the calls of the three nodes while the command runs, per 1,000 records.
traced() {
    local path=$1 n pid tracers=()
    shift
    for n in 1 2 3; do
        rm -f "$work/calls.$n"
        strace -q -f -c -U name,calls -o "$work/calls.$n" -p "$(node_pid "$work/c" $n)" 2>/dev/null &
        tracers+=($!)
    done
    sleep 0.5
    must "$path" "$@" >"$work/$path.out"
    for pid in "${tracers[@]}"; do
        kill -INT "$pid"
    done
    for pid in "${tracers[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    cat "$work"/calls.? >"$work/$path.calls"
    local what
    for what in 'disk p?write(v|64|v2)?|pwrite' 'sync f(data)?sync' 'send (write|writev|sendto|sendmsg)' 'receive (read|readv|recvfrom|recvmsg)' 'wait epoll_p?wait2?' 'futex futex' 'all .*'; do
        measured "$path" nodes "${what%% *}" "$(awk -v kind="^(${what#* })\$" -v n=$records '$1 ~ kind && $2 ~ /^[0-9]+$/ && $1 != "total" { sum += $2 } END { print sum / n * 1000 }' "$work/$path.calls")"
    done
}

traced put-1k "$sluice" bench put --records $records --depth 4096
traced follow-1k "$sluice" bench e2e --records $records --depth 4096
[ "$failures" -eq 0 ] || exit 1
settle "$record" syscalls "$(sed -n 's/^# compiler: //p' "$table")"
