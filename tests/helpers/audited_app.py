"""The module that servers are given: answers recorded in AUDITED, a folder and the path of a key, till the server ends."""

import os
from contextlib import asynccontextmanager

from fastapi import FastAPI

import modelkit as mk
from helpers.apps import summed

audit = mk.AuditLog(os.environ["AUDITED"], os.environ["AUDIT_KEY"])
app = mk.App({"sum": audit.answers(summed())})


@asynccontextmanager
async def lifespan(api):
    async with app.lifespan(api):
        yield
    audit.close()


api = FastAPI(lifespan=lifespan)
api.mount("/", app)
