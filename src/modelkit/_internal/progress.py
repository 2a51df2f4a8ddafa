"""A bar that shows how far long work is."""

from __future__ import annotations

from collections.abc import Iterator


def counted_off(n: int, what: str, unit: str) -> Iterator[int]:
    """The numbers below n, with a bar if tqdm is there; it appears when the first is taken."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield from range(n)
    else:
        yield from tqdm(range(n), desc=what, unit=unit)
