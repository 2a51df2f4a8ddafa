"""What a cold start of lambda_handler.py costs: python cold_start.py BODY [TIMES]

BODY is what is posted to /invocations, in JSON. Each time is a process of its own, with the variables of the
function; what is printed are the medians, in milliseconds.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

PARTS = ("start of Python", "imports", "opening of the package", "first answer", "second answer")
CHILD = """
import json, sys, time
times = [float(sys.argv[1]), time.time()]
import mangum, modelkit, numpy, onnxruntime, orjson
times.append(time.time())
import lambda_handler
times.append(time.time())
for _ in range(2):
    answer = lambda_handler.handler(json.loads(sys.argv[2]), None)
    times.append(time.time())
assert answer["statusCode"] == 200, answer["body"]
print(*(after - before for before, after in zip(times, times[1:])))
"""


def event_of(body):
    """A POST to a function URL."""
    http = {"method": "POST", "path": "/invocations", "sourceIp": "127.0.0.1"}
    return {
        "version": "2.0",
        "rawPath": http["path"],
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "localhost"},
        "requestContext": {"http": http},
        "body": body,
        "isBase64Encoded": False,
    }


def measured(event):
    """The seconds of each part, in a process of its own."""
    child = [sys.executable, "-c", CHILD, str(time.time()), json.dumps(event)]
    done = subprocess.run(
        child, check=True, capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return [float(seconds) for seconds in done.stdout.split()]


if __name__ == "__main__":
    times = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    runs = [measured(event_of(sys.argv[1])) for _ in range(times)]
    for part, seconds in zip(PARTS, zip(*runs, strict=True), strict=True):
        print(f"{part:<24}{1000 * statistics.median(seconds):8.1f}")
    print(
        f"{'until the first answer':<24}{1000 * statistics.median(sum(run[:4]) for run in runs):8.1f}"
    )
