"""Optimizers and schedules by name, for the command line; in code, any Optax transformation will do."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import optax

from jaxnets.data import Spec
from jaxnets.errors import FINITE, InputError, check_field, is_traced
from jaxnets.learner import Learner
from jaxnets.network import PyTree
from jaxnets.options.conditions import only
from jaxnets.options.training import TrainingConfig
from jaxnets.parameters import by_pattern, layer_numbers, path_name
from jaxnets.training.duration import Duration
from jaxnets.transforms import accumulated, averaged, frozen, unfrozen

RANGE_TEST_SPAN = 1e6  # highest over lowest learning rate of a range test


@dataclass(frozen=True)
class OptimizerConfig:
    """Which optimizer, at which learning rate, and what is done to its gradients and updates."""

    optimizer: Literal["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "muon"] = "adamw"
    """the update rule; batch, mini-batch and stochastic descent are --batch-size N, n and 1"""
    learning_rate: float = 1e-3
    """the step size, at its highest"""
    schedule: Literal["constant", "cosine", "one-cycle", "range-test"] = "cosine"
    """how the learning rate moves: constant, cosine down to 0, one-cycle (up, then down), or range-test (up)"""
    warmup: int = only(0, schedule=("constant", "cosine"))
    """steps in which the learning rate rises, the first of them 1 / warmup of the highest (constant and cosine)"""
    momentum: float = only(0.9, optimizer=("momentum", "nesterov", "adam", "adamw", "muon"))
    """momentum of momentum, nesterov and muon; the first moment's decay (beta 1) of adam and adamw"""
    adam_rate: float | None = only(None, optimizer=("muon",))
    """muon: the rate of adam beside it, for embeddings (without decay), biases and norms; absent, the one rate"""
    weight_decay: float = 0.0
    """decay of weights; biases and normalisation are left alone; decoupled for adamw and muon, else an L2 gradient"""
    clip_norm: float | None = None
    """scale gradients down to this global norm where they exceed it"""
    accumulate: int = 1
    """parts that a batch is cut into, one after another, to save memory; gradients are averaged, and batch statistics
    are those of a part"""
    average: float = 0.0
    """decay of a moving average (EMA) of the weights, which evaluation and prediction then use; 0 is none"""

    freeze: tuple[str, ...] = ()
    """parameters that do not learn, as patterns of their names: "encoder/**" is all of the encoder"""
    rates: tuple[str, ...] = ()
    """learning rates of parameters by patterns of their names: "head/**=1e-3" "encoder/**=1e-5"; the first that fits"""
    layer_decay: float | None = None
    """factor of the learning rate from each numbered layer to the one before it; what comes before them has one more"""
    unfreeze_every: str | None = None
    """gradual unfreezing: the output layer learns first, and each numbered layer so much later than the one behind it:
    100 (steps) or 1ep"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        self.rate_patterns  # noqa: B018  (checks the form)
        if self.unfreeze_every is not None:
            self._unfreezing(1, 1)  # checks the form
        check_field(self, "layer_decay", self.layer_decay is None or 0 < self.layer_decay < 1, "in (0, 1)")
        check_field(self, "learning_rate", 0 < self.learning_rate < FINITE, "a number greater than 0")
        given = self.adam_rate
        check_field(self, "adam_rate", given is None or 0 < given < FINITE, "a number greater than 0")
        if given is not None and self.optimizer != "muon":
            raise InputError(
                f"adam_rate={given} is beside muon; {self.optimizer} has its --learning-rate alone: --adam-rate None"
            )
        check_field(self, "warmup", self.warmup >= 0, "0 or more")
        check_field(self, "momentum", 0 <= self.momentum < 1, "in [0, 1)")
        check_field(self, "weight_decay", 0 <= self.weight_decay < FINITE, "0 or more")
        check_field(self, "clip_norm", self.clip_norm is None or 0 < self.clip_norm < FINITE, "a number greater than 0")
        check_field(self, "accumulate", self.accumulate >= 1, "1 or more")
        check_field(self, "average", 0 <= self.average < 1, "in [0, 1), such as 0.999")

    @property
    def rate_patterns(self) -> dict[str, float]:
        """The learning rates by pattern.

        Raises:
            InputError: if one has another form, or is no number greater than 0.
        """
        found = {}
        for text in self.rates:
            pattern, _, rate = text.rpartition("=")
            if pattern in found:
                raise InputError(f"rates: {pattern!r} has two rates; leave one out")
            try:
                found[pattern] = float(rate)
            except ValueError:
                found[pattern] = math.nan
            if not pattern or not 0 < found[pattern] < FINITE:
                raise InputError(f"rates: {text!r} is not PATTERN=RATE, such as 'head/**=1e-3'")
        return found

    def _unfreezing(self, num_examples: int, batch_size: int) -> int:
        """Return the steps between two layers' beginnings."""
        every = Duration.parse(self.unfreeze_every or "", "unfreeze_every").steps(num_examples, batch_size)
        if every is None:
            raise InputError(f"unfreeze_every={self.unfreeze_every!r} must be in steps or epochs, such as 100 or 1ep")
        return every

    def unfreezing(self, learner: Learner, training: TrainingConfig, num_examples: int) -> Learner:
        """Return the learner whose layers begin to learn one after another, if asked for.

        Raises:
            InputError: if the first layers would never begin.
        """
        if self.unfreeze_every is None:
            return learner
        every, num_steps = self._unfreezing(num_examples, training.batch_size), training.num_steps(num_examples)
        numbers, end = layer_numbers(jax.eval_shape(lambda: learner.init(jax.random.key(0))).params)
        last = end - min(jax.tree.leaves(numbers))  # layers that begin before the first one does
        if num_steps is not None and last * every >= num_steps:
            raise InputError(
                f"unfreeze_every={self.unfreeze_every!r}: what comes first would begin to learn at step "
                f"{last * every:,}, and the run has {num_steps:,}; use {max(1, (num_steps - 1) // last)} or less, or "
                "train longer"
            )
        return unfrozen(learner, every)

    def around(self, learner: Learner) -> Learner:
        """Return the learner with frozen parameters, gradients in parts and averaged weights, if asked for."""
        if self.freeze:
            learner = frozen(learner, self.freeze)
        if self.accumulate > 1:
            learner = accumulated(learner, self.accumulate)
        return averaged(learner, self.average) if self.average else learner


