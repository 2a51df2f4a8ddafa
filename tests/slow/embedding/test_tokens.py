"""Very long texts."""

import numpy as np
import pytest


@pytest.mark.parametrize("name", ["encoder", "static", "paraphrase"])
def test_of_a_megabyte_of_text_the_beginning_is_embedded(name, request):
    encoder = request.getfixturevalue(name)
    text = ("music of the winter river " * 50_000)[: 1 << 20]
    before = encoder.truncated
    (vector,) = encoder.embed([text])
    assert encoder.truncated == before + 1
    np.testing.assert_allclose(vector, encoder.embed([text[:20_000]])[0], atol=1e-6)
    assert encoder.truncated == before + 2
    encoder.embed(["short"])
    assert encoder.truncated == before + 2
    words = text.split()
    if name != "static":
        assert encoder.token_count([text]).tolist() == [
            len(words) + 2
        ]  # a word is a token, but for the last half
    assert encoder.token_count([text, "music", text])[1] == encoder.token_count(["music"])[0]
