# common.bash: what the benchmarks that stop and start nodes share. Sourced, never run.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$repo/build
unset "${!SLUICE_@}"
export LC_ALL=C
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-bench.XXXXXX")
dir=$work/cluster

bench_usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# Options set the variable of their name: --gib 4 sets gib.
bench_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --gib | --shards | --seconds) [ $# -gt 1 ] || bench_usage; printf -v "${1#--}" %s "$2" ;;
        --dir) [ $# -gt 1 ] || bench_usage; mkdir -p "$2"; dir=$(realpath "$2")/bench-cluster ;;
        --build) [ $# -gt 1 ] || bench_usage; build=$(realpath "$2") ;;
        *) bench_usage ;;
        esac
        shift 2
    done
    sluice=$build/sluice
}

bench_end() {
    local status=$?
    trap - EXIT INT TERM
    rm -f "$work/watch"
    [ -z "${cluster:-}" ] || "$cluster" down --dir "$dir" >/dev/null 2>&1 || true
    [ ! -e "$dir/layout" ] || rm -rf "$dir"
    rm -rf "$work"
    exit "$status"
}
trap bench_end EXIT
trap 'exit 130' INT TERM

# bench_cluster [SETTING]: three nodes without limits, or with SETTING; clients find them in the environment. deploy/cluster takes the programs of the tree that it stands in.
bench_cluster() {
    [ ! -e "$dir" ] || { echo "there is $dir already" >&2; exit 1; }
    cluster=$repo/deploy/cluster
    if [ "$build" != "$repo/build" ]; then
        mkdir "$work/tree"
        ln -s "$repo"/{deploy,jepsen,tests,proto,storage,raft,server,client,CMakeLists.txt} "$work/tree/"
        ln -s "$build" "$work/tree/build"
        touch "$build/.built"
        cluster=$work/tree/deploy/cluster
    fi
    "$cluster" up --nodes 3 --dir "$dir" --set "${1:-limits=off}" >"$work/endpoints"
    set -a
    # shellcheck disable=SC1091
    . "$work/endpoints"
    set +a
}
