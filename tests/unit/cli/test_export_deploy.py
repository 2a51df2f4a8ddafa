"""`modelkit export docker` and its like: what is written for a package, and what is refused."""

import re
import shutil
from dataclasses import replace
from importlib import resources
from importlib.metadata import version

import pytest
from helpers.commands import run
from helpers.forge import forge
from helpers.signers import key_pair

import modelkit as mk
from modelkit.errors import PackageError, UsageError
from modelkit.integrations.deploy import (
    HOLE,
    PLATFORMS,
    exported,
    holes_of,
    pinned,
    rendered,
    requirements,
)

TEMPLATES = [(kind, name) for kind, platform in PLATFORMS.items() for name in platform.templates]


@pytest.fixture(scope="module", params=PLATFORMS)
def kind(request):
    return request.param


def test_each_template_is_filled_and_each_file_written(kind, penguins_mk, tmp_path, capsys):
    status, out, _ = run(capsys, "export", kind, penguins_mk, "--output", tmp_path / "new")
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
    holes = holes_of(mk.inspect(penguins_mk), "", "")
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
    ("name", "label"),
    [("churn", "churn"), ("a.b_c", "a-b-c"), ("x" * 64, "x" * 63), ("a-.", "a"), ("3d", "m-3d")],
)
def test_a_name_becomes_one_of_dns(name, label, penguins_mk, tmp_path):
    holes = holes_of(replace(mk.inspect(penguins_mk), name=name, version="1.0+gpu"), "", "")
    assert (holes["label"], holes["image"]) == (label, f"{label}:1.0-gpu")


def test_an_image_has_the_name_that_you_give(penguins_mk, tmp_path, capsys):
    image = "registry.example:5000/team/penguins:2@sha256:" + "0" * 64
    files = exported("docker", penguins_mk, image)
    assert f'image: "{image}"'.encode() in files["compose.yaml"]
    for wrong in (
        "A b",
        "team/Penguins",
        "penguins:",
        "penguins:1:2",
        "a//b",
        "penguins@1",
        "-p:1",
    ):
        status, _, err = run(
            capsys, "export", "docker", penguins_mk, "--output", tmp_path, f"--image={wrong}"
        )
        assert (status, "an image has a name such as" in err) == (2, True), wrong


def test_with_a_registry_the_image_has_no_package(penguins_mk):
    files = exported("docker", penguins_mk, registry="s3://models/production")
    assert not [name for name in files if name.endswith(".mk")]
    text = files["Dockerfile"].decode()
    assert 'MODELKIT_REGISTRY="s3://models/production"' in text
    assert 'MODELKIT_PACKAGE="penguins"' in text
    assert b"obstore==" in files["requirements.txt"]
    without = exported(
        "docker", penguins_mk, registry=""
    )  # a variable of the shell that is not set
    assert without["penguins.mk"] == penguins_mk.read_bytes()


@pytest.mark.parametrize("kind", PLATFORMS)
def test_credentials_in_the_url_of_a_registry_come_into_no_file(
    kind, penguins_mk, tmp_path, capsys
):
    where = "s3://user:secret@bucket/models?signature=abc"
    words = ("export", kind, penguins_mk, "--output", tmp_path / "new", "--registry", where)
    status, out, err = run(capsys, *words)
    assert (status, out, (tmp_path / "new").exists()) == (2, "", False)
    assert "s3://...@bucket/models?... has a user, a password or a query" in err
    assert "secret" not in err


def test_signatures_come_along_with_the_package(penguins_mk, tmp_path, capsys):
    shutil.copy(penguins_mk, tmp_path / "m.mk")
    assert "penguins.mk.sig" not in exported("docker", tmp_path / "m.mk")
    private, public = key_pair(tmp_path)
    mk.sign(tmp_path / "m.mk", private)
    assert run(capsys, "export", "docker", tmp_path / "m.mk", "--output", tmp_path / "new")[0] == 0
    mk.load(tmp_path / "new" / "penguins.mk", trust=mk.Trust([public])).close()
    ignored = (tmp_path / "new" / ".dockerignore").read_text().split()
    assert "!*.mk.sig" in ignored
    assert run(capsys, "export", "--check", tmp_path / "new")[0] == 0
    assert "penguins.mk.sig" not in exported("docker", tmp_path / "m.mk", registry="s3://models")


