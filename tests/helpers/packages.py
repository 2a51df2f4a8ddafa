"""Packages that are saved and loaded at once."""

import modelkit as mk

ALLOW = {"joblib"}


def saved(estimator, example, folder, **options):
    """The manifest of a package of an estimator, and its model; that of joblib is trusted."""
    path = folder / "m.mk"
    manifest = mk.save(estimator, path, example=example, name="m", version="1", **options)
    if options.get("format") == "joblib":
        return manifest, mk.load(path, digest=manifest.digest, allow={"joblib"})
    return manifest, mk.load(path)


def loaded(model, example, path, form="onnx", **options):
    """The Model of an estimator that was saved and loaded."""
    manifest = mk.save(model, path, example=example, name="m", version="1", format=form, **options)
    return mk.load(path, digest=manifest.digest, allow={"joblib"})


def trusted(path, **options):
    """The Model of a joblib package that is trusted."""
    return mk.load(path, digest=mk.inspect(path).digest, allow=ALLOW, **options)
