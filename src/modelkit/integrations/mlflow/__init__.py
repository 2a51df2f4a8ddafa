"""Packages in MLflow: logged without pickle, opened by its pyfunc, made of what others logged.

MLflow imports this module by name to open a logged package, and calls `_load_pyfunc`.
"""

from modelkit.integrations.mlflow.flavors import import_model
from modelkit.integrations.mlflow.logged import log_model
from modelkit.integrations.mlflow.opened import open_logged as _load_pyfunc

__all__ = ["_load_pyfunc", "import_model", "log_model"]
