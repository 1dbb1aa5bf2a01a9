"""Two diagnoses by nested folds: a network beside logistic regression and boosting, with what a clinician reads.

    python -m benchmarks.diagnosis breast-cancer
    python -m benchmarks.diagnosis alzheimer         # needs tabular/alzheimer.csv in JAXNETS_DATA

Each outer fold is predicted by models whose options were chosen by inner folds of the others.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from jaxnets.data import find_path, read_columns
from jaxnets.inference import clinical
from jaxnets.inference.clinical import Decisions
from jaxnets.sklearn import Classifier

SPECIFICITY = 0.9


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Return 569 tumours, [569, 30], and which are malignant."""
    cancer: Any = load_breast_cancer()
    return cancer.data, cancer.target == 0


def alzheimer() -> tuple[np.ndarray, np.ndarray]:
    """Return 333 patients, [333, 135], and which are impaired; the genotype as one column a kind."""
    path = find_path("tabular/alzheimer.csv")
    if path is None:
        raise SystemExit("tabular/alzheimer.csv is not here; set JAXNETS_DATA to a folder that has it")
    table = read_columns(Path(path), "Class")
    numbers = [column for column in table.features.values() if column.dtype.kind == "f"]
    kinds = [column for column in table.features.values() if column.dtype.kind != "f"]
    encoded = [OneHotEncoder(sparse_output=False).fit_transform(column[:, None]) for column in kinds]
    return np.column_stack([*numbers, *encoded]), table.labels == "Impaired"


DATA: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {"breast-cancer": breast_cancer, "alzheimer": alzheimer}
MODELS: dict[str, tuple[Any, dict[str, list[Any]]]] = {
    "logistic regression": (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)),
        {"logisticregression__C": [1e-3, 1e-2, 1e-1, 1.0]},
    ),
    "boosting": (
        HistGradientBoostingClassifier(random_state=0),
        {"learning_rate": [0.03, 0.1], "max_iter": [100, 300]},
    ),
    "network": (
        Classifier((64,), dropout=0.3, max_iter=60, learning_rate=3e-3, random_state=0),
        {"weight_decay": [0.1, 1.0, 10.0]},
    ),
}


def measured(found: Decisions) -> dict[str, np.ndarray]:
    """Return what is reported with intervals."""
    rates = clinical.rates(found, 0.5)
    return {
        "accuracy": rates.accuracy,
        "AUC": clinical.auroc(found),
        f"sensitivity at specificity {SPECIFICITY:g}": clinical.sensitivity_at(found, SPECIFICITY),
    }


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS])
    arguments = parser.parse_args()
    inputs, positive = DATA[arguments.data]()
    outer, inner = (StratifiedKFold(n, shuffle=True, random_state=seed) for n, seed in ((arguments.folds, 0), (5, 1)))
    for name in arguments.models:
        model, grid = MODELS[name]
        start = time.monotonic()
        search = GridSearchCV(model, grid, scoring="neg_log_loss", cv=inner)
        both: Any = cross_val_predict(search, inputs, positive, cv=outer, method="predict_proba")
        scores = both[:, 1]
        said = clinical.bootstrap(scores, positive, measured)
        each = [f"{what} {one.value:.3f} ({one.low:.3f}-{one.high:.3f})" for what, one in said.items()]
        error = clinical.calibration(scores, positive)
        seconds = time.monotonic() - start
        print(f"{name}: {', '.join(each)}, ECE {error.error:.3f}, Brier {error.brier:.4f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
