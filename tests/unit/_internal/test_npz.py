"""Arrays as bytes, and back: no pickles, and no bombs. Golden rows that lie about themselves: `tests/hostile/test_members.py`."""

import io

import numpy as np
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from modelkit._internal.npz import pack_arrays, unpack_arrays

DTYPES = st.sampled_from(["f4", "f8", "i8", "u1", "?", "M8[us]", "U3"])


@settings(max_examples=examples(150))
@given(
    st.dictionaries(st.text("abc_", min_size=1), npst.arrays(DTYPES, npst.array_shapes(min_side=0)))
)
def test_arrays_come_back_as_they_were(arrays):
    packed = pack_arrays(arrays)
    assert packed == pack_arrays(arrays)
    back = unpack_arrays(packed)
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].tobytes() == array.tobytes()


def test_objects_are_written_as_texts():
    back = unpack_arrays(pack_arrays({"words": np.array(["a", "bcd"], object)}))
    assert back["words"].tolist() == ["a", "bcd"]
    assert back["words"].dtype == "<U3"


def compressed():
    file = io.BytesIO()
    np.savez_compressed(file, a=np.zeros(10_000))
    return file.getvalue()


def pickled():
    file = io.BytesIO()
    np.savez(file, a=np.array([None], object))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not an npz file"),
        (b"\x80\x04N.", "not an npz file"),
        (compressed(), "larger than the bytes they lie in"),
        (pickled(), "allow_pickle=False"),
    ],
    ids=["nothing", "a pickle", "compressed", "an array of objects"],
)
def test_what_is_no_npz_of_plain_arrays_is_refused(data, words):
    with pytest.raises(ValueError, match=words):
        unpack_arrays(data)
