"""What MLflow is told of an Evaluation: names that stay apart, and that it takes."""

from hypothesis import example, given
from hypothesis import strategies as st

from modelkit.integrations.mlflow.records import LONGEST, _named

CHARACTERS = st.text(st.sampled_from("ab_2859f(.%é "), max_size=8)


@given(st.sets(CHARACTERS, min_size=2))
@example({"a(b", "a_28_b"})
def test_checks_of_different_names_are_metrics_of_different_names(names):
    assert len({_named(name) for name in names}) == len(names)


def test_the_name_of_a_metric_is_short_enough_for_mlflow():
    longest = ["slice " + "é" * 300 + end for end in "ab"]
    assert len(set(map(_named, longest))) == 2
    assert max(map(len, map(_named, longest))) == LONGEST
