#!/bin/bash
# Limits on, as AWS has them; then access keys: nodes that verify signatures.
. "$(dirname "${BASH_SOURCE[0]}")/compat.bash"

dir=$work/limits
must "three nodes start, with limits" cluster_up "$dir" --nodes 3
program 150 "$python" "$compat/limits.py"
nodes_well "$dir"
"$cluster" down --dir "$dir"

dir=$work/keys
printf '# keys of the test\nAKTESTKEY secret/of+the/test\nAKOTHERACCOUNT another/secret+key 222222222222\n' >"$work/access-keys"
chmod 600 "$work/access-keys"
must "three nodes start, with access keys" cluster_up "$dir" --nodes 3 --set limits=off --set access-keys="$work/access-keys"
export AWS_ACCESS_KEY_ID=AKTESTKEY AWS_SECRET_ACCESS_KEY=secret/of+the/test
program 100 "$python" "$compat/auth.py"
nodes_well "$dir"
check "no secret is in a log" bash -c '! grep -q "secret/of+the/test\|another/secret+key" "$1"/node-*/log' sh "$dir"
