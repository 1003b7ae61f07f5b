# node.bash: one real node for a script of this folder. Sourced, never run, after $root was set to the tree.
#
# It gives $build, $sluice, a folder $work and node_start; on exit the node is ended and the folder removed.
build=${SLUICE_BUILD:-$root/build}
unset "${!SLUICE_@}"
sluice=$build/sluice
work=$(mktemp -d)
node=
finish() { [ -z "$node" ] || { kill "$node" && wait "$node"; } 2>/dev/null; rm -rf "$work"; }
trap finish EXIT

# node_start FLAG...: on a free range of ports, tried one after another; its pid is $node, its admin address $admin. Ends the script if it does not come up.
node_start() {
    local try port
    for try in 1 2 3 4 5 6 7 8; do
        port=$((20000 + (RANDOM % 2000) * 10))
        admin=127.0.0.1:$((port + 1))
        "$build/sluiced" --listen 127.0.0.1:$port --admin "$admin" --kinesis 127.0.0.1:$((port + 2)) --data "$work/data" "$@" >"$work/log" 2>&1 &
        node=$!
        export SLUICE_ENDPOINTS=127.0.0.1:$port
        for _ in $(seq 100); do
            grep -q 'is ready' "$work/log" && return 0
            kill -0 $node 2>/dev/null || break
            sleep 0.1
        done
        kill $node 2>/dev/null
        wait $node 2>/dev/null
        node=
    done
    echo "FAILED: no node after $try attempts: $(tail -n 3 "$work/log")"
    exit 1
}
