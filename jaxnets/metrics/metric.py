"""What a metric is: sums over examples that lose nothing, and the numbers computed of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from jaxnets import losses
from jaxnets.errors import InputError, check_callable

PyTree = Any
Better = Literal["higher", "lower"] | None
Measure = Callable[[Any, jax.Array, jax.Array | None], PyTree]


class Mean(NamedTuple):
    """The sums of a mean: of the values, each times its weight, and of the weights."""

    total: Any
    count: Any


def divide(sums: Mean) -> Any:
    """Return the mean, or of sums [...] the means; NaN over no examples."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums.total, np.float64) / np.asarray(sums.count, np.float64)


class Metric(NamedTuple):
    """What is measured: sums that add up over batches, devices and hosts, and what is computed of them.

    Attributes:
        measure: ``measure(outputs, labels, weights) -> sums``, a pytree of arrays. ``weights``, of the labels' leading
            axes, say how much each counts: whole numbers or booleans which do (a mask), floats by how much; None: all.
        compute: ``compute(sums)``, on the host: a number, or several by name; NaN where nothing was measured.
        better: whether "higher" or "lower" values are better; None where neither is, as in a game of two players.
        in_training: measured in training steps as well, or in evaluation alone.
        check: ``check(outputs, labels)``, of shapes of outputs and every label, on the host, before anything compiles:
            raises an ``InputError`` for what cannot be measured.
    """

    measure: Measure
    compute: Callable[[Any], Any] = divide
    better: Better = None
    in_training: bool = True
    check: Callable[[Any, np.ndarray], None] = lambda outputs, labels: None


def per_example(function: Callable[[Any, jax.Array], jax.Array], better: Better = None) -> Metric:
    """Return the metric that is the mean of ``function(outputs, labels)``, values of the labels' leading axes."""
    check_callable("function", function, "give one of function(outputs, labels), such as jaxnets.losses.mse")
    if better not in ("higher", "lower", None):
        raise InputError(f"{better=} must be 'higher', 'lower' or None")

    def measure(outputs: Any, labels: jax.Array, weights: jax.Array | None) -> Mean:
        return mean_of(function(outputs, labels), weights)

    def check(outputs: Any, labels: np.ndarray) -> None:
        losses.check_values(function, outputs, labels)

    return Metric(measure, divide, better, check=check)


def mean_of(values: jax.Array, weights: jax.Array | None = None) -> Mean:
    """Return the sums of the mean of ``values`` over every axis, in float32.

    Args:
        values: [B, ...].
        weights: of the leading axes of ``values``: booleans or whole numbers (which count, those that are not 0), or
            floats (how much each counts); all count alike if absent. What has no weight may be anything, NaN too.
    """
    values = values.astype(jnp.float32)
    if weights is None:
        return Mean(values.sum(), jnp.asarray(values.size, jnp.int32))
    weights = spread_over(weights, values)
    total = jnp.where(weights != 0, values * weights.astype(jnp.float32), 0.0).sum()
    return Mean(total, weights.sum(dtype=jnp.int32 if weights.dtype == jnp.int32 else jnp.float32))


def spread_over(weights: jax.Array, values: jax.Array) -> jax.Array:
    """Return the weight of each value, of the values' shape: a mask as int32, 0 or 1, other weights as float32."""
    weights = jnp.asarray(weights)
    floating = jnp.issubdtype(weights.dtype, jnp.floating)
    weights = weights.astype(jnp.float32) if floating else weights.astype(bool).astype(jnp.int32)
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim)), values.shape)


def add_up(parts: Sequence[PyTree]) -> PyTree:
    """Return the sum of sums, each [K, ...] of K batches, on the host in int64 and float64."""

    def total(*leaves: Any) -> np.ndarray:
        every = np.concatenate(leaves)
        return every.astype(np.float64 if every.dtype.kind == "f" else np.int64).sum(0)

    return jax.tree.map(total, *parts)


def compute(
    metrics: Mapping[str, Metric], sums: Mapping[str, PyTree], prefix: str = "", axes: int = 0
) -> dict[str, Any]:
    """Return what is computed of sums, under ``prefix + name``.

    Args:
        metrics: by name; sums of other names are of a ``Mean``.
        sums: by the same names, on the host.
        prefix: of the names.
        axes: 1 for a population, whose members' values are arrays [members].
    """
    row: dict[str, Any] = {}
    for name, parts in sums.items():
        how = metrics[name].compute if name in metrics else divide
        if how is divide or not axes:
            found = how(parts)
        else:
            members = len(jax.tree.leaves(parts)[0])
            each = [how(jax.tree.map(lambda leaf, i=i: leaf[i], parts)) for i in range(members)]
            found = jax.tree.map(lambda *values: np.stack(values), *each)
        row |= {f"{prefix}{key}": value for key, value in (found if isinstance(found, dict) else {name: found}).items()}
    return row


def directions(metrics: Mapping[str, Metric], sums: Mapping[str, PyTree], axes: int = 0) -> dict[str, Better]:
    """Return the name of each number that ``compute`` makes of sums of these shapes, and which values are better.

    Raises:
        InputError: if a metric makes something else than numbers, which no curve can show.
    """
    found: dict[str, Better] = {}
    for name, parts in sums.items():
        nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape), parts)
        values = compute(metrics, {name: nothing}, axes=axes)
        if any(np.ndim(value) != axes for value in values.values()):
            raise InputError(f"metric {name!r} is not a number at each evaluation; leave it to jaxnets.evaluate")
        usual: Better = "lower" if name == "loss" else None
        found |= dict.fromkeys(values, metrics[name].better if name in metrics else usual)
    return found


class Total(struct.PyTreeNode):
    """A running sum that loses nothing: whole numbers of 64 bits, floats of about 48, in two halves of 32 each."""

    high: jax.Array
    low: jax.Array


def zeros(sums: PyTree) -> PyTree:
    """Return the totals of nothing yet, for sums of these shapes and dtypes."""
    return jax.tree.map(_zero, sums)


def add(totals: PyTree, sums: PyTree) -> PyTree:
    """Return the totals with one more step's sums in them."""
    return jax.tree.map(_plus, totals, sums, is_leaf=_is_total)


def values_of(totals: PyTree) -> PyTree:
    """Return the totals as NumPy has them on the host, int64 and float64."""
    return jax.tree.map(_value, jax.device_get(totals), is_leaf=_is_total)


def _is_total(node: Any) -> bool:
    return isinstance(node, Total)


def _zero(leaf: Any) -> Total:
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return Total(jnp.zeros(leaf.shape, jnp.float32), jnp.zeros(leaf.shape, jnp.float32))
    return Total(jnp.zeros(leaf.shape, jnp.int32), jnp.zeros(leaf.shape, jnp.uint32))


def _plus(total: Total, value: jax.Array) -> Total:
    if jnp.issubdtype(total.high.dtype, jnp.floating):
        high, lost = _two_sum(total.high, value)
        return Total(*_two_sum(high, total.low + lost))  # or ``low`` would grow until it loses as a single sum does
    value = value.astype(jnp.int32)
    low = total.low + lax.bitcast_convert_type(value, jnp.uint32)
    carry, negative = (low < total.low).astype(jnp.int32), (value < 0).astype(jnp.int32)
    return Total(total.high + carry - negative, low)


def _two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the sum of a and b in float32, and what it rounds away (Knuth, 1969)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _value(total: Total) -> np.ndarray:
    high, low = np.asarray(total.high), np.asarray(total.low)
    if high.dtype.kind == "f":
        return high.astype(np.float64) + low.astype(np.float64)
    return high.astype(np.int64) * 2**32 + low.astype(np.int64)
