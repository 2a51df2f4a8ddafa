"""What is on its way into a package: a graph, and what it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelkit._internal.arrays import Array
from modelkit.model.structure import Structure
from modelkit.runtimes.terms.terms import Terms
from modelkit.runtimes.terms.vectorizer import Texts
from modelkit.signature.signature import Signature

if TYPE_CHECKING:
    import onnx

Columns = dict[str, Array]  # values by the name of their column; tensors by that of their input

DECISION = "decision"  # the scores that a source decides its labels by: see Source.truth
TIES = "ties"  # the rows for which it chose otherwise than its graph: see Source.truth


@dataclass(frozen=True)
class Prefix:
    """A pipeline up to one of its steps: where this step stands, its class, and the source of both.

    `jumps` is whether the step compares with thresholds. `convert` raises ConversionError.
    """

    place: str
    step: str
    convert: Callable[[], Source]
    jumps: bool = False


@dataclass(frozen=True)
class Source:
    """A graph on its way into a package.

    `truth` answers for rows in the form the source was trained on, by output name, and for
    classifiers with the scores they decide by, under `DECISION`. Under `TIES` it says of which rows
    the source takes other neighbours at the same distance than its graph, by whose choice it
    answers. It and `against`, the name of the source, are None for a graph that came without one.
    `rows` are example rows in that form, None if there are none; `given` are the rows of an
    estimator in the form that they came in, and `form` makes rows in the form of `rows` from their
    columns by name. `categories` are the values that encoders refuse to go beyond, by column, and
    `miscoded` the columns whose other values the source answers by chance. `by_dtype` is whether
    the source refuses codes of categories by the dtype that they come in. `rounds` is whether the
    graph computes in float32 what its source computes in float64; where that is None, it does if an
    input or output is float32. `scales` are the sizes of outputs of numbers that are below 1, by
    which differences are judged; so are outputs in `distances`, whatever their size. `texts` says
    what is done to texts before the graph, and `terms` what each of its vectorizers counts; None
    and () for a graph that reads no texts. `half` is the dtype of 16 bits that the source computes
    in, float16 or bfloat16, if it does. `named` is whether the caller named the classes. `prefixes`
    are the steps of a pipeline, in their order, to find the first where source and graph part.
    `structures` say what sum is behind an output. `proto` is empty for an estimator that is
    packaged as it is.
    """

    proto: onnx.ModelProto
    signature: Signature
    rows: Any = None
    given: Any = None
    against: str | None = None
    truth: Callable[[Any], dict[str, Array]] | None = None
    form: Callable[[Columns], Any] = dict
    categories: dict[str, tuple[str, ...]] | None = None
    miscoded: frozenset[str] = frozenset()
    by_dtype: bool = False
    rounds: bool | None = None
    scales: Mapping[str, float] = field(default_factory=dict)
    distances: frozenset[str] = frozenset()
    texts: Texts | None = None
    terms: tuple[Terms, ...] = ()
    half: str | None = None
    named: bool = False
    prefixes: tuple[Prefix, ...] = ()
    structures: Mapping[str, Structure] = field(default_factory=dict)


def is_native(source: Source) -> bool:
    """Whether an estimator is packaged as it is: then what runs is the source itself."""
    return not source.proto.graph.node
