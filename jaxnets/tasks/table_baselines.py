"""What stands beside a network of a table: a linear model and gradient boosting, on the same rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxnets.data import Data, Encoder, Splits
from jaxnets.tasks.table_rows import features_of

LINEAR_CLASSES, LINEAR_VALUES, BOOSTING = "logistic_regression", "ridge", "boosting"
_MOST_CATEGORIES = 255  # of a column, which boosting takes as such
_BOOSTED: tuple[dict[str, Any], ...] = (
    {"learning_rate": 0.1, "max_iter": 100},
    {"learning_rate": 0.03, "max_iter": 300, "max_leaf_nodes": 8},
    {"learning_rate": 0.03, "max_iter": 600, "max_leaf_nodes": 16, "l2_regularization": 1.0},
)


def fitted_classes(encoder: Encoder, splits: Splits) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
    """Return what says the probabilities of classes, [N, C], for rows as the network takes them, by model.

    Each model's strength of regularisation is chosen on the validation rows, by log loss.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415  (slow to import)
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.metrics import log_loss  # noqa: PLC0415

    count = len(splits.train.classes)

    def probability(model: Any, rows: np.ndarray) -> np.ndarray:
        made = np.zeros((len(rows), count))
        made[:, model.classes_] = model.predict_proba(rows)
        return made

    def error(model: Any, rows: np.ndarray, data: Data) -> float:
        made = np.clip(probability(model, rows), 1e-15, 1)
        return float(log_loss(data["labels"], made, sample_weight=data.get("weights"), labels=np.arange(count)))

    linear = [LogisticRegression(C=c, max_iter=1000) for c in (0.01, 0.1, 1.0)]
    boosting = [HistGradientBoostingClassifier(**_boosted(encoder), **one, random_state=0) for one in _BOOSTED]
    chosen = {LINEAR_CLASSES: _chosen(_OneHot(encoder), linear, splits, error)}
    chosen[BOOSTING] = _chosen(_Columns(encoder), boosting, splits, error)
    return {
        name: lambda inputs, encode=encode, model=model: probability(model, encode(inputs))
        for name, (encode, model) in chosen.items()
    }


def fitted_values(
    encoder: Encoder, splits: Splits, quantiles: Sequence[float]
) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
    """Return what says the mean of values, and (boosting alone) quantiles, [N, 1 + Q], by model.

    Each model's strength of regularisation is chosen on the validation rows, by squared error.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415  (slow to import)
    from sklearn.linear_model import Ridge  # noqa: PLC0415

    def error(model: Any, rows: np.ndarray, data: Data) -> float:
        return float(np.average(np.square(model.predict(rows) - data["labels"]), weights=data.get("weights")))

    linear = [Ridge(alpha=alpha) for alpha in (1.0, 10.0, 100.0)]
    boosting = [HistGradientBoostingRegressor(**_boosted(encoder), **one, random_state=0) for one in _BOOSTED]
    one_hot, ridge = _chosen(_OneHot(encoder), linear, splits, error)
    encode, mean = _chosen(_Columns(encoder), boosting, splits, error)
    train, options = splits.train, {**_boosted(encoder), **_BOOSTED[0], "random_state": 0, "loss": "quantile"}
    each = [
        HistGradientBoostingRegressor(quantile=q, **options).fit(
            encode(train["inputs"]), train["labels"], train.get("weights")
        )
        for q in quantiles
    ]
    return {
        LINEAR_VALUES: lambda inputs: ridge.predict(one_hot(inputs))[:, None],
        BOOSTING: lambda inputs: np.stack([model.predict(encode(inputs)) for model in (mean, *each)], 1),
    }


Encode = Callable[[np.ndarray], np.ndarray]


def _chosen(
    encode: Encode, models: Sequence[Any], splits: Splits, error: Callable[[Any, np.ndarray, Data], float]
) -> tuple[Encode, Any]:
    """Return the model with the least error on the validation rows (the first where there are none), and its rows."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415  (slow to import)

    train, choose = splits.train, splits.validation
    rows = encode(train["inputs"])
    with threadpool_limits(1):  # threads that wait for each other take many times as long beside other work
        fits = [one.fit(rows, train["labels"], train.get("weights")) for one in models[: None if choose else 1]]
    if choose is None:
        return encode, fits[0]
    held = encode(choose["inputs"])
    return encode, min(fits, key=lambda model: error(model, held, choose))


def _boosted(encoder: Encoder) -> dict[str, Any]:
    """Return which columns boosting is to take as categories."""
    sizes = encoder.sizes[len(encoder.numbers) :]
    return {"categorical_features": [False] * len(encoder.numbers) + [size <= _MOST_CATEGORIES for size in sizes]}


class _Columns:
    """Numbers and codes beside each other, as boosting takes them."""

    def __init__(self, encoder: Encoder):
        self._encoder = encoder

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return np.column_stack([part.astype(np.float64) for part in features_of(self._encoder, inputs)])


class _OneHot:
    """Numbers, with a column that says whether one is missing, and one-hot categories, as a linear model takes them."""

    def __init__(self, encoder: Encoder):
        self._encoder = encoder

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        numbers, codes = features_of(self._encoder, inputs)
        count = len(self._encoder.numbers)
        parts = [np.nan_to_num(numbers)]
        parts += [np.isnan(numbers[:, [i]]) for i, one in enumerate(self._encoder.numbers) if one.missing]
        for i, size in enumerate(self._encoder.sizes[count:]):
            parts.append(np.eye(size)[codes[:, i]][:, 1:])  # one that was not seen says nothing
        return np.concatenate(parts, 1).astype(np.float64)
