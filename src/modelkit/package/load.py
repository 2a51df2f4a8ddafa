"""Open a package: map the file, check it, and hand graph and weights to the runtime.

Large weights are used where they lie in the file.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from modelkit._internal.listeners import anybody
from modelkit._internal.logs import INFO
from modelkit.model.manifest import WEIGHTS_REF, Manifest, Member
from modelkit.model.model import Model
from modelkit.package import container, scan
from modelkit.package.contents import (
    GRAPH,
    MANIFEST,
    NATIVE,
    WEIGHTS_MEMBER,
    Options,
    graph_model,
    is_sealed,
    weights_of,
)
from modelkit.package.scanned import Scan
from modelkit.package.source import (
    Openable,
    Reference,
    check_digest,
    check_hashes,
    open_bytes,
    read_manifest,
)
from modelkit.package.trust import JOBLIB, check_allow, check_requires, check_trusted
from modelkit.runtimes.devices import DeviceName
from modelkit.runtimes.packaged import Packaged

if TYPE_CHECKING:
    from modelkit.package.signing import Trust

HELD_BYTES = 4 << 20


def load(
    source: Openable,
    *,
    device: DeviceName = "auto",
    threads: int | str = "auto",
    digest: str | Collection[str] | None = None,
    allow: Collection[str] = (),
    trust: Trust | None = None,
    extra: str = "refuse",
    unseal: Any = None,
) -> Model:
    """Open a package and return its Model. Nothing is written to disk.

        model = mk.load("churn.mk")
        model.predict(X)

    Code from a package never runs, except from a pickled estimator (`save(..., format="joblib")`),
    which opens only if you pass `allow={"joblib"}`, and `digest` or `trust`.

    Args:
        source: a path, the bytes of a package, or a binary file object (read to its end).
        device: "auto" for the first usable of GPU and CPU, which `Model.placement` then names; a
            name such as "cpu", "cuda" or "cuda:1", as `modelkit.devices()` lists them; or a list of
            names to try in this order.
        threads: how many CPU threads the model may use; "auto" is every CPU this process may use,
            shared by as many worker processes as the environment variable WEB_CONCURRENCY names.
        digest: the sha256 of the manifest, as `inspect(source).digest` shows it, in either case
            and with or without "sha256:", or a list of several; a package of any other is refused.
        allow: what you accept beyond the default: "joblib", and domains of ONNX operators such as
            "com.example".
        trust: public keys, some of which must have signed the package, as `mk.sign` does. The
            signatures are in the file `PATH.sig` beside the package, or come with a `Reference`. A
            model that is pickled is opened again by its digest.
        extra: "ignore" if your rows have more columns than the model was trained with; with
            "refuse", such rows raise SignatureError. In both cases, you may send or leave out
            columns that the model was trained with but does not read.
        unseal: what opens a package that `seal` made: a private key of X25519 (the path of a PEM
            file, "env:NAME", the bytes of PEM, or a key of `cryptography`), or a function that is
            called with a wrapped data key and the name of its recipient, and returns the 32 bytes
            of the data key, or None for another recipient; its exceptions pass through. The Model
            is pickled with it, except for a key in memory.

    Returns:
        The Model. Close it, or open it in a `with`, to release what it holds.

    Raises:
        PackageError: if the file cannot be opened; its subclass names the part at fault. An
            UntrustedError says what you would have to pass, or why each signature does not count;
            for a joblib package, the error names the versions that it needs.
        DeviceError: if the device is not available, with the reasons and what to install.
        UsageError: for an unknown device or entry of `allow`, for a number of threads below 1, and for
            `trust` with a package in memory.
        TypeError: for an `allow`, a digest or a `trust` of another type.
        MissingExtraError: if onnxruntime is not installed.
    """
    start = time.perf_counter()
    allowed = check_allow(allow)
    if unseal is not None:
        from modelkit.package.keys import lasting

        unseal = lasting(unseal)
    views = container.read_zip(open_bytes(source))
    manifest, options = read_manifest(views)
    if extra != manifest.signature.extra:
        manifest = replace(manifest, signature=replace(manifest.signature, extra=extra))
    check_digest(manifest, digest, source)
    if trust is not None:
        from modelkit.package.signing import check_signed

        check_signed(trust, manifest.digest, source)
    if manifest.runtime == "joblib":
        check_trusted(digest is not None or trust is not None, allowed)
    if unseal is None and not is_sealed(views):
        members = _hold(views)
    else:
        from modelkit.package.sealing import unsealed

        members = unsealed(views, manifest, unseal)
    where = {"device": device, "threads": threads}
    again = {**where, "digest": manifest.digest, "allow": allowed, "extra": extra, "unseal": unseal}
    origin = _origin(source, again)
    keywords: dict[str, Any] = {
        **where,
        "packaged": Packaged(manifest, attachments(members, manifest), origin),
    }
    if manifest.runtime == "joblib":
        model = _load_joblib(members, manifest, keywords)
    else:
        model = _load_graph(members, manifest, options, allowed, keywords)
    if anybody(INFO):
        _tell(model, manifest, time.perf_counter() - start)
    return model


def _tell(model: Model, manifest: Manifest, seconds: float) -> None:
    from modelkit import events  # their classes take 7 ms to make

    where: Any = model.placement  # what was loaded has one
    events.emit(
        events.Loaded(
            name=manifest.name,
            version=manifest.version,
            digest=manifest.digest,
            device=where.device,
            threads=where.threads,
            seconds=seconds,
            at=where.since,
        )
    )


def _load_graph(
    members: container.Members,
    manifest: Manifest,
    options: Options,
    allowed: frozenset[str],
    keywords: dict[str, Any],
) -> Model:
    """Open a package of a graph, which is read once its hash was found right.

    Hashing releases the GIL, so it runs beside the import of the runtime. Weights are numbers,
    whatever they are: the session is built beside the hash of theirs, and nobody gets to see it
    unless that is right too.
    """
    weights = weights_of(members)
    others = {member.path: member for member in manifest.files}
    large = [others.pop(WEIGHTS_MEMBER)] if weights is not None else []
    wait_for_weights = _start_hash(members, large)
    wait_for_others = _start_hash(members, [*others.values()])
    try:
        # Imported beside the hashes: the runtime takes a tenth of a second.
        from modelkit.runtimes.machine import release
        from modelkit.runtimes.sessions import ort

        ort()
        wait_for_others()
        found = scan_graph(members, allowed - {JOBLIB})
        keywords |= {"endless": found.endless, "folded": found.folding.limit}
        if found.graph != members[GRAPH]:
            keywords["stored"] = members[GRAPH]
            members = {**members, GRAPH: found.graph}
        model = graph_model(members, manifest, options, keywords)
    finally:
        wait_for_weights()
    release(weights)
    return model


def scan_graph(members: container.Members, domains: Collection[str] | None) -> Scan:
    """What is in the graph of a package. Raises GraphError for what it may not hold.

    `domains` are of operators, as `scan.check_graph` takes them.
    """
    weights = weights_of(members)
    size = None if weights is None else len(weights)
    return scan.check_graph(members[GRAPH], WEIGHTS_REF, size, domains=domains)


def _load_joblib(members: container.Members, manifest: Manifest, keywords: dict[str, Any]) -> Model:
    """Open a package whose digest the caller has pinned, and whose code the caller has allowed."""
    check_hashes(members, manifest.files)
    check_requires(manifest.requires)
    from modelkit.runtimes.joblib import JoblibModel

    return JoblibModel(members[NATIVE], manifest.signature, **keywords)


def _origin(source: Openable, keywords: Mapping[str, Any]) -> partial[Model] | None:
    """What opens the same package again, in another process too; None where nothing does."""
    if isinstance(source, str | os.PathLike):
        source = os.path.abspath(source)
    return partial(load, source, **keywords) if isinstance(source, Reference | str) else None


def _hold(views: Mapping[str, memoryview]) -> container.Members:
    """The members as they are now, whoever writes to the file: what is hashed is what is used.

    Large weights alone stay where they lie, so that processes share them.
    """
    return {
        path: view if path == WEIGHTS_MEMBER and len(view) > HELD_BYTES else bytes(view)
        for path, view in views.items()
        if path != MANIFEST
    }


def attachments(members: container.Members, manifest: Manifest) -> Mapping[str, memoryview]:
    """The attachments of a package by name."""
    return MappingProxyType({a.name: memoryview(members[a.path]) for a in manifest.attachments})


def _start_hash(members: container.Members, files: Sequence[Member]) -> Callable[[], None]:
    """Hash members in a thread.

    The function that is returned waits for it, and raises what the thread raised: IntegrityError
    where a hash differs, and whatever kept it from reading a member.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            check_hashes(members, files)
        except BaseException as error:  # what was not checked is not trusted
            failures.append(error)

    def finish() -> None:
        thread.join()
        if failures:
            raise failures[0]

    if not files:
        return lambda: None
    thread = threading.Thread(target=run, name="modelkit-hash")
    thread.start()
    return finish
