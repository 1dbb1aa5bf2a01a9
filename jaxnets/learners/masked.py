"""Learning to fill in what is hidden: masked autoencoders of images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets.errors import InputError, check_callable, check_number, check_whole
from jaxnets.learner import Batch, Learner, Sums, TrainState, inputs_of
from jaxnets.learners.supervised import row_weights
from jaxnets.learners.unlabelled import Lost, Pass, in_use, unlabelled
from jaxnets.metrics import mean_of, per_example
from jaxnets.models.vit import Visible, patches, unpatched
from jaxnets.network import Key, Network, example_keys

Target = Callable[[Any], Any]


def masked_autoencoding(
    encoder: Network,
    decoder: Network,
    patch: int,
    tx: optax.GradientTransformation,
    *,
    masked: float = 0.75,
    target: Target = lambda images: images,
) -> Learner:
    """Return the learner of a masked autoencoder of images (MAE; He et al., 2022).

    A share of each image's patches, drawn anew at each step, is hidden; the encoder sees the others, the decoder says
    what all of them are, and the mean squared error over the hidden ones is minimised. In evaluation what is hidden is
    drawn by ``example_keys``. ``predict`` returns the encoder's features of whole images, [B, D].

    Batches hold "inputs" and, optionally, "mask" and "weights".

    Args:
        encoder: a ``ViT``: images to features, [B, D], and ``Visible(images, chosen)`` to vectors, [B, K, D].
        decoder: a ``MaskedDecoder``: ``(vectors, chosen)`` to all patches, [B, N, patch * patch * C].
        patch: height and width of a patch.
        tx: an Optax optimizer.
        masked: the share of the patches that is hidden, in (0, 1).
        target: what of the images is seen and filled in, such as ``lambda images: images / 255``.
    """
    parts = check_masking(patch, masked, target)
    networks = {"encoder": encoder._replace(apply=_with_target(encoder, target)), "decoder": decoder}

    def values(made: jax.Array, images: jax.Array, chosen: jax.Array) -> jax.Array:
        """Return each image's mean squared error over the patches that are hidden."""
        hidden = 1 - chosen.sum(1)  # [B, N]
        errors = jnp.square(made - patches(target(images), patch)).mean(-1)
        return (errors * hidden).sum(1) / hidden.sum(1)

    def objective(state: TrainState, batch: Batch, key: Key, run: Pass) -> Lost:
        images = inputs_of(batch)
        chosen = parts(jax.random.split(key, len(images)), images)
        made = run("decoder", (run("encoder", Visible(images, chosen)), chosen))
        found = mean_of(values(made, images, chosen), row_weights(batch))
        count = mean_of(jnp.zeros(len(images), jnp.float32), batch.get("mask")).count
        return Lost(found.total / jnp.maximum(count, 1).astype(jnp.float32), {"loss": found}, count)

    def measure(state: TrainState, batch: Batch) -> Sums:
        images = inputs_of(batch)
        chosen = parts(example_keys(images), images)
        made = in_use(networks, state, "decoder", (in_use(networks, state, "encoder", Visible(images, chosen)), chosen))
        return {"loss": mean_of(values(made, images, chosen), row_weights(batch))}

    return unlabelled(networks, objective, measure, tx, {"loss": per_example(lambda values, _: values, "lower")})


def filled_in(
    encoder: Network,
    decoder: Network,
    patch: int,
    *,
    masked: float = 0.75,
    target: Target = lambda images: images,
) -> Callable[[TrainState, jax.Array], tuple[jax.Array, jax.Array]]:
    """Return ``fill(state, images)``: what is seen of images, 0 elsewhere, and them filled in, [B, H, W, C] each.

    In the numbers that ``target`` makes of pixels; what is hidden is drawn as in evaluation. Arguments are those of
    ``masked_autoencoding``.
    """
    parts = check_masking(patch, masked, target)
    networks = {"encoder": encoder._replace(apply=_with_target(encoder, target)), "decoder": decoder}

    def fill(state: TrainState, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen, wanted = parts(example_keys(images), images), target(images)
        made = in_use(networks, state, "decoder", (in_use(networks, state, "encoder", Visible(images, chosen)), chosen))
        shown = chosen.sum(1)[..., None]  # [B, N, 1]
        true = patches(wanted, patch)
        whole = shown * true + (1 - shown) * made
        return unpatched(shown * true, wanted.shape[1:], patch), unpatched(whole, wanted.shape[1:], patch)

    return fill


def check_masking(patch: int, masked: float, target: Target) -> Callable[[Key, jax.Array], jax.Array]:
    """Return ``choose(keys, images)``, which patches of each are seen, one-hot [B, K, N]; check the arguments."""
    check_whole("patch", patch)
    check_number("masked", masked, 0, 1, "in (0, 1), such as 0.75", low_too=False)
    check_callable("target", target, "give a function of the inputs, such as lambda images: images / 255")

    def choose(keys: Key, images: jax.Array) -> jax.Array:
        if images.ndim != 4 or images.shape[1] % patch or images.shape[2] % patch:
            raise InputError(
                f"{patch=} does not divide inputs of shape {images.shape} evenly; give images [B, H, W, C]"
            )
        number = images.shape[1] * images.shape[2] // patch**2
        seen = number - round(masked * number)
        if not 0 < seen < number:
            raise InputError(f"{masked=} of {number} patches leaves {seen} to see; leave some, and hide some")
        drawn = jax.vmap(lambda key: jax.random.uniform(key, (number,), jnp.float32))(keys)
        # By comparing, not sorting, which is slow on CPU.
        smaller = (drawn[:, None] < drawn[:, :, None]) | ((drawn[:, None] == drawn[:, :, None]) & _before(number)[None])
        ranks = smaller.sum(-1)  # [B, N]
        return (ranks[:, None] == jnp.arange(seen)[None, :, None]).astype(jnp.float32)

    return choose


def _before(number: int) -> np.ndarray:
    """Return whether the second of two numbers is less than the first, so that of equal draws one comes first."""
    return np.tri(number, k=-1, dtype=bool)


def _with_target(encoder: Network, target: Target) -> Any:
    """Return an ``apply`` that is given images as they are stored."""

    def apply(params: Any, model_state: Any, inputs: Any, **options: Any) -> Any:
        seen = isinstance(inputs, Visible)
        inputs = inputs._replace(images=target(inputs.images)) if seen else target(inputs)
        return encoder.apply(params, model_state, inputs, **options)

    return apply
