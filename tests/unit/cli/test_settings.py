"""The settings of `modelkit serve`: arguments, the environment, clouds, and a name in a registry."""

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

import modelkit.cli.settings
from modelkit.cli.serve import add_serve
from modelkit.cli.settings import Settings, settings_of
from modelkit.errors import ModelkitError


def settings(*arguments, **environ):
    parser = argparse.ArgumentParser()
    add_serve(parser.add_subparsers())
    return settings_of(parser.parse_args(["serve", *arguments]), environ)


def test_arguments_come_before_the_environment_and_that_before_the_defaults():
    assert settings("a.mk") == Settings("a.mk")
    environ = {
        "MODELKIT_PACKAGE": "b.mk",
        "MODELKIT_DIGEST": "d",
        "MODELKIT_TOKENS": "t",
        "MODELKIT_UNSEAL": "k.pem",
        "MODELKIT_ALLOW": "org.example joblib",
        "HOST": "0.0.0.0",  # noqa: S104 - nothing listens there
        "PORT": "81",
        "WEB_CONCURRENCY": "3",
    }
    told = Settings(
        "b.mk", digest=("d",), unseal="k.pem", host=environ["HOST"], port=81, workers=3, tokens="t",
        allow=frozenset(["org.example", "joblib"]),
    )  # fmt: skip
    assert settings(**environ) == told
    asked = settings(
        "a.mk", "--digest", "e", "--tokens", "u", "--host", "::1", "--port", "82", "--workers", "1",
        "--allow", "joblib", "--allow", "com.example", "--name", "n", "--drain", "0.5", "--unseal", "env:K", **environ,
    )  # fmt: skip
    changed = {
        "digest": ("e",),
        "tokens": "u",
        "unseal": "env:K",
        "host": "::1",
        "port": 82,
        "workers": 1,
        "drain": 0.5,
    }
    allow = frozenset(["joblib", "com.example"])
    assert asked == replace(told, package="a.mk", name="n", allow=allow, **changed)


def test_an_empty_variable_is_none():
    assert settings("a.mk", PORT="", HOST="", WEB_CONCURRENCY="") == Settings("a.mk")


def test_vertex_says_where(tmp_path):
    (tmp_path / "model").mkdir()
    package = tmp_path / "model" / "a.mk"
    package.touch()
    environ = {
        "AIP_HTTP_PORT": "8080",
        "AIP_HEALTH_ROUTE": "/health",
        "AIP_PREDICT_ROUTE": "/predict",
        "AIP_STORAGE_URI": str(tmp_path),
    }
    found = settings(**environ)
    everywhere = "0.0.0.0"  # noqa: S104 - nothing listens there
    assert found == Settings(
        str(package), host=everywhere, port=8080, health_route="/health", predict_route="/predict"
    )
    assert settings("b.mk", **environ).package == "b.mk"
    remote = {**environ, "AIP_STORAGE_URI": "gs://bucket/model"}
    assert settings(MODELKIT_PACKAGE="b.mk", **remote).package == "b.mk"
    with pytest.raises(ModelkitError, match=r"'gs://bucket/model'.*opens local paths only"):
        settings(**remote)


