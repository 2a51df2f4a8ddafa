"""LitServe: `rival_litserve.py SIZE [quiet]`, batches of at most SIZE, with PORT and GRAPH in the environment."""

import os
import sys

import litserve
import numpy as np
import onnxruntime as ort


class Alone(litserve.LitAPI):
    def setup(self, device) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["GRAPH"], options)

    def decode_request(self, request):
        return np.asarray(request["x"], np.float32)

    def predict(self, x):
        return self.session.run(["probabilities"], {"X": x})[0]

    def encode_response(self, output):
        return {"y": output.tolist()}


class Batched(Alone):
    def batch(self, inputs):
        return np.concatenate(inputs)

    def unbatch(self, output):
        return list(output[:, None])


if __name__ == "__main__":
    size = int(sys.argv[1])
    api = Batched(max_batch_size=size, batch_timeout=0.002) if size > 1 else Alone()
    quiet = {"log_level": "warning"} if "quiet" in sys.argv else {}
    server = litserve.LitServer(api, accelerator="cpu", fast_queue="fast" in sys.argv)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, **quiet)
