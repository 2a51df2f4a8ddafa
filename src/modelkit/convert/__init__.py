"""From a source to an ONNX graph with a signature, and the parity check that compares the two."""
