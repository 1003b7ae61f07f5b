#!/bin/bash
# The endpoint with a certificate: what is refused at the start; then three nodes, and the AWS CLI, boto3, raw requests and curl over TLS.
. "$(dirname "${BASH_SOURCE[0]}")/compat.bash"

make_certificate() { # NAME
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/$1.key" -out "$work/$1.pem" -days 2 -subj "/CN=$1" \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>"$work/err"
}
must "a certificate" make_certificate ours
must "and one of somebody else" make_certificate other

# refused PATTERN FLAG...: the node does not start and says why.
refused() {
    exits 2 timeout 10 "$sluiced" --data "$work/refused" --listen 127.0.0.1:0 --admin '' --kinesis 127.0.0.1:0 "${@:2}" && says "$1"
}
check "a certificate without a key" refused 'kinesis-tls-cert needs kinesis-tls-key' --kinesis-tls-cert "$work/ours.pem"
check "a key without a certificate" refused 'kinesis-tls-key needs kinesis-tls-cert' --kinesis-tls-key "$work/ours.key"
check "the key of another certificate" refused 'does not belong to the certificate' --kinesis-tls-cert "$work/ours.pem" --kinesis-tls-key "$work/other.key"
check "a file that is not there" refused 'none.pem: No such file' --kinesis-tls-cert "$work/none.pem" --kinesis-tls-key "$work/ours.key"
check "a certificate that is none" refused 'certificate: none found' --kinesis-tls-cert "$work/ours.key" --kinesis-tls-key "$work/ours.key"
check "a key that is none" refused 'private key: cannot be read' --kinesis-tls-cert "$work/ours.pem" --kinesis-tls-key "$work/ours.pem"

dir=$work/cluster
must "three nodes start" cluster_up "$dir" --nodes 3 --set limits=off --set "kinesis-tls-cert=$work/ours.pem" --set "kinesis-tls-key=$work/ours.key"
check "the cluster says that it is TLS" test "${KINESIS_ENDPOINT%%:*}" = https
export AWS_CA_BUNDLE=$work/ours.pem

# one FLAG...: ListStreams by curl; the version of HTTP and the status in $seen.
one() {
    seen=$(curl -s --max-time 10 -o "$work/body" -w '%{http_version} %{http_code}' --aws-sigv4 aws:amz:us-east-1:kinesis --user test:test -H 'Content-Type: application/x-amz-json-1.1' \
        -H 'X-Amz-Target: Kinesis_20131202.ListStreams' -d '{}' "$@") || seen="failed, $?"
}
over() { # WANTED FLAG...
    one "${@:2}"
    [ "$seen" = "$1" ] || { echo "curl: $seen"; return 1; }
}
trusted=(--cacert "$work/ours.pem")
check "HTTP/1.1" over '1.1 200' "${trusted[@]}" --http1.1 "$KINESIS_ENDPOINT/"
check "with an empty list" grep -q '"StreamNames":\[\]' "$work/body"
check "HTTP/2 by ALPN" over '2 200' "${trusted[@]}" --http2 "$KINESIS_ENDPOINT/"
check "HTTP/2 by prior knowledge" over '2 200' "${trusted[@]}" --http2-prior-knowledge "$KINESIS_ENDPOINT/"
check "without ALPN" over '1.1 200' "${trusted[@]}" --no-alpn "$KINESIS_ENDPOINT/"
check "TLS 1.2" over '2 200' "${trusted[@]}" --tls-max 1.2 "$KINESIS_ENDPOINT/"
check "by the host's name" over '2 200' "${trusted[@]}" "https://localhost:${KINESIS_ENDPOINT##*:}/"
check "who does not trust the certificate does not go on" over 'failed, 60' --cacert "$work/other.pem" "$KINESIS_ENDPOINT/"
check "plain text is closed" over 'failed, 52' "http://${KINESIS_ENDPOINT#https://}/"
check "TLS 1.1 is refused" over 'failed, 35' "${trusted[@]}" --tls-max 1.1 --ciphers 'DEFAULT:@SECLEVEL=0' "$KINESIS_ENDPOINT/"

# ---- renewed ----
logged() { grep -q "$1" "$dir/node-1/log"; }
kill -HUP "$(node_pid "$dir" 1)"
check "the same files again" until_ok 5 logged 'the certificate was read again'
cp "$work/ours.key" "$work/kept.key"
cp "$work/other.key" "$work/ours.key"
kill -HUP "$(node_pid "$dir" 1)"
check "a key of another certificate is not taken" until_ok 5 logged 'the renewed certificate cannot be used.*does not belong'
check "and the old ones stay" over '2 200' "${trusted[@]}" "$KINESIS_ENDPOINT/"
cp "$work/ours.pem" "$work/kept.pem"
cp "$work/other.pem" "$work/ours.pem"
kill -HUP "$(node_pid "$dir" 1)"
check "a renewed certificate is taken" until_ok 5 over '2 200' --cacert "$work/other.pem" "$KINESIS_ENDPOINT/"
check "the old one is gone" over 'failed, 60' --cacert "$work/kept.pem" "$KINESIS_ENDPOINT/"
cp "$work/kept.pem" "$work/ours.pem"
cp "$work/kept.key" "$work/ours.key"
kill -HUP "$(node_pid "$dir" 1)"
check "and taken back" until_ok 5 over '2 200' "${trusted[@]}" "$KINESIS_ENDPOINT/"

# k ARGUMENT...: Debian's AWS CLI; what it printed is in $work/out and $work/err.
k() { /usr/bin/aws --endpoint-url "$KINESIS_ENDPOINT" --cli-binary-format raw-in-base64-out kinesis "$@" >"$work/out" 2>"$work/err" </dev/null; }
export AWS_PAGER='' AWS_MAX_ATTEMPTS=2 AWS_CONFIG_FILE=$work/none AWS_SHARED_CREDENTIALS_FILE=$work/none
check "AWS CLI: create-stream" k create-stream --stream-name cli --shard-count 1
check "AWS CLI: put-record" k put-record --stream-name cli --data "a line" --partition-key a
untrusting() { AWS_CA_BUNDLE=$work/other.pem k list-streams; [ $? -ne 0 ] && grep -q CERTIFICATE_VERIFY_FAILED "$work/err"; }
check "AWS CLI: an unknown certificate" untrusting

program 60 "$python" "$compat/boto.py" streams records push
program 60 "$python" "$compat/protocol.py" heads in_cbor event_stream
bench() { "$sluice" bench put --kinesis "$KINESIS_ENDPOINT" --stream cli --seconds 1 --shards 1 >"$work/out" 2>"$work/err"; }
check "sluice bench put --kinesis" bench
nodes_well "$dir"
