"""Attacks on the Kinesis port of node 1, while others put and get at all nodes: each attack gets a clear error or is closed, memory stays within --rss-max MiB, and no call of the others fails.

    hostile_http.py --pid PID ... --rss-max MIB [PART...]"""
import json
import os
import socket
import struct
import sys
import threading
import time
import urllib.parse

import h2
from fixture import create, drop, iterator
from harness import check, equal, run, until
from wire import call, endpoints, good, signed

target = endpoints[0]
where = urllib.parse.urlsplit(target)
pids, rss_max_mib = [], 1024
S0 = "shardId-000000000000"


def options():
    global rss_max_mib
    rest = []
    words = iter(sys.argv[1:])
    for word in words:
        if word == "--pid":
            pids.append(int(next(words)))
        elif word == "--rss-max":
            rss_max_mib = int(next(words))
        else:
            rest.append(word)
    sys.argv[1:] = rest


def rss_mib(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) // 1024 for line in f if line.startswith("VmRSS"))


class Others(threading.Thread):
    """Puts and gets at every node all the time; what fails, and what is the most memory of a node. They try again what the SDKs try again, as long as those do."""

    def call(self, operation, input, url):
        for pause in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 0):
            got = call(operation, input, url=url)
            if got.status < 500 and got.type != "ProvisionedThroughputExceededException":
                break
            self.again += 1
            time.sleep(pause)
        return got

    def __init__(self):
        super().__init__(daemon=True)
        self.stop, self.done, self.again, self.failed, self.peak, self.slowest = False, 0, 0, [], 0, 0.0

    def run(self):
        n = 0
        while not self.stop:
            url = endpoints[n % len(endpoints)]
            try:
                began = time.monotonic()
                put = self.call("PutRecord", {"StreamName": "victim", "Data": b"%d" % n, "PartitionKey": "k"}, url)
                at = self.call("GetShardIterator", {"StreamName": "victim", "ShardId": S0, "ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": (put.value or {}).get("SequenceNumber", "0")}, url)
                got = self.call("GetRecords", {"ShardIterator": (at.value or {}).get("ShardIterator", "x")}, url)
                if not (got.value or {}).get("Records"):
                    self.failed.append("%s: %r %r %r" % (url, put, at, got))
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.done += 1
            except Exception as e:
                self.failed.append("%s: %s: %s" % (url, type(e).__name__, e))
            self.peak = max([self.peak] + [rss_mib(pid) for pid in pids])
            n += 1
            time.sleep(0.02)


others = Others()


def dial(seconds=10):
    return socket.create_connection((where.hostname, where.port), timeout=seconds)


def answer(s):
    """The status of the answer, 0 if the connection was closed without one, None if nothing came in time."""
    got = b""
    try:
        while b"\r\n" not in got:
            part = s.recv(4096)
            if not part:
                return 0
            got += part
    except TimeoutError:
        return None
    except OSError:
        return 0
    return int(got[9:12]) if got.startswith(b"HTTP/1.1 ") else -1


def still_well(what):
    """The node answers a newcomer, and nobody else was harmed."""
    before = others.done
    check("%s: the node answers" % what, until(10, lambda: call("ListStreams", {}, url=target).status == 200))
    check("%s: others go on" % what, until(10, lambda: others.done > before + 2))
    equal("%s: nothing of theirs failed" % what, others.failed[:2], [])
    check("%s: memory is bounded" % what, others.peak < rss_max_mib, "%d MiB" % others.peak)


def begin():
    create("victim")
    create("large")
    others.start()
    check("the others work", until(10, lambda: others.done > 5) and not others.failed, others.failed[:2])


def rapid_reset():
    c = h2.Connection(target)
    head, sent = h2.request_head([("content-length", "2")]), 0
    for n in range(200):
        batch = b"".join(h2.frame(h2.HEADERS, h2.END_HEADERS, s, head) + h2.frame(h2.RST_STREAM, 0, s, struct.pack(">I", 8)) for s in range(1 + n * 400, n * 400 + 401, 2))
        if not c.send(batch):
            break
        sent += 200
    kind, code = c.ending()
    check("rapid reset: the connection is ended", kind in ("goaway", "closed"), (kind, code, sent))
    c.close()
    still_well("rapid reset")


