"""What a Scorer adds of an Explanation: contributions and bases as columns."""

from __future__ import annotations

from modelkit.errors import ExplainError
from modelkit.explain.explainer import Explainer
from modelkit.explain.explanation import Explanation
from modelkit.integrations.scorer.columns import ScoredOutput
from modelkit.model.model import Model, Outputs
from modelkit.signature.signature import Signature
from modelkit.signature.spec import no_rows

OF_COLUMNS = "contributions"
OF_NOTHING = "base"


def explainer_of(model: Model) -> Explainer:
    """An Explainer by the package's own background. Raises ExplainError where it has none."""
    try:
        return Explainer(model)
    except ExplainError as error:
        raise ExplainError(
            f"a Scorer explains by the background of the package alone, and cannot here: {error}. "
            "mk.Explainer has other methods, where the rows are"
        ) from error


def explained_outputs(explainer: Explainer, signature: Signature) -> list[ScoredOutput]:
    """The two columns of an Explanation, with the labels of their values."""
    nothing = explainer.explain({spec.name: no_rows(spec) for spec in signature.inputs})
    labels = value_labels(nothing)
    bases = nothing.output_names
    return [
        ScoredOutput(OF_COLUMNS, "float64", labels, len(labels)),
        ScoredOutput(OF_NOTHING, "float64", bases if len(bases) > 1 else None, len(bases)),
    ]


def value_labels(explanation: Explanation) -> tuple[str, ...]:
    """The names of contributions: of a column, or of an output and a column where there are several."""
    columns = explanation.feature_names
    if len(explanation.output_names) == 1:
        return columns
    labels = []
    for output in explanation.output_names:
        labels += [f"{output}_{column}" for column in columns]
    return tuple(labels)


def contributions(explanation: Explanation) -> Outputs:
    """Contributions (n, outputs * columns), output by output, and bases (n,) or (n, outputs)."""
    by_output = explanation.values.transpose(0, 2, 1)
    rows, outputs, columns = by_output.shape
    base = explanation.base_values
    if outputs == 1:
        base = base[:, 0]
    return {OF_COLUMNS: by_output.reshape(rows, outputs * columns), OF_NOTHING: base}
