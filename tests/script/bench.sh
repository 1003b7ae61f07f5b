#!/bin/bash
# Every kind of `sluice bench`, its report and `sluice top` against one real node: what they count is right and the forms are kept. No figure is judged.
# Usage: bench.sh (programs of $SLUICE_BUILD, default build/)
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/tests/script/node.bash"
export LC_ALL=C
failed=0 passed=0
fail() { echo "FAILED: $*"; failed=1; }
# is WHAT EXPRESSION: true of the JSON that the last command printed
is() {
    if [ -s "$work/out" ] && jq -e "$2" "$work/out" >/dev/null; then passed=$((passed + 1)); else fail "$1: not $2: $(head -c 1000 "$work/out")"; fi
}
# runs STATUS COMMAND...
runs() {
    local expected=$1 got
    shift
    timeout 60 "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    if [ "$got" -eq "$expected" ]; then passed=$((passed + 1)); else fail "exit status $got of '${*:2}': $(tail -n 3 "$work/err")"; fi
}

node_start --limits off --lanes 1

form='([.records, .bytes, .seconds, .records_per_s, .mb_per_s, .p50_ms, .p99_ms, .p999_ms] | all(type == "number")) and .errors == 0'
cost='.server_cpu_s >= 0 and .client_cpu_s >= 0 and .server_rss_mb_max > 0 and .others_cores >= 0'
runs 0 "$sluice" bench put --records 3000 --warmup 500 --record-size 100 --shards 3 --stream a --producers 2 --admin "$admin"
is "put" "$form and $cost and .test == \"put\" and .records == 3000 and .bytes == 300000 and .shards == 3"
is "put, bytes written" '.written_per_byte >= 1'
runs 0 "$sluice" -o json stream describe a
runs 0 "$sluice" bench latency --records 200 --rate 1000 --stream a --curve
is "latency" "$form and .test == \"latency\" and .records == 200 and .rate == 1000"
is "a curve rises from 0 to 1" '.curve | (.[0][0] == 0) and (.[-1][0] == 1) and (map(.[0]) | . == sort) and (map(.[1]) | . == sort)'
runs 0 "$sluice" bench put --seconds 1 --rate 200 --stream a
is "for a second at a rate" "$form and .records >= 150 and .records <= 201"
runs 0 "$sluice" bench read --records 3000 --stream a
is "read" "$form and .records == 3000"
runs 0 "$sluice" bench read --records 5000 --stream a --consumers 3 --fan-out
is "read by three, the missing records put first" "$form and .records == 15000 and .consumers == 3 and .fan_out"
runs 0 "$sluice" bench read --records 5000 --stream a --rate 1000
is "read beside writers" "$form and .records == 5000 and .ack_p99_ms >= .ack_p50_ms"
runs 0 "$sluice" bench e2e --records 500 --warmup 100 --stream a
is "e2e" "$form and .records == 500 and .ack_p50_ms > 0"
runs 0 "$sluice" bench e2e --records 500 --stream a --consumers 2 --fan-out
is "e2e to two" "$form and .records == 1000"
runs 0 "$sluice" bench push --records 500 --warmup 100 --stream a --consumers 3 --rate 1000 --curve
is "push to three" "$form and $cost and .test == \"push\" and .records == 1500 and .bytes == 1536000 and .rate == 1000 and .ack_p999_ms >= .ack_p50_ms and .consumer_mb_per_s_min > 0 and .seconds >= 0.4"
runs 0 "$sluice" bench push --records 5000 --stream a --consumers 2 --backlog --credit 64k
is "push of a backlog" "$form and .records == 10000 and .backlog and .consumer_mb_per_s_min > 0 and .consumer_mb_per_s_min <= .mb_per_s and .consumer_stored_mb_per_s_min > 0"
timeout 60 "$sluice" bench push --seconds 50 --rate 100 --stream a >"$work/out" 2>/dev/null &
pushing=$!
sleep 1
kill -INT "$(pgrep -P $pushing)"
wait $pushing
[ $? -eq 130 ] && passed=$((passed + 1)) || fail "push: an interrupt does not end it with 130"
is "what it counted until then" '.errors == 1 and .test == "push"'
runs 0 "$sluice" -o json consumer list a
is "its consumers are removed, also then" '. == []'
runs 1 "$sluice" bench push --records 10 --stream a --consumers 21
runs 0 "$sluice" -o json consumer list a
is "also when they are too many" '. == []'
runs 2 "$sluice" bench push --credit 0
runs 0 "$sluice" bench scale --shards 5 --seconds 1 --stream many
is "scale" '.records == 5 and .errors == 0 and .made_ms > 0 and .led_ms >= .made_ms and .writable_ms >= .led_ms and .replicas >= 8 and .idle_cores >= 0'
runs 1 "$sluice" stream describe many
runs 2 "$sluice" bench put --stream a --admin nonsense:
runs 2 "$sluice" bench scale --shards 0
runs 2 "$sluice" bench report
runs 2 "$sluice" top --sort colour
runs 0 "$sluice" bench put --records 10 --stream a --admin 127.0.0.1:9
is "without metrics the rest is told" "$form and (has(\"server_cpu_s\") | not)"

