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
    for scope, count in _flops_by_scope(jaxpr):
        flops[scope] = flops.get(scope, 0) + count
    layers = [
        layer._replace(flops=sum(count for scope, count in flops.items() if _scope(row) in scope))
        for row, layer in enumerate(calls)
    ]
    return Summary(layers, num_parameters(params), sum(flops.values()))


def count_flops(function: Callable[..., Any], *args: PyTree) -> int:
    """Return the FLOPs of the matrix products and convolutions in ``function(*args)``; shapes are enough for ``args``.

    A loop whose trip count is known counts that often, any other loop once; of branches the costliest counts.
    """
    return sum(count for _, count in _flops_by_scope(jax.make_jaxpr(function)(*args).jaxpr))


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


def _flops_by_scope(jaxpr: Any, times: int = 1) -> Iterator[tuple[str, int]]:
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        shapes = [getattr(variable.aval, "shape", ()) for variable in equation.invars]
        if name == "dot_general":
            (contracting, _), _ = equation.params["dimension_numbers"]
            depth = np.prod([shapes[0][axis] for axis in contracting], dtype=int)
            yield str(equation.source_info.name_stack), times * 2 * int(depth * np.prod(equation.outvars[0].aval.shape))
        elif name in ("conv_general_dilated", "canonical_conv"):
            numbers = equation.params.get("dimension_numbers")
            output_axis = numbers.rhs_spec[0] if numbers else len(shapes[1]) - 1
            depth = np.prod(shapes[1], dtype=int) // shapes[1][output_axis]
            yield str(equation.source_info.name_stack), times * 2 * int(depth * np.prod(equation.outvars[0].aval.shape))
        inner_times = times * equation.params.get("length", 1) if name == "scan" else times
        parts = [list(_flops_by_scope(inner, inner_times)) for inner in _inner(equation)]
        if name == "cond":  # of its branches one is taken: the costliest is counted
            parts = [max(parts, key=lambda rows: sum(count for _, count in rows))]
        for scope, count in (row for rows in parts for row in rows):
            yield f"{equation.source_info.name_stack}/{scope}", count


def _inner(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(item, "jaxpr", item)
            if hasattr(inner, "eqns"):
                yield inner
