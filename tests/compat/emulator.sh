#!/bin/bash
# build/sluiced alone as an emulator for development.
. "$(dirname "${BASH_SOURCE[0]}")/compat.bash"

must "free ports" free_ports
mkdir "$work/node"
program 120 "$python" "$compat/emulator.py" "$sluiced" "$work/node" "$ports_base" $((ports_base + 1)) $((ports_base + 2))
check "it did not assert or crash" bash -c '! grep -qiE "assertion failed|AddressSanitizer|runtime error|SEGV" "$1"' sh "$work/node/log"
