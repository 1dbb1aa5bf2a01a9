"""A workload in JAX: by this library, by a scan written by hand, by single jitted steps, and by Flax' own tools.

All train the same modules, this library's layers among them: what differs is the loop, and who keeps the state.

Each is a function of the workload and the initial weights (for a population, with a leading axis of its members) that
returns a ``Way``.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from jax import lax

from jaxnets.bench.workloads import LEARNING_RATE, NUM_BATCHES, Workload
from jaxnets.learner import Learner, TrainState
from jaxnets.learners.supervised import supervised
from jaxnets.metrics import divide, values_of
from jaxnets.network import Key, PyTree, network
from jaxnets.training.chunk import chunk, no_metrics, run_keys
from jaxnets.training.compiling import jit
from jaxnets.transforms.population import population

# Takes the workload's steps from where it stands, and returns the mean loss of these steps.
Way = Callable[[], float]


class Compiled(NamedTuple):
    """A way in one program.

    Attributes:
        way: what runs it.
        memory: bytes that it needs at most, arguments and results included.
    """

    way: Way
    memory: int

    def __call__(self) -> float:
        """Run it."""
        return self.way()


def initial_params(workload: Workload) -> PyTree:
    """Return the weights that all start from."""
    init_key, _ = run_keys(_seeds(workload))
    params = jax.jit(_learner(workload).init)(init_key).params
    return jax.tree.map(np.asarray, params)


def ours(workload: Workload, params: PyTree, how: Literal["map", "vmap"] = "vmap") -> Way:
    """Return the compiled loop that ``fit`` runs."""
    learner = _learner(workload, how)
    init_key, key = run_keys(_seeds(workload))
    state = jax.jit(learner.init)(init_key).replace(params=jax.device_put(params))
    batches = {"inputs": workload.inputs, "labels": workload.labels}
    return compiled_loop(learner, state, key, batches, workload.steps)


def compiled_loop(
    learner: Learner, state: TrainState, key: Key, batches: Mapping[str, np.ndarray], steps: int
) -> Compiled:
    """Return the loop that ``fit`` runs, over batches [N, B, ...]; all members of a population are given the same."""
    num_batches, batch_size = batches["inputs"].shape[:2]
    columns = {name: jax.device_put(array.reshape(-1, *array.shape[2:])) for name, array in batches.items()}
    order = np.arange(num_batches * batch_size, dtype=np.int32).reshape(num_batches, batch_size)
    rows = order[np.arange(steps) % num_batches]
    if key.ndim:
        rows = np.broadcast_to(rows[:, None], (steps, len(key), batch_size))
    rows = jax.device_put(rows)
    zeros = no_metrics(learner, state, columns, rows, key)
    span = np.int32(0), np.int32(steps)
    loop = jit(chunk(learner), donate_argnums=(0, 1)).lower(state, zeros, columns, rows, *span, key).compile()

    def run() -> float:
        nonlocal state
        sums = jax.tree.map(np.zeros_like, zeros)
        state, sums = loop(state, sums, columns, rows, *span, key)
        return float(np.mean(divide(values_of(sums["loss"]))))

    needs = loop.memory_analysis()
    shared = needs.alias_size_in_bytes  # results that take their arguments' place
    sizes = needs.argument_size_in_bytes, needs.output_size_in_bytes, needs.temp_size_in_bytes
    return Compiled(run, sum(sizes) - shared)


def scan_by_hand(workload: Workload, params: PyTree) -> Way:
    """Return a scan over steps as one would write it for this task alone; a population is vmapped."""
    step, tx = _plain_step(workload)
    if workload.members > 1:
        step = jax.vmap(step, (0, None))
    order = jax.device_put(np.arange(workload.steps, dtype=np.int32) % NUM_BATCHES)
    batches = jax.device_put((workload.inputs, workload.labels))

    def steps(carry: Any, batches: Any, order: jax.Array) -> Any:
        return lax.scan(lambda carry, i: step(carry, jax.tree.map(lambda a: a[i], batches)), carry, order)

    loop = jax.jit(steps, donate_argnums=0)
    carry = _start(workload, tx, params)

    def run() -> float:
        nonlocal carry
        carry, losses = loop(carry, batches, order)
        return float(np.asarray(losses).mean())

    return run


def single_steps(workload: Workload, params: PyTree) -> Way:
    """Return a loop in Python over one jitted step, as most JAX code is written; a population is vmapped."""
    step, tx = _plain_step(workload)
    if workload.members > 1:
        step = jax.vmap(step, (0, None))
    compiled = jax.jit(step, donate_argnums=0)
    carry = _start(workload, tx, params)
    batches = [jax.device_put(batch) for batch in zip(workload.inputs, workload.labels, strict=True)]

    def run() -> float:
        nonlocal carry
        losses = []
        for batch in itertools.islice(itertools.cycle(batches), workload.steps):
            carry, loss = compiled(carry, batch)
            losses.append(loss)
        return float(np.mean(jax.device_get(losses)))

    return run


def flax_jit(workload: Workload, params: PyTree) -> Way:
    """Return a loop over a step under ``nnx.jit`` with ``nnx.Optimizer``; a population is trained member by member."""

    @nnx.jit
    def step(model: Any, optimizer: Any, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        loss, grads = nnx.value_and_grad(lambda model: workload.loss(model(inputs), labels).mean())(model)
        optimizer.update(model, grads)
        return loss

    models = []
    for number in range(workload.members):
        model = workload.module(rngs=nnx.Rngs(0))
        graph, state, rest = nnx.split(model, nnx.Param, ...)
        own = params if workload.members == 1 else jax.tree.map(lambda leaf, i=number: leaf[i], params)
        nnx.replace_by_pure_dict(state, own)
        model = nnx.merge(graph, state, rest)
        models.append((model, nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)))
    batches = [jax.device_put(batch) for batch in zip(workload.inputs, workload.labels, strict=True)]

    def run() -> float:
        losses = [
            step(model, optimizer, *batch)
            for model, optimizer in models
            for batch in itertools.islice(itertools.cycle(batches), workload.steps)
        ]
        return float(np.mean(jax.device_get(losses)))

    return run


def _seeds(workload: Workload) -> np.ndarray:
    return np.asarray(0 if workload.members == 1 else np.arange(workload.members), np.int32)


def _learner(workload: Workload, how: Literal["map", "vmap"] = "vmap") -> Learner:
    learner = supervised(network(workload.module), workload.loss, optax.adam(LEARNING_RATE))
    return learner if workload.members == 1 else population(learner, workload.members, how)


def _plain_step(workload: Workload) -> tuple[Callable[..., Any], optax.GradientTransformation]:
    apply, tx = network(workload.module).apply, optax.adam(LEARNING_RATE)

    def objective(params: PyTree, model_state: PyTree, batch: Any) -> tuple[jax.Array, PyTree]:
        inputs, labels = batch
        outputs, model_state = apply(params, model_state, inputs, train=True)
        return workload.loss(outputs, labels).mean(), model_state

    def step(carry: Any, batch: Any) -> Any:
        params, opt_state, model_state = carry
        (loss, model_state), grads = jax.value_and_grad(objective, has_aux=True)(params, model_state, batch)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, model_state), loss

    return step, tx


def _start(workload: Workload, tx: optax.GradientTransformation, params: PyTree) -> Any:
    model_state = network(workload.module).init(jax.random.key(0))[1]
    params = jax.device_put(params)
    if workload.members == 1:
        return params, tx.init(params), model_state
    return params, jax.vmap(tx.init)(params), model_state  # none of these has any
