"""What is imported when, and what can run: tested in fresh interpreters."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from helpers.places import SOURCE
from helpers.processes import run


def test_no_library_is_imported_to_read_rows():
    import subprocess

    code = (
        "import sys, modelkit as mk, dataclasses\n"
        "@dataclasses.dataclass\n"
        "class R:\n    a: float\n"
        "s = mk.Signature((mk.TensorSpec('X', 'float64', ('batch', 1), (mk.Column('a'),)),),"
        "(mk.TensorSpec('y', 'float64', ('batch',)),), ignored=('b',))\n"
        "s.coerce([R(1)]); s.coerce([{'a': 1, 'b': 2}]); s.coerce([])\n"
        "print({'pandas', 'polars', 'torch', 'pydantic', 'attr', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_refused_package_imports_neither_joblib_nor_the_library(joblib_mk):
    code = """
        import sys, modelkit as mk
        digest = mk.inspect(sys.argv[1]).digest
        refused = [dict(), dict(digest=digest), dict(allow={"joblib"}), dict(digest="0" * 64, allow={"joblib"})]
        for options in refused:
            try:
                mk.load(sys.argv[1], **options)
            except (mk.errors.UntrustedError, mk.errors.IntegrityError):
                continue
            raise SystemExit(f"opened with {options}")
        unwanted = {"joblib", "pickle", "sklearn", "pandas", "onnxruntime", "modelkit.runtimes.joblib"}
        # numpy imports pickle for itself; nothing else does
        assert not (unwanted - {"pickle"}) & set(sys.modules), unwanted & set(sys.modules)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(joblib_mk)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_loading_an_encoder_imports_no_more_than_it_needs(tiny_mk):
    run(
        """
        import pickle, sys

        def refuse(*arguments, **keywords):
            raise SystemExit("something was unpickled")

        pickle.load = pickle.loads = pickle.Unpickler = refuse
        import modelkit as mk
        with mk.load(sys.argv[1]) as encoder:
            assert encoder.embed(["the river"] * 600, role="query", dims=4).shape == (600, 4)
            assert encoder.token_count(["the river"]).tolist() == [4]
            assert encoder.identity.startswith("sha256:")
            encoder.verify()
        unwanted = {"onnx", "sklearn", "torch", "transformers", "pandas", "scipy", "joblib", "huggingface_hub"}
        assert not unwanted & set(sys.modules), unwanted & set(sys.modules)
        """,
        tiny_mk,
    )


def test_without_tokenizers_the_extra_is_named(tiny_mk):
    run(
        """
        import sys
        sys.modules["tokenizers"] = None
        import modelkit as mk
        try:
            mk.load(sys.argv[1])
        except mk.errors.MissingExtraError as error:
            assert "embedding texts needs tokenizers" in str(error) and "pip install tokenizers" in str(error), error
        else:
            raise SystemExit("loaded without tokenizers")
        assert mk.inspect(sys.argv[1]).options["pooling"] == "mean"
        """,
        tiny_mk,
    )


def test_importing_modelkit_imports_nothing_else():
    run("""
        import sys
        before = set(sys.modules)
        import modelkit
        assert set(sys.modules) - before == {"modelkit"}, set(sys.modules) - before
    """)


def test_every_public_name_is_there_in_a_bare_install(tmp_path):
    """The site of this interpreter is left out; numpy alone is linked beside the source."""
    numpy = Path(np.__file__).parent
    for folder in (numpy, numpy.with_name("numpy.libs")):
        if folder.exists():
            (tmp_path / folder.name).symlink_to(folder)
    run(
        """
        import sys
        sys.path[1:] = [place for place in sys.path[1:] if "site-packages" not in place]
        sys.path[1:1] = sys.argv[1:]
        import importlib.util, inspect, pydoc
        assert not importlib.util.find_spec("onnx")
        import modelkit as mk
        for module in (mk, mk.types):
            for name in module.__all__:
                assert hasattr(module, name), name
            assert set(module.__all__) <= set(dir(module))
            assert set(module.__all__) <= dict(inspect.getmembers(module)).keys()
            assert "Explainer" in pydoc.render_doc(mk)
        from modelkit import *
        from modelkit.types import *
        assert save is mk.save and Manifest is mk.types.Manifest

        row = TensorSpec("x", "float64", ("batch", 1)), TensorSpec("y", "float64", ("batch",))
        model = FunctionModel(lambda feeds: {"y": feeds["x"][:, 0]}, Signature(row[:1], row[1:]))
        assert model.predict([[2.0]]).tolist() == [2.0]
        calls = {
            "onnx": [
                lambda: save(model, "m.mk", name="m", version="1"),
                lambda: Explainer(model, background=[[1.0]]),
                lambda: TextEncoder("g.onnx", b"{}", max_tokens=8),
            ],
            "onnxruntime": [devices],
            "orjson": [lambda: App({"m": model})],
        }
        for library, functions in calls.items():
            for function in functions:
                try:
                    function()
                except errors.MissingExtraError as error:
                    assert error.library == library, error
                else:
                    raise SystemExit(f"{library} is there")
        """,
        SOURCE,
        tmp_path,
        PYTHONNOUSERSITE="1",
        PYTHONPATH="",
    )


