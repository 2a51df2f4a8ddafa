"""Models of texts with a million columns."""

from helpers.texts import check_options
from sklearn.feature_extraction.text import HashingVectorizer


def test_every_option_comes_along(tmp_path):
    check_options(HashingVectorizer(), tmp_path)
