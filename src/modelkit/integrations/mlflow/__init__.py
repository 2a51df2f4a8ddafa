"""Packages in MLflow: logged without pickle, opened by its pyfunc, mirrored in its registry.

MLflow imports this module by name to open a logged package, and calls `_load_pyfunc`.
"""

from modelkit.integrations.mlflow.flavors import import_model
from modelkit.integrations.mlflow.logged import log_model
from modelkit.integrations.mlflow.mirror import mirror
from modelkit.integrations.mlflow.opened import PackagePyfunc as _PackagePyfunc
from modelkit.integrations.mlflow.opened import open_logged as _load_pyfunc
from modelkit.integrations.mlflow.records import log_evaluation, log_verdict
from modelkit.integrations.mlflow.signatures import model_signature

__all__ = [
    "_PackagePyfunc",
    "_load_pyfunc",
    "import_model",
    "log_evaluation",
    "log_model",
    "log_verdict",
    "mirror",
    "model_signature",
]