# ---- through the Kinesis API ----
url=http://127.0.0.1:$((${admin##*:} + 1))
for format in json cbor; do
    runs 0 "$sluice" bench put --kinesis "$url" $([ $format = json ] || echo --cbor) --records 3210 --connections 3 --warmup 100 --shards 2 --stream k-$format --admin "$admin"
    is "kinesis, $format" "$form and $cost and .records == 3210 and .bytes == 3287040 and .shards == 2 and .kinesis == \"$format\" and .requests >= 7 and .throttled == 0"
    runs 0 "$sluice" bench read --records 3310 --stream k-$format
    is "what was put can be read" "$form and .records == 3310"
    runs 0 "$sluice" -o json shard list k-$format
    is "and lies evenly on the shards" 'map(.next - .first) | add == 3310 and min > 1000'
done
runs 0 "$sluice" bench put --kinesis "$url" --records 1000 --rate 2000 --stream k-json --curve
is "kinesis, at a rate" "$form and .records == 1000 and .seconds >= 0.4 and .rate == 2000"

# ---- top ----
"$sluice" bench e2e --records 14000 --rate 4000 --stream a >/dev/null 2>&1 &
load=$!
runs 0 "$sluice" -o json top --count 3
is "top: the node" 'all(.nodes[0]; .state == "alive" and .rss_bytes > 0 and .disk_free_bytes > 0 and .leaders >= 3)'
jq -s 'last' "$work/out" >"$work/last" && mv "$work/last" "$work/out"
is "top: rates in" '.nodes[0].records_per_s > 0 and .nodes[0].put_p99_ms > 0 and (.streams[] | select(.stream == "a") | .records_per_s > 0 and .bytes_per_s > 0 and .read_records_per_s > 0 and .read_bytes_per_s > 0 and .entries_behind >= 0)'
is "top: and of the shards" '[.streams[] | select(.stream == "a") | .shards[].records_per_s] | length == 3 and add > 0'
runs 0 "$sluice" top --count 1 --no-shards
grep -q '^NODE  STATE' "$work/out" && grep -q '^STREAM' "$work/out" || fail "top: no tables: $(cat "$work/out")"
wait "$load"

# ---- report ----
runs 0 "$sluice" bench report --out "$work/report" --quick --only latency --dir "$work"
[ "$(jq -r .id "$work/report/lines.jsonl" | paste -sd ,)" = machine,latency ] || fail "report: other lines: $(jq -r .id "$work/report/lines.jsonl")"
head -n 1 "$work/report/lines.jsonl" >"$work/out"
is "the machine's line" '.cores > 0 and .quick and (.kernel | length) > 0'
runs 1 "$sluice" stream describe report-latency
printf '%s\n' '{"id":"disk-65536","round":1,"mb_per_s":100,"p50_ms":1,"p99_ms":2}' '{"id":"put-1k","round":1,"title":"<b>","mb_per_s":40}' \
    '{"id":"disk-65536","round":2,"mb_per_s":100}' '{"id":"put-1k","round":2,"mb_per_s":50}' \
    '{"id":"disk-65536","round":3,"mb_per_s":200}' '{"id":"put-1k","round":3,"mb_per_s":60}' >"$work/lines"
runs 0 "$sluice" bench report --out "$work/again" --from "$work/lines"
page=$work/again/report.html
grep -q '0\.400 <small>0\.300–0\.500</small>' "$page" || fail "report: the median of the rounds' ratios is not 0.4"
grep -q '&lt;b&gt;' "$page" && ! grep -q '<td><b>' "$page" || fail "report: text goes into the page as it is"
grep -qE 'nan|inf[^o]|http' "$page" && fail "report: not a number, or a reference to elsewhere, in the page"
echo 'no json' >>"$work/lines"
runs 1 "$sluice" bench report --out "$work/again" --from "$work/lines"
[ $failed -eq 0 ] && echo "bench: $passed checks passed"
exit $failed
