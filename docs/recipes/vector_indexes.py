"""Indexes of usearch, faiss and sqlite-vec that know which encoder made their vectors, and refuse another's.

Needs `pip install usearch`, `faiss-cpu` or `sqlite-vec`. `encoder.identity` is a digest of all that a vector depends
on; it is stored with the index, and compared when the index is opened.
"""

from hashlib import sha256
from pathlib import Path

import numpy as np


def check(made_by, encoder):
    """Raise ValueError where an index was made by another encoder."""
    if made_by != encoder.identity:
        raise ValueError(
            f"the index holds vectors of the encoder {made_by[:19]}, and this is {encoder.identity[:19]}: "
            "open it with the encoder that made it, or embed the texts again"
        )


def write(path, encoder, data):
    """A file of the identity and the sha256 of an index, each in one line, and the bytes of the index."""
    digest = sha256(data).hexdigest()
    Path(path).write_bytes(f"{encoder.identity}\n{digest}\n".encode() + bytes(data))


def read(path, encoder):
    """The bytes of the index. Raises ValueError where another encoder made it, or a byte was changed."""
    made_by, _, rest = Path(path).read_bytes().partition(b"\n")
    check(made_by.decode(errors="replace"), encoder)
    digest, _, data = rest.partition(b"\n")
    if sha256(data).hexdigest().encode() != digest:
        raise ValueError(f"{path} was changed or damaged: embed the texts again")
    return data


def save_usearch(path, encoder, texts):
    """An index of usearch over texts, whose keys are their places."""
    from usearch.index import Index

    vectors = encoder.embed(texts)
    index = Index(ndim=vectors.shape[1], metric="cos", dtype="f32")  # it rounds to bf16 by default
    index.add(np.arange(len(vectors)), vectors)
    write(path, encoder, index.save())


def open_usearch(path, encoder):
    """`index.search(encoder.embed([text])[0], 10).keys` are the places of the nearest texts."""
    from usearch.index import Index

    return Index.restore(read(path, encoder))


def save_faiss(path, encoder, texts):
    """An exact index of faiss by inner product, which is the cosine of normalised vectors."""
    import faiss

    vectors = encoder.embed(texts)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    write(path, encoder, faiss.serialize_index(index))


def open_faiss(path, encoder):
    """`index.search(encoder.embed([text]), 10)` gives scores and places."""
    import faiss

    return faiss.deserialize_index(np.frombuffer(read(path, encoder), np.uint8))


def connect(path):
    """A connection to a database with the functions of sqlite-vec."""
    import sqlite_vec

    try:  # Python's own module cannot load extensions everywhere
        import pysqlite3 as sqlite3
    except ImportError:
        import sqlite3

    database = sqlite3.connect(path)
    database.enable_load_extension(True)
    sqlite_vec.load(database)
    database.enable_load_extension(False)
    return database


def save_sqlite(path, encoder, texts):
    """A table of texts and their vectors, and one row that says which encoder made them.

    sqlite does not see that a byte was changed: keep a sha256 of the file where that may happen.
    """
    from contextlib import closing

    texts = list(texts)
    vectors = encoder.embed(texts)
    with closing(connect(path)) as database, database:
        database.execute("create table made_by (encoder text)")
        database.execute("insert into made_by values (?)", [encoder.identity])
        size = f"float[{vectors.shape[1]}] distance_metric=cosine"
        database.execute(f"create virtual table texts using vec0(vector {size}, +text text)")
        rows = zip(vectors, texts, strict=True)
        database.executemany(
            "insert into texts (vector, text) values (?, ?)",
            [(vector.tobytes(), text) for vector, text in rows],
        )


def open_sqlite(path, encoder):
    """The connection. Raises ValueError where another encoder made the vectors."""
    if not Path(path).exists():  # sqlite would make an empty database
        raise FileNotFoundError(path)
    database = connect(path)
    try:
        ((made_by,),) = database.execute("select encoder from made_by")
        check(made_by, encoder)
    except BaseException:
        database.close()
        raise
    return database


def nearest_sqlite(database, encoder, text, most=10):
    """The nearest texts and their cosine distances, the nearest first."""
    (vector,) = encoder.embed([text])
    return database.execute(
        "select text, distance from texts where vector match ? and k = ? order by distance",
        [vector.tobytes(), most],
    ).fetchall()
