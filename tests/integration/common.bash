# common.bash: what the scripts with real processes share. Sourced, never run: `. "$(dirname "$0")/common.bash"`.
#
# It gives a folder of the script's own ($work), ends on exit only what the script started, and counts checks: `check` goes on after a
# failure, `must` does not. The programs are those of $SLUICE_BUILD (default: build/ of the tree), also for deploy/cluster.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${SLUICE_BUILD:-$repo/build}
# What the caller's shell knows as SLUICE_* is no setting of the nodes that are started here.
unset "${!SLUICE_@}"
export LC_ALL=C
sluice=$build/sluice
sluiced=$build/sluiced

work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-integration.XXXXXX")
checks=0 failures=0
started_pids=()     # processes that the script started itself
started_clusters=() # folders of deploy/cluster

say() { printf '%s\n' "$*"; }

pass() {
    checks=$((checks + 1))
    printf 'ok %s\n' "$*"
}

failed() {
    checks=$((checks + 1))
    failures=$((failures + 1))
    printf 'FAIL: %s\n' "$*"
}

# check WHAT COMMAND...: the command must succeed.
check() {
    local what=$1
    shift
    if "$@"; then
        pass "$what"
    else
        failed "$what"
    fi
}

# must WHAT COMMAND...: the same, and without it the rest makes no sense.
must() {
    local before=$failures
    check "$@"
    [ "$failures" -eq "$before" ] || exit 1
}

# exits STATUS COMMAND...: the command ends with that status. What it prints is in $work/out and $work/err.
exits() {
    local wanted=$1 got=0
    shift
    "$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
    if [ "$got" -ne "$wanted" ]; then
        printf 'exit status %s instead of %s: %s\n' "$got" "$wanted" "$*"
        sed 's/^/    | /' "$work/err" | tail -n 10
        return 1
    fi
}

says() { # TEXT: the last command of `exits` printed it (an extended expression)
    grep -qE -- "$1" "$work/out" "$work/err" && return 0
    printf 'nothing like "%s" in:\n' "$1"
    cat "$work/out" "$work/err" | head -n 10 | sed 's/^/    | /'
    return 1
}

finish() {
    local status=$? pid dir
    trap - EXIT INT TERM
    for pid in "${started_pids[@]}"; do
        kill -CONT "$pid" 2>/dev/null || true
        kill -KILL "$pid" 2>/dev/null || true
    done
    for dir in "${started_clusters[@]}"; do
        "$cluster" down --dir "$dir" >/dev/null 2>&1 || true
    done
    [ "$failures" -eq 0 ] || status=1
    if [ "$status" -eq 0 ]; then
        printf '%s checks passed\n' "$checks"
        rm -rf "$work"
    else
        printf 'FAIL: %s of %s checks, exit status %s; files in %s\n' "$failures" "$checks" "$status" "$work"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# deploy/cluster takes the programs of the tree that it stands in: another build gets a tree of links of its own.
tree=$repo
if [ "$build" != "$repo/build" ]; then
    mkdir "$work/tree"
    ln -s "$repo"/{deploy,jepsen,tests,proto,storage,raft,server,client,CMakeLists.txt} "$work/tree/"
    ln -s "$(realpath "$build")" "$work/tree/build"
    touch "$build/.built" # as if deploy/cluster had built it
    tree=$work/tree
else
    [ -x "$sluiced" ] && [ -x "$sluice" ] || { say "FAIL: $build has no sluiced and sluice: build them first"; exit 1; }
fi
cluster=$tree/deploy/cluster

now_ms() {
    local t=${EPOCHREALTIME/[^0-9]/}
    printf '%s' "$((t / 1000))"
}

# until_ok SECONDS COMMAND...: tries again until it succeeds.
until_ok() {
    local deadline=$(($(now_ms) + $1 * 1000))
    shift
    until "$@"; do
        [ "$(now_ms)" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# A base so that base..base+9 are free now; below what the system hands out to clients.
ports_base=$((12000 + (RANDOM % 380) * 10))
free_ports() {
    local i line used
    used=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | sed -n 's/^ *[0-9]*: [0-9A-F]*:\([0-9A-F]*\) .*/\1/p')
    for ((i = 0; i < 380; i++)); do
        ports_base=$((ports_base + 10 < 15990 ? ports_base + 10 : 12000))
        local taken=no
        for line in $used; do
            if [ $((16#$line / 10)) -eq $((ports_base / 10)) ]; then
                taken=yes
            fi
        done
        [ "$taken" = yes ] || return 0
    done
    return 1
}

# ---- a node without deploy/cluster ----------------------------------------------------------------------------------------

# http_ready HOST:PORT: the admin listener says that the node is ready.
http_ready() {
    # shellcheck disable=SC2016
    timeout 2 bash -c '
        exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || exit 1
        printf "GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" >&3
        read -r -t 2 _ code _ <&3 && [ "$code" = 200 ]' ready "$1" 2>/dev/null
}

# single_start DIR [FLAG...]: a node of one with its working folder DIR, ports $ports_base..; its pid is in $single_pid.
single_start() {
    local dir=$1
    shift
    mkdir -p "$dir"
    (
        cd "$dir"
        exec "$sluiced" --listen "127.0.0.1:$ports_base" --kinesis "127.0.0.1:$((ports_base + 1))" \
            --admin "127.0.0.1:$((ports_base + 2))" "$@" >>"$dir/log" 2>&1 </dev/null
    ) &
    single_pid=$!
    started_pids+=("$single_pid")
    export SLUICE_ENDPOINTS=127.0.0.1:$ports_base
}

single_ready() { kill -0 "$single_pid" 2>/dev/null && http_ready "127.0.0.1:$((ports_base + 2))"; }

# Waits for the end of a process started here: $ended_status is its exit status, 124 if it runs on after SECONDS.
await_end() { # PID SECONDS
    local deadline=$(($(now_ms) + $2 * 1000))
    ended_status=124
    while kill -0 "$1" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; do
        [ "$(now_ms)" -lt "$deadline" ] || return 0
        sleep 0.02
    done
    ended_status=0
    wait "$1" 2>/dev/null || ended_status=$?
}

ends_with() { # STATUS SECONDS PID
    await_end "$3" "$2"
    [ "$ended_status" -eq "$1" ] || { printf 'ended with %s instead of %s\n' "$ended_status" "$1"; return 1; }
}

# ---- a cluster ----------------------------------------------------------------------------------------------------------------

# cluster_up DIR ARGUMENT...: starts it and takes its endpoints into the environment of the clients.
cluster_up() {
    local dir=$1
    shift
    started_clusters+=("$dir")
    "$cluster" up --dir "$dir" "$@" >"$dir.endpoints" || return 1
    set -a
    # shellcheck disable=SC1090
    . "$dir.endpoints"
    set +a
}

node_pid() { cat "$1/node-$2/pid"; }

# Every shard of a stream has a leader.
has_leaders() {
    "$sluice" -o json shard list "$1" 2>/dev/null | jq -e 'length > 0 and all(.[]; .leader != null)' >/dev/null
}

# The same lines, whatever their order.
same_lines() { cmp -s <(sort "$1") <(sort "$2") || { diff <(sort "$1") <(sort "$2") | head -n 5; return 1; }; }
