#!/bin/bash
# Signatures, event stream frames and the API model against Debian's python3-botocore: what its signer signs is verified and what was changed then is not, its parser
# reads our frames, and every input that its model knows is in our tables. Usage: aws_botocore.sh [PATH OF sluice-aws-vectors]
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
vectors=${1:-${SLUICE_BUILD:-$root/build}/sluice-aws-vectors}
if ! /usr/bin/python3 -c 'import botocore' 2>/dev/null; then
    echo "python3-botocore is not installed: deploy/packages test"
    exit 1
fi
exec /usr/bin/python3 "$root/tests/aws/botocore_check.py" "$vectors"
