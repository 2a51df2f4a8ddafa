"""Categories of CatBoost: what the trees read of them, as columns of numbers.

A model knows categories by their hashes. Splits ask whether a category is one of some, or for a
statistic of the target over the rows of fit that had the same category, or the same combination of
several and of the sides of further splits. Statistics stand in tables by hash, which the model
writes; so all of it is looked up by the places of the categories among those of the example. The
only module that imports catboost.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.categories import HALF
from modelkit.convert.estimators.lookup import looked_up
from modelkit.convert.estimators.tensors import Columns, Var, constant, ml, op
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

FACTOR = np.uint64(0x4906BA494954CB65)  # of a hash made of two
NOBODY = np.uint64(0xFFFFFFFFFFFFFFFF)  # the hash of a free place in a table
LARGEST_DENSE = 1 << 14  # combinations up to which a table has a row for each
MOST_COMBINATIONS = 1 << 22  # combinations that are tried
CATEGORY = "cat_feature_value"
SIDE = "float_feature"
GAPS_RIGHT = "AsTrue"  # a missing value counts as larger than any border
Element = dict[str, Any]


def saved(estimator: Any, pool: Any = None) -> dict[str, Any]:
    """What a model writes of itself, with the hashes of the categories in a pool."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        estimator.save_model(str(path), format="json", pool=pool)
        said: dict[str, Any] = json.loads(path.read_text())
    return said


class _Categories(NamedTuple):
    """A column of categories: the place of each row's among the known ones, and their hashes.

    One more place is for all that is not known.
    """

    codes: Var
    hashes: Array


