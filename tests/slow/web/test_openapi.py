"""What the OpenAPI document of an App promises is so: schemathesis makes requests of it, and looks at answers."""

import numpy as np
import pytest
import schemathesis
from helpers.encoders import tiny, tiny_reranker
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

import modelkit as mk

EXAMPLES = 20  # of each operation
# A schema cannot say that the data fill the shape, which numbers a dtype holds, or how many rows
# there may be: what fits it may still be refused.
WRONG = [400, 413, 415, 422]
# Not every model can be explained, and a timeout of 1e-79 seconds is not kept.
UNABLE = [501, 504]
CHECKS = {
    "positive_data_acceptance": {"expected-statuses": ["2xx", *WRONG, *UNABLE]},
    "negative_data_rejection": {"expected-statuses": [*WRONG, *UNABLE, 404, 405]},
    "not_a_server_error": {"expected-statuses": ["2xx", "4xx", *UNABLE]},
}
CONFIG = schemathesis.Config.from_dict({"checks": CHECKS})


def of_columns(penguins_mk):
    return mk.load(penguins_mk)


def of_texts(penguins_mk):
    signature = mk.Signature(
        (mk.TensorSpec("text", "string", ("batch",)),),
        (mk.TensorSpec("length", "int64", ("batch",)),),
    )
    return mk.FunctionModel(lambda feeds: {"length": lengths(feeds["text"])}, signature)


def lengths(texts):
    return np.array([len(text or "") for text in texts], np.int64)


def of_tensors(penguins_mk):
    signature = mk.Signature(
        (mk.TensorSpec("pixels", "float32", ("batch", 2, 3)),),
        (mk.TensorSpec("mean", "float64", ("batch",)),),
    )
    return mk.FunctionModel(lambda feeds: {"mean": means(feeds["pixels"])}, signature)


def means(pixels):
    return pixels.astype(np.float64).mean(axis=(1, 2))


def of_a_rollout(penguins_mk):
    """Two equal models, whose losses are compared."""
    guards = [mk.Guard("loss", margin=0.1)]
    return mk.Rollout(
        of_texts(penguins_mk),
        of_texts(penguins_mk),
        policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards),
    )


def check(operation):
    """Make requests of an operation, right and wrong ones, and apply every check of schemathesis."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=operation.as_strategy() | operation.as_strategy(GenerationMode.NEGATIVE))
    def ask(case):
        case.call_and_validate()

    ask()


@pytest.mark.parametrize("kind", [of_columns, of_texts, of_tensors, of_a_rollout])
def test_the_document_holds(penguins_mk, kind):
    with kind(penguins_mk) as model:
        app = mk.App({"m": model}, metrics=lambda accept: (b"", "text/plain"))
        schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=CONFIG)
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) >= 8
        for operation in operations:
            check(operation)
        app.close()


def test_the_document_holds_for_texts():
    app = mk.App({"tiny": tiny(roles={"query": "query "}, dims=(8, 4)), "ranks": tiny_reranker()})
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=CONFIG)
    operations = [result.ok() for result in schema.get_all_operations()]
    of_texts = [each for each in operations if not each.path.startswith(("/v2/m", "/models"))]
    assert len(of_texts) >= 6
    for operation in of_texts:
        check(operation)
    app.close()
