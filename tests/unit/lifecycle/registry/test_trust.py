"""A Registry with a Trust keeps, opens and hands out only what enough of its keys have signed."""

import pickle
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from helpers.signers import key_pair

import modelkit as mk
from modelkit.errors import IntegrityError, UntrustedError, UsageError


@pytest.fixture
def signer(tmp_path):
    return key_pair(tmp_path)


@pytest.fixture
def package(churn_packages, tmp_path):
    return Path(shutil.copy(churn_packages / "1.0.0.mk", tmp_path / "churn.mk"))


def uses(registry, folder):
    """What asks for signatures of a version."""
    return (
        lambda: registry.load("churn", "1.0.0").close(),
        lambda: registry.reference("churn", "1.0.0"),
        lambda: registry.fetch("churn", "1.0.0"),
        lambda: registry.fetch("churn", "1.0.0", folder),
    )


def test_only_signed_packages_are_kept(package, signer, tmp_path):
    private, public = signer
    registry = mk.Registry(tmp_path / "models", trust=mk.Trust([public]))
    with pytest.raises(
        UntrustedError, match=r"no signature counts by .*release\.pub: there is none"
    ):
        registry.register(package)
    with pytest.raises(UsageError, match="trust= needs the path"):
        registry.register(package.read_bytes())
    assert registry.names() == ()
    assert not (tmp_path / "models").exists()
    mk.sign(package, private)
    registry.register(package)
    for use in uses(registry, tmp_path / "here"):
        use()


def test_what_is_there_without_signatures_stays_shut_until_it_is_registered_with_them(
    package, signer, tmp_path
):
    private, public = signer
    mk.Registry(tmp_path / "models").register(package)
    registry = mk.Registry(tmp_path / "models", trust=mk.Trust([public]))
    for use in uses(registry, tmp_path / "here"):
        with pytest.raises(UntrustedError, match="no signature counts"):
            use()
    mk.sign(package, private)
    mk.Registry(tmp_path / "models").register(package)
    for use in uses(registry, tmp_path / "here"):
        use()


def test_no_alias_names_what_is_not_signed(package, signer, tmp_path):
    """A service that follows it could not be started again."""
    private, public = signer
    mk.Registry(tmp_path / "models").register(package)
    registry = mk.Registry(tmp_path / "models", trust=mk.Trust([public]))
    change = {"expected": None, "reason": "first"}
    with pytest.raises(UntrustedError, match="no signature counts"):
        registry.set_alias("churn", "champion", "1.0.0", **change)
    assert not registry.aliases("churn")
    mk.sign(package, private)
    registry.register(package)
    registry.set_alias("churn", "champion", "1.0.0", **change)
    registry.load("churn").close()


def test_several_sign_at_several_places(package, tmp_path):
    """Each registers with their own signature, and all of them are there."""
    pairs = {name: key_pair(tmp_path, name) for name in ("ann", "bob")}
    both = mk.Trust({name: public for name, (_, public) in pairs.items()}, required=2)
    for at, (private, _) in enumerate(pairs.values()):
        mk.sign(package, private)
        mk.Registry(tmp_path / "models").register(package)
        package.with_name("churn.mk.sig").unlink()
        registry = mk.Registry(tmp_path / "models", trust=both)
        if at:
            registry.load("churn", "1.0.0").close()
        else:
            with pytest.raises(UntrustedError, match="signed by 1 of the keys"):
                registry.load("churn", "1.0.0")


def test_a_registered_signature_is_renewed(package, signer, tmp_path):
    private, public = signer
    signed = mk.sign(package, private, expires=datetime.now(UTC) + timedelta(hours=1))
    registry = mk.Registry(tmp_path / "models", trust=mk.Trust([public]))
    registry.register(package)
    mk.sign(package, private)
    registry.register(package)
    registry.register(package)
    kept = [path.read_text() for path in (tmp_path / "models/signatures").rglob("*.json")]
    assert len(kept) == 2
    assert sum(str(signed.expires) in text for text in kept) == 1


def test_a_fetched_package_has_its_signatures_beside_it(package, signer, tmp_path):
    private, public = signer
    mk.sign(package, private)
    mk.Registry(tmp_path / "models").register(package)
    trust = mk.Trust([public])
    path = mk.Registry(tmp_path / "models").fetch("churn", "1.0.0", tmp_path / "here")
    mk.load(path, trust=trust).close()
    in_place = mk.Registry(tmp_path / "models")
    with pytest.raises(UntrustedError, match="no signature counts"):
        mk.load(in_place.fetch("churn", "1.0.0"), trust=trust)
    mk.load(in_place.reference("churn", "1.0.0"), trust=trust).close()
    again = mk.Registry(tmp_path / "more", trust=trust)
    again.register(path)
    again.register(mk.Registry(tmp_path / "models").reference("churn", "1.0.0"))
    mk.load(again.reference("churn", "1.0.0"), trust=trust).close()


def test_trust_is_a_word_of_the_caller_too(package, signer, tmp_path):
    private, public = signer
    _, other = key_pair(tmp_path, "other")
    mk.sign(package, private)
    registry = mk.Registry(tmp_path / "models", trust=mk.Trust([public]))
    registry.register(package)
    registry.load("churn", "1.0.0", trust=mk.Trust([public])).close()
    for source in (registry, mk.Registry(tmp_path / "models")):
        with pytest.raises(UntrustedError, match=r"by .*other\.pub"):
            source.load("churn", "1.0.0", trust=mk.Trust([other]))
        with pytest.raises(TypeError, match=r"a mk\.Trust"):
            source.load("churn", "1.0.0", trust=True)
        with pytest.raises(IntegrityError, match="not among the digests that you trust"):
            source.load("churn", "1.0.0", digest="0" * 64)
    with pytest.raises(TypeError, match=r"a mk\.Trust"):
        mk.Registry(tmp_path / "models", trust=[public])


@pytest.mark.parametrize("given", ["registry", "caller"])
def test_a_joblib_package_opens_by_its_signatures(churn_packages, signer, tmp_path, given):
    private, public = signer
    package = shutil.copy(churn_packages / "joblib.mk", tmp_path / "pickled.mk")
    mk.sign(package, private)
    mk.Registry(tmp_path / "models").register(package)
    trust = mk.Trust([public])
    registry = mk.Registry(tmp_path / "models", trust=trust if given == "registry" else None)
    options = {} if given == "registry" else {"trust": trust}
    with pytest.raises(UntrustedError, match=r"missing: allow=\{'joblib'\}$"):
        registry.load("pickled", "1", **options)
    with registry.load("pickled", "1", allow={"joblib"}, **options) as model:
        data = pickle.dumps(model)
    pickle.loads(data).close()


def test_a_registry_is_pickled_with_its_trust(package, signer, tmp_path):
    _, public = signer
    mk.Registry(tmp_path / "models").register(package)
    registry = mk.Registry(tmp_path / "models", trust=mk.Trust([public]))
    with pytest.raises(UntrustedError):
        pickle.loads(pickle.dumps(registry)).load("churn", "1.0.0")
