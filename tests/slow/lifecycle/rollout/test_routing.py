"""The hash of a key in another process."""

from __future__ import annotations

import subprocess
import sys

from modelkit.lifecycle.rollout.routing import hash_of


def test_a_key_goes_the_same_way_in_every_process():
    keys = ["", "a", "\u00fc\ud800", "k" * 10_000_000]
    code = """
from modelkit.lifecycle.rollout.routing import hash_of
for key in ("", "a", "\\u00fc\\ud800", "k" * 10_000_000):
    print(hash_of(key, b"salt"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [int(line) for line in done.stdout.split()] == [hash_of(key, b"salt") for key in keys]
    assert hash_of("a", b"salt") == 3_101_220_326_410_650_856
