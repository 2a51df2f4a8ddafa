"""Versions of a registry never change: packages are kept and given as they were checked."""

from __future__ import annotations

import pytest
from helpers.churn import ALL_VERSIONS, Counting, X, Y
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.errors import Conflict, IntegrityError, NotFound, PackageError
from modelkit.lifecycle.registry.versions import Versions
from modelkit.store import open_store


@pytest.mark.parametrize("parents", ["1.0.0", [1], [b"1.0.0"], [None]])
def test_parents_that_could_not_be_read_again_are_refused(tmp_path, churn_packages, parents):
    released = mk.Registry(tmp_path / "models")
    with pytest.raises(TypeError, match="parents are a list"):
        released.register(churn_packages / "1.0.0.mk", parents=parents)
    assert released.names() == ()


def test_a_package_that_is_rewritten_while_it_is_registered_is_kept_as_it_was_checked(
    released, churn_packages, tmp_path, monkeypatch
):
    path = tmp_path / "written.mk"
    path.write_bytes((churn_packages / "other.mk").read_bytes())
    fresh = mk.Registry(tmp_path / "fresh")
    add = fresh._versions.add

    def rewritten(*args):
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"\0" * 64)
        return add(*args)

    monkeypatch.setattr(fresh._versions, "add", rewritten)
    fresh.register(path)
    fresh.load("churn", "1.0.0").close()
    with pytest.raises(PackageError):
        released.register(path)  # what it is now


def test_a_copy_that_fails_leaves_nothing_behind(released, tmp_path):
    target = released.fetch("churn", "1.0.0", tmp_path / "here")
    target.unlink()
    target.mkdir()
    with pytest.raises(OSError, match="director"):
        released.fetch("churn", "1.0.0", tmp_path / "here")
    target.rmdir()
    assert released.fetch("churn", "1.0.0", tmp_path / "here") == target
    assert list((tmp_path / "here").iterdir()) == [target]


def test_a_version_never_changes(registry, churn_packages, tmp_path):
    again = registry.register(churn_packages / "1.0.0.mk")
    assert again == registry.version("churn", "1.0.0")
    other = tmp_path / "other.mk"
    mk.save(LogisticRegression(C=9).fit(X, Y), other, example=X, name="churn", version="1.0.0")
    with pytest.raises(Conflict, match="is registered with digest"):
        registry.register(other)
    with pytest.raises(Conflict, match="is registered with parents"):
        registry.register(churn_packages / "1.0.0.mk", parents=["0.9.0"])
    with pytest.raises(PackageError, match="read-only"):
        mk.attach(registry.fetch("churn", "1.0.0"), metadata={"a": 1})
    with pytest.raises(PackageError, match="read-only"):
        mk.save(
            LogisticRegression().fit(X, Y),
            registry.fetch("churn", "1.0.0"),
            example=X,
            name="churn",
            version="1.0.0",
        )


def test_what_is_kept_beside_a_version_is_kept_once(registry):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    registry.keep("churn", "champion", "report.json", b"{}")
    registry.keep("churn", "1.0.0", "report.json", b"{}")
    assert registry.kept("churn", "1.0.0", "report.json") == b"{}"
    with pytest.raises(Conflict, match="another content"):
        registry.keep("churn", "1.0.0", "report.json", b"[]")
    with pytest.raises(NotFound, match="nothing was kept"):
        registry.kept("churn", "1.0.0", "other")


def test_a_damaged_package_is_neither_taken_nor_given(registry, churn_packages):
    whole = (churn_packages / "1.0.0.mk").read_bytes()
    with pytest.raises(PackageError):
        registry.register(whole[:-100])
    path = registry.fetch("churn", "1.0.0")
    path.chmod(0o644)
    path.write_bytes((churn_packages / "1.1.0.mk").read_bytes())
    with pytest.raises(IntegrityError):
        registry.load("churn", "1.0.0")
    with pytest.raises(IntegrityError, match="that was asked for"):
        registry.fetch("churn", "1.0.0")


def test_a_copy_is_fetched_where_it_is_asked_for(registry, tmp_path):
    path = registry.fetch("churn", "1.0.0", tmp_path / "here")
    assert path.parent == tmp_path / "here"
    path.write_bytes(b"broken")
    assert registry.fetch("churn", "1.0.0", tmp_path / "here") == path
    mk.load(path).close()


def test_all_versions_are_known_by_one_file_each(registry):
    store = Counting(open_store(registry.url))
    assert sorted(Versions(store).all("churn"), key=str) == sorted(
        registry.versions("churn"), key=str
    )
    assert store.asked == 1 + len(ALL_VERSIONS)  # their names, and each
