"""What the message of a refusal must have, and what it must not."""

import re

FOREIGN = (
    "skl2onnx", "spox", "onnxruntime", "shape calculator", "Traceback", "sklearn.", "xgboost.", "modelkit.",
    "lightgbm.", "helpers.", "numpy.core", "<class", "0x",
)  # fmt: skip
ADVICE = re.compile(
    r"\b(use|fit|pass|give|save|saves|leave|put|set|choose|train|write|keep|call|make|apply|add|turn|rename|name|"
    r"encode|update|impute|define|take|check|compare)\b"
)


def check_message(error):
    message = str(error)
    assert len(message) < 400, message
    assert ADVICE.search(message), message
    assert [words for words in FOREIGN if words in message] == [], message
