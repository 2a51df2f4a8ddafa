"""The members of a package by path, and what each runtime reads: its options, and a Model of its members."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from modelkit._internal import fields
from modelkit.errors import IntegrityError, ManifestError, PackageError, SignatureError
from modelkit.model.manifest import Manifest
from modelkit.model.model import Model
from modelkit.package import container
from modelkit.runtimes.packaged import NOT_PACKAGED, Packaged
from modelkit.signature.signature import Signature

if TYPE_CHECKING:
    from modelkit.embedding.over_tokens import OverTokens
    from modelkit.embedding.recipe import Recipe
    from modelkit.runtimes.terms.vectorizer import Texts

MANIFEST = "modelkit.json"
SEALED = "sealed.json"  # the second member of a sealed package, whose others are ciphertext
GRAPH = "model/model.onnx"
WEIGHTS_MEMBER = "model/model.onnx.data"
NATIVE = "native/model.joblib"
TOKENIZER = "model/tokenizer.json"
TERMS = "model/terms.json"
CHUNK_BYTES = 4 << 20  # of the tensors of one run: they stay in the caches, and runs are few
Kind = TypeVar("Kind", "Recipe", "Texts")
Options: TypeAlias = "Recipe | Texts | None"  # None of a runtime that takes none
# The members that a runtime cannot do without.
NEEDED = {
    "onnx": {GRAPH},
    "joblib": {NATIVE},
    "encoder": {GRAPH, TOKENIZER},
    "texts": {GRAPH, TERMS},
}


def is_sealed(paths: Iterable[str]) -> bool:
    """Whether these are the paths of a sealed package."""
    return [*paths][1:2] == [SEALED]


def check_members(manifest: Manifest, listed: Sequence[str]) -> None:
    """Check that the members are those that the runtime reads, and the attachments.

    Else several models could have one `model_digest`: a graph and a pickle beside it, or any graph
    that is called an attachment. Raises PackageError.
    """
    attached = {attachment.path for attachment in manifest.attachments}
    needed = NEEDED[manifest.runtime]
    lacking = sorted((needed | attached).difference(listed))
    if lacking:
        raise IntegrityError(f"the package lacks {lacking}", members=lacking)
    own = needed | {WEIGHTS_MEMBER}
    if own & attached:
        raise ManifestError(
            f"modelkit.json: attachments: {sorted(own & attached)} are members of the model"
        )
    unread = sorted(set(listed) - needed - attached)
    if unread and manifest.runtime == "joblib":
        raise IntegrityError(
            f"neither the runtime 'joblib' nor an attachment takes {unread}", members=unread
        )


def read_options(manifest: Manifest) -> Options:
    """The options of a manifest, as the runtime that it names reads them.

    Raises ManifestError for those that it does not take, or not with this signature.
    """
    options, where = manifest.options, "modelkit.json: options"
    try:
        if manifest.runtime == "encoder":
            from modelkit.embedding.recipe import PairRecipe, Recipe

            kind = PairRecipe if "activation" in options else Recipe
            recipe = _read_exactly(kind, options, where)
            if manifest.signature == recipe.signature:
                return recipe
            raise ManifestError(
                f"a text encoder runs a graph and has the signature {recipe.signature}"
            )
        if manifest.runtime == "texts":
            from modelkit.runtimes.terms.vectorizer import Texts

            texts = _read_exactly(Texts, options, where)
            texts.graph(manifest.signature)
            return texts
    except SignatureError as error:
        raise ManifestError(f"{where}: {error}") from None
    except ValueError as error:
        raise ManifestError(str(error)) from None
    if options:
        raise ManifestError(
            f"{where}: the runtime {manifest.runtime!r} takes none, and this has {sorted(options)}"
        )
    return None


def _read_exactly(cls: type[Kind], options: dict[str, Any], where: str) -> Kind:
    """Options that are written as `save` writes them, so a model has one digest."""
    found = fields.read_object(cls, options, where)
    written = fields.write_object(found, defaults=False)
    odd = sorted(name for name in options if written.get(name) != options[name])
    if odd:
        raise ManifestError(f"{where}: {odd} hold defaults, which are left out")
    return found


def graph_model(
    members: container.Members, manifest: Manifest, options: Options, keywords: dict[str, Any]
) -> Model:
    """The Model of a checked graph; `load` chose the `keywords` of OnnxModel."""
    if options is None:
        from modelkit.runtimes.onnx import OnnxModel

        weights, chunk = weights_of(members), chunk_rows(manifest)
        return OnnxModel(
            members[GRAPH], manifest.signature, weights=weights, chunk=chunk, **keywords
        )
    from modelkit.embedding.recipe import Recipe

    if not isinstance(options, Recipe):
        return open_texts(members, manifest.signature, options, **keywords)
    encoder = open_encoder(members, options, **keywords)
    encoder.signature = manifest.signature
    return encoder


def weights_of(members: container.Members) -> memoryview | None:
    """The external weights of the graph, if it has some."""
    return memoryview(members[WEIGHTS_MEMBER]) if WEIGHTS_MEMBER in members else None


def open_encoder(
    members: container.Members, recipe: Recipe, packaged: Packaged = NOT_PACKAGED, **keywords: Any
) -> OverTokens:
    """A text encoder or a reranker, around the Model of its graph.

    Raises PackageError for a tokenizer that cannot be read.
    """
    from modelkit.embedding.encoder import TextEncoder
    from modelkit.embedding.recipe import PairRecipe
    from modelkit.embedding.reranker import Reranker
    from modelkit.runtimes.onnx import OnnxModel

    graph = members[GRAPH]
    weights = weights_of(members)
    inside = packaged._replace(origin=None)
    inner = OnnxModel(
        graph, recipe.graph, weights=weights, side_by_side=True, packaged=inside, **keywords
    )
    kind = Reranker if isinstance(recipe, PairRecipe) else TextEncoder
    try:
        return kind.from_parts(inner, bytes(members[TOKENIZER]), recipe, packaged.origin)
    except SignatureError as error:
        raise PackageError(f"the tokenizer cannot be used: {error}", member=TOKENIZER) from error


def open_texts(
    members: container.Members, signature: Signature, texts: Texts, **keywords: Any
) -> Model:
    """A Model over texts, around the Model of its graph.

    Raises PackageError for vocabularies that cannot be read.
    """
    from modelkit.runtimes.terms.terms import decode_terms
    from modelkit.runtimes.texts import TextModel

    try:
        terms = decode_terms(bytes(members[TERMS]), texts)
    except SignatureError as error:
        raise PackageError(f"the terms cannot be used: {error}", member=TERMS) from error
    weights = weights_of(members)
    return TextModel(members[GRAPH], signature, texts, terms, weights=weights, **keywords)


def chunk_rows(manifest: Manifest) -> int | None:
    """The rows of one run whose tensors fit the caches.

    None for a graph whose rows were not shown to be independent of each other.
    """
    if not manifest.parity.batch_invariant:
        return None
    return min(max(CHUNK_BYTES // max(manifest.row_bytes, 1), 256), 16384)
