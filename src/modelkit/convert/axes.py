"""The axes of a torch module's inputs whose size may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelkit._internal.arrays import Array
from modelkit.convert.modules import AskedModule, TorchTensors

Axes = dict[str, list[int]]  # of inputs, those whose size is free
Place = tuple[str, int]  # an input, and one of its axes


def free_axes(source: AskedModule, rows: Mapping[str, Array]) -> Axes:
    """The axes whose size may change, alone or together with others of the same size.

    The first axis counts rows. The columns of a matrix of floats are fixed, for another number of
    them is a mistake, whatever the module would make of it, unless they go with another input, as a
    mask does; and so are the sizes of images that are all resized to one.
    """
    given = source.tensors(rows)
    places = _candidates(source, given)
    found: Axes = {name: [] for name in given}
    for place in places:
        name, axis = place
        groups = _groups(given, place, places)
        if any(_takes_other(source, given, group) for group in groups):
            found[name].append(axis)
    return found


def _candidates(source: AskedModule, given: TorchTensors) -> list[Place]:
    """The axes that are asked about: those of a size above 1, which may stand for any other."""
    resized = source.steps is not None and source.steps.target is not None
    found = []
    for name, tensor in given.items():
        if resized and name == source.images:
            continue
        for axis in range(1, tensor.ndim):
            if tensor.shape[axis] > 1:
                found.append((name, axis))  # noqa: PERF401 - two loops in one line are not read
    return found


def _groups(given: TorchTensors, place: Place, places: list[Place]) -> list[list[Place]]:
    """The axes that are changed together, to see whether one may change."""
    size = _size(given, place)
    alike = [other for other in places if _size(given, other) == size]
    groups = []
    if not _is_matrix_of_floats(given[place[0]]):
        groups.append([place])
    if not all(_is_matrix_of_floats(given[name]) for name, _ in alike):
        groups.append(alike)
    return groups


def _size(given: TorchTensors, place: Place) -> int:
    name, axis = place
    size: int = given[name].shape[axis]
    return size


def _is_matrix_of_floats(tensor: Any) -> bool:
    return bool(tensor.ndim == 2 and tensor.is_floating_point())


def _takes_other(source: AskedModule, given: TorchTensors, places: list[Place]) -> bool:
    """Whether the module answers where axes of one size have another, twice it or one more."""
    import torch

    size = _size(given, places[0])
    for other in (2 * size, size + 1):
        changed = dict(given)
        for name, axis in places:
            tensor = changed[name]
            repeated = torch.arange(other, device=tensor.device) % size
            changed[name] = tensor.index_select(axis, repeated)
        if source.takes(changed):
            return True
    return False
