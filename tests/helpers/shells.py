"""A folder as somebody at a shell has it: packages, rows in files, keys, a registry, an audit log."""

from __future__ import annotations

import gzip
import io
import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import modelkit as mk
from helpers.judged import save_reading
from helpers.sealed import key_files
from helpers.signers import key_pair

FORMS = ("rows.csv", "rows.csv.gz", "rows.json", "rows.jsonl", "rows.parquet", "-")


def save_folder(folder, pair, rows, encoder):
    """Everything that the examples in the help of commands name."""
    folder.mkdir()
    X, y = rows
    candidate, champion = pair
    for source, name in ((candidate, "new"), (champion, "churn"), (encoder, "encoder")):
        shutil.copy(source, folder / f"{name}.mk")
    save_reading(folder / "old.mk", "a", "0.9.0")
    churn = folder / "churn.mk"
    with mk.load(churn) as model:
        profile = mk.Profile.fit(X, model=model)
    mk.attach(churn, profile=profile, background=X[:50])
    with mk.load(churn) as model:
        mk.attach(churn, evaluation=mk.evaluate(model, X, y))
    registry = mk.Registry(folder / "models")
    for name in ("churn", "new", "old"):
        registry.register(folder / f"{name}.mk")
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    mk.sign(churn, key_pair(folder)[0])
    key_files(folder, "scoring")
    with mk.AuditLog(folder / "audit") as audit:
        audit.checkpoint()
    _save_rows(folder, X, y)
    return folder


def _save_rows(folder, X, y):
    few = X[:40]
    few.to_csv(folder / "rows.csv", index=False)
    (folder / "rows.jsonl").write_bytes(bytes_as(few, "rows.jsonl"))
    few.assign(customer=[f"c{i}" for i in range(40)]).to_csv(folder / "customers.csv", index=False)
    X[:500].to_csv(folder / "today.csv", index=False)
    X[:500].to_parquet(folder / "today.parquet")
    X[500:1500].to_parquet(folder / "past.parquet")
    labelled = X.assign(churned=y)
    labelled.to_csv(folder / "test.csv", index=False)
    region = np.where(np.arange(len(X)) % 3, "north", "south")
    labelled.assign(region=region).to_parquet(folder / "test.parquet")
    texts = pd.DataFrame({"key": ["k1", "k2"], "text": ["the river", "a model, and music"]})
    texts.to_csv(folder / "texts.csv", index=False)
    (folder / "losses.csv").write_text("key,loss\nk1,0.5\n", encoding="utf-8")
    (folder / "report.html").write_text("<p>all is well</p>", encoding="utf-8")


def bytes_as(frame, form):
    """A table as the bytes of a file of this name; of the standard input, JSON lines."""
    if "parquet" in form:
        packed = io.BytesIO()
        frame.to_parquet(packed)
        return packed.getvalue()
    if "csv" in form:
        text = frame.to_csv(index=False)
    else:
        records = [json.dumps(record) for record in frame.to_dict("records")]
        text = f"[{','.join(records)}]" if form.endswith("json") else "\n".join(records)
    data = text.encode()
    return gzip.compress(data) if form.endswith(".gz") else data


def table_in(data, form):
    """The frame that a command wrote."""
    if form == "parquet":
        return pq.read_table(pa.BufferReader(data)).to_pandas()
    if form == "csv":
        return pd.read_csv(io.BytesIO(data))
    text = data.decode()
    return pd.DataFrame(json.loads(text) if form == "json" else map(json.loads, text.splitlines()))


def as_stdin(data):
    """What stands for the standard input of a process, with these bytes in it."""
    return io.TextIOWrapper(io.BufferedReader(io.BytesIO(data)))
