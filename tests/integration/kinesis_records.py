"""Records through the Kinesis endpoints of a cluster, by boto3: what was acknowledged is there once, byte for byte, while nodes die and shards are split. Run by kinesis_records.sh."""
import hashlib
import os
import random
import subprocess
import sys
import threading
import time

import boto3
from botocore.config import Config

endpoints = os.environ["KINESIS_ENDPOINTS"].split(",")
config = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=25, max_pool_connections=20)
clients = [boto3.client("kinesis", endpoint_url=e, region_name="us-east-1", config=config) for e in endpoints]
checks = failures = 0


def check(what, condition, seen=""):
    global checks, failures
    checks += 1
    failures += not condition
    print("%s %s%s" % ("ok" if condition else "FAIL:", what, "" if condition else " (%s)" % (seen,)), flush=True)


def anyone(turn, f):
    """Asks the nodes in turn until one answers; the wish may then have been carried out more than once."""
    end = time.monotonic() + 40
    while True:
        turn += 1
        try:
            return f(clients[turn % len(clients)])
        except Exception:  # noqa: BLE001 whatever the matter is, another node is asked
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def read_all(stream, until, seconds=60):
    """Every record of the stream by shard, following children, until until(records) or all shards are read to their end."""
    found, ended, todo, turn = {}, {}, {}, 0
    for s in anyone(0, lambda k: k.list_shards(StreamName=stream))["Shards"]:
        if "ParentShardId" not in s:
            todo[s["ShardId"]] = None
    end = time.monotonic() + seconds
    while todo and time.monotonic() < end:
        for shard in list(todo):
            turn += 1
            if todo[shard] is None:
                todo[shard] = anyone(turn, lambda k: k.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"))["ShardIterator"]
            answer = anyone(turn, lambda k: k.get_records(ShardIterator=todo[shard], Limit=random.choice([1, 7, 100, 10000])))
            found.setdefault(shard, []).extend(answer["Records"])
            assert ("NextShardIterator" in answer) != ("ChildShards" in answer), answer
            if "NextShardIterator" in answer:
                todo[shard] = answer["NextShardIterator"]
                continue
            del todo[shard]
            ended[shard] = answer["ChildShards"]
            for child in answer["ChildShards"]:
                if all(p in ended for p in child["ParentShards"]):
                    todo[child["ShardId"]] = None
        if until(found):
            break
    return found, ended


def count(found):
    return sum(len(r) for r in found.values())


def in_order(found):
    return all(int(a["SequenceNumber"]) < int(b["SequenceNumber"]) for r in found.values() for a, b in zip(r, r[1:]))


def roundtrip(kill):
    """1,000 random records over 4 shards through all endpoints; `kill` is the command that ends a node meanwhile. Each writer goes on at other nodes."""
    clients[0].create_stream(StreamName="round", ShardCount=4)
    anyone(0, lambda k: k.get_waiter("stream_exists").wait(StreamName="round", WaiterConfig={"Delay": 1, "MaxAttempts": 30}))
    acknowledged, lock, n = {}, threading.Lock(), 1000

    def write(w):
        rng = random.Random(w)
        for i in range(w, n, 10):
            todo = [(b"%d " % i + rng.randbytes(rng.choice([0, 1, 100, 1000, 20000])), "key-%d" % i)]
            if i % 3 == 0:
                answer = anyone(i, lambda k: k.put_record(StreamName="round", Data=todo[0][0], PartitionKey=todo[0][1]))
                with lock:
                    acknowledged[(answer["ShardId"], answer["SequenceNumber"])] = todo[0]
                continue
            todo += [(b"%d.%d " % (i, j) + rng.randbytes(50), "key-%d-%d" % (i, j)) for j in range(20)]
            end = time.monotonic() + 60
            while todo and time.monotonic() < end:
                answer = anyone(i, lambda k: k.put_records(StreamName="round", Records=[{"Data": d, "PartitionKey": key} for d, key in todo]))
                left = []
                for entry, record in zip(answer["Records"], todo):
                    if "SequenceNumber" in entry:
                        with lock:
                            acknowledged[(entry["ShardId"], entry["SequenceNumber"])] = record
                    else:
                        left.append(record)
                assert answer["FailedRecordCount"] == len(left), answer
                todo = left
            assert not todo, "not everything could be put in time"

    threads = [threading.Thread(target=write, args=(w,)) for w in range(10)]
    for t in threads:
        t.start()
    time.sleep(0.5)
    subprocess.run(kill, shell=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for t in threads:
        t.join()
    wanted = 1000 // 3 + 1 + (1000 - 1000 // 3 - 1) * 21
    check("every record was acknowledged", len(acknowledged) == wanted, (len(acknowledged), wanted))
    found, _ = read_all("round", lambda f: count(f) >= wanted)
    stored = {(s, r["SequenceNumber"]): (r["Data"], r["PartitionKey"]) for s, records in found.items() for r in records}
    lost = [k for k in acknowledged if k not in stored]
    check("nothing acknowledged is lost", not lost, (len(lost), lost[:3]))
    wrong = [k for k, v in acknowledged.items() if k in stored and stored[k] != v]
    check("every record has its bytes and its key under its number", not wrong, wrong[:3])
    check("numbers rise in each shard", in_order(found))
    check("all shards have records", len([s for s in found if found[s]]) == 4, found.keys())


def split_while_reading(split):
    anyone(1, lambda k: k.create_stream(StreamName="split", ShardCount=1))
    anyone(1, lambda k: k.get_waiter("stream_exists").wait(StreamName="split", WaiterConfig={"Delay": 1, "MaxAttempts": 30}))
    wanted, stop = [], threading.Event()

    def write():
        i = 0
        while not stop.is_set():
            answer = anyone(i, lambda k: k.put_records(StreamName="split", Records=[{"Data": b"%d" % j, "PartitionKey": str(j)} for j in range(i, i + 50)]))
            wanted.extend(b"%d" % (i + j) for j, e in enumerate(answer["Records"]) if "SequenceNumber" in e)
            i += 50
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    result = []
    reader = threading.Thread(target=lambda: result.extend(read_all("split", lambda f: stop.is_set() and count(f) >= len(wanted))))
    writer.start()
    reader.start()
    time.sleep(1)
    subprocess.run(split, shell=True, check=True, stdout=subprocess.DEVNULL)
    time.sleep(3)
    stop.set()
    writer.join()
    reader.join()
    found, ended = result
    got = [r["Data"] for records in found.values() for r in records]
    check("everything put through a split is read, once", sorted(got) == sorted(wanted), (len(got), len(wanted), len(set(got))))
    check("the parent ended with two children", sorted(c["ShardId"] for c in ended.get("shardId-000000000000", [])) == ["shardId-000000000001", "shardId-000000000002"], ended)
    check("which name their parent and their keys", all(c["ParentShards"] == ["shardId-000000000000"] and set(c["HashKeyRange"]) == {"StartingHashKey", "EndingHashKey"} for c in ended["shardId-000000000000"]))
    check("numbers rise in each shard", in_order(found))
    last, first = found["shardId-000000000000"][-1], [found[s][0] for s in found if s != "shardId-000000000000" and found[s]]
    check("children's numbers lie above their parent's", len(first) == 2 and all(int(last["SequenceNumber"]) < int(r["SequenceNumber"]) for r in first))


def exact_cuts():
    """Limit cuts in the middle of batches; 10 MiB end an answer."""
    anyone(0, lambda k: k.create_stream(StreamName="cuts", ShardCount=1))
    anyone(0, lambda k: k.get_waiter("stream_exists").wait(StreamName="cuts", WaiterConfig={"Delay": 1, "MaxAttempts": 30}))
    put = [b"%d" % i for i in range(500)]
    anyone(0, lambda k: k.put_records(StreamName="cuts", Records=[{"Data": d, "PartitionKey": "k"} for d in put]))
    at = anyone(1, lambda k: k.get_shard_iterator(StreamName="cuts", ShardId="0", ShardIteratorType="TRIM_HORIZON"))["ShardIterator"]
    got, sizes = [], []
    for turn, limit in enumerate([1, 2, 99, 300, 7, 90, 5]):
        answer = anyone(turn, lambda k: k.get_records(ShardIterator=at, Limit=limit))
        got += [r["Data"] for r in answer["Records"]]
        sizes.append(len(answer["Records"]))
        behind = answer["MillisBehindLatest"]
        if len(got) < 500 and behind == 0:
            check("more is there, so it is behind", False, (len(got), behind))
        at = answer["NextShardIterator"]
    check("each answer has just Limit records", sizes == [1, 2, 99, 300, 7, 90, 1], sizes)
    check("in order, none twice", got == put)
    check("at the end MillisBehindLatest is 0", behind == 0, behind)
    big = [hashlib.sha512(b"%d" % i).digest() * 8000 for i in range(25)]
    for i in range(0, 25, 5):
        anyone(i, lambda k: k.put_records(StreamName="cuts", Records=[{"Data": d, "PartitionKey": "k"} for d in big[i:i + 5]]))
    answer = anyone(2, lambda k: k.get_records(ShardIterator=at))
    check("an answer has at most 10 MiB", [r["Data"] for r in answer["Records"]] == big[:20], len(answer["Records"]))
    answer = anyone(2, lambda k: k.get_records(ShardIterator=answer["NextShardIterator"]))
    check("the next one has the rest", [r["Data"] for r in answer["Records"]] == big[20:], len(answer["Records"]))


exact_cuts()
roundtrip(sys.argv[1])
split_while_reading(sys.argv[2])
print("%d checks, %d failures" % (checks, failures))
sys.exit(failures > 0)
