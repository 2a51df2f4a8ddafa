"""What is imported when, and what can run: tested in fresh interpreters."""

import sys


def test_no_library_is_imported_to_read_rows():
    import subprocess

    code = (
        "import sys, modelkit as mk, dataclasses\n"
        "@dataclasses.dataclass\n"
        "class R:\n    a: float\n"
        "s = mk.Signature((mk.TensorSpec('X', 'float64', ('batch', 1), (mk.Column('a'),)),),"
        "(mk.TensorSpec('y', 'float64', ('batch',)),), ignored=('b',))\n"
        "s.coerce([R(1)]); s.coerce([{'a': 1, 'b': 2}]); s.coerce([])\n"
        "print({'pandas', 'polars', 'torch', 'pydantic', 'attr', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
