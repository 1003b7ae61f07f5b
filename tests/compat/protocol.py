"""The protocol below the SDKs: heads and bodies of requests and answers, CBOR, CORS, odd HTTP, event streams as frames; every node in turn."""
import base64
import json
import re
import socket
import time
import urllib.parse

import cbor
from fixture import active, arn, consumer, create, drop, iterator, open_shards
from harness import check, equal, matches, run, until
from wire import CBOR, JSON, Answer, call, connect, endpoint, exchange, frames, good, signed

S0 = "shardId-000000000000"
UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def raw(text, url=None, seconds=5):
    """Sends bytes as they are; everything that comes back until the connection is closed or quiet."""
    where = urllib.parse.urlsplit(url or endpoint())
    with socket.create_connection((where.hostname, where.port), timeout=seconds) as s:
        s.sendall(text)
        got = b""
        try:
            while True:
                part = s.recv(65536)
                if not part:
                    return got
                got += part
                if b"\r\n\r\n" in got:
                    s.settimeout(0.3)  # what else there is comes at once
        except (TimeoutError, ConnectionError):
            return got


def heads():
    create("wire")
    answer = call("ListStreams", {})
    equal("an answer is JSON as the request", answer.headers.get("content-type"), JSON)
    matches("has a request id", answer.headers.get("x-amzn-requestid"), UUID)
    matches("a second id of 72 bytes", answer.headers.get("x-amz-id-2"), r"^[A-Za-z0-9+/]{96}$")
    equal("its length", answer.headers.get("content-length"), str(len(answer.body)))
    check("and a date", "date" in answer.headers)
    other = call("ListStreams", {})
    check("ids differ", other.headers.get("x-amzn-requestid") != answer.headers.get("x-amzn-requestid"))
    answer = call("AddTagsToStream", {"StreamName": "wire", "Tags": {"a": "b"}})
    equal("an operation without output: 200 and nothing", (answer.status, answer.body), (200, b""))
    answer = call("AddTagsToStream", {"StreamName": "wire", "Tags": {"a": "b"}}, kind=CBOR)
    equal("the same in CBOR", answer.status, 200)
    answer = call("ListStreams", b'{"Limit": null, "SomethingNew": {"a": [1, 2]}, "ExclusiveStartStreamName": null}')
    equal("unknown and null members are ignored", answer.status, 200)
    answer = call("ListStreams", {}, kind=JSON + " ; charset=utf-8")
    equal("parameters of the content type are ignored", answer.status, 200)
    for body, name in ((b"", "nothing"), (b"{", "half an object"), (b"[]", "a list"), (b'{"a":1,}', "a comma too many"), (b"\xff\xfe", "no text"), (b"null", "null")):
        answer = call("ListStreams", body)
        check("a body of %s is refused" % name, answer.status == 400 and answer.type == "SerializationException", answer)
    path, headers = signed("ListStreams", b"{}")
    for missing, want in (("X-Amz-Target", "UnknownOperationException"), ("Authorization", "MissingAuthenticationTokenException")):
        answer = exchange("POST", path, b"{}", {k: v for k, v in headers.items() if k.lower() != missing.lower()})
        check("without %s" % missing, answer.status == 400 and answer.type == want, answer)
    answer = exchange("POST", path, b"{}", {**headers, "X-Amz-Target": "Kinesis_20131202.Nothing"})
    equal("an unknown target", (answer.status, answer.type), (400, "UnknownOperationException"))
    answer = exchange("POST", path, b"{}", {**headers, "X-Amz-Target": "DynamoDB_20120810.ListTables"})
    equal("another service's target", (answer.status, answer.type), (400, "UnknownOperationException"))
    answer = exchange("POST", path, b"{}", {**headers, "Authorization": "AWS4-HMAC-SHA256 Credential=x"})
    check("half a signature", answer.type == "IncompleteSignatureException" and "requires 'Signature' parameter" in answer.message, answer)
    answer = exchange("POST", path + "?X-Amz-Algorithm=AWS4-HMAC-SHA256", b"{}", headers)
    check("two signatures", answer.type == "InvalidSignatureException" and answer.message.startswith("Found both 'X-Amz-Algorithm'"), answer)
    answer = exchange("POST", "/any/path", b"{}", headers)
    equal("the path does not matter", answer.status, 200)
    equal("a presigned request", call("ListStreams", {}, presign=True).status, 200)
    answer = exchange("POST", "/", b"{}", {"Content-Type": "application/json", "X-Amz-Target": "Kinesis_20131202.ListStreams"})
    equal("application/json", (answer.status, answer.body), (404, b'{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}'))
    for method in ("GET", "PUT", "DELETE"):
        answer = exchange(method, "/", None, {})
        check("%s is no operation" % method, answer.status == 403 and b"Unable to determine service/operation name to be authorized" in answer.body, answer)
    answer = exchange("POST", "/", b"x=y", {"Content-Type": "application/x-www-form-urlencoded"})
    check("a form is none", answer.status in (403, 404) and b"Exception" in answer.body, answer)


