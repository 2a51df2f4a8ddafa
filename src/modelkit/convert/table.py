"""Which converter turns which estimator into tensors, and what happens to those that have none.

A converter takes a fitted estimator, the columns it is given and the `Converting` it is part of,
and gives an Answer. Estimators are found by where their class is defined, so that no library is
imported to find out. One without a converter is converted alone by skl2onnx, and its graph becomes
part of ours: what is composed is composed here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from modelkit.convert import (
    bayes,
    bins,
    compositions,
    forests,
    histogram,
    lightgbm,
    linear,
    neighbors,
    polynomial,
    power,
    support,
    votes,
)
from modelkit.convert.leaf import converted_alone
from modelkit.convert.tensors import Answer, Columns, Var, argument, constant, op
from modelkit.convert.texts import TextConverters
from modelkit.errors import ConversionError
from modelkit.spec import TensorSpec
from modelkit.texts.terms import Terms
from modelkit.texts.vectorizer import counts_of

TensorConverter = Callable[[Any, Columns, "Converting"], Answer]
Leaf = Callable[[Any, list[TensorSpec]], tuple[onnx.ModelProto, TextConverters]]

TENSOR_CONVERTERS: dict[tuple[str, str], TensorConverter] = {
    ("sklearn", name): converter
    for converter, names in {
        forests.tree: ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor"),
        forests.forest: (
            "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
        ),
        forests.boosting: ("GradientBoostingClassifier", "GradientBoostingRegressor"),
        forests.isolation: ("IsolationForest",),
        forests.adaptive: ("AdaBoostClassifier",),
        forests.median: ("AdaBoostRegressor",),
        histogram.histogram: ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"),
        linear.classifier: (
            "LogisticRegression", "LogisticRegressionCV", "RidgeClassifier", "RidgeClassifierCV", "SGDClassifier",
            "Perceptron", "LinearSVC",
        ),
        linear.regressor: (
            "LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "BayesianRidge",
            "HuberRegressor", "LinearSVR", "SGDRegressor",
        ),
        bins.binned: ("KBinsDiscretizer",),
        polynomial.products: ("PolynomialFeatures",),
        power.power: ("PowerTransformer",),
        bayes.bernoulli: ("BernoulliNB",),
        bayes.multinomial: ("MultinomialNB",),
        bayes.gaussian: ("GaussianNB",),
        neighbors.classifier: ("KNeighborsClassifier",),
        neighbors.regressor: ("KNeighborsRegressor",),
        support.classifier: ("SVC", "NuSVC"),
        compositions.pipeline: ("Pipeline",),
        compositions.columns: ("ColumnTransformer",),
        compositions.union: ("FeatureUnion",),
        compositions.unchanged: ("FunctionTransformer",),
        compositions.best: (
            "GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV",
        ),
        compositions.wrapped: ("FrozenEstimator",),
        compositions.threshold: ("FixedThresholdClassifier", "TunedThresholdClassifierCV"),
        compositions.calibrated: ("CalibratedClassifierCV",),
        votes.voting: ("VotingClassifier", "VotingRegressor"),
        votes.stacking: ("StackingClassifier", "StackingRegressor"),
        votes.bagging: ("BaggingClassifier", "BaggingRegressor"),
        votes.against_rest: ("OneVsRestClassifier",),
        votes.against_one: ("OneVsOneClassifier",),
        votes.several: ("MultiOutputClassifier", "MultiOutputRegressor"),
    }.items()
    for name in names
} | {("lightgbm", name): lightgbm.boosted for name in ("LGBMClassifier", "LGBMRegressor", "LGBMRanker")}  # fmt: skip


class Converting:
    """A conversion under way: what it was told, and what it found out.

    `narrow` is whether a part computes in float32 what its source computes in float64. `terms` are
    what vectorizers of texts count, and `filled` the inputs of the graph that are filled with these
    counts.

    Args:
        leaf: converts one estimator alone, over inputs of these names and dtypes.
        arguments: the inputs of the graph, by name.
    """

    def __init__(self, leaf: Leaf, arguments: dict[str, Var]) -> None:
        self.leaf = leaf
        self.arguments = arguments
        self.narrow = False
        self.terms: list[Terms] = []
        self.filled: dict[str, Var] = {}

    def name_of(self, tensor: Var) -> str | None:
        """The name of the input that a tensor is; None for a tensor that was made."""
        return next(
            (name for name, given in self.arguments.items() if given is tensor),
            None,
        )

    def counted(self, terms: tuple[Terms, ...]) -> list[Var]:
        """The inputs that are filled with the counts of some vectorizers, in their order.

        Raises ConversionError.
        """
        made = {}
        for each in terms:
            column = each.vectorizer.column
            if column not in self.arguments:
                raise ConversionError(
                    "a vectorizer must read a column as it is; apply the step before it to the "
                    "texts"
                )
            for spec in counts_of(len(self.terms)):
                made[spec.name] = argument(spec)
            self.terms.append(each)
        self.filled |= made
        return list(made.values())

    def answer(self, estimator: Any, columns: Columns) -> Answer:
        """What an estimator answers for these columns. Raises ConversionError."""
        convert = tensor_converter_of(estimator) or converted_alone
        return convert(estimator, columns, self)

    def place(
        self,
        estimator: Any,
        columns: Columns,
        places: Any,
    ) -> Var:
        """The label of each row, as a place in a list of places by class."""
        said: Var = self.answer(estimator, columns).asked("place")
        if np.array_equal(places, np.arange(len(places))):
            return said
        return op.gather(constant(places, np.int64), said)

    @staticmethod
    def place_of(label: Var, classes: Any) -> Var:
        """The number of the class that each label, (n,), is."""
        known = classes.astype(np.str_) if classes.dtype.kind in "OU" else classes.astype(np.int64)
        if np.array_equal(known, np.arange(len(known))):
            return label
        rows = op.reshape(label, constant([-1, 1], np.int64))
        same = op.equal(rows, constant(known[None]))
        return op.arg_max(op.cast(same, to=np.int32), axis=1, keepdims=0)


def tensor_converter_of(estimator: Any) -> TensorConverter | None:
    """The converter of an estimator's very class: a class derived from it may answer otherwise."""
    kind = type(estimator)
    return TENSOR_CONVERTERS.get((kind.__module__.partition(".")[0], kind.__name__))