def continuation_flood():
    c = h2.Connection(target)
    c.send(h2.frame(h2.HEADERS, h2.END_STREAM, 1, h2.request_head()))
    more, sent = h2.headers(*[("x-%d" % n, "y" * 100) for n in range(100)]), 0
    for n in range(3000):
        if not c.send(h2.frame(h2.CONTINUATION, 0, 1, more)) or c.told():
            break
        sent += 1
        time.sleep(0.001)
    check("CONTINUATION flood: the connection is ended, after %d KB" % (sent * len(more) // 1000), sent < 300, sent)
    c.close()
    c = h2.Connection(target)
    c.send(h2.frame(h2.HEADERS, h2.END_STREAM, 1, h2.request_head()), *[h2.frame(h2.CONTINUATION, 0, 1)] * 20000)
    kind, code = c.ending()
    check("empty CONTINUATION frames: the same", kind in ("goaway", "closed"), (kind, code))
    c.close()
    still_well("CONTINUATION flood")


def bad_hpack():
    bomb = b"\x40" + h2.text(b"x") + h2.text(b"y" * 3000) + b"\xbe" * 20000
    for what, block in (("an index that is not there", b"\xff\x80\x80\x01"), ("an integer without end", b"\xff" + b"\xff" * 30), ("a text longer than its frame", b"\x00\x01x\x7f\xff\xff\x7f"),
                        ("a table larger than allowed", b"\x3f\xff\xff\xff\x07"), ("Huffman codes of nothing", b"\x00\x01x\x84\xff\xff\xff\xff"), ("one entry twenty thousand times", bomb)):
        c = h2.Connection(target)
        chunks = [block[n:n + 16000] for n in range(0, len(block), 16000)]
        c.send(h2.frame(h2.HEADERS, h2.END_STREAM | (h2.END_HEADERS if len(chunks) == 1 else 0), 1, chunks[0]),
               *[h2.frame(h2.CONTINUATION, h2.END_HEADERS if n == len(chunks) - 1 else 0, 1, part) for n, part in enumerate(chunks) if n])
        kind, code = c.ending()
        check("HPACK: %s: refused" % what, kind in ("goaway", "closed", "reset"), (kind, code))
        c.close()
    still_well("bad HPACK")


def bad_frames():
    for what, frames in (
            ("a frame of 16 MB", [struct.pack(">I", 0xffffff)[1:] + b"\0\0\0\0\0\1" + b"x" * 100000]), ("a stream of the server's", [h2.frame(h2.HEADERS, 5, 2, h2.request_head())]),
            ("data for nobody", [h2.frame(h2.DATA, 0, 1, b"x")]), ("SETTINGS of 5 bytes", [h2.frame(h2.SETTINGS, 0, 0, b"12345")]), ("a window beyond 2^31", [h2.frame(h2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")] * 2),
            ("PING on a stream", [h2.frame(h2.PING, 0, 1, b"12345678")]), ("PUSH_PROMISE", [h2.frame(h2.PUSH_PROMISE, 4, 1, b"\0\0\0\2")]), ("CONTINUATION of nothing", [h2.frame(h2.CONTINUATION, 4, 1, b"")]),
            ("PING flood", [h2.frame(h2.PING, 0, 0, b"12345678")] * 50000), ("SETTINGS flood", [h2.frame(h2.SETTINGS, 0, 0)] * 50000), ("PRIORITY flood", [h2.frame(h2.PRIORITY, 0, 1, b"\0\0\0\0\1")] * 50000),
            ("empty DATA flood", [h2.frame(h2.HEADERS, 4, 1, h2.request_head())] + [h2.frame(h2.DATA, 0, 1)] * 50000)):
        c = h2.Connection(target)
        c.send(*frames)
        kind, code = c.ending()
        check("HTTP/2: %s: refused" % what, kind in ("goaway", "closed", "reset"), (kind, code))
        c.close()
    still_well("bad frames")


def lengths():
    _, headers = signed("ListStreams", b"{}", url=target)
    lines = "POST / HTTP/1.1\r\nHost: x\r\n" + "".join("%s: %s\r\n" % item for item in headers.items())
    for what, rest, wanted in (
            ("both length headers", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", (400, 0)), ("two lengths", "Content-Length: 2\r\nContent-Length: 20\r\n\r\n{}", (400, 0)),
            ("two equal lengths in one line", "Content-Length: 2, 20\r\n\r\n{}", (400, 0)), ("a length of 2^64", "Content-Length: 18446744073709551618\r\n\r\n{}", (400, 413, 0)),
            ("a negative length", "Content-Length: -1\r\n\r\n", (400, 0)), ("1 GiB announced", "Content-Length: 1073741824\r\n\r\n", (413,)), ("a chunk of 1 TiB", "Transfer-Encoding: chunked\r\n\r\n10000000000\r\nx", (413, 400)),
            ("a chunk size of 17 digits", "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx", (400, 413)), ("chunked not last", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", (400, 501, 0))):
        with dial() as s:
            s.sendall((lines + rest).encode())
            got = answer(s)
            check("%s: refused" % what, got in wanted, got)
    with dial() as s:
        s.sendall((lines + "Content-Length: 2\r\n\r\n{}").replace("\r\n", "\n").encode())
        got = answer(s)
        check("bare line feeds: refused", got in (400, 0), got)
    # Bodies that grow in chunks without end: each is cut at the bound for bodies.
    sockets = []
    for _ in range(32):
        s = dial()
        s.sendall((lines + "Transfer-Encoding: chunked\r\n\r\n").encode())
        sockets.append(s)
    part, refused = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n", []
    for s in sockets:
        try:
            for _ in range(20):
                s.sendall(part)
        except OSError:
            pass
        refused.append(answer(s))
        s.close()
    check("bodies without end: all are cut", all(status in (413, 503, 0) for status in refused) and 413 in refused, refused)
    still_well("lengths")


def slow():
    """Heads and bodies a byte at a time, idle connections by the thousand, answers that nobody reads: at once, and all end within their time or harm nobody."""
    crowd = []
    for _ in range(3000):
        try:
            crowd.append(dial(2))
        except OSError:
            break
    check("thousands of idle connections come, or are refused", len(crowd) > 500, len(crowd))
    still_well("idle connections")
    for s in crowd:
        s.close()
    _, headers = signed("ListStreams", b"{}", url=target)
    lines = "POST / HTTP/1.1\r\nHost: x\r\n" + "".join("%s: %s\r\n" % item for item in headers.items())
    heads = [dial() for _ in range(200)]
    bodies = [dial() for _ in range(200)]
    for s in bodies:
        s.sendall((lines + "Content-Length: 10000000\r\n\r\n{").encode())
    began, ended = time.monotonic(), {}
    while time.monotonic() - began < 25 and len(ended) < 400:
        for n, s in enumerate(heads + bodies):
            if n not in ended:
                try:
                    s.send(b"X")
                    s.setblocking(False)
                    s.recv(1024)  # the refusal, or the end
                    ended[n] = time.monotonic() - began
                except BlockingIOError:
                    pass
                except OSError:
                    ended[n] = time.monotonic() - began
                s.setblocking(True)
        time.sleep(1)
    check("slow heads are ended", sum(n < 200 for n in ended) == 200, len(ended))
    check("slow bodies are ended", sum(n >= 200 for n in ended) == 200, len(ended))
    for s in heads + bodies:
        s.close()
    still_well("slow requests")


def unread():
    """Answers of megabytes that nobody reads, on 60 connections."""
    numbers = [good("PutRecord", {"StreamName": "large", "Data": os.urandom(1000000), "PartitionKey": "k"})["SequenceNumber"] for _ in range(10)]
    body = json.dumps({"ShardIterator": iterator("large", kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[0])}).encode()
    _, headers = signed("GetRecords", body, url=target)
    request = ("POST / HTTP/1.1\r\nHost: %s\r\n" % where.netloc + "".join("%s: %s\r\n" % item for item in headers.items()) + "Content-Length: %d\r\n\r\n" % len(body)).encode() + body
    sockets = []
    for _ in range(60):
        s = dial()
        s.sendall(request * 5)
        sockets.append(s)
    streams = []
    for _ in range(5):
        c = h2.Connection(target, window=1 << 20)
        more = [(k.lower(), v) for k, v in headers.items()] + [("content-length", str(len(body)))]
        c.send(*[h2.frame(h2.HEADERS, h2.END_HEADERS, n, h2.headers((":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", where.netloc), *more)) + h2.frame(h2.DATA, h2.END_STREAM, n, body)
                 for n in range(1, 60, 2)])
        streams.append(c)
    time.sleep(5)
    still_well("unread answers")
    heads = [s.recv(300) for s in sockets if s.settimeout(0.2) is None]
    check("unread answers: some were large", any(head.startswith(b"HTTP/1.1 200") and int(head.lower().split(b"content-length: ")[1].split(b"\r")[0]) > 1000000 for head in heads), heads[:2])
    for s in sockets + streams:
        s.close()


def garbage():
    for what, data in (("random bytes", os.urandom(100000)), ("a megabyte of one letter", b"a" * 1000000), ("half a preface", h2.PREFACE[:20] + b"x" * 100), ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500)),
                       ("lines without end", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100000), ("a path of 1 MB", b"GET /" + b"a" * 1000000)):
        with dial() as s:
            try:
                s.sendall(data)
            except OSError:
                pass
            s.settimeout(15)
            got = answer(s)
            check("%s: refused or closed" % what, got is not None and got != 200, got)
    still_well("garbage")


def end():
    others.stop = True
    others.join(30)
    equal("no call of the others has failed", others.failed[:3], [])
    print("the others made %d rounds of put and get at %d nodes, the slowest took %.0f ms, %d calls were tried again; no node had more than %d MiB"
          % (others.done, len(endpoints), others.slowest * 1000, others.again, others.peak))
    check("the streams are deleted", drop("victim") and drop("large"))


if __name__ == "__main__":
    options()
    run("hostile HTTP", begin, rapid_reset, continuation_flood, bad_hpack, bad_frames, lengths, slow, unread, garbage, end)
