"""build/sluiced alone, as an emulator for development: how soon it answers, what it holds when idle, and that everything is there after a restart.

    emulator.py SLUICED FOLDER KINESIS-PORT OTHER-PORT OTHER-PORT"""
import base64
import os
import signal
import subprocess
import sys
import time

program, folder, port, native, admin = sys.argv[1:6]
os.environ["KINESIS_ENDPOINTS"] = "http://127.0.0.1:%s" % port
sys.argv[1:] = []

from campaign_readers import Caller
from fixture import active, arn, consumer, shards
from harness import check, equal, run, until
from wire import call, good

node = None


def start():
    global node
    with open(folder + "/log", "a") as log:
        node = subprocess.Popen([program, "--kinesis", "127.0.0.1:" + port, "--listen", "127.0.0.1:" + native, "--admin", "127.0.0.1:" + admin], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def at_once(operation, input):
    """As soon as the node does it: asked again every 2 ms. What it answers, and when."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status, value = Caller().call(operation, input)
        if status == 200:
            return value, time.monotonic()
        time.sleep(0.002)
    raise AssertionError("%s: %s %s" % (operation, status, value))


def rss_kib():
    with open("/proc/%d/status" % node.pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def soon():
    began = time.monotonic()
    start()
    _, created = at_once("CreateStream", {"StreamName": "first", "ShardCount": 1})
    put, stored = at_once("PutRecord", {"StreamName": "first", "PartitionKey": "k", "Data": base64.b64encode(b"hello").decode()})
    at, _ = at_once("GetShardIterator", {"StreamName": "first", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"})
    got, read = at_once("GetRecords", {"ShardIterator": at["ShardIterator"]})
    equal("the record comes back", [(base64.b64decode(r["Data"]), r["SequenceNumber"]) for r in got["Records"]], [(b"hello", put["SequenceNumber"])])
    check("within two seconds, on whatever machine", read - began < 2, read - began)
    print("after the start of the process: CreateStream answered at %.0f ms, PutRecord at %.0f ms, GetRecords at %.0f ms" % tuple((t - began) * 1000 for t in (created, stored, read)))


def idle():
    time.sleep(3)
    print("resident when idle, with one stream: %d KiB" % rss_kib())
    check("less than 32 MiB when idle", rss_kib() < 32 * 1024, "%d KiB" % rss_kib())


def again():
    good("CreateStream", {"StreamName": "kept", "ShardCount": 2, "Tags": {"made": "before"}})
    active("kept")
    for n in range(100):
        good("PutRecord", {"StreamName": "kept", "Data": b"%d" % n, "PartitionKey": "k"})
    home = good("PutRecord", {"StreamName": "kept", "Data": b"100", "PartitionKey": "k"})["ShardId"]
    reader = consumer("kept", "reader")
    at = good("GetShardIterator", {"StreamName": "kept", "ShardId": home, "ShardIteratorType": "TRIM_HORIZON"})["ShardIterator"]
    before = shards("kept")
    for end, status in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        node.send_signal(end)
        equal("%s: how it ends" % end.name, node.wait(20), status)
        start()
        check("%s: it is back" % end.name, until(20, lambda: Caller().call("ListStreams", {})[0] == 200))
        active("kept")
        found = good("GetRecords", {"ShardIterator": at})["Records"]
        equal("%s: every record, by an iterator from before" % end.name, [int(base64.b64decode(r["Data"])) for r in found], list(range(101)))
        equal("%s: the shards" % end.name, shards("kept"), before)
        equal("%s: the tags" % end.name, good("ListTagsForStream", {"StreamName": "kept"})["Tags"], [{"Key": "made", "Value": "before"}])
        equal("%s: the consumer" % end.name, [c["ConsumerARN"] for c in good("ListStreamConsumers", {"StreamARN": arn("kept")})["Consumers"]], [reader])
        more = good("PutRecord", {"StreamName": "kept", "Data": b"x", "PartitionKey": "other", "ExplicitHashKey": "0"})
        check("%s: it goes on" % end.name, more["SequenceNumber"] > found[-1]["SequenceNumber"] or more["ShardId"] != home)
    equal("any credentials are taken", call("ListStreams", {}).status, 200)


try:
    run("emulator", soon, idle, again)
finally:
    if node and node.poll() is None:
        node.kill()
        node.wait()
