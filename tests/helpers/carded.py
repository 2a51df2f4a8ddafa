"""Packages of eleven kinds, of which cards are made: by name, the path and what opens it."""

import onnx.parser
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk
from helpers.encoders import tiny
from helpers.sealed import key_files
from helpers.signers import key_pair

GRAPH = """
    <ir_version: 9, opset_import: ["" : 18]>
    agraph (float[batch, 2] x) => (float[batch, 2] y) { y = Neg (x) }
"""
STATED = {
    "licence": "apache-2.0",
    "owners": ["imaging <imaging@example.org>", "Ö. Ünal"],
    "metadata": {"direct_use": "Triage of images.", "training_data": "569 rows", "ticket": 17},
}


def evaluated(fitted, X, y, path, *, whole=False, **options):
    """A package with an Evaluation of its last third, and where it is whole with its robustness and on training rows too."""
    cut = len(X) * 2 // 3
    mk.save(fitted.fit(X[:cut], y[:cut]), path, example=X, **options)
    slices = {
        "size": ["large" if row > X.iloc[:, 0].median() else "small" for row in X.iloc[cut:, 0]]
    }
    with mk.load(path, **opening(path)) as model:
        more = {}
        if whole:
            more["train"] = X[:cut], y[:cut]
            more["robustness"] = mk.robustness(model, X[cut:], y[cut:], slices=slices)
        found = mk.evaluate(model, X[cut:], y[cut:], slices=slices, **more)
    mk.attach(path, evaluation=found)


def opening(path):
    manifest = mk.inspect(path)
    joblib = {"digest": manifest.digest, "allow": {"joblib"}}
    return joblib if manifest.runtime == "joblib" else {}


def packages(folder):
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X = X.iloc[:, :3]
    rows, values = load_diabetes(return_X_y=True, as_frame=True)
    linear = make_pipeline(StandardScaler(), LogisticRegression())
    texts = make_pipeline(TfidfVectorizer(), LogisticRegression())
    paths = {
        name: folder / f"{name}.mk"
        for name in (
            *("bare", "classifier", "classes", "regressor", "labels", "joblib", "encoder", "texts"),
            *("graph", "signed", "sealed"),
        )
    }
    mk.save(linear.fit(X, y), paths["bare"], example=X)
    evaluated(linear, X, y, paths["classifier"], **STATED)
    evaluated(linear, X, X.iloc[:, 0].round(-1).astype(int).clip(10, 20), paths["classes"])
    evaluated(LinearRegression(), rows, values, paths["regressor"], licence="Internal use only")
    two = y.to_frame().assign(large=(X.iloc[:, 0] > 14).astype(int))
    evaluated(RandomForestClassifier(5, random_state=0), X, two, paths["labels"])
    evaluated(linear, X, y, paths["joblib"], format="joblib", licence="MIT OR LicenseRef-ours")
    mk.save(tiny(), paths["encoder"], owners=["search"])
    known = [f"{word} {other}" for word in ("good", "bad") for other in ("film", "book", "day")]
    labels = [text.split()[0] for text in known]
    mk.save(texts.fit(known, labels), paths["texts"], example=known)
    mk.save(onnx.parser.parse_model(GRAPH), paths["graph"])
    evaluated(linear, X, y, paths["signed"], whole=True, **STATED)
    mk.sign(paths["signed"], key_pair(folder)[0])
    private, public = key_files(folder, "reader")
    mk.seal(paths["classifier"], {"reader": public}, out=paths["sealed"])
    return {name: (path, private if name == "sealed" else None) for name, path in paths.items()}
