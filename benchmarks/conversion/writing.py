"""Everyday pipelines over texts: the options of the vectorizers, and texts beside other columns."""

from __future__ import annotations

from benchmarks.conversion import rows
from benchmarks.conversion.columns import to_dense
from benchmarks.conversion.everyday import Everyday
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.decomposition import NMF, TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfTransformer,
    TfidfVectorizer,
)
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC

SEED = {"random_state": 0}


def logistic():
    return LogisticRegression(max_iter=1_000)


def tfidf(*steps, **options):
    return make_pipeline(TfidfVectorizer(**options), *(steps or (logistic(),)))


WRITING = [
    Everyday("texts: words -> logistic", tfidf, rows.docstrings),
    Everyday("texts: counts -> naive Bayes", lambda: make_pipeline(CountVectorizer(), MultinomialNB()), rows.docstrings),
    Everyday("texts: binary counts, English stop words -> complement naive Bayes", lambda: make_pipeline(CountVectorizer(binary=True, stop_words="english"), ComplementNB()), rows.docstrings),
    Everyday("texts: counts, then weights -> SGD", lambda: make_pipeline(CountVectorizer(), TfidfTransformer(), SGDClassifier(loss="log_loss", **SEED)), rows.docstrings),
    Everyday("texts: sublinear, pairs, stop words -> linear SVC", lambda: tfidf(LinearSVC(**SEED), sublinear_tf=True, ngram_range=(1, 2), stop_words="english"), rows.docstrings),
    Everyday("texts: at most 500 words, rare ones left out -> ridge", lambda: tfidf(Ridge(), max_features=500, min_df=2, max_df=0.9), rows.docstrings),
    Everyday("texts: own token pattern", lambda: tfidf(token_pattern=r"[a-zA-Z_]\w+"), rows.docstrings),
    Everyday("texts: SVD -> forest", lambda: tfidf(TruncatedSVD(20, **SEED), RandomForestClassifier(20, **SEED)), rows.docstrings),
    Everyday("texts: topics by NMF", lambda: tfidf(NMF(5, max_iter=100, **SEED), logistic(), max_features=300), rows.docstrings, refused="changes with the others"),
    Everyday("texts: chi2 chooses words", lambda: tfidf(SelectKBest(chi2, k=100), logistic()), rows.docstrings),
    Everyday("texts: calibrated linear SVC", lambda: tfidf(CalibratedClassifierCV(LinearSVC(**SEED), cv=3)), rows.docstrings),
    Everyday("texts: hashed words -> SGD", lambda: make_pipeline(HashingVectorizer(n_features=2**12), SGDClassifier(**SEED)), rows.docstrings),
    Everyday("texts: nearest neighbours by cosine", lambda: tfidf(KNeighborsClassifier(metric="cosine")), rows.docstrings, refused="fitted on a sparse matrix"),
    Everyday("titles: characters within words -> logistic", lambda: tfidf(analyzer="char_wb", ngram_range=(2, 4), max_features=2_000), rows.titles),
    Everyday("titles: characters -> linear SVC", lambda: tfidf(LinearSVC(**SEED), analyzer="char", ngram_range=(1, 3), max_features=2_000), rows.titles),
    Everyday("titles: without accents", lambda: tfidf(strip_accents="unicode"), rows.titles),
    Everyday("titles: upper and lower case", lambda: tfidf(lowercase=False, norm="l1"), rows.titles),
    Everyday("titles: words and characters", lambda: make_pipeline(make_union(TfidfVectorizer(), TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), max_features=1_000)), logistic()), rows.titles),
    Everyday("films: title beside numbers -> ridge", lambda: make_pipeline(make_column_transformer((TfidfVectorizer(max_features=500), "title"), (make_pipeline(SimpleImputer(), StandardScaler()), ["year", "length", "budget", "votes"]), (OneHotEncoder(handle_unknown="ignore"), ["mpaa"])), Ridge()), rows.titled),
    Everyday("films: topics of the title -> boosting", lambda: make_pipeline(make_column_transformer((make_pipeline(TfidfVectorizer(max_features=300), TruncatedSVD(10, **SEED)), "title"), ("passthrough", ["year", "length", "budget"])), HistGradientBoostingClassifier(max_iter=10, **SEED)), lambda: well_rated(rows.titled()), refused="disagrees"),
    Everyday("texts: dense weights -> Gaussian naive Bayes", lambda: tfidf(FunctionTransformer(to_dense, accept_sparse=True), GaussianNB(), max_features=200), rows.docstrings),
    Everyday("texts: a vocabulary that is given", lambda: tfidf(vocabulary=["array", "matrix", "function", "return", "of the"], ngram_range=(1, 2)), rows.docstrings),
    Everyday("texts: no weights by document, no norm -> SGD", lambda: tfidf(SGDClassifier(**SEED), use_idf=False, norm=None), rows.docstrings),
    Everyday("titles: hashed characters", lambda: make_pipeline(HashingVectorizer(analyzer="char_wb", ngram_range=(2, 3), n_features=2**11, alternate_sign=False), logistic()), rows.titles),
    Everyday("titles: search over words", lambda: GridSearchCV(tfidf(), {"tfidfvectorizer__ngram_range": [(1, 1), (1, 2)]}, cv=3), rows.titles),
    Everyday("films: title and rating as texts", lambda: make_pipeline(make_column_transformer((CountVectorizer(max_features=300), "title"), (OrdinalEncoder(encoded_missing_value=-1), ["mpaa"]), remainder="drop"), logistic()), lambda: well_rated(rows.titled())),
]  # fmt: skip


def well_rated(data):
    X, y = data
    return X, y > 6
