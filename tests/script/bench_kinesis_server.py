"""A server for bench_kinesis.sh that answers PutRecords as it is told, and writes what it saw. Usage: bench_kinesis_server.py MODE FOLDER [CERT KEY]

It listens on a free port of 127.0.0.1, whose number goes into FOLDER/port, and keeps one line per connection and request in FOLDER/seen.
"""
import base64
import http.server
import json
import os
import ssl
import sys
import threading
import time

mode, folder = sys.argv[1:3]
lock = threading.Lock()
made = set()
puts = 0
keys = []
seen = open(os.path.join(folder, "seen"), "w", buffering=1)


def replace(name, text):
    """Whole or not at all: the reader does not wait, and the process may end at any time."""
    path = os.path.join(folder, name)
    with open(path + ".new", "w") as f:
        f.write(text)
    os.rename(path + ".new", path)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle(self):
        seen.write("connection\n")
        try:
            super().handle()
        except OSError:
            pass

    def answer(self, status, body, closes=False):
        body = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        if mode != "no-length":
            self.send_header("Content-Length", str(len(body)))
        if closes:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def error(self, status, name, message="said so"):
        self.answer(status, json.dumps({"__type": name, "message": message}))

    def do_POST(self):
        global puts
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = json.loads(body)
        operation = self.headers["X-Amz-Target"].split(".")[1]
        name = request["StreamName"]
        seen.write(operation + "\n")
        if operation == "CreateStream":
            made.add(name)
            seen.write("shards %d\n" % request["ShardCount"])
            return self.answer(200, "", closes=mode == "closes")
        if operation == "DescribeStreamSummary":
            if name not in made:
                return self.error(400, "com.amazonaws.kinesis.v20131202#ResourceNotFoundException")
            summary = {"StreamName": name, "StreamStatus": "ACTIVE", "OpenShardCount": 3}
            return self.answer(200, json.dumps({"StreamDescriptionSummary": summary}), closes=mode == "closes")
        with lock:
            puts += 1
            n = puts
            for r in request["Records"]:
                base64.b64decode(r["Data"], validate=True)
        seen.write("records %d\n" % len(request["Records"]))
        if mode == "dies" and n > 4:
            os._exit(0)
        if mode == "resets" and n % 5 == 3:
            self.close_connection = True
            return
        if mode == "refuses":
            return self.error(400, "InvalidArgumentException", "no such thing")
        if mode == "breaks" and n == 2:
            return self.error(500, "InternalFailure")
        if mode == "busy" and n % 2 == 1:
            return self.error(400, "ProvisionedThroughputExceededException")
        if mode == "nonsense":
            return self.answer(200, '{"Records":[')
        if mode == "short":
            request["Records"].pop()
        if mode == "slow":
            time.sleep(0.2)
        results, failed = [], 0
        for i, r in enumerate(request["Records"]):
            with lock:
                if mode == "throttles" and n % 3 == 1 and i % 4 == 2:
                    results.append({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded"})
                    failed += 1
                    continue
                if mode == "fails" and i == 1:
                    code = "InternalFailure" if n % 2 else "KMSAccessDeniedException"
                    results.append({"ErrorCode": code, "ErrorMessage": "for a reason"})
                    failed += 1
                    continue
                keys.append(r["PartitionKey"])
                results.append({"SequenceNumber": str(len(keys)), "ShardId": "shardId-000000000000"})
        with lock:
            replace("stored", "%d %d\n" % (len(keys), len(set(keys))))
        self.answer(200, json.dumps({"FailedRecordCount": failed, "Records": results}), closes=mode == "closes")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


server = Server(("127.0.0.1", 0), Handler)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
replace("port", "%d\n" % server.server_address[1])
server.serve_forever()
