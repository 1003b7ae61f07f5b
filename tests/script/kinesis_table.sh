#!/bin/bash
# Every operation of the API model has a row in server/kinesis/README.md, a function, and a place in the table of operations; and none has more.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$root/server/kinesis
failed=0
fail() { echo "FAILED: $*"; failed=1; }

model=$(sed -n '/define AWS_OPERATIONS/,/^$/p' "$root/server/aws/aws_names.h" | grep -oE '^ +X\([A-Za-z]+\)' | tr -d ' X()' | sort)
[ "$(wc -l <<<"$model")" -ge 45 ] || fail "only $(wc -l <<<"$model") operations in the model"
rows=$(sed -n '/^## Compatibility/,/^## /p' "$folder/README.md" | sed -nE 's/^\| ([A-Za-z]+) \| (works|refused) \|.*/\1/p' | sort)
diff <(echo "$model") <(echo "$rows") || fail "rows of the table in server/kinesis/README.md (>) are not the model's operations (<)"
table=$(sed -nE 's/^ *OPERATION\(([A-Za-z]+), [0-9]+\),$/\1/p' "$folder/kinesis_operations.c" | sort)
diff <(echo "$model") <(echo "$table") || fail "kinesis_operations.c (>) has other operations than the model (<)"
while read -r operation; do
    n=$(cat "$folder"/*.c | grep -cE "^void kinesis_$operation\(struct call \*|^PENDING\($operation\)")
    [ "$n" = 1 ] || fail "$n functions for $operation"
done <<<"$model"

[ "$failed" = 0 ] && echo "$(wc -l <<<"$model") operations, each with a row and a function"
exit "$failed"
