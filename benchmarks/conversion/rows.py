"""Real data sets that packages ship, as rows and targets: frames with words, gaps, decimals, categories and dates.

No package is imported to read them: those of pydataset and plotly are files of tables. A function that is
named after a data set gives `(X, y)`, at most 2,000 rows.
"""

from __future__ import annotations

import io
import tarfile
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import datasets

MOST = 2_000  # rows of a data set
MEMBER = "resources/rdata/csv/{}.csv"
NAMES = (
    "Ecdat/MedExp", "Ecdat/Mroz", "Ecdat/Males", "Ecdat/Hdma", "Ecdat/Computers", "Ecdat/Housing",
    "ggplot2/diamonds", "ggplot2/mpg", "ggplot2/economics", "ggplot2/movies", "MASS/survey", "MASS/Cars93",
    "MASS/biopsy", "MASS/Pima.tr2", "survival/pbc", "car/Chile", "car/SLID", "car/Salaries", "vcd/Baseball",
    "vcd/Bundesliga", "HSAUR/Forbes2000", "COUNT/titanic", "COUNT/rwm1984",
)  # fmt: skip


def folder_of(package: str) -> Path:
    spec = find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"{package} ships the rows, and is not installed")
    return Path(spec.origin).parent


@cache
def shipped() -> dict[str, pd.DataFrame]:
    """The tables of pydataset, which are in one archive that is read from its start to its end."""
    wanted = {MEMBER.format(name): name for name in NAMES}
    found = {}
    with tarfile.open(folder_of("pydataset") / "resources.tar.gz") as archive:
        for member in archive:
            if member.name in wanted:
                text = io.BytesIO(archive.extractfile(member).read())
                found[wanted[member.name]] = pd.read_csv(text, index_col=0, low_memory=False)
    return found


def table(name: str) -> pd.DataFrame:
    """A table of pydataset, shuffled, with at most so many rows; the same in every process."""
    frame = shipped()[name]
    return frame.sample(min(MOST, len(frame)), random_state=0).reset_index(drop=True)


@cache
def of_plotly(name: str) -> pd.DataFrame:
    frame = pd.read_csv(folder_of("plotly") / "package_data" / "datasets" / f"{name}.csv.gz")
    return frame.sample(frac=1, random_state=0).reset_index(drop=True)


def apart(frame: pd.DataFrame, target: str, without: tuple[str, ...] = ()):
    """The columns, and one of them as what is to be predicted, where that is known."""
    frame = frame[frame[target].notna()].reset_index(drop=True)
    return frame.drop(columns=[target, *without]), frame[target].to_numpy()


def shuffled(X, y):
    order = np.random.default_rng(0).permutation(len(X))[:MOST]
    y = None if y is None else np.asarray(y)[order]
    if isinstance(X, list):
        return [X[i] for i in order], y
    return X.iloc[order].reset_index(drop=True) if hasattr(X, "iloc") else X[order], y


def with_gaps(X, share: float = 0.1):
    """The same with a share of the values of each column missing."""
    rng = np.random.default_rng(1)
    lost = rng.random(X.shape) < share
    return X.mask(lost) if hasattr(X, "mask") else np.where(lost, np.nan, X)


def iris():
    return shuffled(*datasets.load_iris(return_X_y=True))


def iris_frame():
    X, y = shuffled(*datasets.load_iris(return_X_y=True, as_frame=True))
    return X, np.array(["setosa", "versicolor", "virginica"])[y]


def wine():
    return shuffled(*datasets.load_wine(return_X_y=True))


def wine_frame():
    return shuffled(*datasets.load_wine(return_X_y=True, as_frame=True))


def wine_gaps():
    X, y = wine()
    return with_gaps(X), y


def wine_labels():
    X, y = wine()
    return X, np.column_stack([y > 0, y > 1, y == 1]).astype(int)


def cancer():
    return shuffled(*datasets.load_breast_cancer(return_X_y=True))


def cancer_frame():
    return shuffled(*datasets.load_breast_cancer(return_X_y=True, as_frame=True))


def cancer_gaps():
    X, y = cancer_frame()
    return with_gaps(X), y


def cancer_true_false():
    X, y = cancer_frame()
    return X, y == 1


def cancer_floats():
    X, y = cancer()
    return X, y.astype(float)


def diabetes():
    return shuffled(*datasets.load_diabetes(return_X_y=True))


def diabetes_raw():
    """With the units that they were measured in: years, and one or two decimals."""
    return shuffled(*datasets.load_diabetes(return_X_y=True, as_frame=True, scaled=False))


def diabetes_gaps():
    X, y = diabetes_raw()
    return with_gaps(X), y


def diabetes_two():
    X, y = diabetes()
    return X, np.column_stack([y, np.sqrt(y)])


def digits():
    X, y = shuffled(*datasets.load_digits(return_X_y=True))
    return X[:1_000], y[:1_000]


def body():
    X, y = datasets.load_linnerud(return_X_y=True)
    return shuffled(np.tile(X, (5, 1)) + np.arange(100)[:, None] % 7 / 10, np.tile(y, (5, 1)))


@cache
def _penguins() -> pd.DataFrame:
    from palmerpenguins import load_penguins

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_penguins().sample(frac=1, random_state=0).reset_index(drop=True)


def penguins():
    return apart(_penguins(), "species", ("year",))


