"""The module that servers are given: `app` for ASGI and `wsgi` for WSGI, of the package in SERVED."""

import os

import modelkit as mk

model = mk.load(os.environ["SERVED"], threads=1)
app = mk.App({"cancer": mk.Meter(mk.Batcher(model))})
wsgi = app.wsgi
