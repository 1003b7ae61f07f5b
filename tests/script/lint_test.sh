#!/bin/bash
# The text lint finds each fault that it is there for: a tree without faults passes, and each planted fault is named.
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

mkdir -p "$tree"/{proto,storage,raft,server/aws,server/http,server/kinesis,client,tests,deploy,jepsen}
cp -r "$repo/tests/lint" "$tree/tests/lint"
for folder in . proto storage raft server server/aws server/http server/kinesis client tests deploy jepsen; do
    echo 'A chapter.' >"$tree/$folder/README.md"
done
echo '# none' >"$tree/tests/lint/text.allow"

if ! "$tree/tests/lint/text"; then
    echo 'a tree without faults was refused'
    exit 1
fi

failed=0
# plant CHECK FILE TEXT: with that text in the file the check must name the file; without it the tree is clean again.
plant()
{
    local check=$1 file=$2 text=$3
    printf '%b\n' "$text" >"$tree/$file"
    if out=$("$tree/tests/lint/text") || ! grep -qE "^$file:[0-9]+: .*\[$check\]$" <<<"$out"; then
        printf 'not found: %s in %s: %s\n' "$check" "$file" "$text"
        failed=1
    fi
    rm -f "$tree/$file"
}
# harmless FILE TEXT: must pass
harmless()
{
    printf '%b\n' "$2" >"$tree/$1"
    if ! out=$("$tree/tests/lint/text"); then
        printf 'found where nothing is: %s: %s\n%s\n' "$1" "$2" "$out"
        failed=1
    fi
    rm -f "$tree/$1"
}

plant banned-call server/a.c 'void f(char *a) { strcpy(a, "x"); }'
plant banned-call client/a.c 'int f(char *a) { return atoi (a); }'
plant banned-call proto/a.c 'void f(char *a) { sprintf(a, "x"); }'
plant assert raft/a.c '#include <assert.h>'
plant assert raft/a.c 'void f(void) { assert(1); }'
plant door server/a.c 'long f(void) { return time(0); }'
plant door storage/a.c 'int f(void) { return rand(); }'
plant door storage/a.c 'int f(void) { return open("x", 0); }'
plant door raft/a.c 'int f(void) { return socket(1, 2, 3); }'
plant door storage/env_sim.c 'void f(void) { pthread_create(0, 0, 0, 0); }'
plant include server/a.c '#include <raft.h>'
plant include storage/a.c '#include <uv.h>'
plant include server/a.c '#include <openssl/ssl.h>'
plant include server/a.c '#include <openssl/evp.h>'
plant include proto/a.c '#include "storage/env.h"'
plant include storage/a.c '#include "raft/group.h"'
plant include raft/a.h '#include "server/node.h"'
plant include client/a.c '#include "storage/journal.h"'
plant include server/a.c '#include "client/sluice.h"'
plant marker server/a.c "/* TO""DO: later */"
plant marker deploy/a "# FIX""ME"
plant path proto/a.c '/* see /wor''k/somewhere */'
plant long-file server/a.c "$(printf '%0.s\\n' $(seq 701))"
plant syntax deploy/a '#!/bin/bash\nif true; then'

harmless storage/env_uv.c '#include <uv.h>\nlong f(void) { return time(0); }'
harmless raft/a.c '#include <raft.h>'
harmless client/a.c '#include "storage/env_uv.h"\nvoid f(struct env *e) { e->time(1); open_all(e); x_open(e); }'
harmless server/a.c '/* strcpy(a) would be wrong, and so would time(0) */ const char *s = "assert(1)"; // rand()'

rm "$tree/raft/README.md"
if "$tree/tests/lint/text" >"$tree/out" || ! grep -q 'raft:1: .*readme' "$tree/out"; then
    echo 'a missing README.md was not found'
    failed=1
fi
echo 'A chapter.' >"$tree/raft/README.md"
echo 'door gone.c it was needed once' >"$tree/tests/lint/text.allow"
if "$tree/tests/lint/text" >"$tree/out"; then
    echo 'an exception for nothing was not found'
    failed=1
fi

# The comparison with a list of known findings.
cat >"$tree/known" <<'END'
# remark
a/b.c some-check because it is so
END
echo 'a/b.c:12 some-check text' | "$tree/tests/lint/compare" "$tree/known" || { echo 'a known finding was reported'; failed=1; }
if printf '%s\n' 'a/b.c:12 some-check text' 'a/b.c:13 other-check text' | "$tree/tests/lint/compare" "$tree/known" >/dev/null; then
    echo 'a new finding was passed over'
    failed=1
fi
if "$tree/tests/lint/compare" "$tree/known" </dev/null >/dev/null; then
    echo 'a needless suppression was passed over'
    failed=1
fi
exit $failed
