# compat.bash: what the scripts of tests/compat share, on top of tests/integration/common.bash. Sourced, never run.
. "$(dirname "${BASH_SOURCE[0]}")/../integration/common.bash"

compat=$repo/tests/compat
export PYTHONDONTWRITEBYTECODE=1 NODE_NO_WARNINGS=1
python=/usr/bin/python3 # Debian's, which has Debian's boto3
[ "${boto3_optional:-no}" = yes ] || "$python" -c 'import boto3' 2>/dev/null || { say "FAIL: python3-boto3 is not installed: deploy/packages test"; exit 1; }

# The Node.js and the SDK of package-lock.json.
node_ready() {
    COMPAT_MODULES=$("$compat/modules") || return 1
    export COMPAT_MODULES
    node=$(echo "$COMPAT_MODULES"/node_modules/node-linux-*/bin/node)
    [ -x "$node" ]
}

# program SECONDS COMMAND...: one that counts its own checks and says so in its last line, "TITLE: N checks, N failed".
program() {
    local limit=$1 line status=0
    shift
    timeout -k 5 "$limit" "$@" >"$work/said" 2>&1 </dev/null || status=$?
    cat "$work/said"
    line=$(tail -n 1 "$work/said")
    if [[ $line =~ ^(.*):\ ([0-9]+)\ checks,\ ([0-9]+)\ failed$ ]]; then
        checks=$((checks + BASH_REMATCH[2]))
        failures=$((failures + BASH_REMATCH[3]))
        [ "$status" -eq 0 ] || [ "${BASH_REMATCH[3]}" -gt 0 ] || failed "$* ended with $status"
    else
        failed "$* ended with $status before it was through"
    fi
}

# No node has failed an assertion, and each can still be asked.
nodes_well() { # DIR
    local log
    for log in "$1"/node-*/log; do
        check "$(basename "$(dirname "$log")") did not assert or crash" bash -c '! grep -qiE "assertion failed|AddressSanitizer|runtime error|SEGV" "$1"' sh "$log"
    done
    check "all nodes are ready" "$cluster" status --dir "$1"
}
