"""KServe's SDK: `rival_kserve.py [quiet]`, with PORT and GRAPH in the environment.

Its default writes a line in the log for each request; with `quiet` it writes none.
"""

import logging
import os
import sys

import kserve
import numpy as np
import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse


class Cancer(kserve.Model):
    def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["GRAPH"], options)
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, headers=None, response_headers=None):
        x = payload.inputs[0].as_numpy().astype(np.float32)
        y = self.session.run(["probabilities"], {"X": x})[0]
        return InferResponse(
            payload.id,
            self.name,
            [InferOutput("probabilities", list(y.shape), "FP64", data=y)],
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


if __name__ == "__main__":
    quiet = "quiet" in sys.argv
    model = Cancer("cancer")
    model.load()
    server = kserve.ModelServer(
        http_port=int(os.environ["PORT"]), enable_grpc=False, enable_latency_logging=not quiet
    )
    if quiet:
        logging.disable(logging.WARNING)
    server.start([model])
