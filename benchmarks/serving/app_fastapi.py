"""What a team writes without a serving framework: FastAPI, a pydantic model, a session of onnxruntime."""

import os

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["GRAPH"], options)
app = FastAPI()


class Rows(BaseModel):
    x: list[list[float]]


class Answer(BaseModel):
    y: list[list[float]]


@app.post("/predict")
async def predict(rows: Rows) -> Answer:  # on the loop: a thread for each call would cost more
    y = session.run(["probabilities"], {"X": np.array(rows.x, np.float32)})[0]
    return Answer(y=y.tolist())
