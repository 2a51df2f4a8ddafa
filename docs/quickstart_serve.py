"""The application's side of the quickstart: open a package, predict, and report, without scikit-learn or pickle.

python quickstart_serve.py PACKAGE < rows.json > answers.json
"""

import asyncio
import json
import pickle
import statistics
import sys
import time


def forbid_pickle():
    def refuse(*_args, **_kwargs):
        raise RuntimeError("something was about to be unpickled")

    pickle.load = pickle.loads = pickle.Unpickler = refuse


def milliseconds(work, times=1):
    """The result of the last call, and the median time of all."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        result = work()
        took.append(1000 * (time.perf_counter() - start))
    return result, statistics.median(took)


def open_package(path):
    import modelkit as mk

    return mk.load(path)


async def ask(batcher, records):
    """Every record in a call of its own, all of them at once."""
    return await asyncio.gather(*(batcher.apredict([record]) for record in records))


def serve(path, columns):
    import modelkit as mk

    model, opened = milliseconds(lambda: open_package(path))
    probabilities, batch = milliseconds(lambda: model.predict_proba(columns))
    records = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    _, single = milliseconds(lambda: model.predict_proba(records[:1]), times=500)
    with mk.Batcher(model) as batcher:
        answers, concurrent = milliseconds(lambda: asyncio.run(ask(batcher, records)), times=5)
        assert [answer.item() for answer in answers] == model.predict(columns).tolist()
        batches = batcher.stats().batches // 5
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not loaded & {"sklearn", "joblib", "onnx"}, (
        "the application must not need the training libraries"
    )
    return {
        "signature": str(model.signature),
        "placement": str(model.placement),
        "labels": model.predict(columns).tolist(),
        "probabilities": probabilities.tolist(),
        "batches": batches,
        "milliseconds": {
            "open": opened,
            "batch": batch,
            "single": single,
            "concurrent": concurrent,
        },
    }


if __name__ == "__main__":
    forbid_pickle()
    json.dump(serve(sys.argv[1], json.load(sys.stdin)), sys.stdout)