class Lookups:
    """The columns that splits by categories read, and which split reads which column.

    Args:
        estimator: a model with categories.
        columns: what it reads.
        at: the conversion.
        said: what the model writes of itself.
        numbers: (n, numbers) of float32, its columns of numbers in their order.
    """

    def __init__(
        self,
        estimator: Any,
        columns: Columns,
        at: Converting,
        said: dict[str, Any],
        numbers: Var = None,
    ) -> None:
        self._step = type(estimator).__name__
        self._names = estimator.feature_names_
        self._features = said["features_info"]
        self._numbers = numbers
        self._coded = _coded(estimator, columns, self._features)
        # Tables that are looked up together, by one combination of elements, written as JSON.
        self._groups: dict[str, list[Array]] = defaultdict(list)
        places = self._one_hot() + self._statistics(said.get("ctr_data", {}))
        starts = self._starts()
        self.columns = [starts[name] + place for name, place in places]

    def parts(self) -> list[Var]:
        """The columns, group by group, as matrices of float32."""
        return [self._looked_up(json.loads(name), its) for name, its in self._groups.items()]

    def _starts(self) -> dict[str, int]:
        """The first column of each group, behind the columns of numbers."""
        found = {}
        end = len(self._features.get("float_features", []))
        for name, tables in self._groups.items():
            found[name] = end
            end += len(tables)
        return found

    def _one_hot(self) -> list[tuple[str, int]]:
        """The group and the place in it of each split by equality, in the order of the model."""
        found = []
        for feature in self._features["categorical_features"]:
            element = {
                "combination_element": CATEGORY,
                "cat_feature_index": feature["feature_index"],
            }
            hashes = self._coded[feature["feature_index"]].hashes
            asked = _extended(feature.get("values", []))
            self._check_covered([element], asked, hashes)
            for value in asked:
                same = np.append(hashes == value, False)
                found.append(self._added([element], same.astype(np.float32)))
        return found

    def _statistics(self, written: dict[str, Any]) -> list[tuple[str, int]]:
        """The group and the place in it of each border of each statistic."""
        found = []
        for statistic in self._features.get("ctrs", []):
            elements = statistic["elements"]
            values = self._values(statistic, written[statistic["identifier"]])
            place = self._added(elements, values)
            found += [place] * len(statistic["borders"])
        return found

    def _added(self, elements: list[Element], table: Array) -> tuple[str, int]:
        """Add a column to the group of some elements, and tell where it is."""
        name = json.dumps(elements, sort_keys=True)
        self._groups[name].append(table)
        return name, len(self._groups[name]) - 1

    def _values(self, statistic: dict[str, Any], written: dict[str, Any]) -> Array:
        """(combinations,) of float32: a statistic, as the library computes it."""
        keys, known = self._keys(statistic["elements"])
        width = written["hash_stride"]
        every = np.array(written["hash_map"], object).reshape(-1, width)
        used = every[every[:, 0].astype(np.uint64) != NOBODY]
        hashes = used[:, 0].astype(np.uint64)
        rows = used[:, 1:].astype(np.float64)
        self._check_covered(statistic["elements"], hashes, keys[known])
        order = np.argsort(hashes)
        at = np.searchsorted(hashes, keys, sorter=order)
        place = order[np.minimum(at, len(order) - 1)]
        found = known & (hashes[place] == keys)
        counts, totals = _counted(statistic, rows, written["counter_denominator"])
        absent = float(written["counter_denominator"])  # 0 but for counters
        return _share(
            statistic, np.where(found, counts[place], 0.0), np.where(found, totals[place], absent)
        )

    def _keys(self, elements: list[Element]) -> tuple[Array, Array]:
        """The hash of each combination of elements, and whether all its categories are known."""
        keys: Array = np.zeros(1, np.uint64)
        known = np.ones(1, bool)
        for element in elements:
            values, is_known = self._values_of(element)
            if len(keys) * len(values) > MOST_COMBINATIONS:
                raise ConversionError(
                    f"{self._step} has statistics of combinations of columns with too many "
                    "categories to convert; fit it with max_ctr_complexity=1, or use format='joblib'",
                    step=self._step,
                )
            with np.errstate(over="ignore"):
                keys = (FACTOR * (keys[:, None] + FACTOR * values)).ravel()
            known = (known[:, None] & is_known).ravel()
        return keys, known

    def _values_of(self, element: Element) -> tuple[Array, Array]:
        """What each value of an element adds to a hash, and whether it is known."""
        if element["combination_element"] != CATEGORY:
            return np.arange(2, dtype=np.uint64), np.ones(2, bool)
        hashes = self._coded[element["cat_feature_index"]].hashes
        values = np.append(hashes, NOBODY)
        return values, np.arange(len(values)) < len(hashes)

    def _check_covered(self, elements: list[Element], hashes: Array, keys: Array) -> None:
        """Raise ConversionError if fit has seen categories that the example lacks."""
        lacking = int((~np.isin(hashes, keys)).sum())
        if not lacking:
            return
        features = self._features["categorical_features"]
        read = []
        for element in elements:
            if "cat_feature_index" in element:
                feature = features[element["cat_feature_index"]]
                read.append(repr(self._names[feature["flat_feature_index"]]))
        raise ConversionError(
            f"{self._step} has seen {lacking} categories of {', '.join(read)} in fit that the "
            "example lacks, and knows them by their hashes only; pass an example that holds every "
            "category, such as all rows of fit",
            step=self._step,
        )

    def _looked_up(self, elements: list[Element], tables: list[Array]) -> Var:
        """(n, tables) of float32."""
        table = np.stack(tables, axis=1)
        code = self._code(elements)
        if len(table) > LARGEST_DENSE:
            table, place = np.unique(table, axis=0, return_inverse=True)
            place = place.ravel()
            other = int(place[-1])  # the last combination is of nothing that is known
            asked = np.flatnonzero(place != other)
            code = ml.label_encoder(
                code,
                keys_tensor=asked,
                values_tensor=place[asked],
                default_tensor=np.array([other]),
            )
        return op.gather(constant(table, np.float32), code).reshape(-1, table.shape[1])

    def _code(self, elements: list[Element]) -> Var:
        """(n, 1) of int64: the number of the combination of each row."""
        number: Var | None = None
        for element in elements:
            size, code = self._part(element)
            if number is None:
                number = code
                continue
            number = number * constant(size, np.int64) + code
        assert number is not None  # for the type checker: a statistic is one of something
        return number

    def _part(self, element: Element) -> tuple[int, Var]:
        """How many values an element has, and the number of each row's, (n, 1)."""
        kind = element["combination_element"]
        if kind == SIDE:
            return 2, self._side(element).astype(np.int64)
        coded = self._coded[element["cat_feature_index"]]
        if kind == CATEGORY:
            return len(coded.hashes) + 1, coded.codes
        same = np.append(coded.hashes == _extended([element["value"]]), False)
        return 2, op.gather(constant(same, np.int64), coded.codes)

    def _side(self, element: Element) -> Var:
        """Whether a number is above a border."""
        place = element["float_feature_index"]
        assert self._numbers is not None  # for the type checker: it is one of them
        number = self._numbers[:, [place]]
        above = number > np.float32(element["border"])
        feature = self._features["float_features"][place]
        if feature["nan_value_treatment"] == GAPS_RIGHT:
            return above | np.isnan(number)
        return above


