"""The Scorer: a package as a function of a batch that travels to other processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, final

from modelkit._internal.arrays import Array, is_a
from modelkit.errors import SignatureError, importing
from modelkit.integrations.scorer import arrow
from modelkit.integrations.scorer.columns import (
    ScoredOutput,
    check_columns_apart,
    check_kept,
    check_lengths,
    check_no_decimals,
    check_read,
    check_side_by_side,
    listed_names,
    names_read,
    scored_output,
    whole_tensors,
)
from modelkit.integrations.scorer.once import OncePerProcess
from modelkit.integrations.scorer.refusals import check_form
from modelkit.integrations.scorer.sources import (
    is_url,
    open_nearby,
    read_url,
    shown_source,
    travelling,
)
from modelkit.integrations.scorer.tensors import stacked, with_text_names
from modelkit.model.call import PLAIN
from modelkit.model.manifest import Manifest
from modelkit.model.model import Model, Outputs
from modelkit.package import trust
from modelkit.package.keys import lasting
from modelkit.package.load import load
from modelkit.package.source import Openable, check_digest, inspect
from modelkit.runtimes.devices import DeviceName, device_chain
from modelkit.runtimes.threads import choose_threads
from modelkit.signature.signature import Signature
from modelkit.signature.spec import TensorSpec

if TYPE_CHECKING:
    from modelkit.explain.explainer import Explainer

_held = OncePerProcess()  # models, explainers, manifests and outputs, shared by all Scorers here


@final
class Scorer:
    """Runs a package over batches, in any process that calls it.

        scorer = mk.Scorer("churn.mk", keep=["plan"])
        scorer.frame(X)  # the plan, the label and the probabilities of each row

    It is pickled as where the package is, its digest and these arguments, so it travels to the
    workers of an engine in one or two kilobytes, plus the names in `keep` and `outputs` and the
    package where that is given as bytes. Each process opens the package once, and checks that it is
    the one that the job was started with. It keeps the 8 packages open that it used last. An engine
    calls the form that it has: the Scorer itself for a dict of arrays, `arrow`, `batches` or `frame`.

    Args:
        source: a path that every worker sees, a URL that fsspec knows (it is copied once to each
            machine), the bytes of a package, a binary file object, or what `Registry.reference`
            gives. An alias is resolved there and then, and not by each worker.
        digest: the sha256 of the manifest; by default the digest of the package as it is now. A joblib
            package needs it from you.
        allow: as for `mk.load`.
        unseal: as for `mk.load`; a Scorer with a key in memory is not pickled.
        device: as for `mk.load`.
        threads: CPU threads of each process; by default 1, since engines start one process a core,
            and "auto" for a joblib package, whose estimator decides by itself.
        outputs: the outputs to add; by default all.
        keep: the columns of the rows to pass on, before the outputs.
        explain: whether to add what each column contributes to the explained output, and the base,
            as `mk.Explainer` with the package's own background gives them.

    Raises:
        PackageError: for anything but a package, and for another one than `digest` says.
        SignatureError: for unknown outputs, and names that would be there twice.
        TypeError: for an argument of another type, such as a digest that is not a text.
        UsageError: for an unknown device, and for a number of threads below 1.
        ExplainError: if it is to explain, and the package lacks a background or cannot be
            explained.
    """

    def __init__(
        self,
        source: Openable,
        *,
        digest: str | None = None,
        allow: Collection[str] = (),
        unseal: Any = None,
        device: DeviceName = "cpu",
        threads: int | str | None = None,
        outputs: Sequence[str] | None = None,
        keep: Sequence[str] = (),
        explain: bool = False,
    ) -> None:
        self._source = travelling(source)
        self._allow = tuple(sorted(trust.check_allow(allow)))
        device_chain(device, ())
        self._device = device if isinstance(device, str) else tuple(device)
        self._keep = listed_names(keep, "keep")
        if not isinstance(explain, bool):
            raise TypeError(f"explain is True or False, not {explain!r}")
        self._explain = explain
        manifest = self._read_manifest()
        if manifest.runtime == "joblib":
            trust.check_trusted(digest is not None, frozenset(self._allow))
        if threads is None:
            threads = "auto" if manifest.runtime == "joblib" else 1
        choose_threads(threads, 1)
        self._threads = threads
        self._unseal = lasting(unseal)
        # The way in which one package has several Models.
        self._way = (self._device, threads, self._allow, self._unseal)
        check_digest(manifest, digest, shown_source(self._source))
        self._digest = manifest.digest
        self._names = _chosen(outputs, manifest.signature)
        check_columns_apart(self.outputs, self._keep)

    def _read_manifest(self) -> Manifest:
        if isinstance(self._source, str) and is_url(self._source):
            return inspect(read_url(self._source))
        return inspect(self._source)

    @property
    def digest(self) -> str:
        """The sha256 of the package's manifest."""
        return self._digest

    @property
    def keep(self) -> tuple[str, ...]:
        """The columns of the rows that are passed on."""
        return self._keep

    @property
    def explain(self) -> bool:
        """Whether it adds what each column contributes."""
        return self._explain

    @property
    def manifest(self) -> Manifest:
        """What the package says about itself."""
        return _held.get(self._digest, "manifest", self._open_manifest)

    def _open_manifest(self) -> Manifest:
        manifest = open_nearby(self._source, self._digest, inspect)
        check_digest(manifest, self._digest, shown_source(self._source))
        return manifest

    @property
    def signature(self) -> Signature:
        """The signature of the model."""
        return self.manifest.signature

    @property
    def model(self) -> Model:
        """The Model of this process. Raises what `mk.load` does."""
        return _held.get(self._digest, ("model", *self._way), self._open)

    def _open(self) -> Model:
        opened = partial(
            load,
            device=self._device,
            threads=self._threads,
            digest=self._digest,
            allow=self._allow,
            unseal=self._unseal,
            extra="ignore",  # as a Scorer does not look at other columns
        )
        return open_nearby(self._source, self._digest, opened)

    def _explainer(self) -> Explainer:
        # It needs onnx, as scoring does not.
        from modelkit.integrations.scorer.explained import explainer_of

        make = partial(explainer_of, self.model)
        return _held.get(self._digest, ("explainer", *self._way), make)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that the model takes, and the tensors without columns; others are not read."""
        return names_read(self.signature, ())

    def columns(self, known: Iterable[object], kinds: Sequence[object] = ()) -> list[str]:
        """The columns of some rows that are read: kept ones, and then the model's.

        Where rows have the model's tensors under their own names, and none of their columns, each
        is one column of arrays.

        Args:
            known: the names of the columns.
            kinds: what an engine calls their types, where it knows them.

        Raises SignatureError where one is missing, with the likely name; where one is there twice;
        and where the model's are decimals.
        """
        names = [*map(str, known)]
        read = self._read(names)
        if kinds:
            check_no_decimals(read, names, kinds)
        return list(dict.fromkeys([*self._keep, *read]))

    def _read(self, known: Sequence[str]) -> tuple[str, ...]:
        """What the model takes of these columns. Raises SignatureError as `columns` does."""
        read = names_read(self.signature, known)
        check_kept(self._keep, known)
        check_read(read, known)
        return read

    @property
    def outputs(self) -> tuple[ScoredOutput, ...]:
        """What is added to the rows, in this order."""
        key = ("outputs", *self._way, self._names, self._explain)
        return _held.get(self._digest, key, self._outputs)

    def _outputs(self) -> tuple[ScoredOutput, ...]:
        signature = self.signature
        specs = {spec.name: spec for spec in signature.outputs}
        added = [scored_output(specs[name], signature) for name in self._names]
        if self._explain:
            from modelkit.integrations.scorer.explained import explained_outputs

            added += explained_outputs(self._explainer(), signature)
        return tuple(added)

    # The forms of a batch.

    def __call__(self, batch: dict[str, Array]) -> dict[str, Array]:
        """Score a dict of arrays, (n,) or (n, width) each.

        Returns the kept columns and the outputs by name, as `Model.run` gives them.

        Raises SignatureError for rows that do not fit, and TypeError for rows in another form.
        """
        fits = isinstance(batch, Mapping)
        check_form(batch, "this is of type {} and no dict of arrays", fits=fits)
        named = {str(name): values for name, values in batch.items()}
        read = self._read([*map(str, batch)])  # of which two may be written alike
        scored = {name: named[name] for name in self._keep}
        added = self._score({name: named[name] for name in read})
        check_lengths(scored, added)
        return scored | {output.name: added[output.name] for output in self.outputs}

    def _score(self, rows: Any) -> Outputs:
        """Outputs by name, for rows that have the model's columns alone."""
        found = self.model._call(rows, self._names, PLAIN)
        if self._explain:
            from modelkit.integrations.scorer.explained import contributions

            explanation = self._explainer().explain(rows)
            return found | contributions(explanation)
        return found

    def schema(self, rows: Any) -> Any:
        """The Arrow schema of scored rows, for rows of this Arrow schema; nothing is run.

        Raises SignatureError as `columns` does.
        """
        pa = arrow.pyarrow()
        fits = is_a(rows, "pyarrow", "Schema")
        check_form(rows, "this is of type {} and no Arrow schema", fits=fits)
        self.columns(rows.names, rows.types)
        kept = [rows.field(name) for name in self._keep]
        return pa.schema([*kept, *map(arrow.arrow_field, self.outputs)])

    def arrow(self, table: Any) -> Any:
        """Score an Arrow table: the kept columns and the outputs, as a table of `schema`."""
        pa = arrow.pyarrow()
        fits = is_a(table, "pyarrow", "Table") or is_a(table, "pyarrow", "RecordBatch")
        check_form(table, "this is of type {} and no Arrow table", fits=fits)
        schema = self.schema(table.schema)
        read = names_read(self.signature, table.column_names)
        feeds = self._with_tensors(table.select(read), read, arrow.as_tensor)
        added = self._score(feeds)
        columns = [table[name] for name in self._keep]
        columns += [arrow.arrow_column(added[output.name], output) for output in self.outputs]
        return pa.table(columns, schema=schema)

    def _with_tensors(
        self, rows: Any, names: Sequence[str], read: Callable[[Any, TensorSpec], Any]
    ) -> Any:
        """Rows, or feeds where the model has tensors that a column has whole."""
        whole = whole_tensors(self.signature, names)
        if not whole:
            return rows
        feeds = {name: rows[name] for name in names}
        for spec in whole:
            feeds[spec.name] = read(feeds[spec.name], spec)
        return feeds

    def batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Score a stream of Arrow record batches, one after the other."""
        pa = arrow.pyarrow()
        for batch in batches:
            fits = is_a(batch, "pyarrow", "RecordBatch")
            check_form(batch, "a stream of record batches has {}", fits=fits)
            yield from self.arrow(pa.Table.from_batches([batch])).to_batches()

    def frame(self, frame: Any) -> Any:
        """Score a pandas frame.

        Returns the kept columns and the outputs, under the same index. An output of several values
        a row has a column for each, named by class or number: a column of arrays would be slow in
        every frame library.
        """
        with importing("pandas", "Scorer.frame", "frames"):
            import pandas as pd
        fits = is_a(frame, "pandas", "DataFrame")
        check_form(frame, "this is of type {} and no pandas frame", fits=fits)
        frame = with_text_names(frame)
        read = self._read(list(frame.columns))
        feeds = self._with_tensors(frame[list(read)], read, stacked)
        added = self._score(feeds)
        columns = [(name, frame[name]) for name in self._keep]
        for output in self.outputs:
            dtype = "str" if output.is_text else output.dtype
            for name, values in output.columns(added[output.name]):
                columns.append((name, pd.Series(values, frame.index, dtype)))
        check_side_by_side(name for name, _ in columns)
        return pd.DataFrame(dict(columns), index=frame.index)

    def __repr__(self) -> str:
        manifest = self.manifest
        return f"<Scorer of {manifest.name} {manifest.version}, {self._digest[:12]}>"


def scorer_of(package: Openable | Scorer, **options: Any) -> Scorer:
    """A Scorer of a package, or the one that is given.

    Raises TypeError for a Scorer together with other options than the default: it has its own.
    """
    if not isinstance(package, Scorer):
        return Scorer(package, **options)
    given = [name for name, value in options.items() if value not in (None, (), [])]
    if given:
        raise TypeError(
            f"a Scorer has its own {given}: pass them to mk.Scorer, or pass the package"
        )
    return package


def _chosen(outputs: Sequence[str] | None, signature: Signature) -> tuple[str, ...]:
    """The names of the outputs that were asked for. Raises SignatureError for unknown ones."""
    known = signature.output_names
    if outputs is None:
        return tuple(known)
    asked = listed_names(outputs, "outputs")
    if not asked:
        raise SignatureError(f"outputs is empty; leave it out for all of {list(known)}")
    odd = [name for name in asked if name not in known]
    if odd:
        raise SignatureError(f"unknown outputs {odd}; the model has {list(known)}")
    return tuple(dict.fromkeys(asked))