def test_a_package_answers_where_nothing_can_be_unpickled(penguins_mk):
    run(
        """
        import pickle, sys

        def refuse(*arguments, **keywords):
            raise SystemExit("something was unpickled")

        pickle.load = pickle.loads = pickle.Unpickler = refuse
        import modelkit as mk
        with mk.load(sys.argv[1]) as model:
            row = dict(island="Biscoe", bill_length_mm=50.0, bill_depth_mm=None, flipper_length_mm=230.0,
                       body_mass_g=5500.0, sex=None, year=2008)
            assert model.predict([row]).tolist() == ["Gentoo"]
            assert model.verify() == 0.0
            model.warmup()
        mk.inspect(sys.argv[1])
        unwanted = {"sklearn", "skl2onnx", "joblib", "onnx", "pandas", "scipy", "cloudpickle", "dill", "asyncio"}
        assert not unwanted & set(sys.modules), unwanted & set(sys.modules)
        """,
        penguins_mk,
    )


def test_onnxruntime_is_told_not_to_report_usage(boosting_mk):
    code = "import os, sys, modelkit as mk; mk.load(sys.argv[1]); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run(code, boosting_mk, ORT_DISABLE_TELEMETRY="").strip() == ""
    run(
        "import os; os.environ.pop('ORT_DISABLE_TELEMETRY', None)\n"
        + code.replace("print(", "assert '1' == ("),
        boosting_mk,
    )


def test_without_a_runtime_both_install_lines_are_shown(boosting_mk):
    run(
        """
        import sys
        sys.modules["onnxruntime"] = None
        import modelkit as mk
        try:
            mk.load(sys.argv[1])
        except mk.errors.MissingExtraError as error:
            assert "pip install onnxruntime or pip install onnxruntime-gpu" in str(error), error
            assert (error.library, error.extra) == ("onnxruntime", "cpu"), error.__dict__
            assert error.alternatives == {"gpu": "onnxruntime-gpu"}, error.__dict__
            assert isinstance(error, ImportError)
        else:
            raise SystemExit("loaded without a runtime")
        mk.inspect(sys.argv[1])
        """,
        boosting_mk,
    )


def test_protobuf_may_be_written_in_python(boosting_mk):
    run(
        """
        import sys
        import numpy as np, modelkit as mk
        from google.protobuf.internal import api_implementation
        assert api_implementation.Type() == "python"
        with mk.load(sys.argv[1]) as model:
            assert model.verify() == 0.0
        """,
        boosting_mk,
        PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python",
    )


def test_an_idle_model_has_no_thread_of_ours(boosting_mk):
    run(
        """
        import _thread, sys, threading, time, numpy as np, modelkit as mk
        with mk.load(sys.argv[1]) as model:
            model.predict(np.zeros((100_000, 30), np.float32))
            assert threading.active_count() == 1
            late = time.monotonic() + 60
            while _thread._count():  # the helpers have answered; give them the chance to end
                if time.monotonic() > late:
                    raise SystemExit(f"{_thread._count()} threads are left")
                time.sleep(1e-3)
        """,
        boosting_mk,
    )


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="Linux alone counts the wake-ups of threads"
)
def test_an_idle_process_makes_no_wake_ups(boosting_mk):
    run(
        """
        import sys, time, numpy as np, modelkit as mk
        from pathlib import Path

        def wake_ups():
            found = {}
            for task in Path("/proc/self/task").iterdir():
                lines = (task / "status").read_text().splitlines()
                found[task.name] = sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))
            return found

        def woken():
            before = wake_ups()
            time.sleep(0.5)
            after = wake_ups()
            return sum(after[task] - before.get(task, 0) for task in after)

        with mk.load(sys.argv[1]) as model, mk.Meter(mk.Batcher(model)) as meter:
            meter.predict(np.zeros((3, 30), np.float32))
            least = min(woken() for _ in range(4))  # what ran rests after a moment
            assert least <= 5, least  # a loop that looks ten times a second would be 5 and the sleep
        """,
        boosting_mk,
    )


