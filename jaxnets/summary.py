"""What a network is made of: layers, output shapes, parameters and FLOPs, from one abstract trace."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxnets.errors import check_arrays, check_kind
from jaxnets.learner import Learner
from jaxnets.modes import rerouted, watching
from jaxnets.network import Network, PyTree, num_parameters


class Layer(NamedTuple):
    """One row of a summary, a call of a module. The shape is that of the (first) output, without the batch axis.

    Parameters and FLOPs include those of the layers inside.
    """

    path: str
    type: str
    output_shape: tuple[int, ...]
    num_parameters: int
    flops: int


class Summary(NamedTuple):
    """The layers of a network, outermost first, and the totals for one example."""

    layers: list[Layer]
    num_parameters: int
    flops: int


def summarize(model: Network | Learner, example: Any) -> Summary:
    """Return the summary of a network, or of what a learner predicts with, without compiling or computing anything.

    Args:
        model: a network or a learner; one that is not made of NNX modules has totals but no layers.
        example: shape and dtype of one example's inputs, without the batch axis; of several arrays, a tree of them.

    Returns:
        Layers and totals. FLOPs are those of the forward pass for one example, two for each multiply-add of matrix
        products and convolutions; element-wise work is left out, as is customary.

    Raises:
        InputError: if the model is neither, or the example has no shape and dtype.
    """
    check_kind("model", model, (Network, Learner), "give a network or a learner")
    check_arrays("example", jax.tree.leaves(example), "give data.spec['inputs'].example")
    batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), example)
    calls: list[Layer] = []

    def watch(module: nnx.Module) -> None:
        for path, child in nnx.iter_modules(module):
            _spy(child, "/".join(map(str, path)), calls)

    with watching(watch):
        if isinstance(model, Network):
            params, model_state = jax.eval_shape(lambda: model.init(jax.random.key(0)))
            jaxpr = jax.make_jaxpr(model.apply)(params, model_state, batch).jaxpr
        else:
            state = jax.eval_shape(lambda: model.init(jax.random.key(0)))
            params, jaxpr = state.params, jax.make_jaxpr(model.predict)(state, batch).jaxpr
    flops: dict[str, int] = {}
    for product in _products(jaxpr):
        flops[product.scope] = flops.get(product.scope, 0) + product.flops
    layers = [
        layer._replace(flops=sum(count for scope, count in flops.items() if _scope(row) in scope))
        for row, layer in enumerate(calls)
    ]
    return Summary(layers, num_parameters(params), sum(flops.values()))


def count_flops(function: Callable[..., Any], *args: PyTree) -> int:
    """Return the FLOPs of the matrix products and convolutions in ``function(*args)``; shapes are enough for ``args``.

    A loop whose trip count is known counts that often, any other loop once; of branches the costliest counts.
    """
    return sum(flops_by_dtype(function, *args).values())


def flops_by_dtype(function: Callable[..., Any], *args: PyTree) -> dict[str, int]:
    """Return what ``count_flops`` counts by the dtype of what is multiplied, such as "bfloat16"."""
    flops: dict[str, int] = {}
    for product in _products(jax.make_jaxpr(function)(*args).jaxpr):
        flops[product.dtype] = flops.get(product.dtype, 0) + product.flops
    return flops


def _spy(module: nnx.Module, path: str, calls: list[Layer]) -> None:
    """Have this one module note its calls."""
    if not callable(module):
        return
    kind, parameters = type(module).__name__, num_parameters(nnx.to_pure_dict(nnx.state(module, nnx.Param)))

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        row = len(calls)
        calls.append(Layer(path, kind, (), parameters, 0))
        with jax.named_scope(_scope(row)):
            outputs = function(*args, **kwargs)
        first = jax.tree.leaves(outputs)[0]
        calls[row] = calls[row]._replace(output_shape=tuple(first.shape[1:]))
        return outputs

    rerouted(module, call)


def _scope(row: int) -> str:
    return f"layer<{row}>"


class _Product(NamedTuple):
    """A matrix product or a convolution."""

    scope: str
    dtype: str
    flops: int


def _products(jaxpr: Any, times: int = 1) -> Iterator[_Product]:
    for equation in jaxpr.eqns:
        name, scope = equation.primitive.name, str(equation.source_info.name_stack)
        if name in ("dot_general", "conv_general_dilated", "canonical_conv"):
            size = int(_depth(equation) * np.prod(equation.outvars[0].aval.shape))
            yield _Product(scope, str(equation.invars[0].aval.dtype), times * 2 * size)
        inner_times = times * equation.params.get("length", 1) if name == "scan" else times
        parts = [list(_products(inner, inner_times)) for inner in _inner(equation)]
        if name == "cond":  # of its branches one is taken: the costliest is counted
            parts = [max(parts, key=lambda products: sum(product.flops for product in products))]
        for product in (product for products in parts for product in products):
            yield product._replace(scope=f"{scope}/{product.scope}")


def _depth(equation: Any) -> int:
    """Return how many multiply-adds each output of a product or convolution takes."""
    lhs, rhs = (variable.aval.shape for variable in equation.invars[:2])
    if equation.primitive.name == "dot_general":
        (contracting, _), _ = equation.params["dimension_numbers"]
        return np.prod([lhs[axis] for axis in contracting], dtype=int)
    numbers = equation.params.get("dimension_numbers")
    return np.prod(rhs, dtype=int) // rhs[numbers.rhs_spec[0] if numbers else len(rhs) - 1]


def _inner(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(item, "jaxpr", item)
            if hasattr(inner, "eqns"):
                yield inner
