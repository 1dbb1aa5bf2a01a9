"""Learn to sort: a transformer reads one sequence and writes another, and was shown nothing but pairs.

It writes one number at a time, each after looking at all that it was given and at what it has written. Lists of up to
eight digits, of which it has seen 16,000; what a beam search finds is compared with the lists as they should be.
"""

import jax.numpy as jnp
import numpy as np
import optax

import jaxnets as jn
from jaxnets.inference.generation import beam_search
from jaxnets.models import EncoderDecoder, SourceTarget

PADDING, START, END, ZERO = range(4)  # a digit's token is ZERO + digit
LONGEST = 8


def lists(count: int, seed: int) -> jn.Data:
    """Return lists of two to eight digits, and the same in order between a start and an end."""
    generator = np.random.default_rng(seed)
    inputs, targets = np.full((count, LONGEST), PADDING), np.full((count, LONGEST + 2), PADDING)
    for row, length in enumerate(generator.integers(2, LONGEST + 1, count)):
        digits = ZERO + generator.integers(0, 10, length)
        inputs[row, :length] = digits
        targets[row, : length + 2] = [START, *np.sort(digits), END]
    return jn.Data(inputs=inputs, targets=targets)


def digits(tokens: np.ndarray) -> list[int]:
    """Return the digits up to the end."""
    ends = np.flatnonzero(np.asarray(tokens) == END)
    return [int(token) - ZERO for token in tokens[: ends[0] if len(ends) else len(tokens)] if token >= ZERO]


train, held_out = lists(16_000, seed=0), lists(500, seed=1)
options = {"max_length": LONGEST + 2, "padding": PADDING, "positions": "sinusoidal"}
network = jn.network(EncoderDecoder, ZERO + 10, 64, 1, 4, **options)
learner = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.adam(2e-3), {"accuracy": jn.losses.accuracy})
learner = jn.sequence_to_sequence(learner, PADDING)
result = jn.fit(learner, train, validation=held_out, duration="4ep", batch_size=32)
print(f"next digits that are right: {result.history[-1]['validation/accuracy']:.1%}")

prompt = SourceTarget(jnp.asarray(held_out["inputs"]), jnp.full((500, 1), START))
found = beam_search(learner, result.state, prompt, LONGEST + 1, end=END, num_beams=3)
written = [digits(tokens) for tokens in np.asarray(found.tokens[:, 0])]
right = [a == digits(b[1:]) for a, b in zip(written, held_out["targets"], strict=True)]
for given, sorted_list in zip(held_out["inputs"][:3], written, strict=False):
    print(digits(given), "->", sorted_list)
print(f"lists that are sorted, of {len(right)} it has not seen: {np.mean(right):.1%}")
