#!/bin/bash
# `cmake --install` puts everything where a system expects it, and the program of client/README.md ("The blocking layer") compiles and
# links against what was installed, without the source tree, and works. Usage: install.sh [BUILD FOLDER]
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-${SLUICE_BUILD:-$root/build}}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
fail() { echo "FAILED: $*"; failed=1; }

cmake --install "$build" --prefix "$dir/usr" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
for file in bin/sluiced bin/sluice share/man/man1/sluice.1 share/bash-completion/completions/sluice lib/systemd/system/sluice.service \
    share/doc/sluice/sluice.conf include/sluice/client/sluice.h; do
    [ -e "$dir/usr/$file" ] || fail "$file is not installed"
done
"$dir/usr/bin/sluiced" --version >/dev/null || fail "the installed sluiced does not start"

sed -n '/^## The blocking layer/,/^## /p' "$root/client/README.md" | sed -n '/^```c$/,/^```$/p' | sed '1d;$d' >"$dir/example.c"
port=$((20000 + RANDOM % 10000))
sed -i "s/127.0.0.1:4570/127.0.0.1:$port/" "$dir/example.c"
[ -s "$dir/example.c" ] || fail "no program in client/README.md"
pc=$(dirname "$(find "$dir/usr" -name sluice.pc)")
sed -i "s|^prefix=.*|prefix=$dir/usr|" "$pc/sluice.pc"
export PKG_CONFIG_PATH=$pc
# shellcheck disable=SC2046
(cd "$dir" && cc -std=gnu11 -Wall -Wextra -Werror example.c -o example $(pkg-config --static --cflags --libs sluice)) || fail "the program of client/README.md does not build"

# It does what its text says, on a node of its own.
(unset "${!SLUICE_@}" && exec "$dir/usr/bin/sluiced" --data "$dir/data" --listen "127.0.0.1:$port" --admin "") 2>"$dir/node.log" &
node=$!
trap 'kill $node 2>/dev/null; wait $node; rm -rf "$dir"' EXIT
out=$(timeout 30 "$dir/example" 2>&1)
grep -q '^stored as [0-9]\{56\}$' <<<"$out" && grep -qx hello <<<"$out" || { fail "the program of client/README.md says: $out"; cat "$dir/node.log"; }
[ "$failed" = 0 ] && echo "installed, and the library used"
exit "$failed"
