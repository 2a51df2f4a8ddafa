"""The linear model as users of MLflow log it: by default, and in the cheapest ways that were found."""

import pandas as pd

import modelkit as mk
from modelkit.integrations.mlflow.logged import model_signature


def save(linear, train, labels, package, folder):
    """Models of MLflow that give labels, probabilities, both, and what the package gives."""
    import mlflow
    from mlflow.models import infer_signature

    plain = {"serialization_format": "cloudpickle", "pip_requirements": []}
    example = train[:5]
    path = folder / "mlflow"
    mlflow.sklearn.save_model(linear, path, input_example=example, **plain)
    found = linear.predict_proba(example)
    mlflow.sklearn.save_model(
        linear,
        folder / "mlflow-probabilities",
        signature=infer_signature(example, [list(row) for row in found]),
        pyfunc_predict_fn="predict_proba",
        **plain,
    )
    both = pd.DataFrame({"label": labels[:5], "no": found[:, 0], "yes": found[:, 1]})
    mlflow.pyfunc.save_model(
        folder / "mlflow-both",
        python_model=by_probabilities(),
        artifacts={"pipeline": str(path)},
        signature=infer_signature(example, both),
        pip_requirements=[],
    )
    manifest = mk.inspect(package)
    mlflow.pyfunc.save_model(
        folder / "mlflow-package",
        loader_module="modelkit.integrations.mlflow",
        data_path=str(package),
        signature=model_signature(manifest.signature),
        model_config={"digest": manifest.digest},
        pip_requirements=[],
    )
    # Without names and a signature nobody looks at the rows. It has to be last: it is fitted anew.
    linear.fit(train.to_numpy(), labels)
    mlflow.sklearn.save_model(linear, folder / "mlflow-arrays", **plain)


def by_probabilities():
    """A model that runs the pipeline once for both outputs."""
    from mlflow.pyfunc import PythonModel

    class Both(PythonModel):
        def load_context(self, context):
            import mlflow

            self.pipeline = mlflow.sklearn.load_model(context.artifacts["pipeline"])

        def predict(self, context, model_input, params=None):
            import pandas as pd

            found = self.pipeline.predict_proba(model_input)
            labels = self.pipeline.classes_[found.argmax(axis=1)]
            # A column a class: a column of arrays costs more.
            return pd.DataFrame({"label": labels, "no": found[:, 0], "yes": found[:, 1]})

    return Both()
