"""Splits and merges under load: 8 producers put 5,000 records a second, 4 consumers poll and 4 are pushed to, while shards are split and merged and leaders of parents, of children and of
the controller are killed. Nothing may be lost, each key's records stay in order, children follow their parents, and the open shards' ranges always tile.

    campaign.py --dir CLUSTER --cluster deploy/cluster --sluice build/sluice [--reshards 40] [--kills 12] [--rate 5000] [--polling 4] [--pushed 4] [--seed N]"""
import argparse
import base64
import json
import multiprocessing
import random
import subprocess
import sys
import threading
import time

from campaign_readers import Caller, Judge, consume
from fixture import active, consumer, create, drop, open_shards, range_of, shards, tile
from harness import check, equal, run, until

STREAM, PRODUCERS, KEYS = "campaign", 8, 50
parser = argparse.ArgumentParser()
for name, kind, default in (("dir", str, None), ("cluster", str, None), ("sluice", str, None), ("reshards", int, 40), ("kills", int, 12), ("rate", int, 5000), ("polling", int, 4), ("pushed", int, 4),
                            ("seed", int, 1)):
    parser.add_argument("--" + name, type=kind, default=default)
options = parser.parse_args()
sys.argv[1:] = []
chance = random.Random(options.seed)


class Producer(threading.Thread):
    """One record of each of its keys per request; what failed or is unknown is put again before the key goes on."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.number, self.stop, self.again, self.acknowledged, self.failed = number, False, 0, 0, None
        self.next = {b"%d-%d" % (number, k): 0 for k in range(KEYS)}

    def run(self):
        caller, pace = Caller(self.number), KEYS * PRODUCERS / options.rate
        due = time.monotonic()
        while not self.stop:
            left = list(self.next)
            while left:
                status, value = caller.call("PutRecords", {"StreamName": STREAM, "Records": [{"PartitionKey": k.decode(), "Data": base64.b64encode(b"%s %d" % (k, self.next[k])).decode()} for k in left]})
                if status == 200:
                    kept = [k for k, r in zip(left, value["Records"]) if "SequenceNumber" not in r]
                    self.acknowledged += len(left) - len(kept)
                else:
                    kept = left
                    if status == 400:
                        self.failed = value
                        return
                if kept:
                    self.again += len(kept)
                    time.sleep(0.05)
                left = kept
            for k in self.next:
                self.next[k] += 1
            due = max(due + pace, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))


producers, consumers = [], []


def sluice(*words):
    done = subprocess.run([options.sluice, "-o", "json", *words], capture_output=True, text=True, timeout=30)
    return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else None


def cluster(verb, n):
    return subprocess.run([options.cluster, verb, str(n), "--dir", options.dir], capture_output=True, text=True, timeout=90).returncode == 0


def leader_of(shard):
    number = int(shard[-12:])
    found = until(10, lambda: [s["leader"] for s in sluice("shard", "list", STREAM) or [] if s["shard"] == number and s.get("leader")])
    return found[0] if found else None


def controller():
    return (sluice("cluster", "status") or {}).get("controller_leader")


def kill(n):
    """Kills a node now and starts it again two seconds later, in the background."""
    def away():
        time.sleep(2)
        check("node %d comes back" % n, cluster("start", n))

    check("node %d is killed" % n, cluster("kill", n))
    thread = threading.Thread(target=away)
    thread.start()
    return thread


def choose():
    """What to do next: (operation, input, the parents, open shards then)."""
    found = sorted(open_shards(STREAM), key=range_of)
    if len(found) > 8 or (len(found) > 4 and chance.random() < 0.5):
        n = chance.randrange(len(found) - 1)
        a, b = found[n]["ShardId"], found[n + 1]["ShardId"]
        return "MergeShards", {"StreamName": STREAM, "ShardToMerge": a, "AdjacentShardToMerge": b}, [a, b], len(found) - 1
    widest = max(found, key=lambda s: range_of(s)[1] - range_of(s)[0]) if chance.random() < 0.5 else chance.choice(found)
    first, last = range_of(widest)
    return "SplitShard", {"StreamName": STREAM, "ShardToSplit": widest["ShardId"], "NewStartingHashKey": str((first + last) // 2)}, [widest["ShardId"]], len(found) + 1


def reshard(victim):
    operation, input, parents, then = choose()
    away = None
    if victim == "parent" or victim == "controller":
        node = leader_of(parents[0]) if victim == "parent" else controller()
        if node:
            away = threading.Thread(target=lambda: kill(node).join())
            away.start()
            time.sleep(chance.random() * 0.05)
    told = change(operation, input, parents)
    check("%s of %s%s" % (operation, " and ".join(parents), " while the leader of %s is killed" % victim if victim else ""), told is None, told)
    if victim == "child":
        node = leader_of(max(s["ShardId"] for s in open_shards(STREAM)))
        if node:
            away = kill(node)
    if away:
        away.join()
    active(STREAM, 60, OpenShardCount=then)
    found = open_shards(STREAM)
    check("%d open shards tile" % then, tile(found) and len(found) == then, [range_of(s) for s in found])
    everything = {s["ShardId"]: s for s in shards(STREAM)}
    check("the parents are closed", all("EndingSequenceNumber" in everything[p]["SequenceNumberRange"] for p in parents))
    check("no child begins below its parent's end", all(int(s["SequenceNumberRange"]["StartingSequenceNumber"]) > int(everything[p]["SequenceNumberRange"]["EndingSequenceNumber"])
                                                         for s in everything.values() for p in (s.get("ParentShardId"), s.get("AdjacentParentShardId")) if p in everything))


def change(operation, input, parents):
    """Splits or merges, with answers that are unknown: asks again until the parents are closed. None, or the error."""
    caller, deadline, answer = Caller(chance.randrange(3)), time.monotonic() + 60, None
    while time.monotonic() < deadline:
        status, value = caller.call(operation, input)
        if status == 200:
            return None
        answer = (status, value)
        name = (value or {}).get("__type")
        if status == 400 and name not in ("ResourceInUseException", "LimitExceededException"):
            return answer
        listed = caller.call("ListShards", {"StreamName": STREAM})
        if listed[0] == 200 and all("EndingSequenceNumber" in s["SequenceNumberRange"] for s in listed[1]["Shards"] if s["ShardId"] in parents):
            return None
        time.sleep(0.2)
    return answer


def judge():
    """What judges sees a gap, a number that falls, and what came twice."""
    def of(*records):
        judge = Judge("itself")
        judge.take("a shard", [{"Data": base64.b64encode(b"k %d" % n), "SequenceNumber": str(sequence)} for n, sequence in records])
        return len(judge.wrong), judge.repeated

    equal("in order", of((0, 1), (1, 2), (2, 3)), (0, 0))
    equal("a gap", of((0, 1), (2, 3)), (1, 0))
    equal("a number that falls", of((0, 5), (1, 4)), (1, 0))
    equal("twice", of((0, 1), (0, 2), (1, 3)), (0, 1))


def begin():
    create(STREAM, 4)
    arns = [consumer(STREAM, "pushed-%d" % n) for n in range(options.pushed)]
    for n in range(options.polling + options.pushed):
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=consume, args=(STREAM, n, arns[n - options.polling] if n >= options.polling else None, theirs), daemon=True)
        process.start()
        consumers.append((process, ours))
    for n in range(PRODUCERS):
        producers.append(Producer(n))
        producers[-1].start()
    check("records are put", until(10, lambda: sum(p.acknowledged for p in producers) > options.rate))


def storm():
    every = max(1, options.reshards // max(1, options.kills))
    roles = ["parent", "child", "controller"]
    began, put = time.monotonic(), sum(p.acknowledged for p in producers)
    for n in range(options.reshards):
        kills = n // every
        victim = roles[kills % 3] if n % every == every - 1 and kills < options.kills else None
        reshard(victim)
        time.sleep(0.5)
    took = time.monotonic() - began
    rate = (sum(p.acknowledged for p in producers) - put) / took
    print("%d splits and merges in %.0f s, %.0f records acknowledged per second meanwhile" % (options.reshards, took, rate))


def end():
    for p in producers:
        p.stop = True
    for p in producers:
        p.join(60)
    equal("no producer was refused", [p.failed for p in producers if p.failed], [])
    check("each producer has ended", not any(p.is_alive() for p in producers))
    wanted = {k: n for p in producers for k, n in p.next.items()}
    print("%d records acknowledged, %d put again" % (sum(p.acknowledged for p in producers), sum(p.again for p in producers)))
    for _, pipe in consumers:
        pipe.send(wanted)
    for process, pipe in consumers:
        found = pipe.recv() if pipe.poll(150) else {"name": "a consumer", "lost": "it does not answer", "wrong": [], "records": 0, "repeated": 0, "shards": 0}
        equal("%s: nothing is lost" % found["name"], found["lost"], {})
        equal("%s: each key in order, with rising numbers" % found["name"], found["wrong"], [])
        check("%s: all records came" % found["name"], found["records"] >= sum(wanted.values()), found["records"])
        print("%(name)s: %(records)d records of %(shards)d shards, %(repeated)d of them twice" % found)
        process.terminate()
        process.join(10)
    check("the stream is deleted", drop(STREAM))


if __name__ == "__main__":
    run("campaign", judge, begin, storm, end)