def penguins_objects():
    """Words as Python objects, where a gap is None."""
    X, y = penguins()
    for name in ("island", "sex"):
        words = X[name].astype(object)
        X[name] = words.where(words.notna(), None)
    return X, y


def penguin_categories():
    X, y = penguins()
    return X.astype({"island": "category", "sex": "category"}), y


def penguin_mass():
    return apart(_penguins(), "body_mass_g")


def penguin_mass_categories():
    X, y = penguin_mass()
    return X.astype(dict.fromkeys(("species", "island", "sex", "year"), "category")), y


def penguin_nullable():
    """Nullable dtypes, with pandas' own missing value."""
    X, y = penguins()
    X["flipper_length_mm"] = X["flipper_length_mm"].astype("Int64")
    X["body_mass_g"] = X["body_mass_g"].astype("Float64")
    X["long"] = (X["bill_length_mm"] > 44).astype("boolean")
    return X, y


def penguin_arrow():
    X, y = penguins()
    return X.convert_dtypes(dtype_backend="pyarrow"), y


def tips():
    return apart(of_plotly("tips"), "tip")


def tips_smoker():
    return apart(of_plotly("tips"), "smoker")


def tips_dummies():
    """Columns of booleans."""
    X, y = tips()
    return pd.get_dummies(X), y > np.median(y)


def tips_categories():
    X, y = tips()
    return X.astype(dict.fromkeys(("sex", "smoker", "day", "time", "size"), "category")), y > 3


def gapminder():
    return apart(of_plotly("gapminder"), "lifeExp", ("iso_alpha", "iso_num"))


def continents():
    X, y = apart(of_plotly("gapminder"), "continent", ("country", "iso_alpha", "iso_num"))
    return X, y


def carshare():
    return apart(of_plotly("carshare"), "car_hours")


def stocks():
    """With a column of dates."""
    frame = of_plotly("stocks")
    return apart(frame.assign(date=pd.to_datetime(frame["date"])), "GOOG")


def med_expenses():
    return apart(table("Ecdat/MedExp"), "med")


def med_categories():
    X, y = med_expenses()
    return X.astype(dict.fromkeys(("idp", "physlim", "health", "sex"), "category")), y


def mroz():
    return apart(table("Ecdat/Mroz"), "work", ("hoursw", "wagew", "hearnw"))


def mroz_income():
    return apart(table("Ecdat/Mroz"), "income")


def males():
    return apart(table("Ecdat/Males"), "wage", ("nr",))


def males_union():
    return apart(table("Ecdat/Males"), "union", ("nr",))


def males_categories():
    X, y = males_union()
    words = X.select_dtypes(exclude="number").columns
    return X.astype(dict.fromkeys([*words, "year"], "category")), y == "yes"


def diamonds():
    return apart(table("ggplot2/diamonds"), "price")


def diamond_cut():
    return apart(table("ggplot2/diamonds"), "cut")


def mpg():
    return apart(table("ggplot2/mpg"), "hwy")


def mpg_class():
    return apart(table("ggplot2/mpg"), "class", ("model",))


def survey():
    return apart(table("MASS/survey"), "Smoke")


def survey_sex():
    return apart(table("MASS/survey"), "Sex")


def cars():
    return apart(table("MASS/Cars93"), "Price", ("Min.Price", "Max.Price", "Make", "Model"))


def loans():
    X, y = apart(table("Ecdat/Hdma"), "deny")
    return X, y == "yes"


def liver():
    return apart(table("survival/pbc"), "status", ("id",))


def chile():
    return apart(table("car/Chile"), "vote")


def incomes():
    return apart(table("car/SLID"), "wages")


def salaries():
    return apart(table("car/Salaries"), "salary")


def computers():
    return apart(table("Ecdat/Computers"), "price")


def housing():
    return apart(table("Ecdat/Housing"), "price")


def baseball():
    return apart(table("vcd/Baseball"), "sal87", ("name1", "name2"))


def matches():
    """Dates as timestamps, and two words with many values."""
    frame = table("vcd/Bundesliga").dropna()
    frame = frame.assign(Date=pd.to_datetime(frame["Date"]), home=frame.HomeGoals > frame.AwayGoals)
    return apart(frame, "home", ("HomeGoals", "AwayGoals"))


def economy():
    frame = table("ggplot2/economics")
    return apart(frame.assign(date=pd.to_datetime(frame["date"])), "unemploy")


def companies():
    return apart(table("HSAUR/Forbes2000"), "marketvalue", ("rank", "name"))


def doctors():
    return apart(table("COUNT/rwm1984"), "docvis")


def biopsy():
    return apart(table("MASS/biopsy"), "class", ("ID",))


def pima():
    return apart(table("MASS/Pima.tr2"), "type")


def titanic():
    return apart(table("COUNT/titanic"), "survived")


@cache
def docstrings():
    """Paragraphs of numpy's docstrings, and whether they are about an array."""
    found = [(getattr(np, name).__doc__ or "")[:400] for name in dir(np)]
    texts = [text for text in found if len(text) > 50][:400]
    return shuffled(texts, [int("array" in text) for text in texts])


@cache
def titles():
    """Titles of films, many with accents, and whether they are comedies."""
    frame = table("ggplot2/movies")
    return frame["title"].astype(str).tolist(), frame["Comedy"].to_numpy()


def titled():
    """A title beside numbers, of which some are missing."""
    frame = table("ggplot2/movies")
    columns = ["title", "year", "length", "budget", "votes", "mpaa"]
    return frame[columns], frame["rating"].to_numpy()
