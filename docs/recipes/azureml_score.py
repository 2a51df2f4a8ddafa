"""The scoring script of an online endpoint of Azure ML, which asks it at POST /score.

The model of Azure ML is a folder with one package. MODELKIT_DIGEST, among the environment variables
of the deployment, is the digest of that package: with another one the deployment fails.

A body is plain JSON, has instances, or is CSV, as at /invocations of an App. The client sees the status and the
words of the App where a body is wrong; an exception of `run` would be a 500 without its reason.
"""

import os
from pathlib import Path

from azureml_inference_server_http.api.aml_request import rawhttp
from flask import Response

import modelkit as mk


def init():
    global app
    (package,) = Path(os.environ["AZUREML_MODEL_DIR"]).rglob("[!.]*.mk")
    model = mk.load(package, digest=os.environ["MODELKIT_DIGEST"])
    app = mk.App({"model": model}).wsgi


@rawhttp
def run(request):
    return Response.from_app(app, {**request.environ, "PATH_INFO": "/invocations"})
