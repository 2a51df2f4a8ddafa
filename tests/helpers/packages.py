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


def opened(estimator, example, folder, **options):
    """The model of a package of an estimator, as an application has it."""
    return saved(estimator, example, folder, **options)[1]


def kept(source, folder, example=None, **options):
    """The model of a package of a graph or a module, on the CPU, which replays its golden rows."""
    mk.save(source, folder / "m.mk", example=example, name="m", version="1", **options)
    model = mk.load(folder / "m.mk", device="cpu")
    assert model.verify() == 0
    return model


def columns_of(manifest):
    """The columns of all inputs."""
    return [column for spec in manifest.signature.inputs for column in spec.columns]
