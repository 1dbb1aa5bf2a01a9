"""Estimators as scikit-learn has them: networks in its pipelines, searches and cross-validation.

Inputs are standardised: each feature (the last axis) by the mean and the standard deviation of the rows that ``fit``
was given, each row with its weight. So are a regressor's targets; predictions are in the units of the targets.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from jaxnets import losses
from jaxnets.data import Data
from jaxnets.data.orders import Shuffle
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Batch, Learner, Sums, TrainState
from jaxnets.learners.supervised import supervised
from jaxnets.losses import Loss
from jaxnets.metrics import compute, values_of
from jaxnets.models import MLP
from jaxnets.network import Key, Network, network
from jaxnets.options.optimizer import decayed
from jaxnets.training.chunk import chunk, no_metrics, run_keys
from jaxnets.training.compiling import jit, use_compile_cache
from jaxnets.training.evaluation import evaluate, predict

MakeNetwork = Callable[[tuple[int, ...], int], Network]  # of the shape of one example and the number of outputs
_PREDICTED = 128  # rows predicted at a time, padded to that: one program, and a row's bits do not depend on the others
_COUNTS = ("max_iter", "batch_size", "n_iter_no_change")
_RANGES: Any = (
    *((name, Integral, lambda value: value >= 1, "a whole number of 1 or more") for name in _COUNTS),
    ("dropout", Real, lambda value: 0 <= value < 1, "a number in [0, 1), such as 0.2"),
    ("learning_rate", Real, lambda value: 0 < value < math.inf, "a number greater than 0, such as 1e-3"),
    ("weight_decay", Real, lambda value: 0 <= value < math.inf, "a number of 0 or more, such as 0.1"),
    ("validation_fraction", Real, lambda value: 0 < value < 1, "a number in (0, 1), such as 0.1"),
)


class _Estimator(BaseEstimator):
    """A network that is trained by AdamW, its learning rate falling along a cosine.

    Args:
        hidden_layer_sizes: widths of the hidden layers of an MLP, or one width.
        dropout: probability that a hidden unit of the MLP is dropped in training.
        network: ``network(shape, num_outputs) -> Network``, a model in place of the MLP; ``shape`` is that of one
            example. Use a function of a module, not a lambda, where the estimator is pickled.
        standardize: standardise the inputs. If not, they reach the network as they are, whole numbers (such as tokens)
            as whole numbers.
        max_iter: epochs, at most.
        batch_size: rows of a step; all rows where there are fewer.
        learning_rate: of the first step.
        weight_decay: decoupled decay of the weights, in proportion to the learning rate; biases do not decay.
        early_stopping: hold rows out, stop when their loss no longer falls, and keep the best weights.
        validation_fraction: the part of the rows held out for early stopping.
        n_iter_no_change: epochs without improvement after which early stopping stops.
        random_state: a seed, a ``RandomState``, or None for NumPy's own; the same seed gives the same bits.
        verbose: print the loss of every epoch.

    Attributes:
        n_features_in_, feature_names_in_: columns of the inputs, and of a data frame their names.
        n_iter_: epochs taken.
        loss_curve_: mean loss of each epoch, by weight; a regressor's, in units of the targets' variance.
        validation_loss_curve_: the same of the rows held out; only with early stopping.
        params_, model_state_: the network's weights and other state, nested dicts of NumPy arrays.
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        *,
        dropout: float = 0.0,
        network: MakeNetwork | None = None,
        standardize: bool = True,
        max_iter: int = 100,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.3,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.dropout = dropout
        self.network = network
        self.standardize = standardize
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.verbose = verbose

    def _validated(self, x: Any, y: Any, sample_weight: Any, **options: Any) -> tuple[np.ndarray, ...]:
        """Return inputs, targets and weights of the rows that count; the weights' mean is 1."""
        self._check()
        x, y = validate_data(self, x, y, allow_nd=True, **options)
        weights = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        if not weights.any():  # newer versions of scikit-learn have refused them above
            raise InputError(f"sample_weight is zero for all {len(x)} rows; give some rows more")
        kept = weights > 0
        return x[kept], y[kept], weights[kept] / weights[kept].mean()

    def _train(self, inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray, num: int, loss: Loss) -> Self:
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        sizes = self.hidden_layer_sizes
        hidden = tuple(map(int, sizes)) if np.iterable(sizes) else (int(sizes),)
        self._model = self.network, hidden, self.dropout, inputs.shape[1:], num, loss
        self._moments = _moments(inputs, weights) if self.standardize else None
        train, held_out = Data(inputs=self._scaled(inputs), labels=labels, weights=weights), None
        if self.early_stopping:
            train, held_out = train.split(self.validation_fraction, seed)
        use_compile_cache()
        program = _program(*self._model)
        program.learner.check(train)
        self.loss_curve_, validation, best = [], [], None
        for state, value in _epochs(program, train, self, seed):
            best = state if held_out is None else best
            self.loss_curve_.append(value)
            waited = 0
            if held_out is not None:
                validation.append(float(evaluate(program.learner, state, held_out)["loss"]))
                waited = len(validation) - 1 - int(np.argmin(validation))
                best = best if waited else jax.tree.map(np.array, state)  # the next epoch takes the device's memory
                self.validation_loss_curve_ = validation
            if self.verbose:
                beside = f"  validation loss {validation[-1]:.4f}" if validation else ""
                print(f"epoch {len(self.loss_curve_)}/{self.max_iter}  train loss {value:.4f}{beside}")
            if waited == self.n_iter_no_change:
                break
        assert best is not None
        self.n_iter_ = len(self.loss_curve_)
        self.params_, self.model_state_ = jax.tree.map(np.array, (best.params, best.model_state))
        return self

    def _outputs(self, x: Any) -> np.ndarray:
        """Return the network's outputs, float64 [N, num_outputs]."""
        check_is_fitted(self)
        x = validate_data(self, x, reset=False, allow_nd=True)
        if x.shape[1:] != (shape := self._model[3]):
            raise InputError(f"X has rows of shape {x.shape[1:]}, but fit had {shape}; give rows of that shape")
        inputs = Data(inputs=self._scaled(x))["inputs"]
        padded = np.pad(inputs, [(0, -len(inputs) % _PREDICTED), *[(0, 0)] * (inputs.ndim - 1)])
        state = TrainState(jnp.int32(0), self.params_, (), self.model_state_)
        outputs = predict(_program(*self._model).learner, state, padded, batch_size=_PREDICTED)
        return outputs[: len(x)].astype(np.float64)

    def _scaled(self, inputs: np.ndarray) -> np.ndarray:
        return inputs if self._moments is None else self._moments.scaled(inputs)

    def _check(self) -> None:
        sizes = self.hidden_layer_sizes if np.iterable(self.hidden_layer_sizes) else [self.hidden_layer_sizes]
        good = all(isinstance(width, Integral) and int(width) >= 1 for width in sizes)
        check_field(self, "hidden_layer_sizes", good, "whole numbers of 1 or more, such as (128, 128)")
        for name, kind, inside, wanted in _RANGES:
            value = getattr(self, name)
            check_field(self, name, isinstance(value, kind) and inside(value), wanted)
        good = self.network is None or callable(self.network)
        check_field(self, "network", good, "a function (shape, num_outputs) -> jaxnets.Network, or None for an MLP")
        for name, usual in (("hidden_layer_sizes", (100,)), ("dropout", 0.0)):
            good = self.network is None or np.array_equal(getattr(self, name), usual)
            check_field(self, name, good, f"left out, for a network of one's own is given ({usual} is the default)")


