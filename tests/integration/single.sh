#!/bin/bash
# build/sluiced alone is the drop-in for local development: ready at once, data in ./sluice-data of its working folder, which a
# restart and a SIGKILL leave whole.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

must "there are free ports" free_ports
at=$work/home

# ---- ready quickly ----
from=$(now_ms)
single_start "$at"
until_ready_ms() { # polls more often than `until_ok`
    until single_ready; do
        [ $(($(now_ms) - from)) -lt "$1" ] || return 1
        sleep 0.01
    done
}
must "a node without arguments becomes ready" until_ready_ms 10000
took=$(($(now_ms) - from))
say "ready after $took ms (asking costs some of them)"
check "well under a second even on a busy machine" [ "$took" -lt 1000 ]
check "data is in ./sluice-data" [ -f "$at/sluice-data/identity" ]
check "the node says that it is ready" until_ok 2 grep -q 'is ready' "$at/log"
check "and complains about nothing" bash -c '! grep -qi "error" "$1/log"' sh "$at"

# ---- put and get ----
seq 1 2000 | sed 's/^/line /' >"$work/input"
printf '\n\r\nwith CR\r\n  blanks  \n\xff\xfe bytes\nlast without newline' >>"$work/input"
lines=$(($(wc -l <"$work/input") + 1))
must "a stream is created" exits 0 "$sluice" stream create one --shards 2
must "limits are lifted" exits 0 "$sluice" stream update one --limits off
must "every line is acknowledged" exits 0 "$sluice" put one "$work/input"
check "the summary names their number" says "$lines lines acknowledged"
must "everything is read" exits 0 "$sluice" get one
{ cat "$work/input"; echo; } >"$work/expected"
check "and equal to what went in" same_lines "$work/expected" "$work/out"
"$sluice" stream describe one >"$work/describe"
check "replication is 1" grep -qE '^replicas +1$' "$work/describe"
must "one shard keeps the order" exits 0 "$sluice" get one --shard 0
check "of the input" awk 'NR == FNR { line[++n] = $0; next } at < n && $0 "" == line[at + 1] "" { at++ } END { exit at == n ? 0 : 1 }' \
    "$work/out" "$work/expected"

# ---- Ctrl-C while putting: what became of the lines is told ----
mkfifo "$work/slowly"
"$sluice" -o json put one --key k "$work/slowly" >"$work/summary" 2>"$work/put.err" &
putter=$!
exec 7>"$work/slowly"
printf 'one\ntwo\n' >&7
sleep 0.5
kill -INT "$putter"
check "an interrupted put ends with 130" ends_with 130 5 "$putter"
exec 7>&-
check "and tells that all it read is stored" grep -q 'interrupted: 0 of the 2 lines read were not acknowledged' "$work/put.err"
check "also as JSON" jq -e '.interrupted and .acknowledged == 2 and .unknown == 0' "$work/summary"
printf 'one\ntwo\n' >>"$work/expected"
kill -STOP "$single_pid"
seq 10 >"$work/few"
"$sluice" put one --key k "$work/few" 2>"$work/put.err" &
putter=$!
sleep 0.5
kill -INT "$putter"
check "also while nobody answers" ends_with 130 5 "$putter"
kill -CONT "$single_pid"
check "and tells" grep -q '^interrupted: ' "$work/put.err"

# ---- SIGTERM ----
from=$(now_ms)
kill -TERM "$single_pid"
must "SIGTERM ends it with 0" ends_with 0 20 "$single_pid"
say "stopped after $(($(now_ms) - from)) ms"
check "and quickly" [ $(($(now_ms) - from)) -lt 5000 ]
single_start "$at"
must "it starts again" until_ok 20 single_ready
must "the data is read after a restart" exits 0 "$sluice" get one
check "and is what it was" same_lines "$work/expected" "$work/out"

