"""The application's side of the quickstart: open a package, predict, and report, without scikit-learn or pickle.

python quickstart_serve.py PACKAGE < rows.json > answers.json
"""

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


def serve(path, columns):
    model, opened = milliseconds(lambda: open_package(path))
    probabilities, batch = milliseconds(lambda: model.predict_proba(columns))
    record = {name: values[0] for name, values in columns.items()}
    _, single = milliseconds(lambda: model.predict_proba([record]), times=500)
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not loaded & {"sklearn", "joblib", "onnx"}, "the application must not need the training libraries"
    return {
        "signature": str(model.signature),
        "placement": str(model.placement),
        "labels": model.predict(columns).tolist(),
        "probabilities": probabilities.tolist(),
        "milliseconds": {"open": opened, "batch": batch, "single": single},
    }


if __name__ == "__main__":
    forbid_pickle()
    json.dump(serve(sys.argv[1], json.load(sys.stdin)), sys.stdout)
