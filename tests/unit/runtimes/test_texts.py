"""Models over texts answer as their source does on every text, and no text or package makes them run away."""

import copy
import enum
import json
import pickle
import unicodedata
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.examples import examples, some
from helpers.forge import forge
from helpers.places import GOLDEN
from helpers.texts import LABELS, STRANGE, TEXTS, THREE, check_options, check_same, logistic, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfTransformer,
    TfidfVectorizer,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

import modelkit as mk
from modelkit.convert.parity.strange import CHARACTERS
from modelkit.errors import (
    ClosedError,
    ConversionError,
    DeadlineExceeded,
    IntegrityError,
    ManifestError,
    PackageError,
    ParityError,
    SignatureError,
)
from modelkit.runtimes.terms import terms as counting
from modelkit.runtimes.terms.patterns import compiled
from modelkit.testing import check_model


@pytest.mark.parametrize(
    ("vectorizer", "texts", "rows"),
    [
        (
            TfidfVectorizer(),
            ["istanbul bir", "ankara ve", "izmir deniz"] * 20,
            ["İSTANBUL", "İzmir DENİZ"],
        ),
        (TfidfVectorizer(), ["ο δρόμος", "ο λόγος", "καλός"] * 20, ["Ο ΔΡΌΜΟΣ", "ΛΌΓΟΣ.ΚΑΛΌΣ"]),  # noqa: RUF001
        (
            CountVectorizer(token_pattern=r"\S+"),
            ["buy now", "see you", "the sum"] * 20,
            ["buy\xa0now", "see\u3000you"],
        ),
        (
            CountVectorizer(token_pattern=r"[^\s]+"),
            ["buy now", "see you", "the sum"] * 20,
            ["buy\x85now", "the\x1csum"],
        ),
        (
            CountVectorizer(token_pattern=r"\w+"),
            ["buy now", "see you", "the sum"] * 20,
            ["résumé buy", "buyé", "sumé"],
        ),
        (
            CountVectorizer(token_pattern=r"\b\w+\b"),
            ["buy now", "see you", "the sum"] * 20,
            ["résumé buy", "buyé"],
        ),
    ],
)
def test_texts_that_were_answered_wrongly(vectorizer, texts, rows, tmp_path):
    model = logistic(vectorizer)
    _, loaded = saved(model, texts, tmp_path, labels=list("abc") * 20)
    check_same(model, loaded, rows)


@some(
    "vectorizer",
    [
        TfidfVectorizer(),
        TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), stop_words="english"),
        TfidfVectorizer(norm="l1", use_idf=False, stop_words=["good"]),
        TfidfVectorizer(norm=None, smooth_idf=False, binary=True),
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), strip_accents="unicode"),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), lowercase=False),
        TfidfVectorizer(strip_accents="ascii", token_pattern=r"\w+"),
        TfidfVectorizer(token_pattern=r"(?u)\b(\w\w+)\b|[!?]"),
        TfidfVectorizer(dtype=np.float64, max_features=5),
        CountVectorizer(binary=True),
        CountVectorizer(dtype=bool),
        CountVectorizer(vocabulary=["good", "bad", "izmir"]),
        make_pipeline(CountVectorizer(ngram_range=(1, 2)), TfidfTransformer(sublinear_tf=True)),
        HashingVectorizer(n_features=16, norm="l1", ngram_range=(1, 2), stop_words="english"),
        HashingVectorizer(n_features=16, binary=True, norm=None, analyzer="char_wb"),
        HashingVectorizer(n_features=100, alternate_sign=False, lowercase=False),
        make_pipeline(HashingVectorizer(n_features=64, norm=None), TfidfTransformer()),
        make_union(HashingVectorizer(n_features=32), TfidfVectorizer()),
        make_union(TfidfVectorizer(), CountVectorizer(analyzer="char_wb", ngram_range=(2, 3))),
        make_pipeline(TfidfVectorizer(), TruncatedSVD(3, random_state=0)),
    ],
    10,
)  # fmt: skip
def test_every_option_comes_along(vectorizer, tmp_path):
    check_options(vectorizer, tmp_path)


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(TfidfVectorizer(), LinearSVC()),
        make_pipeline(TfidfVectorizer(), RidgeClassifier()),
        make_pipeline(TfidfVectorizer(), SGDClassifier(random_state=0)),
        make_pipeline(CountVectorizer(), TfidfTransformer(), MultinomialNB()),
        GridSearchCV(
            make_pipeline(CountVectorizer(), TfidfTransformer(), LogisticRegression()), {}, cv=2
        ),
    ],
)
@some("labels", [LABELS, THREE, [str(label) for label in THREE]], 1)
def test_classifiers_of_texts(model, labels, tmp_path):
    _, loaded = saved(model, TEXTS, tmp_path, labels)
    check_same(model, loaded, STRANGE)


