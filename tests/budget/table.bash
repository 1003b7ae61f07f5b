# table.bash: the recorded budgets, tests/budget/budget.tsv, and how a measurement is held to them. Sourced by the scripts beside it.
#
# A line: script, path, who, metric, budget, what was measured when it was recorded. A figure above its budget fails; one of instructions that is 15 % below what
# was recorded is told, so that the gain is recorded before it is lost again.
table=$here/budget.tsv
measurements=()

skip() {
    echo "$*"
    exit 77
}

measured() { measurements+=("$1"$'\t'"$2"$'\t'"$3"$'\t'"$4"); }

# settle RECORD METRICS COMPILER: holds the measurements to the table, or (RECORD is yes) puts them into it in the place of those of the same script.
# METRICS: instructions (budget: 5 % and half an instruction more than measured) or syscalls (three times: how
# much is done at once depends on the clock).
settle() {
    local kind=$2
    if [ "$1" = yes ]; then
        {
            printf '# Budgets, recorded by tests/budget/*.sh --record; tests/README.md says how. Instructions are per record, all others per 1,000 records.\n'
            printf '# compiler: %s\n' "$3"
            printf '# script\tpath\twho\tmetric\tbudget\tmeasured\n'
            {
                awk -F '\t' -v kind="$kind" '!/^#/ && $1 != kind' "$table" 2>/dev/null || true
                printf '%s\n' "${measurements[@]}" | awk -F '\t' -v OFS='\t' -v kind="$kind" '{
                    budget = kind == "syscalls" ? $4 * 3 : $4 * 1.05 + 0.5
                    print kind, $1, $2, $3, sprintf("%.1f", budget), sprintf("%.1f", $4)
                }'
            } | sort -s -t "$(printf '\t')" -k1,1
        } >"$table.new"
        mv "$table.new" "$table"
        echo "recorded ${#measurements[@]} figures in $table"
        return 0
    fi
    printf '%s\n' "${measurements[@]}" | awk -F '\t' -v kind="$kind" '
        NR == FNR {
            if ($0 !~ /^#/ && $1 == kind) {
                budget[$2 " " $3 " " $4] = $5
                was[$2 " " $3 " " $4] = $6
                n_lines++
            }
            next
        }
        {
            name = $1 " " $2 " " $3
            seen++
            if (!(name in budget)) {
                printf "FAIL: %-36s %10.1f and no budget is recorded\n", name, $4
                bad++
            } else if ($4 > budget[name] + 0) {
                printf "FAIL: %-36s %10.1f above the budget of %.1f (%.1f when recorded, %+.1f %%)\n", name, $4, budget[name], was[name], ($4 / (was[name] > 0 ? was[name] : 1) - 1) * 100
                bad++
            } else if (kind == "instructions" && $4 < 0.85 * was[name] - 0.5) {
                printf "low   %-36s %10.1f is well below the %.1f that was recorded: please record anew\n", name, $4, was[name]
            } else {
                printf "ok    %-36s %10.1f of %.1f\n", name, $4, budget[name]
            }
        }
        END {
            if (seen < n_lines) {
                printf "FAIL: %d budgets were not measured\n", n_lines - seen
                bad++
            }
            exit bad > 0
        }' "$table" -
}
