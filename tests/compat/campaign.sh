#!/bin/bash
# Splits and merges under load while leaders are killed: campaign.sh [RESHARDS KILLS] (default 6 and 2; the whole campaign is 40 and 12).
. "$(dirname "${BASH_SOURCE[0]}")/compat.bash"

dir=$work/cluster
must "three nodes start" cluster_up "$dir" --nodes 3 --set limits=off
program $((${1:-6} * 20 + 240)) "$python" "$compat/campaign.py" --dir "$dir" --cluster "$cluster" --sluice "$sluice" --reshards "${1:-6}" --kills "${2:-2}"
nodes_well "$dir"
