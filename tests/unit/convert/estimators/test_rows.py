"""A converter that is a function of numpy is its own reference: of rows it gives what the estimator gives."""

import numpy as np
from helpers.examples import some
from helpers.more_kinds import ALL_KINDS, class_of
from sklearn.pipeline import Pipeline

from modelkit.convert.estimators.table import TENSOR_CONVERTERS
from modelkit.convert.estimators.tensors import Answer

FORMULAS = {
    name.partition(".")[2]: converter.__wrapped__
    for name, converter in TENSOR_CONVERTERS.items()
    if hasattr(converter, "__wrapped__")
}
WITHOUT = {"SVC, probabilities"}  # which come from an operator of ONNX
KINDS = [kind for kind in ALL_KINDS if class_of(kind) in FORMULAS and kind.name not in WITHOUT]
ANSWERS = {
    "prediction": "predict",
    "label": "predict",
    "probabilities": "predict_proba",
    "decision": "decision_function",
    "score_samples": "score_samples",
    "table": "transform",
}


def near(found, known):
    """To 9 digits, and to a root of what rounding leaves of 0."""
    known = np.reshape(known.toarray() if hasattr(known, "toarray") else known, found.shape)
    np.testing.assert_allclose(found, known, rtol=1e-9, atol=1e-6)


def assert_same(estimator, rows, answer):
    if answer.place is not None:
        assert np.array_equal(estimator.classes_[answer.place], estimator.predict(rows))
    for field, verb in ANSWERS.items():
        found = getattr(answer, field)
        if found is not None and hasattr(estimator, verb):
            near(found, getattr(estimator, verb)(rows))


@some("kind", KINDS, 35, ids=lambda kind: kind.id)
def test_a_formula_computes_what_its_estimator_does(kind):
    estimator, rows = kind.fit()
    if isinstance(estimator, Pipeline):
        rows = estimator[:-1].transform(rows)
        estimator = estimator[-1]
    rows = np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, np.float64)
    with np.errstate(divide="ignore"):
        found = FORMULAS[type(estimator).__name__](estimator, rows)
    answer = found if isinstance(found, Answer) else Answer(table=found)
    for place, each in enumerate(answer.several):
        assert np.array_equal(
            estimator.classes_[place][each.place], estimator.predict(rows)[:, place]
        )
        near(each.probabilities, estimator.predict_proba(rows)[place])
    assert_same(estimator, rows, answer)