# ---- SIGKILL, again and again, in the middle of puts: what was acknowledged is there, once ----
for round in 1 2 3 4 5; do
    seq 1 400000 | sed "s/^/round $round line /" >"$work/more"
    "$sluice" -o json put one "$work/more" --timeout 1 >"$work/summary" 2>"$work/put.err" &
    putter=$!
    sleep "0.$((10 + RANDOM % 25))"
    kill -KILL "$single_pid"
    wait "$single_pid" 2>/dev/null || true
    put_status=0
    wait "$putter" || put_status=$?
    single_start "$at"
    must "round $round: it starts after SIGKILL" until_ok 20 single_ready
    must "round $round: the data is read" exits 0 "$sluice" get one
    cp "$work/out" "$work/all"
    grep -a "^round $round " "$work/all" >"$work/round" || true
    stored=$(wc -l <"$work/round")
    if [ "$put_status" -eq 0 ]; then
        acknowledged=400000
    else
        acknowledged=$(jq -r .acknowledged "$work/summary")
        check "round $round: an unfinished put is failed or unknown" [ "$put_status" -eq 1 -o "$put_status" -eq 3 ]
    fi
    say "round $round: exit status $put_status, $acknowledged acknowledged, $stored stored"
    check "round $round: nothing acknowledged is lost" [ "$stored" -ge "$acknowledged" ]
    check "round $round: nothing is there twice" [ "$(sort -u "$work/round" | wc -l)" -eq "$stored" ]
    check "round $round: nothing was made up" [ -z "$(comm -13 <(sort "$work/more") <(sort "$work/round"))" ]
    if [ "$put_status" -ne 0 ]; then
        first=$(jq -r .first_not_acknowledged "$work/summary")
        check "round $round: all before the first line that was not acknowledged are there" \
            [ -z "$(head -n $((first - 1)) "$work/more" | sort | comm -23 - <(sort "$work/round"))" ]
    fi
    # Older records are as they were.
    grep -av '^round ' "$work/all" >"$work/old"
    check "round $round: the older records are untouched" same_lines "$work/expected" "$work/old"
done

# ---- a second life on other ports, the same data: an address is no part of the identity ----
kill -TERM "$single_pid"
must "SIGTERM ends it with 0" ends_with 0 20 "$single_pid"
must "there are free ports" free_ports
single_start "$at"
must "it starts on other ports" until_ok 20 single_ready
check "the stream is there" exits 0 "$sluice" stream describe one
check "and its records" exits 0 "$sluice" get one --limit 10
check "as many as asked for" [ "$(wc -l <"$work/out")" -eq 10 ]
# A file that takes the number of a closed standard file would get what is printed.
check "a closed standard output is an error" exits 1 bash -c '"$1" get one >&-' sh "$sluice"
check "a closed standard input too" exits 1 bash -c '"$1" put one <&-' sh "$sluice"

# ---- few descriptors: a crowd of connections does not take those of the journal ----
must "there are free ports" free_ports
printf '#!/bin/bash\nulimit -n 64\nexec "%s" "$@"\n' "$sluiced" >"$work/few"
chmod +x "$work/few"
usual=$sluiced home=$SLUICE_ENDPOINTS
sluiced=$work/few
single_start "$work/crowded" --lanes 1 --segment-first 1MiB --segment-max 1MiB --limits off
sluiced=$usual
must "a node with 64 descriptors starts" until_ok 20 single_ready
must "a stream is created there" exits 0 "$sluice" stream create crowd
crowd=()
for ((i = 0; i < 150; i++)); do
    exec {descriptor}<>"/dev/tcp/127.0.0.1/$ports_base" && crowd+=("$descriptor")
done
check "records of some segments are put meanwhile" exits 0 "$sluice" put crowd <(seq -f '%0100000.0f' 120)
for descriptor in "${crowd[@]}"; do
    exec {descriptor}>&-
done
check "and the node lives" until_ok 20 single_ready
kill -TERM "$single_pid"
check "and stops" ends_with 0 20 "$single_pid"
export SLUICE_ENDPOINTS=$home

# ---- deleting ----
check "the stream is deleted" exits 0 "$sluice" stream delete one
check "and not found" exits 1 "$sluice" stream describe one
check "nor its records" exits 1 "$sluice" get one
