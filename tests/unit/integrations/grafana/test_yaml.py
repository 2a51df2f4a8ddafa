"""YAML as it is written is what YAML reads."""

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from modelkit.integrations.grafana.yaml import to_yaml

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co"]))
TEXTS |= st.text(st.sampled_from("ab \"'\n:#-|{}[]&*!%@`"))

LEAVES = TEXTS | st.integers() | st.booleans() | st.none()
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=8
)


@given(st.lists(DOCUMENTS) | st.dictionaries(NAMES, DOCUMENTS))
@example({"no": [], "yes": 1, "on": {"off": 2}, "y": 3, "n": 4, "null": {"true": 5}, "false": 6})
def test_yaml_reads_what_was_written(document):
    assert yaml.safe_load(to_yaml(document)) == document
