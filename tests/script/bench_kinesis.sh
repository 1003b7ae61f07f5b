#!/bin/bash
# `sluice bench put --kinesis` against a server that answers as it is told: errors, throttling, a death in the middle. What the bench counts is what happened.
# Usage: bench_kinesis.sh (programs of $SLUICE_BUILD, default build/)
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
export LC_ALL=C
sluice=${SLUICE_BUILD:-$root/build}/sluice
unset "${!AWS_@}" "${!SLUICE_@}"
work=$(mktemp -d)
server=
failed=0 passed=0
fail() { echo "FAILED: $*"; failed=1; }
stop() { [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null; server=; }
trap 'stop; rm -rf "$work"' EXIT

# serve MODE [CERT KEY]
serve() {
    stop
    rm -f "$work/port" "$work/stored"
    python3 "$root/tests/script/bench_kinesis_server.py" "$1" "$work" "${@:2}" 2>"$work/server.err" &
    server=$!
    for _ in $(seq 100); do
        [ -e "$work/port" ] && break
        sleep 0.1
    done
    port=$(cat "$work/port") || { fail "no server: $(cat "$work/server.err")"; exit 1; }
    url=http://127.0.0.1:$port
}

# runs STATUS OPTION...
runs() {
    local expected=$1 got
    shift
    timeout 60 "$sluice" bench put --record-size 100 "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    if [ "$got" -eq "$expected" ]; then passed=$((passed + 1)); else fail "exit status $got of '$*': $(tail -n 3 "$work/err")"; fi
}
is() {
    if [ -s "$work/out" ] && jq -e "$2" "$work/out" >/dev/null; then passed=$((passed + 1)); else fail "$1: not $2: $(head -c 1000 "$work/out")"; fi
}
says() { if grep -q "$1" "$work/err"; then passed=$((passed + 1)); else fail "the reason is not told: no '$1' in: $(cat "$work/err")"; fi; }
# saw N LINE: the server saw so many of them
saw() {
    local n
    n=$(grep -c "^$2\$" "$work/seen")
    if [ "$n" -eq "$1" ]; then passed=$((passed + 1)); else fail "the server saw $n times '$2', not $1"; fi
}
# stored N: records by the server's own count, all with keys of their own
stored() { if [ "$(cat "$work/stored")" = "$1 $1" ]; then passed=$((passed + 1)); else fail "the server stored $(cat "$work/stored") records and keys, not $1"; fi; }

form='([.records, .bytes, .seconds, .records_per_s, .mb_per_s, .p50_ms, .p99_ms, .p999_ms] | all(type == "number")) and .test == "put"'

serve good
runs 0 --kinesis "$url" --records 2250 --connections 2 --shards 3 --stream s
is "good" "$form and .errors == 0 and .records == 2250 and .bytes == 225000 and .requests == 5 and .kinesis == \"json\" and .connections == 2 and .producers == 2 and .depth == 1000 and .shards == 3 and .p50_ms > 0"
stored 2250
saw 1 CreateStream
saw 1 'shards 3'
saw 2 connection
saw 4 'records 500'
saw 1 'records 250'
runs 0 --kinesis "$url" --records 30 --batch 7 --stream s --warmup 10 --rate 300 --curve
is "a rate" "$form and .errors == 0 and .records == 30 and .rate == 300 and .seconds >= 0.09 and (.curve | length) > 1"
saw 1 CreateStream
runs 0 --kinesis "$url,http://localhost:$port" --seconds 1 --batch 10 --stream s --connections 4
is "for a second over two places" "$form and .errors == 0 and .records >= 10 and .seconds >= 0.9 and .seconds < 10"

serve closes
runs 0 --kinesis "$url" --records 100 --batch 10 --stream s
is "connections that end with each answer are opened again" "$form and .errors == 0 and .records == 100 and .requests == 10"

serve throttles
runs 0 --kinesis "$url" --records 400 --batch 40 --connections 3 --stream s
is "throttled records are put again" "$form and .errors == 0 and .records == 400 and .throttled > 0 and .requests > 10"
[ "$(cut -d ' ' -f 1 "$work/stored")" = 400 ] || fail "the server stored $(cat "$work/stored") records and keys"

serve busy
runs 0 --kinesis "$url" --records 100 --batch 50 --stream s
is "a throttled request is put again" "$form and .errors == 0 and .records == 100 and .throttled == 100 and .requests == 4"
stored 100

serve refuses
runs 1 --kinesis "$url" --records 100 --batch 50 --stream s
is "rejected" "$form and .errors == 100 and .records == 0 and .rejected == 100 and .unknown == 0"
says 'InvalidArgumentException: no such thing'

serve breaks
runs 1 --kinesis "$url" --records 100 --batch 10 --stream s
is "an internal failure is not known to be one" "$form and .errors == 10 and .records == 90 and .rejected == 0 and .unknown == 10"
stored 90

serve fails
runs 1 --kinesis "$url" --records 100 --batch 10 --stream s
is "single records fail" "$form and .errors == 10 and .records == 90 and .rejected == 5 and .unknown == 5"
says 'InternalFailure: for a reason'

serve resets
runs 1 --kinesis "$url" --records 100 --batch 10 --stream s
is "lost connections" "$form and .errors == 20 and .records == 80 and .rejected == 0 and .unknown == 20"
says 'ended before the answer'
stored 80

# What was answered in its last moment may not have arrived: what it stored lies between what is surely and what is perhaps there.
serve dies
runs 1 --kinesis "$url" --records 1000 --batch 10 --connections 2 --stream s
is "a server that dies" "$form and .records >= 30 and .records <= 40 and .unknown >= 10 and .unknown <= 20 and .rejected == 0 and .errors == .unknown + 1 and .seconds > 3"
there=$(cut -d ' ' -f 1 "$work/stored")
is "a server that dies, by its own count" ".records <= $there and .records + .unknown >= $there"

serve nonsense
runs 1 --kinesis "$url" --records 20 --batch 10 --stream s
is "nonsense" "$form and .errors == 20 and .unknown == 20"
serve short
runs 1 --kinesis "$url" --records 20 --batch 10 --stream s
is "an answer for fewer records" "$form and .errors == 20 and .records == 0 and .unknown == 20"
says 'another number of records'
serve no-length
runs 1 --kinesis "$url" --records 20 --stream s
says 'without a Content-Length'

# ---- TLS ----
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext 'subjectAltName = IP:127.0.0.1' -keyout "$work/key" -out "$work/cert" 2>/dev/null
serve good "$work/cert" "$work/key"
runs 0 --kinesis "https://127.0.0.1:$port" --ca "$work/cert" --records 1500 --connections 3 --stream s
is "https" "$form and .errors == 0 and .records == 1500"
stored 1500
AWS_CA_BUNDLE=$work/cert runs 0 --kinesis "https://127.0.0.1:$port/" --records 10 --stream s
runs 1 --kinesis "https://127.0.0.1:$port" --records 10 --stream s
says 'self-signed certificate'
runs 1 --kinesis "https://localhost:$port" --ca "$work/cert" --records 10 --stream s
says 'hostname mismatch'
runs 1 --kinesis "https://127.0.0.1:$port" --ca "$work/port" --records 10
says 'no certificate'
runs 1 --kinesis "https://127.0.0.1:$port" --ca "$work/nowhere" --records 10
says 'nowhere'

# ---- usage ----
for wrong in '' 127.0.0.1:4567 ftp://x http:// http://h:0 http://h:99999 http://h:4x http://h/path http://u@h 'http://[::1' "http://h:1,nonsense"; do
    runs 2 --kinesis "$wrong"
done
runs 2 --kinesis http://h --depth 3
runs 2 --kinesis http://h --producers 3
runs 2 --kinesis http://h --connections 0
runs 2 --kinesis http://h --batch 501
runs 2 --kinesis http://h --batch 500 --record-size 64k
runs 2 --kinesis http://h --stream 'a"b'
for only in --cbor '--connections 2' '--batch 3' '--ca file'; do
    # shellcheck disable=SC2086
    runs 2 $only
    says 'is for --kinesis'
done
AWS_ACCESS_KEY_ID=a runs 2 --kinesis http://h
stop
runs 1 --kinesis "$url" --records 10
says 'refused'
[ $failed -eq 0 ] && echo "bench_kinesis: $passed checks passed"
exit $failed