def threshold_of(split: dict[str, Any]) -> float:
    """What a split compares with: at most this goes left."""
    return HALF if split["split_type"] == "OneHotFeature" else float(split["border"])


def _coded(estimator: Any, columns: Columns, features: dict[str, Any]) -> dict[int, _Categories]:
    """Each column of categories, by its number among these."""
    parts = {}
    known: dict[int, Sequence[Any]] = {}
    for feature in features["categorical_features"]:
        (part,) = columns.take([feature["flat_feature_index"]]).parts
        values = part.categories
        if not values:
            name = type(estimator).__name__
            column = estimator.feature_names_[feature["flat_feature_index"]]
            raise ConversionError(
                f"{name} reads categories in {column!r}, which is not a column of the example, or of no "
                "frame; give fit and example a frame, and the model its columns of categories as "
                "they are",
                step=name,
            )
        parts[feature["feature_index"]] = part
        known[feature["flat_feature_index"]] = values
    hashes = _hashes(estimator, known)
    found = {}
    for (place, part), told in zip(parts.items(), known.values(), strict=True):
        codes = looked_up(part, told, np.arange(len(told)), len(told))
        found[place] = _Categories(codes, _extended([hashes[_text(value)] for value in told]))
    return found


def _hashes(estimator: Any, known: dict[int, Sequence[Any]]) -> dict[str, int]:
    """The hash of each known category, as a text."""
    from catboost import Pool

    rows = []
    for number in range(max(len(values) for values in known.values())):
        row: list[Any] = [0.0] * len(estimator.feature_names_)
        for place, values in known.items():
            row[place] = values[number % len(values)]
        rows.append(row)
    pool = Pool(rows, cat_features=list(known), feature_names=list(estimator.feature_names_))
    said = saved(estimator, pool)["features_info"]["cat_features_hash"]
    return {entry["value"]: entry["hash"] for entry in said}


def _text(value: Any) -> str:
    """A category as the text that the library hashes: booleans are 0 and 1 there."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _extended(hashes: Sequence[int]) -> Array:
    """Hashes of 32 bits as the library widens them: with their sign."""
    narrow = np.array([value % (1 << 32) for value in hashes], np.uint32)
    return narrow.view(np.int32).astype(np.int64).view(np.uint64)


def _counted(statistic: dict[str, Any], rows: Array, denominator: int) -> tuple[Array, Array]:
    """What counts of each row of a table, and out of how many."""
    kind = statistic["ctr_type"]
    if kind in ("Counter", "FeatureFreq"):
        return rows[:, 0], np.full(len(rows), float(denominator))
    if kind in ("BinarizedTargetMeanValue", "FloatTargetMeanValue"):
        return rows[:, 0], rows[:, 1]
    border = statistic["target_border_idx"]
    if kind == "Buckets":
        return rows[:, border], rows.sum(axis=1)
    return rows[:, border + 1 :].sum(axis=1), rows.sum(axis=1)


def _share(statistic: dict[str, Any], count: Array, total: Array) -> Array:
    """A share with a prior, moved and scaled, in float32."""
    single = np.float32
    above = count.astype(single) + single(statistic["prior_numerator"])
    below = total.astype(single) + single(statistic["prior_denomerator"])
    moved = above / below + single(statistic["shift"])
    scaled: Array = moved * single(statistic["scale"])
    return scaled