def optimizer_for(config: Any, spec: Spec) -> optax.GradientTransformation:
    """Return the optimizer of a recipe's config (``optimizer`` and ``training``), for data like those of ``spec``."""
    return make_optimizer(config.optimizer, config.training.num_steps(spec.num_examples))


def make_schedule(config: OptimizerConfig, num_steps: int | None) -> optax.Schedule:
    """Return the learning rate (muon's, of two) as a function of the step.

    Args:
        config: names the schedule.
        num_steps: length of the run; None where it is not known (a duration in time).

    Raises:
        InputError: if the schedule needs the length and it is not known, or the warm-up is longer than the run.
    """
    peak = config.learning_rate
    if num_steps is None:
        if config.schedule != "constant":
            raise InputError(
                f"schedule={config.schedule!r} needs the number of steps, which a duration in time does not give; "
                "give the duration in steps or epochs, or use --schedule constant"
            )
    elif config.warmup and config.schedule in ("one-cycle", "range-test"):
        raise InputError(f"warmup={config.warmup} is for constant and cosine; {config.schedule} has its own rise")
    elif config.warmup >= num_steps:
        raise InputError(
            f"warmup={config.warmup} is not shorter than the run of {num_steps} steps; use a smaller --warmup"
        )
    match config.schedule:
        case "one-cycle":
            return optax.cosine_onecycle_schedule(num_steps or 1, peak)
        case "range-test":
            return optax.exponential_decay(peak / RANGE_TEST_SPAN, num_steps or 1, RANGE_TEST_SPAN)
        case "cosine":
            after = optax.cosine_decay_schedule(peak, (num_steps or 1) - config.warmup)
        case "constant":
            after = optax.constant_schedule(peak)
    if not config.warmup:
        return after

    def rise(step: Any) -> Any:
        return peak * (step + 1) / config.warmup

    return optax.join_schedules([rise, after], [config.warmup])


