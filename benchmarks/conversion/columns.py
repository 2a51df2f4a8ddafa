"""Everyday pipelines over frames: words, gaps, categories, dates and numbers through a ColumnTransformer."""

from __future__ import annotations

import numpy as np
from benchmarks.conversion import rows
from benchmarks.conversion.everyday import Everyday
from sklearn.compose import (
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    AdaBoostRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - it lets the next be imported
from sklearn.feature_selection import (
    SelectFromModel,
    SelectKBest,
    SelectPercentile,
    VarianceThreshold,
    f_regression,
)
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import (
    ElasticNetCV,
    GammaRegressor,
    HuberRegressor,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

SEED = {"random_state": 0}
FEW = {"max_iter": 15, "random_state": 0}
NUMBERS = make_column_selector(dtype_include="number")
OTHERS = make_column_selector(dtype_exclude="number")
UNKNOWN = {"handle_unknown": "use_encoded_value", "unknown_value": -1}


def logistic(**options):
    return LogisticRegression(max_iter=2_000, **options)


def filled(*steps):
    return make_pipeline(SimpleImputer(strategy="median"), *steps)


def onehot(**options):
    return make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore", **options)
    )


def prepared(*steps, numbers=None, words=None, remainder="drop"):
    """Numbers filled and scaled, words as indicators, and the steps that follow."""
    numbers = numbers or filled(StandardScaler())
    columns = [("numbers", numbers, NUMBERS), ("words", words or onehot(), OTHERS)]
    return make_pipeline(ColumnTransformer(columns, remainder=remainder), *steps)


def named(*steps, numbers, words, encoder, **options):
    """The same over columns by name."""
    columns = [("numbers", filled(StandardScaler()), numbers), ("words", encoder, words)]
    return make_pipeline(ColumnTransformer(columns, **options), *steps)


def dense(*steps, **options):
    """As `prepared`, without sparse tables, which some models do not take."""
    return prepared(*steps, words=onehot(sparse_output=False), **options)


def ordinals(*steps, numbers="passthrough", **options):
    columns = [
        ("numbers", numbers, NUMBERS),
        ("words", OrdinalEncoder(**(options or UNKNOWN)), OTHERS),
    ]
    return make_pipeline(ColumnTransformer(columns), *steps)


def first_two(frame):
    return list(frame.columns[:2])


def ordered():
    """Words with an order that the user says."""
    grades = ["Fair", "Good", "Very Good", "Premium", "Ideal"]
    return make_column_transformer(
        (OrdinalEncoder(categories=[grades]), ["cut"]),
        (OneHotEncoder(drop="first"), ["color", "clarity"]),
        remainder="passthrough",
    )


def share_of_each(frame):
    """A function of the user's own over a frame."""
    return frame.assign(each=frame["total_bill"] / frame["size"], large=frame["size"] > 3)


def to_dense(X):
    return X.toarray() if hasattr(X, "toarray") else X


def sine(X):
    """Where in a season of 34 rounds a match is."""
    return np.sin(2 * np.pi * X / 34)


def cosine(X):
    return np.cos(2 * np.pi * X / 34)


def year_and_month(frame):
    """Numbers from a column of dates."""
    date = frame["date"].dt
    return np.column_stack([date.year, date.month])


def from_ordinals(*names):
    """Ordinals of words as a frame, whose columns HistGradientBoosting takes for categories by name."""
    columns = make_column_transformer(
        (OrdinalEncoder(**UNKNOWN), OTHERS),
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    columns.set_output(transform="pandas")
    return make_pipeline(columns, HistGradientBoostingClassifier(categorical_features=names, **FEW))


BILL = ["bill_length_mm", "bill_depth_mm"]
BODY = ["flipper_length_mm", "body_mass_g"]

COLUMNS = [
    Everyday("penguins: filled, scaled, one-hot -> logistic", lambda: prepared(logistic()), rows.penguins),
    Everyday("penguins, None for gaps: one-hot -> logistic", lambda: named(logistic(), numbers=BILL, words=["island"], encoder=OneHotEncoder(handle_unknown="ignore")), rows.penguins_objects),
    Everyday("penguins, nullable dtypes -> logistic", lambda: named(logistic(), numbers=[*BILL, *BODY], words=["island"], encoder=onehot()), rows.penguin_nullable),
    Everyday("penguins, Arrow dtypes -> forest", lambda: named(RandomForestClassifier(20, **SEED), numbers=[*BILL, *BODY], words=["island"], encoder=onehot()), rows.penguin_arrow),
    Everyday("penguins: gaps pass ordinals -> HistGradientBoosting", lambda: ordinals(HistGradientBoostingClassifier(**FEW)), rows.penguins),
    Everyday("penguins: ordinals, gaps are -2 -> forest", lambda: ordinals(RandomForestClassifier(20, **SEED), numbers=SimpleImputer(), encoded_missing_value=-2, **UNKNOWN), rows.penguins),
    Everyday("penguins: rare islands together -> logistic", lambda: prepared(logistic(), words=make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.3))), rows.penguins),
    Everyday("penguins: search over the whole pipeline", lambda: GridSearchCV(prepared(logistic()), {"logisticregression__C": [0.1, 1]}, cv=3), rows.penguins),
    Everyday("penguins: indicators of gaps -> logistic", lambda: prepared(logistic(), numbers=make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())), rows.penguins),
    Everyday("penguins: constant for gaps, one-hot -> linear SVC", lambda: prepared(LinearSVC(**SEED), words=make_pipeline(SimpleImputer(strategy="constant", fill_value="unknown"), OneHotEncoder(handle_unknown="ignore"))), rows.penguins),
    Everyday("penguins: neighbours fill gaps -> SVC", lambda: prepared(SVC(), numbers=make_pipeline(StandardScaler(), KNNImputer())), rows.penguins),
    Everyday("penguins: rounds fill gaps -> forest", lambda: prepared(RandomForestClassifier(20, **SEED), numbers=IterativeImputer(**SEED)), rows.penguins),
    Everyday("penguins: MissingIndicator beside values -> logistic", lambda: make_pipeline(make_column_transformer((FeatureUnion([("values", filled()), ("gaps", MissingIndicator())]), BILL)), StandardScaler(), logistic()), rows.penguins),
    Everyday("penguins: boosting votes with logistic", lambda: prepared(VotingClassifier([("a", logistic()), ("b", GradientBoostingClassifier(n_estimators=15, **SEED))], voting="soft")), rows.penguins),
    Everyday("penguins: hard votes", lambda: dense(VotingClassifier([("a", logistic()), ("b", DecisionTreeClassifier(**SEED)), ("c", KNeighborsClassifier())])), rows.penguins),
    Everyday("penguins: network", lambda: prepared(MLPClassifier((16,), max_iter=300, **SEED)), rows.penguins),
    Everyday("penguin mass: one-hot drops the first -> linear", lambda: make_pipeline(make_column_transformer((OneHotEncoder(drop="first"), ["species", "island"]), (filled(), [*BILL, "flipper_length_mm"])), LinearRegression()), rows.penguin_mass),
    Everyday("penguin mass: log of the target", lambda: TransformedTargetRegressor(prepared(Ridge()), func=np.log, inverse_func=np.exp), rows.penguin_mass),
    Everyday("penguin mass: scaled target", lambda: TransformedTargetRegressor(prepared(Ridge()), transformer=StandardScaler()), rows.penguin_mass),
    Everyday("tips: one-hot -> linear", lambda: prepared(LinearRegression()), rows.tips),
    Everyday("tips: drop if binary -> ridge", lambda: prepared(RidgeCV(), words=OneHotEncoder(drop="if_binary")), rows.tips),
    Everyday("tips: products of numbers -> lasso", lambda: prepared(LassoCV(cv=3), numbers=make_pipeline(PolynomialFeatures(2, include_bias=False), StandardScaler())), rows.tips),
    Everyday("tips: splines -> ridge", lambda: prepared(Ridge(), numbers=SplineTransformer()), rows.tips),
    Everyday("tips: forest behind passthrough", lambda: make_pipeline(make_column_transformer((OneHotEncoder(handle_unknown="ignore"), OTHERS), remainder="passthrough"), RandomForestRegressor(20, **SEED)), rows.tips),
    Everyday("tips: gamma regression", lambda: prepared(GammaRegressor(max_iter=500)), rows.tips),
    Everyday("tips, smoker: target encoding -> logistic", lambda: named(logistic(), numbers=["total_bill", "tip"], words=["sex", "day", "time"], encoder=TargetEncoder(**SEED)), rows.tips_smoker),
    Everyday("tips, smoker: at most 3 categories -> tree", lambda: prepared(DecisionTreeClassifier(max_depth=4, **SEED), words=OneHotEncoder(max_categories=3, handle_unknown="infrequent_if_exist")), rows.tips_smoker),
    Everyday("tips, smoker: nearest neighbours by distance", lambda: prepared(KNeighborsClassifier(weights="distance")), rows.tips_smoker),
    Everyday("tips, smoker: callable selects columns", lambda: make_pipeline(make_column_transformer((StandardScaler(), first_two), remainder="drop"), logistic()), rows.tips_smoker),
    Everyday("tips, smoker: columns by position", lambda: make_pipeline(make_column_transformer((StandardScaler(), [0, 1]), (OneHotEncoder(), slice(2, 5))), logistic()), rows.tips_smoker),
    Everyday("tips, smoker: bins of the bill -> logistic", lambda: prepared(logistic(), numbers=KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf")), rows.tips_smoker),
    Everyday("life expectancy: 1e6 to 1e9 people, log and one-hot -> ridge", lambda: make_pipeline(make_column_transformer((FunctionTransformer(np.log1p), ["pop", "gdpPercap"]), (OneHotEncoder(handle_unknown="ignore"), ["continent", "country"]), (StandardScaler(), ["year"])), Ridge()), rows.gapminder),
    Everyday("life expectancy: target encoding of countries -> boosting", lambda: make_pipeline(make_column_transformer((TargetEncoder(**SEED), ["country", "continent"]), remainder="passthrough"), GradientBoostingRegressor(n_estimators=20, **SEED)), rows.gapminder),
    Everyday("life expectancy: power transform -> Huber", lambda: prepared(HuberRegressor(max_iter=1_000), numbers=PowerTransformer()), rows.gapminder),
    Everyday("continent: quantiles -> logistic", lambda: make_pipeline(QuantileTransformer(n_quantiles=100), logistic()), rows.continents),
    Everyday("continent: normal quantiles -> neighbours", lambda: make_pipeline(QuantileTransformer(n_quantiles=100, output_distribution="normal"), KNeighborsClassifier()), rows.continents),
    Everyday("shares, a date is dropped -> ridge", lambda: make_pipeline(make_column_transformer((StandardScaler(), ["AAPL", "AMZN", "FB"])), Ridge()), rows.stocks),
    Everyday("shares, a date is not selected -> forest", lambda: make_pipeline(make_column_transformer(("passthrough", NUMBERS)), RandomForestRegressor(20, **SEED)), rows.stocks),
    Everyday("economy, a date is dropped -> boosting", lambda: make_pipeline(make_column_transformer(("drop", ["date"]), remainder="passthrough"), HistGradientBoostingRegressor(**FEW)), rows.economy),
    Everyday("economy: square roots -> elastic net", lambda: make_pipeline(make_column_transformer((FunctionTransformer(np.sqrt), ["pce", "pop"]), (RobustScaler(), ["psavert", "uempmed"])), ElasticNetCV(cv=3)), rows.economy),
    Everyday("matches, a date and 60 teams -> logistic", lambda: make_pipeline(make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["HomeTeam", "AwayTeam"]), (StandardScaler(), ["Round", "Year"])), logistic()), rows.matches),
    Everyday("matches: teams as targets -> HistGradientBoosting", lambda: make_pipeline(make_column_transformer((TargetEncoder(**SEED), ["HomeTeam", "AwayTeam"]), ("passthrough", ["Round", "Year"])), HistGradientBoostingClassifier(**FEW)), rows.matches),
    Everyday("expenses: one-hot -> HistGradientBoosting", lambda: dense(HistGradientBoostingRegressor(**FEW)), rows.med_expenses),
    Everyday("expenses: log1p of the target -> forest", lambda: TransformedTargetRegressor(ordinals(RandomForestRegressor(20, **SEED)), func=np.log1p, inverse_func=np.expm1), rows.med_expenses),
    Everyday("expenses: Tweedie", lambda: prepared(TweedieRegressor(power=1.5, max_iter=1_000)), rows.med_expenses),
    Everyday("work of women: one-hot -> logistic, cross-validated", lambda: prepared(LogisticRegressionCV(Cs=3, cv=3, max_iter=2_000)), rows.mroz),
    Everyday("work of women: extra trees", lambda: prepared(ExtraTreesClassifier(20, **SEED)), rows.mroz),
    Everyday("work of women: select, then RBF", lambda: prepared(SelectKBest(k=6), SVC(probability=False)), rows.mroz),
    Everyday("income: AdaBoost", lambda: ordinals(AdaBoostRegressor(n_estimators=10, **SEED)), rows.mroz_income),
    Everyday("income: SGD", lambda: prepared(SGDRegressor(**SEED)), rows.mroz_income),
    Everyday("wages: ordinals -> HistGradientBoosting", lambda: ordinals(HistGradientBoostingRegressor(**FEW)), rows.males),
    Everyday("wages: stacking", lambda: dense(StackingRegressor([("a", Ridge()), ("b", HistGradientBoostingRegressor(**FEW))], cv=3)), rows.males),
    Everyday("wages: votes", lambda: prepared(VotingRegressor([("a", Ridge()), ("b", RandomForestRegressor(10, **SEED))])), rows.males),
    Everyday("union: gaps in words, a category of their own -> logistic", lambda: prepared(logistic(), words=OneHotEncoder(handle_unknown="ignore")), rows.males_union),
    Everyday("union: SGD with log loss", lambda: prepared(SGDClassifier(loss="log_loss", **SEED)), rows.males_union),
    Everyday("union: Bernoulli naive Bayes", lambda: make_pipeline(make_column_transformer((OneHotEncoder(handle_unknown="ignore"), OTHERS)), BernoulliNB()), rows.males_union),
    Everyday("union: categorical naive Bayes", lambda: make_pipeline(make_column_transformer((OrdinalEncoder(), ["ethn", "married", "health"])), CategoricalNB()), rows.males_union),
    Everyday("diamonds: ordered words -> forest", lambda: make_pipeline(ordered(), RandomForestRegressor(20, max_depth=8, **SEED)), rows.diamonds),
    Everyday("diamonds: log target, polynomials -> ridge", lambda: TransformedTargetRegressor(prepared(Ridge(), numbers=make_pipeline(StandardScaler(), PolynomialFeatures(3))), func=np.log1p, inverse_func=np.expm1), rows.diamonds),
    Everyday("diamonds: decimals -> HistGradientBoosting", lambda: ordinals(HistGradientBoostingRegressor(**FEW)), rows.diamonds),
    Everyday("diamonds: neighbours by distance", lambda: dense(KNeighborsRegressor(weights="distance")), rows.diamonds),
    Everyday("cut of diamonds: boosting", lambda: ordinals(GradientBoostingClassifier(n_estimators=10, **SEED)), rows.diamond_cut),
    Everyday("mpg: one-hot with a minimum of 5 -> ridge", lambda: prepared(Ridge(), words=OneHotEncoder(min_frequency=5, handle_unknown="infrequent_if_exist")), rows.mpg),
    Everyday("mpg: min-max -> lasso and PCA of indicators", lambda: prepared(LinearRegression(), numbers=MinMaxScaler(), words=make_pipeline(OneHotEncoder(handle_unknown="ignore", sparse_output=False), PCA(5))), rows.mpg),
    Everyday("class of cars: ordinals -> HistGradientBoosting of 7 classes", lambda: ordinals(HistGradientBoostingClassifier(**FEW)), rows.mpg_class),
    Everyday("class of cars: random search over forests", lambda: RandomizedSearchCV(prepared(RandomForestClassifier(10, **SEED)), {"randomforestclassifier__max_depth": [3, 6]}, n_iter=2, cv=3, **SEED), rows.mpg_class),
    Everyday("survey: gaps everywhere -> logistic, balanced", lambda: prepared(logistic(class_weight="balanced")), rows.survey),
    Everyday("survey, sex: decimals with gaps -> HistGradientBoosting", lambda: make_pipeline(make_column_transformer(("passthrough", NUMBERS)), HistGradientBoostingClassifier(**FEW)), rows.survey_sex),
    Everyday("survey, sex: ridge classifier", lambda: prepared(RidgeClassifier()), rows.survey_sex),
    Everyday("cars: 22 columns -> select percentile -> ridge", lambda: prepared(SelectPercentile(f_regression, percentile=40), Ridge()), rows.cars),
    Everyday("cars: SVD of indicators -> Poisson", lambda: prepared(TruncatedSVD(8, **SEED), StandardScaler(), PoissonRegressor(max_iter=500)), rows.cars),
    Everyday("loans: true or false -> logistic", lambda: prepared(logistic()), rows.loans),
    Everyday("loans: union of PCA and best columns", lambda: dense(make_union(PCA(3), SelectKBest(k=3)), logistic()), rows.loans),
    Everyday("liver: add_indicator of few columns -> forest", lambda: prepared(RandomForestClassifier(20, **SEED), numbers=SimpleImputer(add_indicator=True)), rows.liver),
    Everyday("liver: KNNImputer with indicator -> logistic", lambda: prepared(StandardScaler(with_mean=False), logistic(), numbers=KNNImputer(n_neighbors=3, weights="distance", add_indicator=True)), rows.liver),
    Everyday("votes: target encoding with gaps, 4 classes", lambda: named(logistic(), numbers=["age", "income"], words=["region", "education"], encoder=TargetEncoder(**SEED)), rows.chile),
    Everyday("votes: model-based selection", lambda: prepared(SelectFromModel(RandomForestClassifier(10, **SEED)), logistic()), rows.chile),
    Everyday("wages with gaps: splines at the ends -> ridge", lambda: prepared(Ridge(), numbers=filled(SplineTransformer(extrapolation="linear", knots="quantile"))), rows.incomes),
    Everyday("salaries: gradient boosting with Huber loss", lambda: ordinals(GradientBoostingRegressor(loss="huber", n_estimators=15, **SEED)), rows.salaries),
    Everyday("computers: variance threshold -> ridge", lambda: dense(VarianceThreshold(0.01), Ridge()), rows.computers),
    Everyday("housing: tree of few leaves", lambda: ordinals(DecisionTreeRegressor(max_leaf_nodes=20, **SEED)), rows.housing),
    Everyday("housing: yes or no as ordinals, binarized -> linear", lambda: ordinals(LinearRegression(), numbers=Binarizer(threshold=1.5)), rows.housing),
    Everyday("baseball: 22 columns -> forest", lambda: ordinals(RandomForestRegressor(20, **SEED)), rows.baseball),
    Everyday("companies: 60 countries, rare ones together -> HistGradientBoosting", lambda: prepared(HistGradientBoostingRegressor(**FEW), words=OneHotEncoder(min_frequency=20, handle_unknown="infrequent_if_exist", sparse_output=False)), rows.companies),
    Everyday("visits to doctors: Poisson", lambda: make_pipeline(StandardScaler(), PoissonRegressor(max_iter=500)), rows.doctors),
    Everyday("titanic: words alone -> logistic", lambda: make_pipeline(OneHotEncoder(), logistic()), rows.titanic),
    Everyday("titanic: ordinals -> tree", lambda: make_pipeline(OrdinalEncoder(), DecisionTreeClassifier(**SEED)), rows.titanic),
    Everyday("HistGradientBoosting: categories with gaps", lambda: HistGradientBoostingClassifier(**FEW), rows.penguin_categories),
    Everyday("HistGradientBoosting: categories of words and integers", lambda: HistGradientBoostingClassifier(**FEW), rows.tips_categories),
    Everyday("HistGradientBoosting: categories, regression", lambda: HistGradientBoostingRegressor(**FEW), rows.penguin_mass_categories),
    Everyday("HistGradientBoosting: many categories", lambda: HistGradientBoostingClassifier(**FEW), rows.males_categories),
    Everyday("HistGradientBoosting: ordinals by name", lambda: from_ordinals("ethn", "married", "health", "industry"), rows.males_union),
    Everyday("HistGradientBoosting: places of categories", lambda: ordinals(HistGradientBoostingClassifier(categorical_features=[4, 5], **FEW)), rows.penguins),
    Everyday("tips: columns added by a function of the frame -> ridge", lambda: make_pipeline(FunctionTransformer(share_of_each), make_column_transformer((StandardScaler(), ["total_bill", "each", "large"])), Ridge()), rows.tips, refused="given columns of strings"),
    Everyday("tips: everything as a frame", lambda: dense(Ridge()).set_output(transform="pandas"), rows.tips),
    Everyday("tips: search over the model of a scaled target", lambda: GridSearchCV(TransformedTargetRegressor(prepared(Ridge()), transformer=QuantileTransformer(n_quantiles=50)), {"regressor__ridge__alpha": [0.1, 1]}, cv=3), rows.tips),
    Everyday("tips, smoker: dense words -> naive Bayes", lambda: prepared(FunctionTransformer(to_dense, accept_sparse=True), GaussianNB()), rows.tips_smoker),
    Everyday("matches: sine and cosine of the round -> ridge", lambda: make_pipeline(make_column_transformer((FunctionTransformer(sine), ["Round"]), (FunctionTransformer(cosine), ["Round"]), (StandardScaler(), ["Year"])), logistic()), rows.matches),
    Everyday("matches: periodic splines of the round", lambda: make_pipeline(make_column_transformer((SplineTransformer(n_knots=6, extrapolation="periodic", include_bias=False), ["Round"])), logistic()), rows.matches),
    Everyday("economy: year and month of a date -> boosting", lambda: make_pipeline(make_column_transformer((FunctionTransformer(year_and_month), ["date"]), remainder="passthrough"), HistGradientBoostingRegressor(**FEW)), rows.economy, refused="dtype datetime64"),
    Everyday("loans: a pattern selects columns", lambda: make_pipeline(make_column_transformer((StandardScaler(), make_column_selector("^.ir$|^lvr$")), ("passthrough", ["uria"])), logistic()), rows.loans),
    Everyday("housing: products of indicators -> lasso", lambda: dense(PolynomialFeatures(2, interaction_only=True), StandardScaler(with_mean=False), LassoCV(cv=3)), rows.housing),
    Everyday("survey: most frequent words, ordinals, extra trees", lambda: make_pipeline(make_column_transformer((make_pipeline(SimpleImputer(strategy="most_frequent"), OrdinalEncoder(**UNKNOWN)), OTHERS), (SimpleImputer(strategy="constant", fill_value=-1), NUMBERS)), ExtraTreesClassifier(20, **SEED)), rows.survey),
]  # fmt: skip
