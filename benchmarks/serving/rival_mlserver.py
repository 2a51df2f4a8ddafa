"""MLServer's custom runtime; its settings come from MLSERVER_ variables."""

import os

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Cancer(MLModel):
    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["GRAPH"], options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        y = self.session.run(["probabilities"], {"X": x})[0]
        outputs = [NumpyCodec.encode_output("probabilities", y)]
        return InferenceResponse(model_name=self.name, model_version="1", outputs=outputs)
