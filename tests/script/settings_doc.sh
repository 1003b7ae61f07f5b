#!/bin/bash
# The table of settings in deploy/README.md is the one that `sluiced --help` gives, and deploy/sluice.conf has exactly these settings with
# these defaults. --write puts the present table into deploy/README.md. Usage: settings_doc.sh [--write] [PATH OF sluiced]
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
write=0
if [ "${1:-}" = --write ]; then
    write=1
    shift
fi
sluiced=${1:-${SLUICE_BUILD:-$root/build}/sluiced}
readme=$root/deploy/README.md
conf=$root/deploy/sluice.conf
failed=0
fail() { echo "FAILED: $*"; failed=1; }

# Lines "name<TAB>type<TAB>default<TAB>text" of the help; sizes in the largest unit that leaves no rest.
settings()
{
    "$sluiced" --help | perl -ne '
        next unless /^  --([a-z-]+) (TEXT|NUMBER|SIZE|true\|false)\s+(.*) \(default: (.*)\)$/;
        my ($name, $type, $text, $default) = ($1, $2, $3, $4);
        $default = "" if $default eq "none";
        if ($type eq "SIZE") {
            for my $unit (["GiB", 1 << 30], ["MiB", 1 << 20], ["KiB", 1 << 10]) {
                if ($default > 0 && $default % $unit->[1] == 0) { $default = $default / $unit->[1] . $unit->[0]; last }
            }
        }
        print join("\t", $name, $type, $default, $text), "\n"'
}

list=$(settings)
[ "$(wc -l <<<"$list")" -ge 30 ] || fail "--help lists only $(wc -l <<<"$list") settings"
# Every line of the help that looks like a flag was understood.
[ "$("$sluiced" --help | grep -cE '^  --[a-z]')" -eq $(($(wc -l <<<"$list") + 2)) ] || fail "a line of --help has another form than expected"

table=$(echo '| setting | default | what |'; echo '|---|---|---|'
    awk -F '\t' '{ printf "| `%s` | %s | %s |\n", $1, $3 == "" ? "none" : "`" $3 "`", $4 }' <<<"$list")
if [ "$write" = 1 ]; then
    new=$(mktemp)
    awk -v table="$table" '/^<!-- settings -->$/ { print; print table; inside = 1 } /^<!-- end of settings -->$/ { inside = 0 } !inside && !/^<!-- settings -->$/' \
        "$readme" >"$new" && cat "$new" >"$readme"
    rm -f "$new"
fi
diff <(sed -n '/^<!-- settings -->$/,/^<!-- end of settings -->$/p' "$readme" | sed '1d;$d') <(echo "$table") ||
    fail "deploy/README.md has another table of settings: tests/script/settings_doc.sh --write"

# name = default in the configuration: as a remark, or set (the data folder, which the systemd unit wants elsewhere).
expected=$(awk -F '\t' '$1 != "data" { printf "#%s =%s\n", $1, $3 == "" ? "" : " " $3 }' <<<"$list" | sort)
found=$(grep -E '^#?[a-z][a-z-]* =' "$conf" | grep -v '^data =' | sort)
diff <(echo "$found") <(echo "$expected") || fail "deploy/sluice.conf has other settings or defaults than the program"
grep -q '^data = /var/lib/sluice$' "$conf" || fail "deploy/sluice.conf does not set the data folder of the systemd unit"

[ "$failed" = 0 ] && echo "settings: $(wc -l <<<"$list"), as documented"
exit "$failed"
