"""Categories of CatBoost: what the trees read of them, as columns of numbers.

A model knows categories by their hashes. Splits ask whether a category is one of some, or for a
statistic of the target over the rows of fit that had the same category, or the same combination of
several and of the sides of further splits. Statistics stand in tables by hash, which the model
writes; so all of it is looked up by the places that the categories have in the example. The only
module that imports catboost.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.categories import HALF
from modelkit.convert.estimators.lookup import looked_up
from modelkit.convert.estimators.tensors import Columns, Var, constant, gathered, ml, op, refuse

FACTOR = np.uint64(0x4906BA494954CB65)  # of a hash made of two
NOBODY = np.uint64(0xFFFFFFFFFFFFFFFF)  # the hash of a free place in a table
LARGEST_DENSE = 1 << 14  # combinations up to which a table has a row for each
MOST_COMBINATIONS = 1 << 22  # combinations that are tried
CATEGORY = "cat_feature_value"
SIDE = "float_feature"
SHARE = ("prior_numerator", "prior_denomerator", "shift", "scale")  # in the words of the library
GAPS_RIGHT = "AsTrue"  # a missing value counts as larger than any border
Element = dict[str, Any]


def saved(estimator: Any, pool: Any = None) -> dict[str, Any]:
    """What a model writes of itself, with the hashes of the categories in a pool."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        estimator.save_model(str(path), format="json", pool=pool)
        said: dict[str, Any] = json.loads(path.read_text())
    return said


class Lookups:
    """The columns that splits by categories read, and which split reads which column.

    `parts` are these columns as matrices of float32, and `columns` the column of each split: of those
    by equality first, in the order of the model, and then of each border of each statistic.

    Args:
        estimator: a model with categories.
        columns: what it reads.
        said: what the model writes of itself.
        numbers: (n, numbers) of float32, its columns of numbers in their order.
    """

    def __init__(
        self, estimator: Any, columns: Columns, said: dict[str, Any], numbers: Var = None
    ) -> None:
        self._estimator = estimator
        self._features = said["features_info"]
        self._numbers = numbers
        self._coded = _coded(estimator, columns, self._features)
        # Tables that are looked up together, by one combination of elements, written as JSON.
        groups: dict[str, list[Array]] = defaultdict(list)
        asked = []
        for elements, table, count in self._tables(said.get("ctr_data", {})):
            name = json.dumps(elements, sort_keys=True)
            asked += [(name, len(groups[name]))] * count
            groups[name].append(table)
        ends = np.cumsum(
            [len(self._features.get("float_features", [])), *map(len, groups.values())]
        )
        starts = dict(zip(groups, ends.tolist(), strict=False))
        self.columns = [starts[name] + place for name, place in asked]
        self.parts = [
            _looked_up(self._combined(json.loads(name))[2], np.stack(tables, axis=1))
            for name, tables in groups.items()
        ]

    def _tables(self, written: dict[str, Any]) -> Iterator[tuple[list[Element], Array, int]]:
        """Elements, a value for each combination of theirs, and how many splits ask for it."""
        for feature in self._features["categorical_features"]:
            place = feature["feature_index"]
            elements = [{"combination_element": CATEGORY, "cat_feature_index": place}]
            hashes = self._coded[place][1]
            values = _extended(feature.get("values", []))
            self._check_covered(elements, values, hashes)
            for value in values:
                yield elements, np.append(hashes == value, False), 1
        for statistic in self._features.get("ctrs", []):
            table = self._values(statistic, written[statistic["identifier"]])
            yield statistic["elements"], table, len(statistic["borders"])

    def _values(self, statistic: dict[str, Any], written: dict[str, Any]) -> Array:
        """(combinations,) of float32: a statistic, as the library computes it."""
        keys, known, _ = self._combined(statistic["elements"])
        every = np.array(written["hash_map"], object).reshape(-1, written["hash_stride"])
        used = every[every[:, 0].astype(np.uint64) != NOBODY]
        hashes = used[:, 0].astype(np.uint64)
        self._check_covered(statistic["elements"], hashes, keys[known])
        order = np.argsort(hashes)
        at = np.searchsorted(hashes, keys, sorter=order)
        place = order[np.minimum(at, len(order) - 1)]
        found = known & (hashes[place] == keys)
        absent = float(written["counter_denominator"])  # 0 but for counters
        counts, totals = _counted(statistic, used[:, 1:].astype(np.float64), absent)
        count = np.where(found, counts[place], 0.0).astype(np.float32)
        total = np.where(found, totals[place], absent).astype(np.float32)
        prior, weight, shift, scale = (np.float32(statistic[name]) for name in SHARE)
        share: Array = ((count + prior) / (total + weight) + shift) * scale
        return share

    def _combined(self, elements: list[Element]) -> tuple[Array, Array, Var]:
        """The hash of each combination of elements, whether its categories are known, and each row's number."""
        keys: Array = np.zeros(1, np.uint64)
        known = np.ones(1, bool)
        code: Any = 0
        for element in elements:
            values, are_known, own = self._read(element)
            if len(keys) * len(values) > MOST_COMBINATIONS:
                refuse(
                    self._estimator,
                    " has statistics of combinations of columns with too many "
                    "categories to convert; fit it with max_ctr_complexity=1, or use format='joblib'",
                )
            with np.errstate(over="ignore"):
                keys = (FACTOR * (keys[:, None] + FACTOR * values)).ravel()
            known = (known[:, None] & are_known).ravel()
            code = code * len(values) + own
        return keys, known, code

    def _read(self, element: Element) -> tuple[Array, Array, Var]:
        """What each value of an element adds to a hash, whether it is known, and each row's number, (n, 1)."""
        two = np.arange(2, dtype=np.uint64), np.ones(2, bool)
        kind = element["combination_element"]
        if kind == SIDE:
            place = element["float_feature_index"]
            number = self._numbers[:, [place]]
            above = number > np.float32(element["border"])
            if self._features["float_features"][place]["nan_value_treatment"] == GAPS_RIGHT:
                above = above | np.isnan(number)
            return *two, above.astype(np.int64)
        codes, hashes = self._coded[element["cat_feature_index"]]
        if kind == CATEGORY:
            values = np.append(hashes, NOBODY)
            return values, np.arange(len(values)) < len(hashes), codes
        same = np.append(hashes == _extended([element["value"]]), False)
        return *two, gathered(same.astype(np.int64), codes)

    def _check_covered(self, elements: list[Element], hashes: Array, keys: Array) -> None:
        """Raise ConversionError if fit has seen categories that the example lacks."""
        lacking = int((~np.isin(hashes, keys)).sum())
        if not lacking:
            return
        features = self._features["categorical_features"]
        places = [each["cat_feature_index"] for each in elements if "cat_feature_index" in each]
        names = self._estimator.feature_names_
        read = [repr(names[features[place]["flat_feature_index"]]) for place in places]
        refuse(
            self._estimator,
            f" has seen {lacking} categories of {', '.join(read)} in fit that the "
            "example lacks, and knows them by their hashes only; pass an example that holds every "
            "category, such as all rows of fit",
        )


