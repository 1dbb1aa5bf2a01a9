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
MODELS: dict[str, tuple[Any, Any]] = {
    "logistic regression": (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)),
        {"logisticregression__C": [1e-3, 1e-2, 1e-1, 1.0]},
    ),
    "boosting": (
        HistGradientBoostingClassifier(random_state=0),
        {"learning_rate": [0.03, 0.1], "max_iter": [100, 300]},
    ),
    "network": (
        Classifier(max_iter=100, random_state=0),
        [
            {"hidden_layer_sizes": [(128,)], "dropout": [0.5], "weight_decay": [0.3, 1.0, 3.0, 10.0]},
            {"hidden_layer_sizes": [()], "weight_decay": [0.3, 1.0, 3.0, 10.0]},
        ],
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
    parser.add_argument("--repeats", type=int, default=1, help="times that all is done, each with other folds")
    arguments = parser.parse_args()
    inputs, positive = DATA[arguments.data]()
    for name in arguments.models:
        found = [diagnosed(name, inputs, positive, arguments.folds, seed) for seed in range(arguments.repeats)]
        if len(found) > 1:
            values = {what: [one[what] for one in found] for what in found[0]}
            each = [f"{what} {np.mean(of):.4f} ± {np.std(of, ddof=1):.4f}" for what, of in values.items()]
            print(f"{name}, {len(found)} draws of the folds: {', '.join(each)}", flush=True)


def diagnosed(name: str, inputs: np.ndarray, positive: np.ndarray, folds: int, seed: int) -> dict[str, float]:
    """Print what a model reaches by nested folds, drawn by ``seed``, with intervals, and return it."""
    model, grid = MODELS[name]
    start = time.monotonic()
    outer, inner = (StratifiedKFold(n, shuffle=True, random_state=drawn) for n, drawn in ((folds, seed), (5, seed + 1)))
    search = GridSearchCV(model, grid, scoring="neg_log_loss", cv=inner)
    both: Any = cross_val_predict(search, inputs, positive, cv=outer, method="predict_proba")
    scores = both[:, 1]
    said = clinical.bootstrap(scores, positive, measured)
    each = [f"{what} {one.value:.3f} ({one.low:.3f}-{one.high:.3f})" for what, one in said.items()]
    error = clinical.calibration(scores, positive)
    seconds = time.monotonic() - start
    print(f"{name}: {', '.join(each)}, ECE {error.error:.3f}, Brier {error.brier:.4f}, {seconds:.0f} s", flush=True)
    return {what: float(one.value) for what, one in said.items()} | {"ECE": error.error, "Brier": error.brier}


if __name__ == "__main__":
    main()
