"""Counting checks: every program of tests/compat ends with a line that says how many there were, and with exit status 1 if one failed.

check(what, condition, detail) goes on after a failure. What is told beside a failure is what was seen, so that a log is enough to understand it."""
import os
import re
import sys
import time
import traceback

checks = 0
failures = 0
verbose = bool(os.environ.get("COMPAT_VERBOSE"))


def check(what, condition, seen=""):
    """One assertion. `seen` is printed if it does not hold."""
    global checks, failures
    checks += 1
    if condition:
        if verbose:
            print("ok", what)
        return True
    failures += 1
    print("FAIL: %s%s" % (what, ": " + str(seen)[:600] if seen != "" else ""), flush=True)
    return False


def equal(what, got, wanted):
    return check(what, got == wanted, "%r instead of %r" % (short(got), short(wanted)))


def matches(what, text, pattern):
    return check(what, isinstance(text, str) and re.search(pattern, text) is not None, "%r does not match %r" % (text, pattern))


def short(value):
    text = value if isinstance(value, (str, bytes)) else repr(value)
    return text if len(text) <= 300 else text[:300] + type(text)(b"..." if isinstance(text, bytes) else "...")


def until(seconds, question):
    """The first true answer of question(), asked until then; after `seconds` the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.05)


def run(title, *parts):
    """Runs the parts of a program, each a function without parameters, and exits. One that raises counts as a failed check; the others go on.
    Words on the command line choose parts by name."""
    chosen = sys.argv[1:]
    for part in parts:
        if chosen and part.__name__ not in chosen:
            continue
        before, started = checks, time.monotonic()
        try:
            part()
        except Exception as e:
            here = [f for f in traceback.extract_tb(e.__traceback__) if os.path.dirname(f.filename) == os.path.dirname(__file__)]
            check("%s: %s goes to its end" % (title, part.__name__), False, "%s: %s; at %s" % (type(e).__name__, e, " < ".join("%s:%d" % (os.path.basename(f.filename), f.lineno) for f in here[::-1])))
        print("%s: %s: %d checks, %.1f s" % (title, part.__name__, checks - before, time.monotonic() - started), flush=True)
    print("%s: %d checks, %d failed" % (title, checks, failures), flush=True)
    sys.exit(1 if failures or not checks else 0)
