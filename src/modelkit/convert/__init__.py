"""From a source to an ONNX graph with a signature, and the gate that compares the two."""
