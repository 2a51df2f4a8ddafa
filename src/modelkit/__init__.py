"""modelkit: run machine-learning models inside your own process.

A Model turns a batch into a batch. Everything else stores one, wraps one, explains one, watches one, or chooses one.
Names are imported when they are first used, so `import modelkit` costs nothing.
"""

TYPE_CHECKING = False  # type checkers know the name; importing typing for it would cost more than all the rest
if TYPE_CHECKING:
    from modelkit import errors as errors
    from modelkit.batching.batcher import Batcher as Batcher
    from modelkit.device import Device as Device
    from modelkit.device import Placement as Placement
    from modelkit.manifest import Manifest as Manifest
    from modelkit.model import Call as Call
    from modelkit.model import FunctionModel as FunctionModel
    from modelkit.model import Model as Model
    from modelkit.package.load import inspect as inspect
    from modelkit.package.load import load as load
    from modelkit.package.save import save as save
    from modelkit.runtimes.onnx import devices as devices
    from modelkit.signature import Signature as Signature
    from modelkit.spec import Column as Column
    from modelkit.spec import TensorSpec as TensorSpec

__version__ = "0.1.0"

_HOMES = {
    "Batcher": "modelkit.batching.batcher",
    "Call": "modelkit.model",
    "Column": "modelkit.spec",
    "Device": "modelkit.device",
    "FunctionModel": "modelkit.model",
    "Manifest": "modelkit.manifest",
    "Model": "modelkit.model",
    "Placement": "modelkit.device",
    "Signature": "modelkit.signature",
    "TensorSpec": "modelkit.spec",
    "devices": "modelkit.runtimes.onnx",
    "errors": "modelkit",
    "inspect": "modelkit.package.load",
    "load": "modelkit.package.load",
    "save": "modelkit.package.save",
}

__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605 - strings, sorted


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'modelkit' has no attribute {name!r}")
    from importlib import import_module

    value = import_module("modelkit.errors") if name == "errors" else getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
