"""Save a fitted estimator as it is, pickled, and compared with the one that is in memory."""

from __future__ import annotations

import warnings
from functools import partial

from modelkit.convert.parity.check import prove_parity
from modelkit.convert.source import Source
from modelkit.model.model import Model
from modelkit.package import trust
from modelkit.package.contents import NATIVE
from modelkit.package.draws import draws
from modelkit.package.graphs import example_of
from modelkit.package.proven import Proven
from modelkit.signature.signature import Feeds


def prove_estimator(model: object, example: object) -> Proven:
    """The estimator in a pickle. Raises ConversionError, or ParityError where the pickle differs."""
    from modelkit.convert.native import from_estimator
    from modelkit.runtimes.joblib import JoblibModel

    source, estimator = from_estimator(model, example)
    modules = estimator.modules()
    pickled = estimator.dump()
    build = partial(JoblibModel, pickled)
    drawn_like = example_of(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an estimator that is asked about rows unlike its own
        signature, parity = prove_parity(source, build, None)
        rows = _known_rows(source, build(signature), drawn_like)
    return Proven(
        source,
        {NATIVE: pickled},
        build,
        signature,
        parity,
        runtime="joblib",
        requires=trust.required(modules),
        golden=rows,
        example=drawn_like,
    )


def _known_rows(source: Source, model: Model, example: Feeds | None) -> Feeds | None:
    """Drawn rows with values of the example, if the source accepts only those; else None."""
    from modelkit.convert.native import shared_values

    drawn = next(draws(model.signature, example))
    with model:
        try:
            model.run(model.signature.columns(drawn))
        except Exception:  # whatever a pickled estimator says to an unknown value
            return next(draws(shared_values(source, model.signature), example))
    return None