def test_sagemaker_and_azure_put_the_package_somewhere(tmp_path, monkeypatch):
    """SageMaker unpacks model.tar.gz there; Azure ML has a folder of the model's name in it, too."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "churn").mkdir()
    package = str(tmp_path / "churn" / "a.mk")
    Path(package).touch()
    assert settings(AZUREML_MODEL_DIR=str(tmp_path)).package == package
    monkeypatch.setattr(modelkit.cli.settings, "SAGEMAKER", str(tmp_path))
    assert settings().package == package
    for known in ({"MODELKIT_PACKAGE": "b.mk"}, {"AZUREML_MODEL_DIR": "b.mk"}):
        assert settings(**known).package == "b.mk"
    monkeypatch.setattr(modelkit.cli.settings, "SAGEMAKER", str(tmp_path / "empty"))
    assert settings(MODELKIT_PACKAGE="b.mk").package == "b.mk"
    with pytest.raises(ModelkitError, match=r"empty' has 0 packages"):
        settings()


@pytest.mark.parametrize("name", ["AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT"])
def test_the_port_of_a_cloud_comes_before_the_image_s_own(name):
    everywhere = "0.0.0.0"  # noqa: S104 - nothing listens there
    assert settings("a.mk", PORT="80", **{name: "81"}) == Settings("a.mk", host=everywhere, port=81)
    assert settings("a.mk", "--port", "82", HOST="::1", **{name: "81"}).port == 82
    with pytest.raises(ModelkitError, match=f"{name} is a whole number"):
        settings("a.mk", **{name: "x"})


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        ((), {}, "set MODELKIT_PACKAGE"),
        (("a.mk",), {"PORT": "http"}, "PORT is a whole number, 0 or more; got 'http'"),
        (("a.mk",), {"PORT": "-1"}, "got '-1'"),
        (("a.mk",), {"PORT": "9" * 5000}, "PORT is a whole number"),
        (("a.mk",), {"PORT": "70000"}, "from 0 to 65535; got 70000"),
        (("a.mk", "--workers", "0"), {}, "at least one worker"),
        (("a.mk", "--drain", "nan"), {}, "in seconds, 0 or more; got nan"),
        (("a.mk", "--name", "a/b"), {}, "without '/'; got 'a/b'"),
        (("a.mk", "--ssl-keyfile", "k"), {}, "need --ssl-certfile"),
        (("a.mk", "--ssl-ca-certs", "k"), {}, "need --ssl-certfile"),
        (("a.mk",), {"AIP_PREDICT_ROUTE": "predict"}, "begin with '/'; got 'predict'"),
    ],
)
def test_settings_that_cannot_be_used(arguments, environ, words):
    with pytest.raises(ModelkitError, match=words):
        settings(*arguments, **environ)


def test_a_folder_has_one_package(tmp_path):
    with pytest.raises(ModelkitError, match=r"has 0 packages \(none\)"):
        settings(str(tmp_path))
    for name in ("a.mk", "b.mk"):
        (tmp_path / name).touch()
    with pytest.raises(ModelkitError, match=r"has 2 packages \(a.mk, b.mk\)"):
        settings(str(tmp_path))


def test_what_is_hidden_is_no_second_package(tmp_path):
    """`tar` of macOS packs `._a.mk` beside a.mk; a volume of Kubernetes has a.mk -> ..data/a.mk -> ..2026_01/a.mk."""
    package = tmp_path / "a.mk"
    (tmp_path / "..2026_01").mkdir()
    (tmp_path / "..2026_01" / "a.mk").touch()
    (tmp_path / "..data").symlink_to("..2026_01")
    package.symlink_to("..data/a.mk")
    (tmp_path / "._a.mk").touch()
    assert settings(str(tmp_path)).package == str(package)


# A name in a registry.


def test_serve_takes_a_name_in_a_registry():
    for words in (("churn", "--registry", "models"), ("churn@champion", "--registry", "models")):
        found = settings(*words)
        assert (found.package, found.registry) == ("churn", "models")
    held = {"MODELKIT_REGISTRY": "s3://bucket/models", "MODELKIT_PACKAGE": "churn"}
    assert settings(**held).registry == "s3://bucket/models"


def test_serve_takes_the_digests_that_may_be_followed():
    words = ("churn", "--registry", "models", "--allow", "joblib")
    assert settings(*words).digest is None
    assert settings(*words, "--digest", "a", "--digest", "b").digest == ("a", "b")
    assert settings(*words, MODELKIT_DIGEST="a b").digest == ("a", "b")
    blank = settings(*words, MODELKIT_DIGEST=" ")
    assert blank.digest == ()  # none is trusted: not the same as None, which is for any


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--registry", "models"), "give the name"),
        (("churn@canary", "--registry", "models"), "follows the alias 'champion'"),
        (("churn", "--registry", "models", "--poll", "0"), "--poll"),
    ],
)
def test_what_serve_refuses_of_a_registry(words, told):
    with pytest.raises(ModelkitError, match=told):
        settings(*words)