def test_requirements_are_what_serving_needs_in_the_versions_of_here(penguins_mk, joblib_mk):
    lines = exported("docker", penguins_mk)["requirements.txt"].decode().splitlines()
    names = {line.partition("==")[0] for line in lines}
    assert f"numpy=={version('numpy')}" in lines
    assert {"modelkit-sdk", "onnxruntime", "uvicorn", "h11", "protobuf"} <= names
    assert not names & {"scipy", "onnx", "scikit-learn", "pandas", "tokenizers", "cryptography"}
    lines = exported("docker", joblib_mk)["requirements.txt"].decode()
    for name in ("scikit-learn", "joblib", "scipy", "onnx", "threadpoolctl"):
        assert f"{name}=={version(name)}" in lines


def test_a_gpu_takes_a_runtime_that_exists_and_the_cuda_that_it_names(penguins_mk):
    """The last releases of onnxruntime have no onnxruntime-gpu yet."""
    files = exported("docker", penguins_mk)
    cpu = {*files["requirements.txt"].decode().splitlines()}
    gpu = {*files["requirements-gpu.txt"].decode().splitlines()}
    release = version("onnxruntime")
    assert cpu - gpu == {f"onnxruntime=={release}"}
    assert gpu - cpu == {f"onnxruntime-gpu[cuda,cudnn]<={release},!=1.26.0"}
    assert requirements("onnxruntime-gpu==1.31.1\n")["requirements.txt"] == b"onnxruntime==1.31.1\n"


def test_other_versions_than_a_pickle_needs_are_refused(joblib_mk, tmp_path):
    path = tmp_path / "other.mk"
    changed = {"scikit-learn": "0.1"}
    path.write_bytes(
        forge(joblib_mk.read_bytes(), edit=lambda plain: plain["requires"].update(changed))
    )
    with pytest.raises(PackageError, match=r"pip install scikit-learn==0\.1"):
        exported("docker", path)


def test_what_is_not_installed_here_is_named():
    with pytest.raises(UsageError, match=r"are not: pip install made-up other-one"):
        pinned(["numpy", "other-one", "made-up"])
    assert pinned(["typing_extensions"]) == pinned(["typing-extensions"])


def test_files_fit_one_another_until_somebody_edits_them(penguins_mk, tmp_path, capsys):
    for kind in PLATFORMS:
        assert run(capsys, "export", kind, penguins_mk, "--output", tmp_path)[0] == 0
    status, out, _ = run(capsys, "export", "--check", tmp_path)
    commands = [command for platform in PLATFORMS.values() for command in platform.checks]
    assert (status, out.splitlines()[1:]) == (0, commands)


