"""Opening a logged package in a process that has no more than was logged as needed."""

from helpers.processes import run

import modelkit as mk


def test_opening_a_logged_package_needs_what_was_logged_as_needed_and_no_more(package):
    """`log_model` lists no onnx, so that what MLflow imports to open a package may not need it."""
    code = """
    import sys
    sys.modules["onnx"] = None
    from modelkit.integrations import mlflow
    opened = mlflow._load_pyfunc(sys.argv[1], {"digest": sys.argv[2]})
    print(*opened.predict([{"a": 1.0, "b": 0.0}])["label"])
    """
    assert run(code, package, mk.inspect(package).digest) == "yes\n"