def test_texts_beside_other_columns(tmp_path):
    X = pd.DataFrame({"age": np.arange(60.0) % 7, "title": TEXTS, "kind": ["x", "y", "z"] * 20})
    columns = make_column_transformer(
        (TfidfVectorizer(), "title"),
        (StandardScaler(), ["age"]),
        (OneHotEncoder(handle_unknown="ignore"), ["kind", "title"]),
    )
    model = make_pipeline(columns, LogisticRegression()).fit(X, LABELS)
    mk.save(model, tmp_path / "m.mk", example=X, name="m", version="1")
    texts = [text for text in STRANGE if text.isprintable()]
    rows = pd.DataFrame({"age": 2.5, "title": texts, "kind": "other"})
    loaded = mk.load(tmp_path / "m.mk")
    np.testing.assert_allclose(
        loaded.predict_proba(rows), model.predict_proba(rows), rtol=0, atol=1e-12
    )
    with pytest.raises(SignatureError, match="missing value"):
        loaded.predict(rows.assign(title=None))


def test_trees_and_numbers_of_texts(tmp_path):
    for model in (
        make_pipeline(TfidfVectorizer(), Ridge()),
        make_pipeline(TfidfVectorizer(), RandomForestClassifier(9)),
    ):
        _, loaded = saved(model, TEXTS, tmp_path)
        np.testing.assert_allclose(
            loaded.predict({"text": STRANGE}), model.predict(STRANGE), atol=1e-12
        )


WORDS = sorted(CountVectorizer().fit(TEXTS).vocabulary_)
PIECES = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(WORDS).map(str.upper),
    st.sampled_from(WORDS).map(str.title),
    st.sampled_from(sorted(CHARACTERS)),
    st.characters(),
    st.sampled_from(WORDS).map(lambda word: unicodedata.normalize("NFKD", word)),
)
MIXED = st.lists(PIECES, max_size=12).map("".join)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Models whose vectorizers read texts in as many ways as there are, with what was loaded from their packages."""
    ways = [
        TfidfVectorizer(),
        CountVectorizer(token_pattern=r"\S+", lowercase=False),
        TfidfVectorizer(analyzer="char", ngram_range=(1, 2), strip_accents="ascii"),
        TfidfVectorizer(
            analyzer="char_wb", ngram_range=(1, 3), strip_accents="unicode", sublinear_tf=True
        ),
        TfidfVectorizer(ngram_range=(1, 3), token_pattern=r"\w+"),
    ]
    models = [logistic(way) for way in ways]
    return [(model, saved(model, TEXTS, tmp_path_factory.mktemp("texts"))[1]) for model in models]


@given(st.lists(MIXED, min_size=1, max_size=9))
@settings(max_examples=examples(60), deadline=None)
def test_any_text_is_answered_as_the_source_does(pairs, texts):
    for model, loaded in pairs:
        check_same(model, loaded, texts)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (
            "_cleaner",
            lambda vectorizer: lambda text: "".join(char.lower()[0] for char in text),
        ),  # as towlower does
        ("_cleaner", lambda vectorizer: str.casefold),
        ("_cleaner", lambda vectorizer: lambda text: unicodedata.normalize("NFC", text.lower())),
        ("_cleaner", lambda vectorizer: lambda text: unicodedata.normalize("NFKC", text.lower())),
        (
            "_cleaner",
            lambda vectorizer: lambda text: text.lower().replace("\xa0", " ").replace("\u0307", ""),
        ),
        (
            "compiled",
            lambda pattern: compiled("(?a)" + pattern.removeprefix("(?u)")),
        ),  # as RE2 reads it
        ("compiled", lambda pattern: compiled(r"[^\s]+")),
        ("compiled", lambda pattern: compiled(r"[^\W\d][^\W\d]+")),
    ],
)
@some("texts", [TEXTS, ["istanbul bir", "ankara ve", "izmir deniz"] * 20], 1)
def test_the_gate_finds_whoever_reads_texts_otherwise(name, wrong, texts, tmp_path, monkeypatch):
    """Each reads the example as the source does, and some text of the gate's otherwise."""
    plain = [text for text in texts if text.isascii()]
    model = logistic(TfidfVectorizer()).fit(plain, np.arange(len(plain)) % 3 % 2)
    monkeypatch.setattr(counting, name, wrong)
    with pytest.raises(ParityError, match="unusual"):
        mk.save(model, tmp_path / "m.mk", example=plain, name="m", version="1")
    assert list(tmp_path.iterdir()) == []


