"""`modelkit export docker` and its like: what is written for a package, and what is refused."""

import re
from dataclasses import replace
from importlib import resources
from importlib.metadata import version

import pytest
from helpers.commands import run

import modelkit as mk
from modelkit.errors import UsageError
from modelkit.integrations.deploy import HOLE, PLATFORMS, exported, holes_of, pinned, rendered

TEMPLATES = [(kind, name) for kind, platform in PLATFORMS.items() for name in platform.templates]


@pytest.fixture(scope="module", params=PLATFORMS)
def kind(request):
    return request.param


def test_each_template_is_filled_and_each_file_written(kind, penguins_mk, tmp_path, capsys):
    status, out, _ = run(capsys, "export", kind, penguins_mk, "--out", tmp_path / "new")
    assert status == 0
    written = {path for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert {str(path) for path in written} == {*out.splitlines()}
    for name in PLATFORMS[kind].templates:
        assert HOLE.search((tmp_path / "new" / name).read_text()) is None
    assert mk.inspect(penguins_mk).digest in "".join(
        (tmp_path / "new" / name).read_text() for name in PLATFORMS[kind].templates
    )


@pytest.mark.parametrize(("kind", "name"), TEMPLATES)
def test_a_hole_stands_in_quotes_or_a_comment_or_is_a_number(kind, name, penguins_mk):
    """A version such as 1.10 or a name such as `on` would be something else without quotes."""
    text = resources.files("modelkit.integrations.deploy").joinpath(kind, name).read_text("utf-8")
    holes = holes_of(mk.inspect(penguins_mk), None, None)
    assert {*HOLE.findall(text)} <= {*holes}
    for line in text.splitlines():
        plain = re.sub(r'"[^"]*"|#.*', "", line)
        assert {*HOLE.findall(plain)} <= {"port", "python"}, line


def test_a_value_that_could_end_a_text_is_refused():
    assert rendered("a: '@x@'", {"x": "s3://bucket/models?region=eu&a=b%20c~"}).startswith("a: 's3")
    for value in ('a"b', "a'b", "a\nb", "a\\b", "$HOME", "a b", "`id`", "a#b", "\u00e9"):
        with pytest.raises(UsageError, match=r"the x .* cannot stand in a file"):
            rendered("a: '@x@'", {"x": value})


@pytest.mark.parametrize(
    ("name", "label"), [("churn", "churn"), ("a.b_c", "a-b-c"), ("x" * 64, "x" * 63), ("a-.", "a")]
)
def test_a_name_becomes_one_of_dns(name, label, penguins_mk, tmp_path):
    holes = holes_of(replace(mk.inspect(penguins_mk), name=name, version="1.0+gpu"), None, None)
    assert (holes["label"], holes["image"]) == (label, f"{label}:1.0-gpu")


def test_an_image_has_the_name_that_you_give(penguins_mk, tmp_path, capsys):
    image = "registry.example:5000/team/penguins:2@sha256:" + "0" * 64
    files = exported("docker", penguins_mk, image)
    assert f'image: "{image}"'.encode() in files["compose.yaml"]
    status, _, err = run(
        capsys, "export", "docker", penguins_mk, "--out", tmp_path, "--image", "A b"
    )
    assert (status, "an image has a name such as" in err) == (2, True)


def test_with_a_registry_the_image_has_no_package(penguins_mk):
    files = exported("docker", penguins_mk, registry="s3://models/production")
    assert not [name for name in files if name.endswith(".mk")]
    text = files["Dockerfile"].decode()
    assert 'MODELKIT_REGISTRY="s3://models/production"' in text
    assert 'MODELKIT_PACKAGE="penguins"' in text
    assert b"obstore==" in files["requirements.txt"]
    assert exported("docker", penguins_mk)["penguins.mk"] == penguins_mk.read_bytes()


def test_requirements_are_what_serving_needs_in_the_versions_of_here(penguins_mk, joblib_mk):
    lines = exported("docker", penguins_mk)["requirements.txt"].decode().splitlines()
    names = {line.partition("==")[0] for line in lines}
    assert f"numpy=={version('numpy')}" in lines
    assert {"modelkit-sdk", "onnxruntime", "uvicorn", "h11", "protobuf"} <= names
    assert not names & {"scipy", "onnx", "scikit-learn", "pandas", "tokenizers", "cryptography"}
    lines = exported("docker", joblib_mk)["requirements.txt"].decode()
    for name in ("scikit-learn", "joblib", "scipy", "onnx", "threadpoolctl"):
        assert f"{name}=={version(name)}" in lines


def test_what_is_not_installed_here_is_named():
    with pytest.raises(UsageError, match=r"are not: pip install made-up other-one"):
        pinned(["numpy", "other-one", "made-up"])
    assert pinned(["typing_extensions"]) == pinned(["typing-extensions"])
