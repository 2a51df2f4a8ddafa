"""How a graph ends: the steps between a sum and the served output, walked backwards."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modelkit._internal.arrays import Array
from modelkit.explain.graph import GraphIndex, option
from modelkit.explain.links import OutputLink
from modelkit.explain.nodes import TREE_OPERATORS

if TYPE_CHECKING:
    import onnx

RESHAPING = frozenset(["Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"])
LINK_FUNCTIONS = {"Exp": "exp", "Sigmoid": "logistic", "Softmax": "softmax"}


def before_link(graph: GraphIndex, output: str) -> tuple[str, OutputLink]:
    """Walk back from an output through reshapes, one link and factors.

    Returns the name of the tensor before them, and the link.
    """
    name = output
    link = OutputLink()
    while True:
        step = _step_back(graph, name, link)
        if step is None:
            return name, link
        name, link = step


def _step_back(graph: GraphIndex, name: str, link: OutputLink) -> tuple[str, OutputLink] | None:
    """The tensor before the node that makes `name`, and the link so far; None at the end."""
    node = graph.maker(name)
    if node is None:
        return None
    if node.op_type in RESHAPING or _is_second(graph, node):
        return node.input[0], link
    if _is_complement(graph, node):
        return node.input[1], link
    if node.op_type == "Normalizer" and _is_softmax(graph, node):  # its sum is one already
        return node.input[0], link
    if link.name != "identity":
        return None
    if node.op_type in LINK_FUNCTIONS:
        if link.scale != 1.0 and node.op_type != "Exp":
            return None
        function = LINK_FUNCTIONS[node.op_type]
        return node.input[0], replace(link, name=function)
    written = written_link(graph, node)
    if written is not None and link.scale == 1.0:
        before, function = written
        return before, replace(link, name=function)
    scores = _before_share(graph, node)
    if scores is not None and link.scale == 1.0:
        return scores, OutputLink("share")
    return _before_scaling(graph, node, link)


def _before_scaling(
    graph: GraphIndex, node: onnx.NodeProto, link: OutputLink
) -> tuple[str, OutputLink] | None:
    """The tensor before a product with one number, and the link with this factor."""
    constants = [name for name in node.input if name in graph.constants]
    if node.op_type not in ("Mul", "Div") or len(constants) != 1:
        return None
    number = graph.number(constants[0])
    is_inverse = node.op_type == "Div" and node.input[0] == constants[0]
    if number is None or is_inverse:
        return None
    factor = number if node.op_type == "Mul" else 1 / number
    others = [name for name in node.input if name not in graph.constants]
    return others[0], replace(link, scale=link.scale * factor)


def _is_complement(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    """Whether a node puts 1 - p beside p, the probabilities of two classes."""
    if node.op_type != "Concat" or len(node.input) != 2:
        return False
    rest = graph.maker(node.input[0])
    if rest is None or rest.op_type != "Sub":
        return False
    if rest.input[1] != node.input[1]:
        return False
    return graph.number(rest.input[0]) == 1.0


def _is_second(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    """Whether a node takes the second of two probabilities.

    The additivity check sees whether there were others.
    """
    if node.op_type not in ("Gather", "ArrayFeatureExtractor"):
        return False
    column = graph.constant(node.input[1])
    above = graph.maker(node.input[0])
    if column is None or above is None:
        return False
    if above.op_type not in (*TREE_OPERATORS, "Softmax", "Concat"):
        return False
    return bool(column.reshape(-1).tolist() == [1])


def _is_softmax(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    """Whether a node divides the probabilities of a softmax by their sum."""
    above = graph.maker(node.input[0])
    if above is None or above.op_type != "LinearClassifier":
        return False
    return bool(
        option(node, "norm", b"MAX") == b"L1"
        and option(above, "post_transform", b"NONE") == b"SOFTMAX"
    )


def _before_share(graph: GraphIndex, node: onnx.NodeProto) -> str | None:
    """The scores whose sigmoids a node divides by their sum, as one-against-rest classifiers do.

    Where the sum is 0, which the additivity check sees, the shares may be constants.
    """
    if node.op_type == "Where":
        node = graph.maker(node.input[2]) or node
    if node.op_type != "Div":
        return None
    above = graph.maker(node.input[0])
    below = graph.maker(node.input[1])
    if above is None or below is None or below.op_type != "ReduceSum":
        return None
    summed = graph.maker(below.input[0])
    if summed is None:
        return None
    names = [below.input[0]]
    if summed.op_type == "Abs":
        names += summed.input
    if node.input[0] not in names:
        return None
    if above.op_type == "Sigmoid":
        return str(above.input[0])
    before, link = written_link(graph, above) or (None, "")
    return before if link == "logistic" else None


def summed_rows(graph: GraphIndex, name: str) -> tuple[str, Array] | None:
    """The ensemble and the table behind a tensor that is a sum of rows of a table.

    The trees of the ensemble give the numbers of the rows, one each. The sum is the last of the
    running sums over the trees, or the one row of a single tree. Returns the name of the ensemble's
    output and the table, or None for any other tensor.
    """
    node = graph.maker(name)
    if node is None or not _is_gather(node, axis=1):
        return None
    chosen = graph.constant(node.input[1])
    if chosen is None or chosen.ndim:
        return None
    if int(chosen) == 0:
        return _sum_of_groups(graph, node)
    if int(chosen) != -1:
        return None
    rows = graph.maker(node.input[0])
    if rows is None:
        return None
    if rows.op_type == "CumSum":
        if not _is_running_sum(graph, rows):
            return None
        rows = graph.maker(rows.input[0])
    elif _trees_of(graph, graph.maker(rows.input[-1])) != 1:
        return None
    return None if rows is None else _numbered_rows(graph, rows)


def _sum_of_groups(graph: GraphIndex, node: onnx.NodeProto) -> tuple[str, Array] | None:
    """The same where the trees are split into groups, added from the last one to the first."""
    found = _groups_of(graph, node)
    if not found:
        return None
    groups = [number for _, number in found]
    split = graph.maker(groups[0])
    if split is None or split.op_type != "Split" or list(split.output) != groups:
        return None
    turned = graph.maker(split.input[0])
    if turned is None or not _is_gather(turned, axis=1):
        return None
    tables = {table for table, _ in found}
    table = graph.constant(tables.pop())
    order = graph.constant(turned.input[1])
    if table is None or table.ndim != 2 or order is None or tables:
        return None
    number = graph.maker(turned.input[0])
    trees = _trees_of(graph, number)
    if number is None or number.op_type != "Cast" or sorted(order.tolist()) != list(range(trees)):
        return None
    return number.input[0], table


def _groups_of(graph: GraphIndex, node: onnx.NodeProto | None) -> list[tuple[str, str]]:
    """The table of each group of trees, and the numbers of its rows; empty for any other tensor.

    The rows of a group are joined with the sum of those behind it.
    """
    found = []
    while node is not None:
        sums = graph.maker(node.input[0])
        first = graph.constant(node.input[1])
        if not _is_gather(node, axis=1) or first is None or first.any() or first.size != 1:
            return []
        if sums is None or sums.op_type != "CumSum" or not _is_running_sum(graph, sums, reverse=1):
            return []
        rows = graph.maker(sums.input[0])
        node = None
        if rows is not None and rows.op_type == "Concat" and len(rows.input) == 2:
            node = graph.maker(rows.input[1])
            rows = graph.maker(rows.input[0])
        if rows is None or not _is_gather(rows, axis=0):
            return []
        found.append((rows.input[0], rows.input[1]))
    return found


def _is_running_sum(graph: GraphIndex, node: onnx.NodeProto, *, reverse: int = 0) -> bool:
    """Whether a CumSum runs over the trees, in that direction, and includes each row in its sum."""
    axis = graph.constant(node.input[1])
    if axis is None or int(axis.reshape(-1)[0]) != 1:
        return False
    if option(node, "exclusive", 0):
        return False
    return bool(option(node, "reverse", 0) == reverse)


def _numbered_rows(graph: GraphIndex, node: onnx.NodeProto) -> tuple[str, Array] | None:
    """The ensemble whose trees number the rows that a node takes, and the table of the rows."""
    if not _is_gather(node, axis=0):
        return None
    table = graph.constant(node.input[0])
    number = graph.maker(node.input[1])
    if table is None or table.ndim != 2:
        return None
    if number is None or number.op_type != "Cast" or not _trees_of(graph, number):
        return None
    return number.input[0], table


def _is_gather(node: onnx.NodeProto, axis: int) -> bool:
    return node.op_type == "Gather" and option(node, "axis", 0) == axis


def _trees_of(graph: GraphIndex, cast: onnx.NodeProto | None) -> int:
    """The number of trees of the ensemble whose output is cast; 0 if it is no ensemble."""
    if cast is None or not cast.input:
        return 0
    made = graph.maker(cast.input[0])
    if made is None or made.op_type != "TreeEnsemble":
        return 0
    return len(option(made, "tree_roots", ()))


def before_factor(graph: GraphIndex, name: str) -> tuple[str, float]:
    """Walk back from a value before its link over one product of trees with a number."""
    node = graph.maker(name)
    if node is None or node.op_type not in ("Mul", "Div"):
        return name, 1.0
    number = graph.number(node.input[1])
    made = graph.maker(node.input[0])
    if number is None or made is None or made.op_type not in TREE_OPERATORS:
        return name, 1.0
    return node.input[0], number if node.op_type == "Mul" else 1 / number


def written_link(graph: GraphIndex, node: onnx.NodeProto) -> tuple[str, str] | None:
    """The tensor before a link whose last step is a quotient, and the name of the link.

    1 / (exp(-x) + 1) is the logistic function, and exp(x - max x) over its sum the softmax. None
    for any other quotient.
    """
    if node.op_type != "Div":
        return None
    if graph.number(node.input[0]) == 1.0:
        before = _before_logistic(graph, node.input[1])
        return None if before is None else (before, "logistic")
    before = _before_softmax(graph, *node.input)
    return None if before is None else (before, "softmax")


def _before_logistic(graph: GraphIndex, name: str) -> str | None:
    """X for exp(-x) + 1."""
    added = _made(graph, name, "Add")
    if added is None:
        return None
    others = [term for term in added.input if graph.number(term) != 1.0]
    if len(others) != 1:
        return None
    negated = _made(graph, _exponent(graph, others[0]), "Neg")
    return None if negated is None else str(negated.input[0])


def _before_softmax(graph: GraphIndex, grown: str, whole: str) -> str | None:
    """X for exp(x - max x) and the sum of these over the classes."""
    summed = _made(graph, whole, "ReduceSum")
    shifted = _made(graph, _exponent(graph, grown), "Sub")
    if summed is None or shifted is None:
        return None
    most = _made(graph, shifted.input[1], "ReduceMax")
    if most is None or most.input[0] != shifted.input[0]:
        return None
    if _uncast(graph, summed.input[0]) != _uncast(graph, grown):
        return None
    return str(shifted.input[0])


def _exponent(graph: GraphIndex, name: str) -> str:
    """X for exp(x); the name itself for anything else."""
    grown = _made(graph, name, "Exp")
    return name if grown is None else str(grown.input[0])


def _made(graph: GraphIndex, name: str, kind: str) -> onnx.NodeProto | None:
    """The node that makes a tensor, before casts, if it is of a kind."""
    node = graph.maker(_uncast(graph, name))
    return node if node is not None and node.op_type == kind else None


def _uncast(graph: GraphIndex, name: str) -> str:
    node = graph.maker(name)
    while node is not None and node.op_type == "Cast":
        name = node.input[0]
        node = graph.maker(name)
    return name