@pytest.mark.parametrize(
    ("kind", "file", "before", "after", "said"),
    [
        ("docker", "stack.yaml", r'(MODELKIT_DIGEST: ")\w+', r"\g<1>" + "0" * 64, "penguins.mk"),
        ("docker", "compose.yaml", r'"penguins:1.0.0"', "penguins:2", "penguins:2 in compose.yaml"),
        ("kubernetes", "deployment.yaml", r"containerPort: \d+", "containerPort: 80", "the port"),
        (
            "kubernetes",
            "kserve.yaml",
            r".*MODELKIT_DIGEST.*\n",
            "",
            "lacks the digest in MODELKIT_DIGEST",
        ),
        ("kubernetes", "seldon.yaml", r":1.0.0", ":latest", "penguins:latest without a version"),
        ("kubernetes", "deployment.yaml", r'"10"', '"45"', "after 45 s, and it drains for 45 s"),
        ("docker", "stack.yaml", "period: 45s", "period: 5s", "after 5 s, and it drains for 5 s"),
        ("docker", "prometheus.yml", "port: 8080", "port: 8000", "8000 in prometheus.yml"),
        ("docker", "compose.yaml", "1:8080:8080", "1:8080:80", "80 in compose.yaml"),
        (
            "docker",
            "compose.yaml",
            "(MODELKIT_DIGEST: .*)",
            r'\1\n      PORT: "81"',
            "81 in compose.yaml",
        ),
        (
            "docker",
            "Dockerfile",
            r'MODELKIT_DIGEST="\w+"',
            f'MODELKIT_DIGEST="{"3" * 64}"',
            "Dockerfile refuses",
        ),
        # The digest in the comment is right, and the one that counts is not.
        (
            "docker",
            "compose.yaml",
            r'( *MODELKIT_DIGEST: ")(\w+)',
            r"# \1\2\n\g<1>" + "0" * 64,
            "refuses penguins.mk",
        ),
        # The first service has the right one, and the second has not.
        (
            "docker",
            "stack.yaml",
            r"\Z",
            f'  b:\n    image: b:1\n    environment: ["MODELKIT_DIGEST=sha256:{"1" * 64}"]\n',
            f"{'1' * 64} in stack.yaml",
        ),
        (
            "kubernetes",
            "deployment.yaml",
            "args: .*",
            f'args: [serve, --digest, "{"2" * 64}"]',
            f"{'2' * 64} in deployment.yaml",
        ),
        ("kubernetes", "kserve.yaml", "ready, port: 8080", "ready, port: 80", "80 in kserve.yaml"),
        (
            "kubernetes",
            "seldon.yaml",
            "image: .*",
            "image: caf\udce9:1",
            "the image is not the same",
        ),
    ],
)
def test_an_edit_that_does_not_fit_is_told(
    kind, file, before, after, said, penguins_mk, tmp_path, capsys
):
    assert run(capsys, "export", kind, penguins_mk, "--output", tmp_path)[0] == 0
    text = (tmp_path / file).read_text()
    edited = re.sub(before, after, text)
    (tmp_path / file).write_bytes(edited.encode(errors="surrogateescape"))
    assert edited != text
    status, out, _ = run(capsys, "export", "--check", tmp_path)
    assert (status, said in out) == (1, True), out


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("compose.yaml", r"\n", "\r\n"),
        ("compose.yaml", r'(MODELKIT_DIGEST: ")', r"\1sha256:"),
        ("compose.yaml", r'image: "(penguins:1.0.0)"', r"image: '\1' # not penguins:2"),
        ("compose.yaml", "grafana/grafana:12.1.0", "grafana/grafana:12.2.0"),
        ("stack.yaml", "period: 45s", "period: 1m"),
        ("Dockerfile", "EXPOSE", "# EXPOSE 80\nEXPOSE"),
    ],
)
def test_an_edit_that_fits_is_let_pass(file, before, after, penguins_mk, tmp_path, capsys):
    assert run(capsys, "export", "docker", penguins_mk, "--output", tmp_path)[0] == 0
    (tmp_path / "other.mk").write_bytes(b"it does not come into the image")
    text = (tmp_path / file).read_text()
    edited = re.sub(before, after, text)
    (tmp_path / file).write_bytes(edited.encode())
    status, out, _ = run(capsys, "export", "--check", tmp_path)
    assert (status, edited != text) == (0, True), out


def test_an_environment_may_be_written_in_another_form(penguins_mk, tmp_path, capsys):
    assert run(capsys, "export", "kubernetes", penguins_mk, "--output", tmp_path)[0] == 0
    digest = mk.inspect(penguins_mk).digest
    text = (tmp_path / "deployment.yaml").read_text()
    flow = f'- {{name: MODELKIT_DIGEST, value: "{digest}"}}'
    block = f"- name: MODELKIT_DIGEST\n              value: {digest} {'1' * 64}"
    (tmp_path / "deployment.yaml").write_text(text.replace(flow, block))
    _, out, _ = run(capsys, "export", "--check", tmp_path)
    assert f"{digest} {'1' * 64} in deployment.yaml" in out


def test_there_is_something_to_check_or_to_export(tmp_path, capsys):
    status, _, err = run(capsys, "export", "--check", tmp_path)
    assert (status, "lacks the files that `modelkit export` writes" in err) == (2, True)
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [../base]\n"
    )  # it said that all was well
    status, _, err = run(capsys, "export", "--check", tmp_path)
    assert (status, "not an overlay of it" in err) == (2, True)
    status, _, err = run(capsys, "export")
    assert (status, "or --check DIR" in err) == (2, True)
