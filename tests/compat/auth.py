"""Access keys configured: signatures are verified, in headers and in queries; a wrong one does nothing, and an account has its own streams."""
import time

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from harness import check, equal, matches, run, until
from wire import CBOR, JSON, call, credentials, endpoints, exchange, good, region, signed

# Of another account, as the file of keys says (auth.sh).
other = Credentials("AKOTHERACCOUNT", "another/secret+key")


class Shifted(SigV4Auth):
    """Signs at another time."""

    def __init__(self, shift_s, *rest):
        super().__init__(*rest)
        self.shift_s = shift_s

    def add_auth(self, request):
        request.context["timestamp"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + self.shift_s))
        self._modify_request_before_signing(request)
        self._inject_signature_to_request(request, self.signature(self.string_to_sign(request, self.canonical_request(request)), request))


def accepted():
    for url in endpoints:
        for presign in (False, True):
            for kind in (JSON, CBOR):
                answer = call("ListStreams", {}, kind=kind, url=url, presign=presign)
                equal("%s %s is taken at %s" % ("a query" if presign else "a header", kind[18:22], url), answer.status, 200)
    equal("with a session token in a header", call("ListStreams", {}, headers={"X-Extra": "a  b"}).status, 200)


def altered():
    node = endpoints[0]
    control = signed("CreateStream", b'{"StreamName":"made","ShardCount":1}', url=node)
    equal("unaltered it is done", exchange("POST", control[0], b'{"StreamName":"made","ShardCount":1}', control[1], node).status, 200)
    body = b'{"StreamName":"stolen","ShardCount":1}'

    def refused(what, wanted, path, headers, body=body, words="."):
        answer = exchange("POST", path, body, headers, node)
        check("%s is refused" % what, answer.status == 400 and answer.type == wanted, answer)
        matches("%s: words" % what, answer.message, words)

    path, good_headers = signed("CreateStream", body, url=node)
    refused("another body", "InvalidSignatureException", path, good_headers, body.replace(b"stolen", b"st0len"), "^The request signature we calculated does not match the signature you provided")
    refused("another operation", "InvalidSignatureException", path, {**good_headers, "X-Amz-Target": "Kinesis_20131202.DeleteStream"})
    signature = good_headers["Authorization"]
    flipped = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    refused("another signature", "InvalidSignatureException", path, {**good_headers, "Authorization": flipped})
    refused("a shorter signature", "InvalidSignatureException", path, {**good_headers, "Authorization": signature[:-2]})
    refused("no signature", "MissingAuthenticationTokenException", path, {k: v for k, v in good_headers.items() if k != "Authorization"}, words="^Missing Authentication Token$")
    refused("half a header", "IncompleteSignatureException", path, {**good_headers, "Authorization": signature.split(",")[0]}, words="requires 'Signature' parameter")
    refused("another algorithm", "IncompleteSignatureException", path, {**good_headers, "Authorization": signature.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512")})
    refused("host not signed", "InvalidSignatureException", path, {**good_headers, "Authorization": signature.replace("host;", "")})
    for what, keys, wanted in (("an unknown key", Credentials("AKUNKNOWN", "x"), "UnrecognizedClientException"), ("a wrong secret", Credentials(credentials.access_key, "wrong"), "InvalidSignatureException"),
                               ("an empty secret", Credentials(credentials.access_key, ""), "InvalidSignatureException")):
        for presign in (False, True):
            answer = call("CreateStream", body, keys=keys, presign=presign)
            check("%s is refused in a %s" % (what, "query" if presign else "header"), answer.status == 400 and answer.type == wanted, answer)
    path, headers = signed("CreateStream", body, presign=True, url=node)
    refused("a query with another signature", "InvalidSignatureException", path[:-1] + ("0" if path[-1] != "0" else "1"), headers)
    for scope, words in (("dynamodb", "correct service"), ("kinesis", "Credential should be scoped to a valid region")):
        request = AWSRequest("POST", endpoints[0] + "/", data=body, headers={"X-Amz-Target": "Kinesis_20131202.CreateStream", "Content-Type": JSON})
        SigV4Auth(credentials, scope, "eu-north-9" if scope == "kinesis" else region).add_auth(request)
        refused("a signature for %s" % words, "InvalidSignatureException", "/", dict(request.headers.items()), words=words)


def old():
    for shift, wanted, words in ((0, 200, None), (-240, 200, None), (-900, 400, "^Signature expired: "), (900, 400, "^Signature not yet current: ")):
        request = AWSRequest("POST", endpoints[0] + "/", data=b"{}", headers={"X-Amz-Target": "Kinesis_20131202.ListStreams", "Content-Type": JSON})
        Shifted(shift, credentials, "kinesis", region).add_auth(request)
        answer = exchange("POST", "/", b"{}", dict(request.headers.items()), endpoints[0])
        equal("a signature %d s off" % shift, answer.status, wanted)
        if words:
            matches("is told", answer.message, words)


def order():
    """What cannot be read is told before a signature is looked at; what it says is not."""
    answer = exchange("POST", "/", b"{", {"Content-Type": JSON, "X-Amz-Target": "Kinesis_20131202.ListStreams"})
    equal("no JSON, unsigned", answer.type, "SerializationException")
    answer = exchange("POST", "/", b'{"Limit":0}', {"Content-Type": JSON, "X-Amz-Target": "Kinesis_20131202.ListStreams"})
    equal("a bad value, unsigned", answer.type, "MissingAuthenticationTokenException")


def accounts():
    equal("nothing of all this was done", [n for n in good("ListStreams")["StreamNames"] if n.startswith("st")], [])
    mine = good("CreateStream", {"StreamName": "same-name", "ShardCount": 1})
    good("CreateStream", {"StreamName": "same-name", "ShardCount": 2}, keys=other)

    def open_count(keys):
        answer = call("DescribeStreamSummary", {"StreamName": "same-name"}, keys=keys)
        return answer.status == 200 and answer.value["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE" and answer.value["StreamDescriptionSummary"]

    a, b = until(20, lambda: open_count(None)), until(20, lambda: open_count(other))
    equal("two accounts, two streams of one name", (a["OpenShardCount"], b["OpenShardCount"]), (1, 2))
    matches("each with its account", b["StreamARN"], ":222222222222:stream/same-name$")
    good("PutRecord", {"StreamName": "same-name", "Data": b"mine", "PartitionKey": "k"})
    at = good("GetShardIterator", {"StreamName": "same-name", "ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"})["ShardIterator"]
    equal("mine has my record", until(10, lambda: len(good("GetRecords", {"ShardIterator": at})["Records"])), 1)
    good("DeleteStream", {"StreamName": "same-name"}, keys=other)
    check("what one deletes the other keeps", until(10, lambda: call("DescribeStream", {"StreamName": "same-name"}, keys=other).type == "ResourceNotFoundException") and open_count(None), mine)


if __name__ == "__main__":
    run("access keys", accepted, altered, old, order, accounts)
