"""Where a graph or an estimator runs: `onnx`, `texts` and `joblib` hold a Model each."""
