"""Whether a session takes and gives what a signature says."""

from __future__ import annotations

from typing import Any

from modelkit.errors import GraphError
from modelkit.signature.signature import Signature
from modelkit.signature.spec import AS_OBJECTS, TIMES, TensorSpec

# As onnxruntime has them.
ORT_TYPES = {"float32": "float", "float64": "double"} | dict.fromkeys(TIMES, "int64")


def check_ends(session: Any, signature: Signature) -> None:
    """Raise GraphError unless the graph has the names, types, ranks and sizes of the signature."""
    try:
        _compare(session, signature)
    except UnicodeDecodeError as error:
        raise GraphError(
            f"an input or output of the graph has a name that is no text: {error}"
        ) from error


def texts_passed_on(signature: Signature) -> frozenset[str]:
    """The outputs that may hold a missing string of an input, which a graph has as U+FDD0.

    A label of a classifier is one of its classes.
    """
    if all(spec.dtype not in AS_OBJECTS for spec in signature.inputs):
        return frozenset()
    closed = "label" if signature.classes is not None else None
    texts = [spec.name for spec in signature.outputs if spec.dtype in AS_OBJECTS]
    return frozenset(name for name in texts if name != closed)


def _compare(session: Any, signature: Signature) -> None:
    for kind, ends, specs in (
        ("input", session.get_inputs(), signature.inputs),
        ("output", session.get_outputs(), signature.graph_outputs),
    ):
        found = {end.name: end for end in ends}
        if found.keys() != {spec.name for spec in specs}:
            listed = sorted(spec.name for spec in specs)
            raise GraphError(f"the graph has the {kind}s {sorted(found)}, its signature {listed}")
        for spec in specs:
            end = found[spec.name]
            shape = end.shape or spec.shape  # an unknown rank is shown as no dimension
            if end.type != f"tensor({ORT_TYPES.get(spec.dtype, spec.dtype)})" or not _agree(
                shape, spec, kind
            ):
                what = f"a {end.type} of shape {tuple(shape)}"
                raise GraphError(
                    f"{kind} {spec.name!r} of the graph is {what}, its signature says {spec}",
                    spec=spec,
                )


def _agree(shape: Any, spec: TensorSpec, kind: str) -> bool:
    """Whether a shape of the graph fits the signature.

    A size that the graph fixes must be fixed in the signature of an input; that of an output is
    often inferred.
    """
    loose = (str, type(None)) if kind == "input" else (str, type(None), int)
    return len(shape) == len(spec.shape) and all(
        size == dim
        or (isinstance(dim, str) and isinstance(size, loose))
        or not isinstance(size, int)
        for size, dim in zip(shape, spec.shape, strict=True)
    )
