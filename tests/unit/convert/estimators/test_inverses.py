"""TransformedTargetRegressor: targets on the way back."""

import numpy as np
import pytest
from helpers.packages import opened
from helpers.transformers import FRESH, TRAIN, assert_serves
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from modelkit.errors import ConversionError

POSITIVE = TRAIN[:, 3] / 100
TARGETS = {
    "log1p": {"func": np.log1p, "inverse_func": np.expm1},
    "log": {"func": np.log, "inverse_func": np.exp},
    "root": {"func": np.sqrt, "inverse_func": np.square},
    "lambda": {"func": lambda y: y**0.25, "inverse_func": lambda z: z**4},
    "standard": {"transformer": StandardScaler()},
    "range": {"transformer": MinMaxScaler()},
    "largest": {"transformer": MaxAbsScaler()},
    "robust": {"transformer": RobustScaler()},
    "yeo-johnson": {"transformer": PowerTransformer()},
    "box-cox": {"transformer": PowerTransformer("box-cox", standardize=False)},
    "quantiles": {"transformer": QuantileTransformer(n_quantiles=50)},
    "quantiles, normal": {"transformer": QuantileTransformer(n_quantiles=50, output_distribution="normal")},
    "steps": {"transformer": make_pipeline(FunctionTransformer(np.log, np.exp), StandardScaler())},
    "nothing": {},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a root of a negative number, far away
@pytest.mark.parametrize("name", TARGETS)
def test_targets_on_the_way_back(name, tmp_path):
    model = TransformedTargetRegressor(Ridge(), **TARGETS[name]).fit(TRAIN[:, :3], POSITIVE)
    package = opened(model, TRAIN[:, :3], tmp_path)
    for rows in (FRESH[:, :3], FRESH[:1, :3]):
        np.testing.assert_allclose(package.predict(rows), model.predict(rows), rtol=5e-12)


def test_several_targets_on_the_way_back(tmp_path):
    both = np.stack([POSITIVE, POSITIVE**2], axis=1)
    model = TransformedTargetRegressor(Ridge(), transformer=PCA(2, whiten=True))
    assert_serves(model.fit(TRAIN[:, :3], both), tmp_path, TRAIN[:, :3], FRESH[:, :3], "predict")


def test_a_target_without_a_way_back_is_refused(tmp_path):
    binned = KBinsDiscretizer(3, encode="ordinal", quantile_method="averaged_inverted_cdf")
    model = TransformedTargetRegressor(Ridge(), transformer=binned, check_inverse=False)
    with pytest.raises(ConversionError, match="use one of FunctionTransformer, MaxAbsScaler"):
        opened(model.fit(TRAIN[:, :3], POSITIVE), TRAIN[:, :3], tmp_path)
