#!/bin/bash
# Every command and option that the help shows stands in the man page and in the bash completion, which know no others; and wrong usage
# exits with 2. Usage: cli_help.sh [PATH OF sluice]
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
sluice=${1:-${SLUICE_BUILD:-$root/build}/sluice}
man=$root/client/cli/sluice.1
failed=0
fail() { echo "FAILED: $*"; failed=1; }

# Plain text of the man page without roff's escapes.
plain=$(sed -e 's/\\f[BRIP]//g' -e 's/\\-/-/g' -e 's/\\&//g' "$man")
source "$root/client/cli/sluice.bash-completion"

# What the completion offers after the given words.
offers() {
    COMP_WORDS=(sluice "$@")
    COMP_CWORD=$#
    COMPREPLY=()
    _sluice
    printf '%s\n' "${COMPREPLY[@]}"
}

mapfile -t commands < <("$sluice" --help | sed -n '/^Commands/,/^$/p' | sed -n 's/^  \([a-z0-9]*\( [a-z0-9]*\)\{0,1\}\)  .*/\1/p')
[ "${#commands[@]}" -ge 15 ] || fail "the help lists only ${#commands[@]} commands"
for command in "${commands[@]}"; do
    read -r noun verb <<<"$command"
    command=${command% }
    grep -q "sluice $command" <<<"$plain" || fail "man page: no 'sluice $command'"
    offers "" | grep -qx -- "$noun" || fail "completion: no '$noun'"
    [ -z "$verb" ] || offers "$noun" "" | grep -qx -- "$verb" || fail "completion: no '$command'"
    text=$("$sluice" help $command) || fail "no help for '$command'"
    mapfile -t options < <(sed -n 's/^  \(--[a-z-]*\).*/\1/p' <<<"$text")
    completed=$(offers $command --)
    for option in "${options[@]}"; do
        grep -q -- "$option" <<<"$plain" || fail "man page: no $option of '$command'"
        grep -qx -- "$option" <<<"$completed" || fail "completion: no $option of '$command'"
    done
    for option in $completed; do
        case $option in --endpoint|--help|--version) continue ;; esac
        printf '%s\n' "${options[@]}" | grep -qx -- "$option" || fail "completion offers $option, which '$command' does not know"
    done
done
while read -r command; do
    printf '%s\n' "${commands[@]% }" | grep -qx -- "$command" || fail "the man page promises '$command'"
done < <(sed -n 's/^\.B sluice \([a-z]* *[a-z0-9]*\).*/\1/p' "$man" | sed 's/ *$//' | grep -v '^help$')

usage() { "$sluice" "$@" >/dev/null 2>&1; [ $? -eq 2 ] || fail "exit status of 'sluice $*' is not 2"; }
usage
usage nonsense
usage stream nonsense
usage stream create
usage stream create a b
usage stream create a --shards 0
usage stream create a --shards many
usage stream create a --nonsense
usage stream list --shards 3
usage put
usage put s --key a --key-regex b
usage put s --key-regex '('
usage get s --from yesterday
usage tail s
usage tail s --consumer c --from yesterday
usage -o xml stream list
usage --endpoint
usage bench put --records 0
[ "$("$sluice" --version)" != "" ] || fail "no version"
command -v man >/dev/null && { man --warnings -l "$man" >/dev/null 2>/tmp/cli_help.$$ && [ ! -s /tmp/cli_help.$$ ] || fail "man page: $(cat /tmp/cli_help.$$)"; rm -f /tmp/cli_help.$$; }
[ $failed -eq 0 ] && echo "cli_help: ${#commands[@]} commands are documented and completed"
exit $failed