class Classifier(ClassifierMixin, _Estimator):
    """A classifier; its classes may be of any kind that can be sorted."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803  (scikit-learn's name)
        """Train anew, and return the estimator.

        Args:
            X: inputs, [N, features], or [N, ...] for a network that takes them.
            y: the class of each row, [N].
            sample_weight: how much each row counts, [N], 0 or more; only ratios matter. A row of weight 0 is left out.
        """
        inputs, y, weights = self._validated(X, y, sample_weight)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        return self._train(inputs, labels, weights, len(self.classes_), losses.softmax_cross_entropy)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the likeliest class of each row, [N]."""
        best = self._outputs(X).argmax(1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probability of each class, [N, classes], in the order of ``classes_``."""
        return softmax(self._outputs(X), axis=1)


class Regressor(RegressorMixin, _Estimator):
    """A regressor of one target or several, that minimises the squared error."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train anew, and return the estimator; as in ``Classifier``, but for targets ``y``, [N] or [N, targets]."""
        inputs, y, weights = self._validated(X, y, sample_weight, multi_output=True, y_numeric=True)
        self._single, targets = y.ndim == 1, y.reshape(len(y), -1)
        self._targets = _moments(targets, weights)
        return self._train(inputs, self._targets.scaled(targets), weights, targets.shape[1], losses.mse)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the targets of each row, in the shape that ``fit`` had them in."""
        outputs = self._outputs(X) * self._targets.std + self._targets.mean
        return outputs[:, 0] if self._single else outputs

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: there may be several targets."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


for _kind in (Classifier, Regressor):
    _kind.__doc__ = f"{_kind.__doc__}\n\n    {_Estimator.__doc__}"


class _Moments(NamedTuple):
    mean: np.ndarray  # of each feature, float64
    std: np.ndarray  # 1 for a feature that never varies

    def scaled(self, array: np.ndarray) -> np.ndarray:
        return (array - self.mean) / self.std


def _moments(array: np.ndarray, weights: np.ndarray) -> _Moments:
    """Return the weighted moments of each feature, the last axis."""
    flat = array.reshape(-1, array.shape[-1]).astype(np.float64)
    weights = weights.repeat(len(flat) // len(weights))
    mean = np.average(flat, axis=0, weights=weights)
    std = np.sqrt(np.average(np.square(flat - mean), axis=0, weights=weights))
    return _Moments(mean, np.where(std > 10 * np.finfo(float).eps * np.abs(mean), std, 1.0))


class _Program(NamedTuple):
    learner: Learner
    init: Any  # init(key) -> state; both are compiled
    epoch: Any  # epoch(state, columns, rows, num, key) -> (state, sums)


@lru_cache(maxsize=32)
def _program(
    make: MakeNetwork | None, hidden: tuple[int, ...], dropout: float, shape: tuple[int, ...], num: int, loss: Loss
) -> _Program:
    """Return a learner whose rate, decay and length stand in its state, so that a search over them compiles once."""
    made = make(shape, num) if make else network(MLP, math.prod(shape), hidden, num, dropout=dropout)
    if not isinstance(made, Network):
        raise InputError(f"network={make!r} returned {type(made).__name__}; return jaxnets.network(Module, ...)")
    tx = optax.inject_hyperparams(_adamw)(learning_rate=1e-3, weight_decay=0.0, num_steps=1.0)
    steps = chunk(learner := supervised(made, loss, tx))

    def epoch(state: TrainState, columns: Batch, rows: jax.Array, num: Any, key: Key) -> tuple[TrainState, Sums]:
        return steps(state, no_metrics(learner, state, columns, rows, key), columns, rows, 0, num, key)

    return _Program(learner, jit(learner.init), jit(epoch, donate_argnums=(0,)))


def _adamw(learning_rate: Any, weight_decay: Any, num_steps: Any) -> optax.GradientTransformation:
    def cosine(step: Any) -> Any:
        return learning_rate * (1 + jnp.cos(jnp.pi * step / num_steps)) / 2

    return optax.adamw(cosine, weight_decay=weight_decay, mask=decayed)


def _epochs(program: _Program, train: Data, options: _Estimator, seed: int) -> Iterator[tuple[TrainState, float]]:
    """Train, and yield the state and the mean loss after each epoch; the state is valid until the next."""
    batch_size = min(int(options.batch_size), train.num_examples)
    num_steps = max(1, round(train.num_examples / batch_size))
    order = Shuffle(train.num_examples, batch_size, seed)
    init_key, key = run_keys(seed)
    state = program.init(init_key)
    rates = {"learning_rate": options.learning_rate, "weight_decay": options.weight_decay}
    rates = jax.tree.map(jnp.float32, rates | {"num_steps": num_steps * options.max_iter})
    state = state.replace(opt_state=state.opt_state._replace(hyperparams=rates))
    columns = jax.device_put({name: _padded(array) for name, array in train.items()})
    for epoch in range(options.max_iter):
        rows = _padded(order.rows(epoch * num_steps, num_steps))
        state, sums = program.epoch(state, columns, rows, np.int32(num_steps), key)
        loss = float(compute(program.learner.metrics, values_of(sums))["loss"])
        if not math.isfinite(loss):
            check_field(options, "learning_rate", False, f"lower: the loss of epoch {epoch + 1} is not finite")
        yield state, loss


def _padded(array: np.ndarray) -> np.ndarray:
    """Return the rows and, to one of few lengths, zeros that nobody reads: so data of like length share a program."""
    step = 1 << max(6, len(array).bit_length() - 3)
    return np.pad(array, [(0, -len(array) % step), *[(0, 0)] * (array.ndim - 1)])
