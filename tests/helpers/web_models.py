"""Models of every kind of signature, which answer with what they were fed or with fixed outputs."""

import numpy as np

import modelkit as mk

OUT = mk.TensorSpec("y", "float32", ("batch",))
COLUMNS = {
    "size": ("float64", "float64", {}),
    "rooms": ("int64", "float64", {"nullable": True}),
    "floor": ("int8", "int8", {}),
    "lift": ("bool", "float64", {}),
    "flag": ("bool", "bool", {}),
    "grade": ("float64", "float64", {"categories": (1.0, 2.5)}),
    "town": ("string", "string", {"nullable": True, "categories": ("Ulm", "Bonn")}),
    "note": ("string", "string", {}),
    "any": ("mixed", "string", {"nullable": True}),
    "seen": ("datetime64[ms]", "datetime64[ms]", {"nullable": True}),
    "due": ("datetime64[ns, UTC]", "datetime64[ns, UTC]", {}),
    "took": ("timedelta64[us]", "timedelta64[us]", {"nullable": True}),
}


def singles(*names):
    """A tensor for each of these columns."""
    inputs = []
    for name in names:
        declared, dtype, more = COLUMNS[name]
        column = mk.Column(name, declared, **more)
        inputs.append(mk.TensorSpec(name, dtype, ("batch", 1), (column,)))
    return tuple(inputs)


def block(name, dtype, *columns):
    return mk.TensorSpec(name, dtype, ("batch", len(columns)), columns)


def numbers(width=30, *, dtype="float32", nullable=False):
    """One tensor of columns x0, x1 and so on."""
    columns = [mk.Column(f"x{j}", dtype, nullable=nullable) for j in range(width)]
    return mk.Signature((block("X", dtype, *columns),), (OUT,))


SIGNATURES = {
    "numbers": numbers(),
    "nullable numbers": numbers(3, nullable=True),
    "doubles": numbers(3, dtype="float64"),
    "halves": numbers(2, dtype="float16"),
    "integers": numbers(2, dtype="int64"),
    "unsigned": numbers(2, dtype="uint64"),
    "columns of many kinds": mk.Signature(singles(*COLUMNS), (OUT,), ignored=("id",)),
    "extra columns": mk.Signature(singles("size"), (OUT,), extra="ignore"),
    "strings of two kinds": mk.Signature(
        (block("S", "string", mk.Column("a", "string"), mk.Column("b", "mixed")),), (OUT,)
    ),
    "text": mk.Signature(singles("note"), (OUT,)),
    "an image": mk.Signature((mk.TensorSpec("image", "uint8", ("batch", 2, 3)),), (OUT,)),
    "a large image": mk.Signature((mk.TensorSpec("image", "uint8", ("batch", 64, 64)),), (OUT,)),
    "several tensors": mk.Signature(
        (
            mk.TensorSpec("ids", "int64", ("batch", "length")),
            mk.TensorSpec("mask", "bool", ("batch", "length")),
            mk.TensorSpec("words", "string", ("batch",)),
        ),
        (mk.TensorSpec("embedding", "float32", ("batch", 4)), mk.TensorSpec("n", "int64", ())),
    ),
    "columns beside a tensor": mk.Signature(
        (*singles("size", "town"), mk.TensorSpec("picture", "float32", ("batch", 3))), (OUT,)
    ),
    "a state": mk.Signature(
        (mk.TensorSpec("state", "float32", (2, "batch", 3)),),
        (mk.TensorSpec("state_out", "float32", (2, "batch", 3)),),
    ),
    "a scalar": mk.Signature(
        (mk.TensorSpec("rate", "float32", ()), mk.TensorSpec("x", "float32", ("batch", 1))), (OUT,)
    ),
    "a classifier": mk.Signature(
        (block("X", "float32", mk.Column("a"), mk.Column("b")),),
        (
            mk.TensorSpec("label", "string", ("batch",)),
            mk.TensorSpec("probabilities", "float32", ("batch", 2)),
        ),
        classes=("no", "yes"),
    ),
}


def model_of(signature):
    """A Model that answers zeros and empty strings."""

    def answer(feeds):
        rows = signature.count(feeds)
        outputs = {}
        for spec in signature.outputs:
            shape = [rows if isinstance(size, str) else size for size in spec.shape]
            fill = "" if spec.dtype == "string" else 0
            dtype = object if spec.dtype == "string" else spec.dtype
            outputs[spec.name] = np.full(shape, fill, dtype)
        return outputs

    return mk.FunctionModel(answer, signature)