def cors():
    answer = exchange("OPTIONS", "/", None, {"Origin": "http://here", "Access-Control-Request-Headers": "x-amz-target,a", "Access-Control-Request-Method": "POST"})
    equal("OPTIONS with an origin", (answer.status, answer.body), (200, b""))
    for name, value in (("access-control-allow-origin", "*"), ("access-control-allow-headers", "x-amz-target,a"), ("access-control-allow-methods", "POST"), ("access-control-max-age", "172800"),
                        ("x-amz-id-2", None), ("content-type", None)):
        equal("its %s" % name, answer.headers.get(name), value)
    path, headers = signed("ListStreams", b"{}")
    answer = exchange("POST", path, b"{}", {**headers, "Origin": "http://here"})
    equal("a call with an origin", (answer.status, answer.headers.get("access-control-allow-origin")), (200, "*"))
    check("its ids are exposed", "x-amzn-RequestId" in answer.headers.get("access-control-expose-headers", ""), answer.headers)


def in_cbor():
    now = int(time.time() * 1000)
    data = bytes(range(256))
    put = call("PutRecord", {"StreamName": "wire", "Data": data, "PartitionKey": "ключ"}, kind=CBOR)
    equal("a put in CBOR", (put.status, put.headers.get("content-type")), (200, CBOR))
    equal("says where", put.value["ShardId"], S0)
    body = cbor.encode({"StreamName": "wire", "Records": [{"Data": b"a", "PartitionKey": "k"}, {"Data": b"b", "PartitionKey": "k"}]}, indefinite=True)
    many = call("PutRecords", body, kind=CBOR)
    equal("maps and lists without length, as Jackson writes", (many.status, many.value.get("FailedRecordCount"), len(many.value.get("Records", []))), (200, 0, 2))
    equal("a tag in front", call("ListStreams", b"\xd9\xd9\xf7\xa0", kind=CBOR).status, 200)
    at = call("GetShardIterator", {"StreamName": "wire", "ShardId": S0, "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": cbor.Time(now - 60000)}, kind=CBOR)
    equal("a time in milliseconds", at.status, 200)
    got = call("GetRecords", {"ShardIterator": at.value["ShardIterator"]}, kind=CBOR).value
    equal("the data are bytes", [r["Data"] for r in got["Records"]], [data, b"a", b"b"])
    equal("the key is text", got["Records"][0]["PartitionKey"], "ключ")
    arrived = got["Records"][0]["ApproximateArrivalTimestamp"]
    check("times have tag 1 and milliseconds", isinstance(arrived, cbor.Time) and abs(arrived - now) < 60000, arrived)
    created = call("DescribeStreamSummary", {"StreamName": "wire"}, kind=CBOR).value["StreamDescriptionSummary"]["StreamCreationTimestamp"]
    check("also in descriptions", isinstance(created, cbor.Time) and abs(created - now) < 120000, created)
    plain = good("DescribeStreamSummary", {"StreamName": "wire"})["StreamDescriptionSummary"]["StreamCreationTimestamp"]
    check("in JSON they are seconds", abs(plain - created / 1000) < 1, plain)
    at = call("GetShardIterator", {"StreamName": "wire", "ShardId": S0, "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": now - 60000}, kind=CBOR)
    equal("a time without tag", at.status, 200)
    refused = call("DescribeStream", {"StreamName": "nothing"}, kind=CBOR)
    equal("errors are CBOR too", (refused.status, refused.headers.get("content-type"), refused.type), (400, CBOR, "ResourceNotFoundException"))
    for body, name in ((b"", "nothing"), (b"\xa1", "half a map"), (b"\x80", "a list"), (b"\xbf\x61a", "an open map"), (b"\xa1\x6aStreamName\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "a list of 2^64"),
                       (b"\x9f" * 5000, "5000 lists in each other"), (b"\xa1\x6aStreamName\x7b\x7f\xff\xff\xff\xff\xff\xff\xff", "a text of 2^63")):
        answer = call("DescribeStream", body, kind=CBOR)
        check("CBOR of %s is refused" % name, answer.status == 400 and answer.type in ("SerializationException", "ValidationException"), answer)


def odd_json():
    for body, name, wanted in (
            (b'{"StreamName":"wire","Data":"' + base64.b64encode(b"x" * 100) + b'","PartitionKey":"\\u00fc\\ud83d\\ude00\\n\\u0000"}', "escapes in a key", 200),
            (b' \r\n\t{ "StreamName" : "wire" ,\n"Data":"eA==", "PartitionKey":"k"} \n', "blanks everywhere", 200),
            (b'{"StreamName":"wire","Data":"eA==","PartitionKey":"\\ud83d"}', "half a surrogate", 400), (b'{"StreamName":"wire","Data":"eA==","PartitionKey":"\xc3"}', "half a character", 400),
            (b'{"StreamName":"wire","StreamName":"wire","Data":"eA==","PartitionKey":"k"}', "a member twice", 400), (b'{"a":' * 1000 + b"1" + b"}" * 1000, "a thousand objects in each other", 400)):
        answer = call("PutRecord", body)
        equal("JSON with %s" % name, answer.status, wanted)
    keys = [r["PartitionKey"] for r in good("GetRecords", {"ShardIterator": iterator("wire")})["Records"]]
    check("an escaped key comes back", "\u00fc\U0001f600\n\0" in keys, keys)


def http():
    body = b"{}"
    _, headers = signed("ListStreams", body)
    lines = "".join("%s: %s\r\n" % item for item in headers.items())

    def request(first="POST / HTTP/1.1\r\n", more="", length="Content-Length: 2\r\n", body=body, host="Host: x\r\n"):
        return raw((first + host + lines + more + length + "\r\n").encode() + body, seconds=3)

    def status(answer):
        return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else None

    equal("HTTP/1.1 and Connection: close", status(request(more="Connection: close\r\n")), 200)
    equal("HTTP/1.0", request("POST / HTTP/1.0\r\n")[9:12], b"200")
    twice = raw((("POST / HTTP/1.1\r\nHost: x\r\n" + lines + "Content-Length: 2\r\n\r\n").encode() + body) * 2 + b"", seconds=3)
    equal("two requests in one packet: two answers", twice.count(b"HTTP/1.1 200"), 2)
    equal("a body in chunks", status(request(more="Connection: close\r\n", length="Transfer-Encoding: chunked\r\n", body=b"1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n")), 200)
    waited = raw(("POST / HTTP/1.1\r\nHost: x\r\n" + lines + "Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n").encode(), seconds=2)
    check("Expect: 100-continue", waited.startswith(b"HTTP/1.1 100"), waited[:60])
    for name, answer in (
            ("two lengths", request(length="Content-Length: 2\r\nContent-Length: 3\r\n")), ("a length and chunks", request(length="Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", body=b"2\r\n{}\r\n0\r\n\r\n")),
            ("a length that is no number", request(length="Content-Length: +2\r\n")), ("no host", request(host="")), ("two hosts", request(host="Host: a\r\nHost: b\r\n")), ("a blank in a header's name", request(more="X Y: z\r\n")),
            ("a folded header", request(more="X: y\r\n z\r\n")), ("a NUL in a header", request(more="X: \0\r\n")), ("another transfer encoding", request(length="Transfer-Encoding: gzip, chunked\r\n")),
            ("a chunk of no size", request(length="Transfer-Encoding: chunked\r\n", body=b"x\r\n{}\r\n0\r\n\r\n")), ("another version", request("POST / HTTP/3.0\r\n")), ("no version", request("POST /\r\n"))):
        check("%s: refused" % name, answer == b"" or (status(answer) or 0) >= 400, answer[:80])
    bare = raw(("POST / HTTP/1.1\nHost: x\n" + lines.replace("\r", "") + "Content-Length: 2\n\n").encode() + body, seconds=3)
    check("bare line feeds: refused", bare == b"" or (status(bare) or 0) >= 400, bare[:80])
    large = raw(("POST / HTTP/1.1\r\nHost: x\r\n" + lines + "Content-Length: 1073741824\r\n\r\n").encode(), seconds=3)
    equal("a body of 1 GiB: 413 before it comes", status(large), 413)
    huge = raw(("POST / HTTP/1.1\r\nHost: x\r\nX: " + "y" * 200000 + "\r\n\r\n").encode(), seconds=3)
    equal("a head of 200 KB: 431", status(huge), 431)
    connection = connect()
    for n in range(50):
        _, headers = signed("ListStreams", body)
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        if answer.status != 200 or not answer.read():
            break
    equal("fifty requests on one connection", (n, answer.status), (49, 200))
    connection.close()


def subscribe(kind, body, url=None):
    """An open SubscribeToShard: (connection, its answer, the frames as they come)."""
    url = url or endpoint()
    path, headers = signed("SubscribeToShard", body, kind, url)
    connection = connect(url, timeout=15)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    return connection, answer, frames(answer)


def event_stream():
    create("wire-push")
    for kind, write, parse in ((JSON, lambda v: json.dumps(v).encode(), json.loads), (CBOR, cbor.encode, cbor.decode)):
        tongue = kind[18:22]
        who = consumer("wire-push", "of-" + tongue)
        connection, answer, stream = subscribe(kind, write({"ConsumerARN": who, "ShardId": S0, "StartingPosition": {"Type": "LATEST"}}))
        equal("%s: an event stream" % tongue, (answer.status, answer.getheader("content-type")), (200, "application/vnd.amazon.eventstream"))
        matches("%s: with a request id" % tongue, answer.getheader("x-amzn-requestid"), UUID)
        headers, payload = next(stream)
        equal("%s: its first frame" % tongue, (headers.get(":message-type"), headers.get(":event-type"), parse(payload)), ("event", "initial-response", {}))
        good("PutRecord", {"StreamName": "wire-push", "Data": b"\0\1\2", "PartitionKey": "k"})
        records = []
        for headers, payload in stream:
            event = parse(payload)
            equal("%s: an event" % tongue, (headers.get(":message-type"), headers.get(":event-type")), ("event", "SubscribeToShardEvent"))
            check("%s: says where to go on, and no children" % tongue, "ContinuationSequenceNumber" in event and "ChildShards" not in event and "MillisBehindLatest" in event, event)
            records += event["Records"]
            if records:
                break
        wanted = b"\0\1\2" if kind == CBOR else base64.b64encode(b"\0\1\2").decode()
        equal("%s: the record" % tongue, records[0]["Data"], wanted)
        check("%s: its time" % tongue, isinstance(records[0]["ApproximateArrivalTimestamp"], cbor.Time if kind == CBOR else (int, float)))
        connection.close()
        shut = call("SubscribeToShard", {"ConsumerARN": who, "ShardId": "shardId-000000000007", "StartingPosition": {"Type": "LATEST"}}, kind=kind)
        equal("%s: errors before the stream are ordinary" % tongue, (shut.status, shut.headers.get("content-type"), shut.type), (400, kind, "ResourceNotFoundException"))
    # A consumer that goes away is replaced by itself at once or soon: nothing of it stays.
    time.sleep(5)
    again = until(5, lambda: subscribe(JSON, json.dumps({"ConsumerARN": who, "ShardId": S0, "StartingPosition": {"Type": "TRIM_HORIZON"}}).encode())[1].status == 200)
    check("after its connection has closed it may come again", again)
    check("the stream is deleted", drop("wire-push"))


def end():
    equal("the stream has its shard", len(open_shards("wire")), 1)
    check("and is deleted", drop("wire"))


if __name__ == "__main__":
    run("protocol", heads, cors, in_cbor, odd_json, http, event_stream, end)
