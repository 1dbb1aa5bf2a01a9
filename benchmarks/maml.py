"""A step of MAML beside PyTorch's, written by hand, with the same weights and episodes.

    python -m benchmarks.maml            # second order, five ways, one shot, four episodes a step
    python -m benchmarks.maml --steps 5  # of the inner descent

Run nothing else meanwhile. The first losses must agree, or the figures are void.
"""

import argparse
import time

import jax
import numpy as np
import optax
import torch
from torch.nn import functional

import jaxnets as jn
from jaxnets.learners import Shape, maml

SHAPE = Shape(ways=5, shots=1, queries=5)
EPISODES, RATE, META_RATE = 4, 0.1, 0.01
FEATURES = (32, "pool", 32, "pool", 64, "pool", 64, "pool")
Params = list[tuple[torch.Tensor, torch.Tensor]]


def network() -> jn.Network:
    """Return a network of four convolutions, whose outputs are as many as the ways."""
    return jn.network(jn.models.CNN, (28, 28, 1), FEATURES, (), SHAPE.ways)


def to_torch(params: dict) -> Params:
    """Return kernels and biases in PyTorch's layout; what the last layer takes is one pixel of 64 channels."""
    layers = [params["convs"][i]["layer"] for i in range(4)]
    pairs = [(np.transpose(layer["kernel"], (3, 2, 0, 1)), layer["bias"]) for layer in layers]
    pairs.append((np.transpose(params["head"]["out"]["kernel"]), params["head"]["out"]["bias"]))
    return [
        (torch.tensor(np.array(k), requires_grad=True), torch.tensor(np.array(b), requires_grad=True)) for k, b in pairs
    ]


def logits_of(params: Params, x: torch.Tensor) -> torch.Tensor:
    """Return the logits of images [B, 1, 28, 28]."""
    *convs, (kernel, bias) = params
    for k, b in convs:
        x = functional.max_pool2d(functional.relu(functional.conv2d(x, k, b, padding=1)), 2)
    return functional.linear(x.flatten(1), kernel, bias)


def torch_step(params: Params, batch: torch.Tensor, steps: int) -> tuple[Params, float]:
    """Return the parameters after one step of MAML, and its loss."""
    flat, total = [leaf for pair in params for leaf in pair], torch.zeros(())
    supports = torch.arange(SHAPE.ways).repeat_interleave(SHAPE.shots)
    queries = torch.arange(SHAPE.ways).repeat_interleave(SHAPE.queries)
    for episode in batch.reshape(EPISODES, SHAPE.rows, 1, 28, 28):
        adapted = flat
        for _ in range(steps):
            loss = functional.cross_entropy(logits_of(_paired(adapted), episode[: len(supports)]), supports)
            grads = torch.autograd.grad(loss, adapted, create_graph=True)
            adapted = [leaf - RATE * grad for leaf, grad in zip(adapted, grads, strict=True)]
        total = (
            total + functional.cross_entropy(logits_of(_paired(adapted), episode[len(supports) :]), queries) / EPISODES
        )
    grads = torch.autograd.grad(total, flat)
    new = [(leaf - META_RATE * grad).detach().requires_grad_() for leaf, grad in zip(flat, grads, strict=True)]
    return _paired(new), total.item()


def _paired(leaves: list[torch.Tensor]) -> Params:
    return list(zip(leaves[::2], leaves[1::2], strict=True))


def main() -> None:
    """Measure both, and print milliseconds a step."""
    parser = argparse.ArgumentParser(description="A step of MAML beside PyTorch's.")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--number", type=int, default=30)
    options = parser.parse_args()
    learner = maml(network(), optax.sgd(META_RATE), SHAPE, SHAPE, rate=RATE, steps=options.steps)
    state = learner.init(jax.random.key(0))
    batches = np.random.default_rng(0).random((options.number, EPISODES * SHAPE.rows, 28, 28, 1), np.float32)
    run = jn.jit(
        lambda state, batches: jax.lax.scan(
            lambda s, x: learner.step(s, {"inputs": x}, jax.random.key(0)), state, batches
        )
    )
    params, losses = to_torch(state.params), []
    compiled = run.lower(state, batches).compile()
    compiled(state, batches)
    began = time.perf_counter()
    _, sums = jax.block_until_ready(compiled(state, batches))
    ours = (time.perf_counter() - began) / options.number
    given = torch.tensor(batches).permute(0, 1, 4, 2, 3)
    torch_step(params, given[0], options.steps)
    began = time.perf_counter()
    for batch in given:
        params, loss = torch_step(params, batch, options.steps)
        losses.append(loss)
    theirs = (time.perf_counter() - began) / options.number
    mine = np.asarray(sums["loss"].total) / np.asarray(sums["loss"].count)
    gap = np.abs(mine - losses).max()
    print(
        f"losses differ by up to {gap:.1e} over {options.number} steps{'' if gap < 1e-3 else ': the figures are void'}"
    )
    print(f"jaxnets {1e3 * ours:.1f} ms a step, PyTorch {1e3 * theirs:.1f}: {theirs / ours:.2f} times as fast")


if __name__ == "__main__":
    main()
