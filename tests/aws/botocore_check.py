"""Compares sluice-aws-vectors with botocore: signatures, frames of the event stream, the API model. See tests/script/aws_botocore.sh."""
import calendar
import datetime
import json
import os
import random
import subprocess
import sys
import urllib.parse

import botocore
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer

VECTORS = sys.argv[1]
failures = []
checks = 0


def check(ok, what):
    global checks
    checks += 1
    if not ok:
        failures.append(what)


def run(argument, data=b''):
    return subprocess.run([VECTORS, argument], input=data, stdout=subprocess.PIPE, check=True).stdout


# ---- signatures ------------------------------------------------------------------------------------------------------------

def signed(rng, presigned):
    """A request as botocore signs it, as a dictionary of the fields of `verify`."""
    path = rng.choice(['/', '', '/a/b', '/a%20b/c', '/x//y/../z/', '/\u00e9'])
    query = [(rng.choice(['a', 'b', 'A-1', 'x y']), rng.choice(['', '1', 'v w', '/+=', '\u00fc~', 'a%b'])) for _ in range(rng.randrange(4))]
    url = 'http://' + rng.choice(['localhost:4567', 'kinesis.us-east-1.amazonaws.com']) + urllib.parse.quote(path, safe='/%')
    if query:
        url += '?' + '&'.join(urllib.parse.quote(k, safe='') + '=' + urllib.parse.quote(v, safe='') for k, v in query)
    # The signer of queries moves a JSON body's members into the query.
    body = b'{"Limit": "3"}' if presigned else rng.randbytes(rng.randrange(200))
    headers = {'X-Amz-Target': 'Kinesis_20131202.ListStreams', 'Content-Type': 'application/x-amz-json-1.1'}
    if rng.random() < 0.5:
        headers['X-Blanks'] = '  a    b  '
    request = AWSRequest(method='POST', url=url, data=body, headers=headers)
    secret = ''.join(rng.choices('abcdefghijklmnopqrstuvwxyzABC/+', k=40))
    token = rng.choice([None, 'token/with+signs=='])
    signer = (SigV4QueryAuth if presigned else SigV4Auth)(Credentials('AKIDEXAMPLE', secret, token), 'kinesis', rng.choice(['us-east-1', 'eu-west-3']))
    signer.add_auth(request)
    parts = urllib.parse.urlsplit(request.url)
    when = dict(urllib.parse.parse_qsl(parts.query)).get('X-Amz-Date') or request.context['timestamp']
    fields = {'method': 'POST', 'target': (parts.path or '/') + ('?' + parts.query if parts.query else ''), 'body': request.body or b'', 'secret': secret,
              'region': signer._region_name, 'now': calendar.timegm(datetime.datetime.strptime(when, '%Y%m%dT%H%M%SZ').timetuple()),
              'headers': [(k, v) for k, v in request.headers.items()]}
    if not any(k.lower() == 'host' for k, _ in fields['headers']):
        fields['headers'].append(('Host', parts.netloc))
    return fields


def text(fields):
    lines = ['method ' + fields['method'], 'target ' + fields['target'], 'secret ' + fields['secret'], 'region ' + fields['region'],
             'now %d' % fields['now'], 'body ' + fields['body'].hex()]
    lines += ['header %s:%s' % (k, v if isinstance(v, str) else v.decode()) for k, v in fields['headers']]
    return '\n'.join(lines) + '\n\n'


def changed(rng, fields):
    """The same request with one thing changed that its signature covers."""
    other = dict(fields, headers=list(fields['headers']))
    what = rng.choice(['method', 'target', 'body', 'secret', 'host', 'operation', 'now'])
    if what == 'method':
        other['method'] = 'PUT'
    elif what == 'target':
        other['target'] = '/other' + other['target']
    elif what == 'body':
        other['body'] = other['body'] + b'x'
    elif what == 'secret':
        other['secret'] = other['secret'][:-1] + '_'
    elif what == 'now':
        other['now'] += 4000
    else:
        name = 'host' if what == 'host' else 'x-amz-target'
        other['headers'] = [(k, str(v) + 'x' if k.lower() == name else v) for k, v in other['headers']]
    return what, other


def signatures():
    rng = random.Random(1)
    requests = [('good', signed(rng, i % 3 == 0)) for i in range(300)]
    requests += [changed(rng, signed(rng, i % 3 == 0)) for i in range(300)]
    answers = run('verify', ''.join(text(f) for _, f in requests).encode()).decode().splitlines()
    check(len(answers) == len(requests), 'an answer to each request')
    for (what, fields), answer in zip(requests, answers):
        if what == 'good':
            check(answer == 'ok', 'signed by botocore: %s: %s' % (answer, fields))
        else:
            expected = 'Signature expired' if what == 'now' else 'does not match the signature you provided'
            check(answer.startswith('InvalidSignatureException') and expected in answer, '%s was changed: %s: %s' % (what, answer, fields))


# ---- the event stream --------------------------------------------------------------------------------------------------------

def events():
    buffer = EventStreamBuffer()
    buffer.add_data(run('events'))
    frames = [frame.to_response_dict() for frame in buffer]
    check(len(frames) == 3, 'three frames, not %d' % len(frames))
    first, event, error = frames
    check(first['headers'] == {':message-type': 'event', ':event-type': 'initial-response', ':content-type': 'application/x-amz-json-1.1'}, 'the first frame')
    check(first['body'] == b'{}' and first['status_code'] == 200, 'the first frame\'s payload')
    check(event['headers'][':event-type'] == 'SubscribeToShardEvent' and event['status_code'] == 200, 'the event')
    body = json.loads(event['body'])
    check(body['Records'][0]['Data'] == 'AAEC/w==' and body['Records'][0]['PartitionKey'] == 'k\u00e9"', 'the record')
    check(body['Records'][0]['ApproximateArrivalTimestamp'] == 1443104876.363 and body['MillisBehindLatest'] == 0, 'its times')
    check(error['headers'][':message-type'] == 'exception' and error['headers'][':exception-type'] == 'ResourceInUseException', 'the exception')
    check(error['status_code'] == 400 and json.loads(error['body'])['message'] == 'Another subscription took over.', 'the exception\'s message')


# ---- the model -----------------------------------------------------------------------------------------------------------------

def model():
    ours = {}
    for line in run('model').decode().splitlines():
        operation, path, kind, required = line.split()
        ours[operation, path] = (kind, required)
    check(sum(kind == 'operation' for kind, _ in ours.values()) == 45, '45 operations')
    path = os.path.join(os.path.dirname(botocore.__file__), 'data', 'kinesis', '2013-12-02', 'service-2.json')
    with open(path) as f:
        theirs = json.load(f)
    shapes = theirs['shapes']

    def walk(operation, path, shape):
        if shape['type'] == 'list':
            shape = shapes[shape['member']['shape']]
        for name, to in shape.get('members', {}).items():
            inner = path + '.' + name
            kind, required = ours.get((operation, inner), (None, None))
            check(kind == shapes[to['shape']]['type'], '%s %s: %s' % (operation, inner, kind))
            check(name in shape.get('required', []) or required == 'optional', '%s %s is required' % (operation, inner))
            walk(operation, inner, shapes[to['shape']])

    for operation, facts in theirs['operations'].items():
        check((operation, '-') in ours, operation)
        walk(operation, '', shapes[facts['input']['shape']])


signatures()
events()
model()
for failure in failures[:20]:
    print('FAILED:', failure)
print('%d checks, %d failed' % (checks, len(failures)))
sys.exit(1 if failures or checks < 800 else 0)
