"""BentoML: a service that answers calls alone, and ones that gather them; GRAPH is in the environment."""

import os

import bentoml
import numpy as np
import onnxruntime as ort


def session() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(os.environ["GRAPH"], options)


@bentoml.service
class Plain:
    def __init__(self) -> None:
        self.session = session()

    @bentoml.api(route="/infer")
    def infer(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(["probabilities"], {"X": x.astype(np.float32)})[0]


QUIET = {"logging": {"access": {"enabled": False}}, "metrics": {"enabled": False}}


@bentoml.service(**QUIET)
class Best:
    def __init__(self) -> None:
        self.session = session()

    @bentoml.api(route="/infer")
    async def infer(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(["probabilities"], {"X": x.astype(np.float32)})[0]


@bentoml.service(**QUIET)
class Batched:
    def __init__(self) -> None:
        self.session = session()

    @bentoml.api(route="/infer", batchable=True)
    async def infer(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(["probabilities"], {"X": x.astype(np.float32)})[0]
