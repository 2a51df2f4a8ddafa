"""Law 6. No training row is stored unless the caller says so; metrics, logs and reports hold no row.

Of events and records of every kind: `tests/unit/test_events.py`.
"""

import logging

import numpy as np
import pytest

import modelkit as mk
from modelkit.errors import SignatureError
from modelkit.integrations.prometheus import Collector
from modelkit.model import golden

MARK, MARKED = 7654321, "mean radius"
WRITTEN = ("7654321", "7,654,321", "7.654321")


def test_no_row_of_the_example_is_stored(penguins_mk, penguins):
    X, _ = penguins
    with mk.load(penguins_mk) as model:
        feeds, _ = golden.decode_golden(model.attachments["golden"], model.signature)
    stored = set(feeds["body_mass_g"].ravel().tolist())
    assert len(stored) > 4
    assert not stored & set(X["body_mass_g"].dropna())


def marked(frame):
    """The rows, with values in them that nothing else has."""
    return frame.assign(**{MARKED: np.float32(MARK) + np.arange(len(frame), dtype=np.float32)})


def test_no_watcher_holds_a_row(boosting_mk, breast_cancer, tmp_path):
    """Totals, the text for Prometheus, the report of drift, events, log and audit records, of calls that fail too."""
    rows = marked(breast_cancer[0][:200])
    heard, records = [], []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(f"{record.getMessage()} {vars(record)}")
    logger = logging.getLogger("modelkit")
    logger.addHandler(handler)
    stop = mk.events.subscribe(heard.append)
    try:
        with mk.AuditLog(tmp_path / "audit") as audit, mk.load(boosting_mk) as model:
            watched = mk.Monitor(model, mk.Profile.fit(breast_cancer[0]))
            metered = mk.Meter(watched)
            served = audit.answers(metered)
            served.predict(rows)
            with pytest.raises(SignatureError):
                served.predict(rows.assign(**{MARKED: str(MARK)}))
            report = watched.detector.report()
            shown = [
                repr(metered.totals()),
                Collector(metered).text(),
                report.to_json(),
                report._repr_html_(),
                *(path.read_text() for path in (tmp_path / "audit").glob("*.jsonl")),
            ]
    finally:
        stop()
        logger.removeHandler(handler)
    for text in [*map(repr, heard), *map(str, heard), *records, *shown]:
        assert not any(written in text for written in WRITTEN)