def test_what_is_code_stays_out_of_a_package(tmp_path):
    for option in (
        {"tokenizer": str.split, "token_pattern": None},
        {"preprocessor": str.upper},
        {"analyzer": str.split},
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = logistic(CountVectorizer(**option)).fit(TEXTS, LABELS)
            with pytest.raises(ConversionError, match=f"{next(iter(option))}=...*cannot hold code"):
                mk.save(model, tmp_path / "m.mk", example=TEXTS, name="m", version="1")


def test_counts_of_few_bits_are_refused(tmp_path):
    model = logistic(CountVectorizer(dtype=np.int8)).fit(TEXTS, LABELS)
    with pytest.raises(ConversionError, match="few bits"):
        mk.save(model, tmp_path / "m.mk", example=TEXTS, name="m", version="1")


def test_a_vectorizer_behind_another_step_is_refused(tmp_path):
    X = pd.DataFrame({"title": TEXTS})
    filled = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=""),
        FunctionTransformer(np.ravel),
        TfidfVectorizer(),
    )
    model = make_pipeline(filled, LogisticRegression()).fit(X, LABELS)
    with pytest.raises(ConversionError):
        mk.save(model, tmp_path / "m.mk", example=X, name="m", version="1")


def test_letters_are_the_cost_of_a_text_and_its_deadline_is_heeded(tmp_path):
    model = logistic(CountVectorizer(analyzer="char", ngram_range=(2, 5))).fit(TEXTS, LABELS)
    with saved(model, TEXTS, tmp_path)[1] as loaded:
        name = loaded.signature.inputs[0].name
        feeds = loaded.signature.coerce(["a" * 6400, "b"])
        assert loaded._prepare(feeds) == (feeds, 6401 * 4 // 512)
        assert loaded._prepare({name: feeds[name][1:]})[1] == 1
        with pytest.raises(DeadlineExceeded, match="terms of texts were counted"):
            loaded.run(["a"], deadline=1e-9)


def test_an_expression_that_could_run_away_is_neither_saved_nor_opened(tmp_path):
    model = logistic(TfidfVectorizer(token_pattern=r"(?:\w+-?)+")).fit(TEXTS, LABELS)
    with pytest.raises(ConversionError, match="could take for ever"):
        mk.save(model, tmp_path / "m.mk", example=TEXTS, name="m", version="1")
    saved(logistic(TfidfVectorizer()), TEXTS, tmp_path)

    def evil(manifest):
        manifest["options"]["vectorizers"][0]["token_pattern"] = r"(?:\w+-?)+!"

    with pytest.raises(ManifestError, match="could take for ever"):
        mk.load(forge((tmp_path / "m.mk").read_bytes(), edit=evil))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "m.mk"
    mk.save(
        logistic(TfidfVectorizer()).fit(TEXTS, LABELS), path, example=TEXTS, name="m", version="1"
    )
    return path.read_bytes()


TERMS = "model/terms.json"


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        (None, IntegrityError),
        (b"", PackageError),
        (b"[" * 100_000, PackageError),
        (b"[]", PackageError),
        (b'[{"vocabulary": [], "stop_words": []}]', PackageError),
        (b'[{"vocabulary": ["a", "a"], "stop_words": []}]', PackageError),
        (b'[{"vocabulary": ["a", 1], "stop_words": []}]', PackageError),
        (b'[{"vocabulary": "ab", "stop_words": []}]', PackageError),
        (b'{"vocabulary": ["a"]}', PackageError),
    ],
)
def test_terms_that_are_none_are_refused(package, terms, error):
    with pytest.raises(error):
        mk.load(forge(package, changes={TERMS: terms}))


