"""A cluster with limits on: what AWS answers when there is too much of something. Times are long enough for a slow machine: a limit that is not reached within many calls fails."""
import base64
import os
import time

from fixture import SPACE, arn, create, iterator
from harness import check, equal, matches, run
from wire import call, good

S0 = "shardId-000000000000"
PTE = "ProvisionedThroughputExceededException"


def writes():
    create("limits", 2)
    size = 200000
    low = [{"Data": os.urandom(size), "PartitionKey": "k", "ExplicitHashKey": "0"} for _ in range(12)]
    high = {"Data": b"other shard", "PartitionKey": "k", "ExplicitHashKey": str(SPACE - 1)}
    for _ in range(10):
        answer = good("PutRecords", {"StreamName": "limits", "Records": low + [high]})
        if answer["FailedRecordCount"]:
            break
    failed = [r for r in answer["Records"] if "ErrorCode" in r]
    check("2.4 MB in one second are too much for a shard", 0 < len(failed) <= 12, answer["FailedRecordCount"])
    equal("FailedRecordCount counts them", answer["FailedRecordCount"], len(failed))
    equal("an entry for each record, in order", len(answer["Records"]), 13)
    check("each names its error", all(r["ErrorCode"] == PTE for r in failed), failed[:1])
    matches("and says where", failed[0]["ErrorMessage"], r"^Rate exceeded for shard shardId-000000000000 in stream limits under account \d{12}\.$")
    check("and has no place", all("SequenceNumber" not in r and "ShardId" not in r for r in failed))
    check("the other shard's record is stored", "SequenceNumber" in answer["Records"][12], answer["Records"][12])
    names = set()
    for _ in range(40):
        one = call("PutRecord", {"StreamName": "limits", "Data": os.urandom(size), "PartitionKey": "k", "ExplicitHashKey": "0"})
        names.add(one.type)
        if one.type:
            break
    equal("PutRecord is refused as a whole", (one.status, one.type), (400, PTE))
    matches("with the same words", one.message, "^Rate exceeded for shard shardId-000000000000 in stream limits under account")
    time.sleep(1.5)
    again = call("PutRecord", {"StreamName": "limits", "Data": b"x", "PartitionKey": "k", "ExplicitHashKey": "0"})
    equal("a second later it goes on", again.status, 200)
    for _ in range(6):
        answer = good("PutRecords", {"StreamName": "limits", "Records": [{"Data": b"x", "PartitionKey": "k", "ExplicitHashKey": str(SPACE - 1)}] * 500})
        if answer["FailedRecordCount"]:
            break
    check("a thousand records per second", answer["FailedRecordCount"] > 0 and all(r["ErrorCode"] == PTE for r in answer["Records"] if "ErrorCode" in r), answer["FailedRecordCount"])


def reads():
    at = iterator("limits", kind="LATEST")
    answers = [call("GetRecords", {"ShardIterator": at}) for _ in range(30)]
    refused = [a for a in answers if a.status != 200]
    check("thirty GetRecords in a row: more than five, so some are refused", len(refused) > 5, len(refused))
    check("each with its name", all((a.status, a.type) == (400, PTE) for a in refused), refused[:1])
    check("and five are done", len(answers) - len(refused) >= 5, len(refused))
    matches("words", refused[0].message if refused else "", "^Rate exceeded for shard shardId-000000000000 in stream limits under account")
    time.sleep(1.2)
    equal("a second later it goes on", call("GetRecords", {"ShardIterator": at}).status, 200)
    time.sleep(1)
    answer = call("GetRecords", {"ShardIterator": iterator("limits")})
    check("a large answer", answer.status == 200 and len(answer.value["Records"]) > 5, answer.type)
    got = sum(len(base64.b64decode(r["Data"])) for r in answer.value["Records"]) if answer.status == 200 else 0
    answer = call("GetRecords", {"ShardIterator": at})
    check("the shard pays for %d bytes before it is read again" % got, got < 4000000 or answer.type == PTE, answer)
    iterators = [call("GetShardIterator", {"StreamName": "limits", "ShardId": "shardId-000000000001", "ShardIteratorType": "LATEST"}) for _ in range(40)]
    refused = [a for a in iterators if a.status != 200]
    check("five GetShardIterator a second and shard", refused and all(a.type == PTE for a in refused), [a.type for a in refused][:3])


def control():
    for operation, input in (("DescribeLimits", {}), ("ListStreams", {}), ("DescribeStream", {"StreamName": "limits"}), ("ListStreamConsumers", {"StreamARN": arn("limits")}),
                             ("DescribeStreamSummary", {"StreamName": "limits"})):
        refused = None
        for n in range(200):
            answer = call(operation, input)
            if answer.status != 200:
                refused = answer
                break
        check("%s has a rate" % operation, refused is not None and refused.type == "LimitExceededException", refused)
        matches("%s says so" % operation, refused.message if refused else "", "Rate exceeded")
    time.sleep(1.5)
    equal("after a while it is done again", call("ListStreams", {}).status, 200)


def patient(operation, input):
    """Asks again while it is asked too often."""
    for _ in range(60):
        answer = call(operation, input)
        if not (answer.type == "LimitExceededException" and "Rate exceeded" in answer.message):
            return answer
        time.sleep(0.3)
    return answer


def counts():
    answers = []
    while len(answers) < 40 and (not answers or answers[-1].status == 200):
        answer = patient("RegisterStreamConsumer", {"StreamARN": arn("limits"), "ConsumerName": "c%d" % len(answers)})
        if answer.type == "LimitExceededException" and len(answers) % 5 == 0 and 0 < len(answers) < 20:
            time.sleep(1)  # five are CREATING
            answer = patient("RegisterStreamConsumer", {"StreamARN": arn("limits"), "ConsumerName": "c%d" % len(answers)})
        answers.append(answer)
    equal("twenty consumers and no more", (len(answers) - 1, answers[-1].type), (20, "LimitExceededException"))
    answer = patient("CreateStream", {"StreamName": "limits-wide", "ShardCount": 100000})
    equal("shards of an account", answer.type, "LimitExceededException")
    matches("says how many there are", answer.message, r"\d")


def end():
    equal("the stream is deleted", patient("DeleteStream", {"StreamName": "limits", "EnforceConsumerDeletion": True}).status, 200)


if __name__ == "__main__":
    run("limits", writes, reads, control, counts, end)
