#!/bin/bash
# A short campaign of jepsen/run: the leader of the busiest shard killed, frozen, all three nodes killed at once, under load; the checker
# finds no anomaly. The long one is jepsen/run without numbers.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

check "the campaign ends without anomalies" exits 0 "$tree/jepsen/run" --workload kill --kills 3 --pauses 1 --kill-all 1 --dir "$work/campaign"
cat "$work/out"
tail -n 5 "$work/err"
check "acknowledged puts were judged" bash -c '[ "$(grep -c "\"op\":\"put\"" "$1")" -gt 500 ]' sh "$work/campaign/history.jsonl"
check "reads were judged" bash -c '[ "$(grep -c "\"op\":\"read\"" "$1")" -gt 100 ]' sh "$work/campaign/history.jsonl"
check "every replica was read" bash -c '[ "$(grep -c "\"op\":\"final\"" "$1")" -ge 24 ]' sh "$work/campaign/history.jsonl"
check "an unknown workload is usage" exits 2 "$tree/jepsen/run" --workload nothing
