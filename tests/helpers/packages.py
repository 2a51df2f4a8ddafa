"""Packages that are saved and loaded at once."""

import modelkit as mk


def saved(estimator, example, folder, **options):
    """The manifest of a package of an estimator, and its model; that of joblib is trusted."""
    path = folder / "m.mk"
    manifest = mk.save(estimator, path, example=example, name="m", version="1", **options)
    if options.get("format") == "joblib":
        return manifest, mk.load(path, digest=manifest.digest, allow={"joblib"})
    return manifest, mk.load(path)
