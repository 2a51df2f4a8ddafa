"""What others write into the folder where processes count together: bytes, and the words that refuse them."""

from __future__ import annotations

import os
import struct

import pytest
from helpers.processes import forks
from helpers.sums import metered

from modelkit.errors import PackageError
from modelkit.serving.metering.cells import MAGIC

pytestmark = [forks, pytest.mark.usefixtures("own_counts")]


def forged(label, word=None):
    """A file with one label and one slab of it."""
    data = bytearray(8 * 64 * 4)
    struct.pack_into("<2q", data, 0, MAGIC, 4)
    struct.pack_into("<q", data, 512, -len(label) if word is None else word)
    data[528 : 528 + len(label)] = label
    struct.pack_into("<2q", data, 1024, 1, 7)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        forged(b"not json"),
        forged(b"5"),
        forged(b"[]"),
        forged(b'["model"]'),
        forged(b'["http","x","abc"]'),
        forged(b'["model",["a"],"b","c"]'),
        forged(b"[1,2,3,4]"),
        forged(b'{"model":1}'),
        forged(b"[" * 300),
        forged(b'["model","FunctionModel","",""]', word=-(2**63)),
    ],
)
def test_a_forged_file_is_said(tmp_path, data):
    meter = metered(tmp_path)
    (tmp_path / "1-1.slabs").write_bytes(data)
    with pytest.raises(PackageError, match=r"1-1.slabs was not written by this version"):
        meter.totals()


@pytest.mark.parametrize("name", ["x.slabs", "1.slabs"])
def test_what_is_no_plain_file_is_said_and_not_waited_for(tmp_path, name):
    meter = metered(tmp_path)
    path = tmp_path / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(PackageError, match=r"is not a plain file"):
        meter.totals()
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(PackageError, match=r"cannot be read"):
        meter.totals()