def _looked_up(code: Var, table: Array) -> Var:
    """(n, tables) of float32: the rows of a table, of which the last is for nothing that is known."""
    if len(table) > LARGEST_DENSE:
        table, place = np.unique(table, axis=0, return_inverse=True)
        place = place.ravel()
        asked = np.flatnonzero(place != place[-1])
        code = ml.label_encoder(
            code, keys_tensor=asked, values_tensor=place[asked], default_tensor=place[-1:]
        )
    return op.gather(constant(table, np.float32), code).reshape(-1, table.shape[1])


def threshold_of(split: dict[str, Any]) -> float:
    """What a split compares with: at most this goes left."""
    return HALF if split["split_type"] == "OneHotFeature" else float(split["border"])


def _coded(
    estimator: Any, columns: Columns, features: dict[str, Any]
) -> dict[int, tuple[Var, Array]]:
    """The place of each row's category, (n, 1), among those that are known, and their hashes.

    By the number of the column, counted over columns of categories. One more place is for all that
    is not known.
    """
    known: dict[int, Sequence[Any]] = {}
    for feature in features["categorical_features"]:
        place = feature["flat_feature_index"]
        known[place] = columns.take([place]).parts[0].categories
        if not known[place]:
            refuse(
                estimator,
                f" reads categories in {estimator.feature_names_[place]!r}, which is not a column of "
                "the example, or of no frame; give fit and example a frame, and the model its columns of "
                "categories as they are",
            )
    hashes = _hashes(estimator, known)
    found = {}
    for feature in features["categorical_features"]:
        place = feature["flat_feature_index"]
        values = known[place]
        (part,) = columns.take([place]).parts
        codes = looked_up(part, values, np.arange(len(values)), len(values))
        # Booleans are 0 and 1 in the texts that the library hashes.
        texts = (str(int(value) if isinstance(value, bool) else value) for value in values)
        own = _extended([hashes[text] for text in texts])
        found[feature["feature_index"]] = codes, own
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


def _extended(hashes: Sequence[int]) -> Array:
    """Hashes of 32 bits as the library widens them: with their sign."""
    narrow = np.array([value % (1 << 32) for value in hashes], np.uint32)
    return narrow.view(np.int32).astype(np.int64).view(np.uint64)


def _counted(statistic: dict[str, Any], rows: Array, denominator: float) -> tuple[Array, Array]:
    """What counts of each row of a table, and out of how many."""
    kind = statistic["ctr_type"]
    if kind in ("Counter", "FeatureFreq"):
        return rows[:, 0], np.full(len(rows), denominator)
    if kind in ("BinarizedTargetMeanValue", "FloatTargetMeanValue"):
        return rows[:, 0], rows[:, 1]
    border = statistic["target_border_idx"]
    counts = rows[:, border] if kind == "Buckets" else rows[:, border + 1 :].sum(axis=1)
    return counts, rows.sum(axis=1)
