"""How far two answers are apart."""

import pytest
from helpers.kinds import coded
from helpers.packages import saved
from sklearn.ensemble import RandomForestRegressor

from modelkit.convert.estimators.forests import leaves_of
from modelkit.errors import ParityError


def test_small_outputs_are_compared_by_their_own_size(tmp_path, monkeypatch):
    X, y = coded()
    model = RandomForestRegressor(9).fit(X, y * 1e-9)
    manifest, _ = saved(model, X, tmp_path)
    assert manifest.parity.max_rel < 1e-6
    monkeypatch.setattr(
        "modelkit.convert.estimators.forests.leaves_of", lambda tree: 1.1 * leaves_of(tree)
    )
    with pytest.raises(ParityError, match=r"on \d+ rows of the example"):
        saved(model, X, tmp_path)
