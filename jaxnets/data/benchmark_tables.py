"""Named tables: the census, applicants for credit, and two that come with scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.fetching import Remote, located, places
from jaxnets.data.formats import read_text
from jaxnets.data.tables import Table, read_columns
from jaxnets.errors import InputError

_UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases"
ADULT = {
    "adult.data": Remote(
        f"{_UCI}/adult/adult.data", "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d"
    ),
    "adult.test": Remote(
        f"{_UCI}/adult/adult.test", "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05"
    ),
}
_COPIES = ("adult-train.csv", "adult-test.csv")  # the same files under other names
_NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
_COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)
CREDIT = {
    "credit.csv": Remote(
        "https://raw.githubusercontent.com/vincentarelbundock/Rdatasets/1c97ab8a1df2469762e635481ba27cf4e80e3e51/csv/"
        "modeldata/credit_data.csv",
        "acd2b41f7923a4b7e2264e6b9ae2eff8f3e8f9ba3080fb6967df1cfec9568cac",
    )
}


def adult(data_dir: Path | None = None) -> Table:
    """Return the census of 1994 (Kohavi, 1996): who earns more than 50,000 dollars, 32,561 for training, 16,281 more.

    Raises:
        InputError: if the files are not there and cannot be fetched, or a line of them is broken.
    """
    copies = [[place / name for name in _COPIES] for place in places("adult", data_dir)]
    paths = next((pair for pair in copies if all(path.is_file() for path in pair)), None)
    parts = [_rows(path) for path in paths or located("adult", ADULT, data_dir).values()]
    rows = np.array([*parts[0], *parts[1]])
    rows = np.where(rows == "?", "", rows)
    columns = dict(zip(_COLUMNS, rows.T, strict=True))
    labels = np.array([label.removesuffix(".") for label in columns.pop("income")])  # as the test file has them
    features = {name: column.astype(np.float64) if name in _NUMBERS else column for name, column in columns.items()}
    return Table(features, "income", labels, np.arange(len(rows)) >= len(parts[0]))


def _rows(path: Path) -> list[list[str]]:
    rows = [[field.strip() for field in line.split(",")] for line in read_text(path).splitlines() if "," in line]
    for number, row in enumerate(rows, start=1):
        numeric = len(row) == len(_COLUMNS) and all(row[_COLUMNS.index(name)].isdecimal() for name in _NUMBERS)
        if not numeric or row[-1].removesuffix(".") not in ("<=50K", ">50K"):
            raise InputError(f"{path}: example {number} is no row of the census: {','.join(row)[:80]!r}; fetch it anew")
    return rows


def credit(data_dir: Path | None = None) -> Table:
    """Return 4,454 applicants for credit, "good" or "bad", by 13 features, some of them missing (R's modeldata)."""
    return read_columns(*located("tabular", CREDIT, data_dir).values(), label="Status", without=["rownames"])


def breast_cancer() -> Table:
    """Return scikit-learn's 569 tumours, malignant or benign, by 30 measurements."""
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415  (slow to import)

    found: Any = load_breast_cancer()
    features = dict(zip(map(str, found.feature_names), found.data.T, strict=True))
    return Table(features, "diagnosis", np.array(["malignant", "benign"])[found.target])


def diabetes() -> Table:
    """Return scikit-learn's 442 diabetics: how far the disease had come a year later, by ten measurements."""
    from sklearn.datasets import load_diabetes  # noqa: PLC0415  (slow to import)

    found: Any = load_diabetes(scaled=False)
    return Table(dict(zip(found.feature_names, found.data.T, strict=True)), "progression", found.target)