def test_what_fails_in_a_graph_is_an_exception_and_prints_nothing(tmp_path):
    """onnxruntime would print each of these in red, from C++, where no handler of the application sees it."""
    code = """
        import sys
        import numpy as np, modelkit as mk
        from onnx import TensorProto, helper, numpy_helper

        def graph(nodes, outputs, **constants):
            ends = [helper.make_tensor_value_info(*end) for end in [("x", TensorProto.FLOAT, ["batch", 4]), outputs]]
            held = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
            made = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
            return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

        def refused(proto):
            try:
                mk.save(proto, sys.argv[1] + "/no.mk", name="m", version="1")
            except mk.errors.ModelkitError:
                return
            raise SystemExit("it was saved")

        node, eight = helper.make_node, np.array([8, 4])
        fails_when_run = [node("Reshape", ["x", "s"], ["r"]), node("ReduceSum", ["r"], ["y"], keepdims=0)]
        refused(graph(fails_when_run, ("y", TensorProto.FLOAT, []), s=eight))
        fails_when_built = [
            node("Div", ["a", "b"], ["c"]), node("Cast", ["c"], ["d"], to=1), node("Add", ["x", "d"], ["y"])
        ]
        refused(graph(fails_when_built, ("y", TensorProto.FLOAT, ["batch", 4]), a=[4], b=[0]))

        picks = [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Gather", ["t", "i"], ["y"])]
        proto = graph(picks, ("y", TensorProto.FLOAT, ["batch", 4]), t=np.ones(5, np.float32))
        few = np.zeros((4, 4), np.float32)
        mk.save(proto, sys.argv[1] + "/m.mk", example=few, name="m", version="1")
        model = mk.load(sys.argv[1] + "/m.mk")
        try:
            model.predict(few + 99)
        except Exception as error:
            assert "out of data bounds" in str(error), error
        else:
            raise SystemExit("there was an item 99")
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_serving_needs_numpy_and_a_runtime_alone(boosting_mk, penguins_mk):
    run(
        """
        import sys
        for library in ("scipy", "onnx", "joblib", "sklearn", "skl2onnx", "spox", "pandas", "pyarrow", "tokenizers"):
            sys.modules[library] = None
        import asyncio
        import numpy as np, modelkit as mk
        row = dict(island="Biscoe", bill_length_mm=50.0, bill_depth_mm=None, flipper_length_mm=230.0,
                   body_mass_g=5500.0, sex=None, year=2008)
        with mk.load(sys.argv[1]) as model, mk.Batcher(model) as batcher:
            X = np.zeros((2, 30), np.float32)
            assert batcher.predict(X).tolist() == model.predict(X).tolist()
            assert asyncio.run(batcher.apredict(X)).tolist() == model.predict(X).tolist()
            assert model.verify() == 0.0
        with mk.load(sys.argv[2]) as model:
            assert model.predict([row]).tolist() == ["Gentoo"]
            assert mk.inspect(sys.argv[2]).digest == model.manifest.digest
        """,
        boosting_mk,
        penguins_mk,
    )


def test_an_app_without_its_parser_is_refused_when_it_is_made(boosting_mk):
    program = f"""
import sys
sys.modules["orjson"] = None
import modelkit as mk
try:
    mk.App({{"churn": {str(boosting_mk)!r}}})
except mk.errors.MissingExtraError as error:
    print(error)
"""
    assert "the web edge needs orjson" in run(program)


def test_nothing_is_configured_and_logging_is_not_imported():
    run("""
        import sys
        import modelkit as mk
        mk.events.emit(mk.events.Overload("m", "1", 1, 2))
        mk.events.emit(mk.events.Swapped("m", "2", "", "1", ""))
        assert "logging" not in sys.modules
        import logging
        mk.events.emit(mk.events.Overload("m", "1", 1, 2))
        logger = logging.getLogger("modelkit")
        assert logger.handlers == []
        assert logger.level == logging.NOTSET and logger.propagate and not logger.filters
        assert not logging.getLogger().handlers
    """)


def test_logging_that_was_configured_gets_the_records():
    code = """
        import logging, sys
        logging.basicConfig(stream=sys.stdout, level="INFO", format="%(levelname)s %(message)s %(modelkit_version)s")
        import modelkit as mk
        mk.events.emit(mk.events.Swapped("m", "2", "", "1", ""))
    """
    assert run(code).strip() == "INFO m: 2 answers now, 1 did before 2"


def test_a_package_is_opened_without_what_only_listeners_need(boosting_mk):
    """Making the classes of events, and importing protobuf in Python, took a tenth of a start."""
    code = """
        import sys, modelkit as mk
        mk.load(sys.argv[1]).close()
        unwanted = {"modelkit.events", "google.protobuf.text_format"}
        assert not unwanted & set(sys.modules), unwanted & set(sys.modules)
        heard = []
        mk.events.subscribe(heard.append, mk.events.Loaded)
        mk.load(sys.argv[1]).close()
        assert len(heard) == 1
    """
    run(code, boosting_mk)
