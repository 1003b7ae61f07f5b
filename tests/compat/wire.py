"""Requests to the Kinesis endpoint as they are on the wire, signed by botocore's signer, in JSON and CBOR; and the frames of its event stream.

For what the SDKs don't let through: operations that Debian's boto3 doesn't know yet, odd inputs, CBOR, odd HTTP. Requests go to the nodes in turn."""
import base64
import hashlib
import http.client
import itertools
import json
import os
import ssl
import struct
import urllib.parse
import zlib

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import cbor

endpoints = [e for e in os.environ.get("KINESIS_ENDPOINTS", "http://127.0.0.1:4567").split(",") if e]
region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
credentials = Credentials(os.environ.get("AWS_ACCESS_KEY_ID", "test"), os.environ.get("AWS_SECRET_ACCESS_KEY", "test"))
JSON = "application/x-amz-json-1.1"
CBOR = "application/x-amz-cbor-1.1"
turn = itertools.count()


class Answer:
    """What came back. `value` is the decoded body, or None if there was none."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.value = None
        kind = headers.get("content-type", "")
        if body and kind.startswith(JSON):
            self.value = json.loads(body)
        elif body and kind.startswith(CBOR):
            self.value = cbor.decode(body)

    @property
    def type(self):
        """The error's name; None with an answer that is none."""
        return self.value.get("__type") if isinstance(self.value, dict) else None

    @property
    def message(self):
        return (self.value.get("message") or self.value.get("Message")) if isinstance(self.value, dict) else None

    def __repr__(self):
        return "%s %s" % (self.status, self.value if self.value is not None else self.body[:300])


def endpoint():
    return endpoints[next(turn) % len(endpoints)]


def connect(url=None, timeout=30):
    where = urllib.parse.urlsplit(url or endpoint())
    if where.scheme == "https":
        return http.client.HTTPSConnection(where.hostname, where.port, timeout=timeout, context=ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"]))
    return http.client.HTTPConnection(where.hostname, where.port, timeout=timeout)


def encode(input, kind):
    if isinstance(input, bytes):
        return input
    if kind == CBOR:
        return cbor.encode(input)
    return json.dumps(input, default=lambda b: base64.b64encode(b).decode()).encode()


class InQuery(SigV4QueryAuth):
    """Signs in the query with the body where it is: botocore's own would move it there."""

    def __init__(self, body, *rest):
        super().__init__(*rest)
        self.hash = hashlib.sha256(body).hexdigest()

    def payload(self, request):
        return self.hash


def signed(operation, body, kind=JSON, url=None, keys=None, presign=False, headers=None):
    """(path, headers) of a signed request."""
    url = url or endpoint()
    request = AWSRequest("POST", url + "/", data=None if presign else body, headers={"X-Amz-Target": "Kinesis_20131202." + operation, "Content-Type": kind, **(headers or {})})
    (InQuery(body, keys or credentials, "kinesis", region) if presign else SigV4Auth(keys or credentials, "kinesis", region)).add_auth(request)
    where = urllib.parse.urlsplit(request.url)
    return where.path + ("?" + where.query if where.query else ""), dict(request.headers.items())


def exchange(method, path, body, headers, url=None):
    """One request on a connection of its own, with exactly these headers (and Host, Content-Length)."""
    connection = connect(url)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def call(operation, input=None, kind=JSON, url=None, **how):
    """Calls an operation; `input` is a dict (bytes in it are blobs) or a body as it is."""
    url = url or endpoint()
    body = encode({} if input is None else input, kind)
    path, headers = signed(operation, body, kind, url, **how)
    return exchange("POST", path, body, headers, url)


def good(operation, input=None, **how):
    """The same, where only success makes sense."""
    answer = call(operation, input, **how)
    if answer.status != 200:
        raise AssertionError("%s %s: %r" % (operation, str(input)[:200], answer))
    return answer.value or {}


def frames(stream):
    """The frames of an event stream that is read from a file-like object: (headers, payload), checksums verified."""
    while True:
        prelude = stream.read(12)
        if not prelude:
            return
        total, head_length, checksum = struct.unpack(">III", prelude)
        assert zlib.crc32(prelude[:8]) == checksum, "checksum of a prelude"
        rest = stream.read(total - 12)
        assert len(rest) == total - 12, "a frame is cut off"
        assert zlib.crc32(prelude + rest[:-4]) == struct.unpack(">I", rest[-4:])[0], "checksum of a frame"
        headers, at = {}, 0
        while at < head_length:
            length = rest[at]
            name = rest[at + 1:at + 1 + length].decode()
            at += 1 + length
            assert rest[at] == 7, "a header that is no string"
            size = struct.unpack(">H", rest[at + 1:at + 3])[0]
            headers[name] = rest[at + 3:at + 3 + size].decode()
            at += 3 + size
        yield headers, rest[head_length:-4]
