"""From a source to an ONNX graph with a signature, and the gate that compares the two."""

from modelkit.errors import importing

with importing("onnx", "saving a model", "save"):
    import onnx  # noqa: F401 - every module here needs it
