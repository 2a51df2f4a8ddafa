"""The module that servers are given: `app` follows the alias of the registry in FOLLOWED."""

import os

import modelkit as mk

rollout = mk.Rollout(
    mk.Registry(os.environ["FOLLOWED"]),
    "constant",
    wrap=lambda model: mk.Meter(mk.Batcher(model)),
    poll=0.05,
    threads=1,
)
app = mk.App({"constant": rollout})