def test_a_vocabulary_larger_than_the_graphs_is_an_error_and_no_crash(package):
    many = json.dumps([{"vocabulary": [*WORDS, "more"], "stop_words": []}]).encode()
    with (
        mk.load(forge(package, changes={TERMS: many})) as model,
        pytest.raises(Exception, match=r"(?i)ind(ex|ices)"),
    ):
        model.predict({"text": ["more"]})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("analyzer", "callable"),
        ("accents", "greek"),
        ("ngrams", [2, 1]),
        ("ngrams", [1, 10**6]),
        ("ngrams", [1]),
        ("column", "elsewhere"),
        ("token_pattern", None),
        ("token_pattern", "("),
        ("code", "import os"),
    ],
)
def test_vectorizers_that_are_none_are_refused(package, field, value):
    def edit(manifest):
        manifest["options"]["vectorizers"][0][field] = value

    with pytest.raises(ManifestError):
        mk.load(forge(package, edit=edit))


def test_what_is_passed_to_the_graph_is_checked(package):
    for passed in (["text"], ["other"]):
        with pytest.raises(PackageError):
            mk.load(
                forge(
                    package,
                    edit=lambda manifest, passed=passed: manifest["options"].update(passed=passed),
                )
            )
    with pytest.raises(PackageError):
        mk.load(forge(package, edit=lambda manifest: manifest["options"].update(vectorizers=[])))


def test_a_loaded_model_of_texts_is_a_model_like_others(package, tmp_path):
    (tmp_path / "m.mk").write_bytes(package)
    model = mk.load(tmp_path / "m.mk")
    check_model(model, {"text": np.array(TEXTS[:9], object)})
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        again.predict_proba({"text": STRANGE[:50]}), model.predict_proba({"text": STRANGE[:50]})
    )
    assert copy.copy(model) is copy.deepcopy(model) is model
    assert "words are" in dict(model.manifest.facts())["texts"]
    assert "texts" in model._repr_html_()
    assert model.predict({"text": np.array([], object)}).shape == (0,)
    with mk.Batcher(model) as batcher:
        futures = [batcher.submit({"text": [text]}) for text in TEXTS]
        assert [future.result().tolist()[0] for future in futures] == model.predict(
            {"text": TEXTS}
        ).tolist()
    model.close()
    with pytest.raises(ClosedError):
        model.predict({"text": ["a"]})
    with pytest.raises(ClosedError):
        pickle.dumps(model)


def test_its_threads_are_those_of_the_model_of_its_graph(package):
    with mk.load(package, threads=4) as model:
        model._use_threads(2)  # as a Rollout asks of each of its arms
        assert model.placement.threads == model.runs_at_once == 2


def test_many_and_long_texts_are_run_in_parts(package):
    model = mk.load(package)
    texts = [*TEXTS * 20, "fine film " * 50_000, "good"]
    whole = model.predict_proba({"text": texts})
    np.testing.assert_allclose(whole[-1:], model.predict_proba({"text": ["good"]}), atol=1e-12)
    np.testing.assert_allclose(whole[-2:-1], model.predict_proba({"text": [texts[-2]]}), atol=1e-12)
    np.testing.assert_allclose(whole[:60], whole[60:120], atol=1e-12)


def test_only_texts_that_become_columns_are_run_in_small_parts(tmp_path):
    _, loaded = saved(logistic(HashingVectorizer(n_features=4096)), TEXTS, tmp_path, THREE)
    assert loaded.manifest.options["dense"] is False
    vectorizer = make_pipeline(TfidfVectorizer(), TruncatedSVD(3, random_state=0))
    _, loaded = saved(logistic(vectorizer), TEXTS, tmp_path, THREE)
    assert (loaded.manifest.runtime, "dense" in loaded.manifest.options) == ("texts", False)


def test_packages_of_texts_open_for_ever():
    with mk.load(GOLDEN / "texts1.mk") as model:
        assert (model.manifest.format, model.manifest.runtime) == (1, "texts")
        assert model.verify() <= 1e-6
        assert model.predict({"text": ["a good film"]}).tolist() == [1]


class Word(str, enum.Enum):  # noqa: UP042 - a StrEnum is shown as its text
    """As an application keeps its words: equal to a text, and shown as another one."""

    GOOD = "good film"


@pytest.mark.parametrize("analyzer", ["word", "char", "char_wb"])
def test_a_member_of_an_enumeration_is_the_text_that_it_holds(analyzer, tmp_path):
    """It was the text "Word.GOOD" to a vectorizer that leaves capitals as they are."""
    texts = ["good film", "bad film", "a good day", "none"] * 5
    vectorizer = CountVectorizer(lowercase=False, analyzer=analyzer)
    fitted = make_pipeline(vectorizer, LinearRegression())
    _, model = saved(fitted, texts, tmp_path, [1, 2, 3, 4] * 5)
    np.testing.assert_allclose(model.predict([Word.GOOD]), fitted.predict(["good film"]))
