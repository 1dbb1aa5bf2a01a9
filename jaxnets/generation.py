"""Generation: sequences drawn from a learner element by element, in one compiled loop."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import Partial

from jaxnets.errors import InputError
from jaxnets.learner import Learner, TrainState
from jaxnets.models import Continued
from jaxnets.network import Key

Draw = Callable[[Key, jax.Array], jax.Array]


def generate(
    learner: Learner, state: TrainState, prompt: jax.Array, length: int, key: Key, draw: Draw | None = None
) -> jax.Array:
    """Return what follows the prompts, [B, P, ...] -> [B, length, ...].

    Args:
        learner: an ``autoregressive`` one, whose model takes and returns a state (``Continued``).
        state: its weights.
        prompt: what the sequences begin with, at least one element.
        length: elements to draw.
        key: of the draws.
        draw: ``draw(key, outputs) -> element``: the next elements, given the outputs [B, ...] for them;
            ``categorical()`` if absent.

    Raises:
        InputError: if the prompt is empty or the length is not positive.
    """
    if prompt.ndim < 2 or prompt.shape[1] < 1 or length < 1:
        raise InputError(f"a prompt of shape {prompt.shape} and {length=}: give [B, P, ...] and 1 or more of each")
    draw = draw or categorical()
    draw = draw if isinstance(draw, Partial) else Partial(draw)  # a pytree: its numbers are arguments of the program
    return _generated(learner, length, draw, state, prompt, key)


@partial(jax.jit, static_argnums=(0, 1))
def _generated(learner: Learner, length: int, draw: Draw, state: TrainState, prompt: jax.Array, key: Key) -> jax.Array:
    outputs, carry = learner.predict(state, Continued(prompt))

    def step(last: tuple, i: jax.Array) -> tuple[tuple, jax.Array]:
        outputs, carry = last
        element = draw(jax.random.fold_in(key, i), outputs).astype(prompt.dtype)
        outputs, carry = learner.predict(state, Continued(element[:, None], carry))
        return (outputs[:, -1], carry), element

    _, elements = lax.scan(step, (outputs[:, -1], carry), jnp.arange(length))
    return jnp.swapaxes(elements, 0, 1)


def categorical(temperature: float = 1.0) -> Draw:
    """Return the draw of one token from logits [B, V] divided by ``temperature``; 0 takes the likeliest."""
    _check_temperature(temperature)
    if temperature == 0:
        return _likeliest
    return Partial(_categorical, temperature)


def bernoulli(temperature: float = 1.0) -> Draw:
    """Return the draw of independent binary values from logits [B, D] over ``temperature``; 0 takes the likelier."""
    _check_temperature(temperature)
    if temperature == 0:
        return _likelier
    return Partial(_bernoulli, temperature)


def _categorical(temperature: float, key: Key, logits: jax.Array) -> jax.Array:
    return jax.random.categorical(key, (logits - logits.max(-1, keepdims=True)) / temperature)


def _bernoulli(temperature: float, key: Key, logits: jax.Array) -> jax.Array:
    return jax.random.bernoulli(key, jax.nn.sigmoid(logits / temperature))


def _likeliest(key: Key, logits: jax.Array) -> jax.Array:
    return jnp.argmax(logits, -1)


def _likelier(key: Key, logits: jax.Array) -> jax.Array:
    return logits > 0


def _check_temperature(temperature: float) -> None:
    if not 0 <= temperature < float("inf"):
        raise InputError(f"{temperature=} must be 0 (always the likeliest) or more; 1 draws as the model was trained")