def make_optimizer(config: OptimizerConfig, num_steps: int | None) -> optax.GradientTransformation:
    """Return the Optax transformation that ``config`` names, for a run of ``num_steps``."""
    rate = make_schedule(config, num_steps)
    decay = config.weight_decay
    rules = {
        "sgd": lambda: optax.sgd(rate),
        "momentum": lambda: optax.sgd(rate, config.momentum),
        "nesterov": lambda: optax.sgd(rate, config.momentum, nesterov=True),
        "adagrad": lambda: optax.adagrad(rate),
        "rmsprop": lambda: optax.rmsprop(rate, eps_in_sqrt=False),  # as in the lecture, and in PyTorch
        "adam": lambda: optax.adam(rate, config.momentum),
        "adamw": lambda: optax.adamw(rate, config.momentum, weight_decay=decay, mask=decayed),
        "muon": lambda: _muon(config, rate),
    }
    parts: list[optax.GradientTransformation] = [rules[config.optimizer]()]
    if (is_traced(decay) or decay) and config.optimizer not in ("adamw", "muon"):
        parts.insert(0, optax.add_decayed_weights(decay, mask=decayed))
    if config.clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if config.rates or config.layer_decay is not None:
        parts.append(_scaled(config))
    return optax.chain(*parts)


def _scaled(config: OptimizerConfig) -> optax.GradientTransformation:
    """Return what gives parameters rates of their own: a rule's update is in proportion to its learning rate."""

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        rates = by_pattern(updates, config.rate_patterns, config.learning_rate)
        factors = jax.tree.map(lambda rate: rate / config.learning_rate, rates)
        if config.layer_decay is not None:
            decay, (numbers, count) = config.layer_decay, layer_numbers(updates)
            factors = jax.tree.map(lambda factor, number: factor * decay ** (count - number), factors, numbers)
        return jax.tree.map(lambda leaf, factor: leaf * factor, updates, factors), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _muon(config: OptimizerConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    """Return Muon for matrices and Adam for the rest, to which embeddings belong if Adam has a rate of its own.

    An embedding's rows are looked up one by one, and most get no gradient in a step: it is no matrix that maps vectors.
    """
    options: dict[str, Any] = {"weight_decay": config.weight_decay, "weight_decay_mask": decayed}
    if (own := config.adam_rate) is not None:
        options["adam_learning_rate"] = lambda step: rate(step) * (own / config.learning_rate)
        options["muon_weight_dimension_numbers"] = _mapping
    return optax.contrib.muon(rate, beta=config.momentum, adam_b1=config.momentum, **options)


def _mapping(params: PyTree) -> PyTree:
    """Return, in Optax' words for Muon, which leaves are matrices that map vectors, not lists of them by number."""

    def matrix(path: tuple[Any, ...], leaf: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        listed = bool(path) and getattr(path[-1], "key", None) in ("embedding", "position_embedding")
        return None if leaf.ndim != 2 or listed else optax.contrib.MuonDimensionNumbers()

    return jax.tree_util.tree_map_with_path(matrix, params)


def decayed(params: PyTree) -> PyTree:
    """Return which leaves weight decay acts on: matrices and kernels, not biases or scales.

    These have one axis or none, or, as the biases of some attention layers, more, but are named so.
    """

    def acts(path: tuple[Any, ...], leaf: jax.Array) -> bool:
        return leaf.ndim > 1 and path_name(path).rsplit("/", 1)[-1] not in ("bias", "scale")

    return jax.tree_util.tree_map_with_path(acts, params)
