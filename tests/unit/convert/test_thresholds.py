"""Trees over sums: the rows of training reach the leaves that they reached in training."""

import numpy as np
import pytest
from helpers.packages import loaded
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.kernel_approximation import Nystroem
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer

SUMMED = {
    "discriminant": LinearDiscriminantAnalysis,
    "power": PowerTransformer,
    "kernel": lambda: Nystroem(n_components=8, random_state=0),
}


@pytest.mark.parametrize(
    "boosting", [HistGradientBoostingClassifier, HistGradientBoostingRegressor]
)
@pytest.mark.parametrize("name", SUMMED)
def test_boosting_over_sums_takes_its_training_rows_to_their_own_leaves(name, boosting, tmp_path):
    rows, labels = make_classification(1500, 8, n_informative=5, random_state=0)
    source = make_pipeline(SUMMED[name](), boosting(max_iter=10)).fit(rows, labels)
    model = loaded(source, rows, tmp_path / "model.mk")
    np.testing.assert_allclose(model.predict(rows), source.predict(rows), rtol=1e-6)


def test_beside_sums_thresholds_of_plain_columns_stay_as_they_are(tmp_path):
    rows, labels = make_classification(1500, 6, n_informative=5, n_redundant=1, random_state=0)
    columns = ColumnTransformer(
        [("sums", PowerTransformer(), [0, 1, 2]), ("plain", "passthrough", [3, 4, 5])]
    )
    source = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=10)).fit(rows, labels)
    model = loaded(source, rows, tmp_path / "model.mk")
    above = rows.copy()
    above[:, 3:] = np.nextafter(rows[:, 3:], np.inf)
    np.testing.assert_allclose(
        model.predict_proba(above), source.predict_proba(above), rtol=1e-9, atol=1e-12
    )
