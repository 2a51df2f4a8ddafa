"""What needs Flask, and what does not."""

from helpers.processes import run


def test_only_a_blueprint_needs_flask():
    told = run(
        """
        import sys
        sys.modules["flask"] = None
        import modelkit as mk
        signature = mk.Signature(
            (mk.TensorSpec("x", "float32", ("n", 1)),), (mk.TensorSpec("y", "float32", ("n", 1)),)
        )
        app = mk.App({"m": mk.FunctionModel(lambda feeds: {"y": feeds["x"]}, signature)})
        assert app.wsgi
        try:
            app.blueprint()
        except mk.errors.MissingExtraError as error:
            print(error)
        """
    )
    assert told.startswith("App.blueprint() needs flask, which is not installed: pip install flask")
