"""The work: networks, data and losses, the same for all who are compared."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets import losses
from jaxnets.models import CNN, MLP, RNN, EncoderDecoder, SourceTarget, Transformer
from jaxnets.models.resnet import ResidualBlock
from jaxnets.nn import GRU, LSTM, ConvTranspose

LEARNING_RATE = 1e-3  # of Adam, in all workloads
NUM_BATCHES = 4  # that are gone through over and over

Module = Callable[..., nnx.Module]


class Workload(NamedTuple):
    """Some steps of training, to be done by several libraries.

    Attributes:
        kind: of network, by which others know how to build theirs.
        about: what it is, in a line.
        module: makes the network, given ``rngs=``.
        loss: of each example.
        inputs: batches, [NUM_BATCHES, B, ...].
        labels: batches, [NUM_BATCHES, B, ...].
        steps: of one measurement.
        flops: of one step of one member: products and sums of the layers, forward and backward.
        serial: steps of one training step that can only come one after the other.
        members: how many networks are trained on these batches.
    """

    kind: str
    about: str
    module: Module
    loss: losses.Loss
    inputs: np.ndarray
    labels: np.ndarray
    steps: int
    flops: float
    serial: int = 1
    members: int = 1


def _classes(
    kind: str, about: str, module: Module, shape: tuple[int, ...], steps: int, flops: float, **options: Any
) -> Workload:
    """Return a workload of random inputs in ten classes, [B, ...] each."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(NUM_BATCHES, *shape)).astype(np.float32)
    labels = random.integers(0, 10, (NUM_BATCHES, shape[0])).astype(np.int32)
    return Workload(kind, about, module, losses.softmax_cross_entropy, inputs, labels, steps, flops, **options)


def mlp(widths: tuple[int, ...], batch_size: int, steps: int, members: int = 1) -> Workload:
    """Return a workload of dense layers."""
    flops = _dense_flops(widths, batch_size)
    about = f"MLP {'-'.join(map(str, widths))}, batch {batch_size}" + (f", {members} of them" if members > 1 else "")
    module = partial(MLP, widths[0], widths[1:-1], widths[-1])
    return _classes("mlp", about, module, (batch_size, widths[0]), steps, flops, members=members)


def autoencoder(widths: tuple[int, ...], batch_size: int, steps: int) -> Workload:
    """Return a workload of dense layers whose targets are their inputs."""
    inputs = np.random.default_rng(0).normal(size=(NUM_BATCHES, batch_size, widths[0])).astype(np.float32)
    about = f"Autoencoder {'-'.join(map(str, widths))}, batch {batch_size}"
    module = partial(MLP, widths[0], widths[1:-1], widths[-1])
    return Workload("autoencoder", about, module, losses.mse, inputs, inputs, steps, _dense_flops(widths, batch_size))


def _dense_flops(widths: tuple[int, ...], batch_size: int) -> float:
    weights = sum(a * b for a, b in pairwise(widths))
    return 6 * batch_size * weights - 2 * batch_size * widths[0] * widths[1]  # none for the inputs' gradient


def cnn(channels: tuple[int, ...], hidden: int, size: int, batch_size: int, steps: int) -> Workload:
    """Return a workload of 3x3 convolutions, each followed by a pooling, and dense layers."""
    flops, side, before = 0.0, size, 3
    for number, after in enumerate(channels):
        flops += (6 if number else 4) * batch_size * side**2 * 9 * before * after
        side, before = side // 2, after
    flops += 6 * batch_size * (side**2 * before * hidden + hidden * 10)
    features: list[Any] = [part for width in channels for part in (width, "pool")]
    module = partial(CNN, (size, size, 3), features, (hidden,), 10)
    about = f"CNN {'/'.join(map(str, channels))} on {size}x{size}x3, batch {batch_size}"
    return _classes("cnn", about, module, (batch_size, size, size, 3), steps, flops)


def recurrent(kind: str, features: int, length: int, batch_size: int, steps: int) -> Workload:
    """Return a workload of one recurrent layer as wide as its inputs, and a dense one after its last step."""
    cell = {"LSTM": LSTM, "GRU": GRU}[kind]
    flops = 10 * cell.num_gates * length * batch_size * features**2  # none for the inputs' gradient
    module = partial(RNN, features, (features,), 10, cell=cell, pool="last")
    shape = (batch_size, length, features)
    about = f"{kind} T{length} H{features}, batch {batch_size}"
    return _classes(kind.lower(), about, module, shape, steps, flops, serial=2 * length)


def gpt(model_dim: int, length: int, batch_size: int, steps: int, num_layers: int = 4) -> Workload:
    """Return a workload of a GPT over 65 characters: learned positions, tied embedding, no biases, as nanoGPT's."""
    vocabulary, num_heads = 65, 4
    random = np.random.default_rng(0)
    tokens = random.integers(0, vocabulary, (NUM_BATCHES, batch_size, length + 1)).astype(np.int32)
    weights = 12 * num_layers * model_dim**2 + vocabulary * model_dim
    flops = batch_size * length * (6 * weights + 6 * num_layers * model_dim * length)  # attention halved: causal
    options = {"tokens": True, "causal": True, "tied": True, "use_bias": False, "positions": "learned"}
    sizes = vocabulary, model_dim, num_layers, num_heads, vocabulary
    return Workload(
        "gpt",
        f"GPT {num_layers} layers D{model_dim} T{length}, batch {batch_size}",
        partial(Transformer, *sizes, max_length=length, **options),
        losses.softmax_cross_entropy,
        tokens[..., :-1],
        tokens[..., 1:],
        steps,
        flops,
    )


class Residual(nnx.Module):
    """A residual block with batch normalisation, and an output from the mean over the image."""

    def __init__(self, channels: int, rngs: nnx.Rngs):
        self.block = ResidualBlock(channels, channels, zero_init=False, rngs=rngs)
        self.out = nnx.Linear(channels, 10, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Return the logits."""
        return self.out(self.block(inputs).mean((1, 2)))


def residual(channels: int, size: int, batch_size: int, steps: int) -> Workload:
    """Return a workload of one residual block, the inputs' gradient of which is not asked for."""
    flops = 10 * batch_size * size**2 * 9 * channels**2
    about = f"ResNet block {channels} channels, {size}x{size}, batch {batch_size}"
    return _classes("resnet", about, partial(Residual, channels), (batch_size, size, size, channels), steps, flops)


class Translator(nnx.Module):
    """An encoder-decoder whose inputs are sources and targets side by side, [B, 2 T] -> logits [B, T, V]."""

    def __init__(self, vocabulary: int, length: int, sizes: tuple[int, int, int], rngs: nnx.Rngs):
        options = {"use_bias": False, "positions": "sinusoidal", "rngs": rngs}
        self.model = EncoderDecoder(vocabulary, *sizes, max_length=length, padding=-1, **options)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Return the logits."""
        source, target = jnp.split(inputs, 2, 1)
        return self.model(SourceTarget(source, target))


def translator(model_dim: int, length: int, batch_size: int, steps: int, num_layers: int = 3) -> Workload:
    """Return a workload of an encoder-decoder over 1,000 tokens, sources and targets of one length, none padded."""
    vocabulary = 1000
    random = np.random.default_rng(0)
    tokens = random.integers(0, vocabulary, (NUM_BATCHES, batch_size, 3 * length)).astype(np.int32)
    weights = 28 * num_layers * model_dim**2 + vocabulary * model_dim  # the encoder's 12, the decoder's 16
    attention = 12 * num_layers * model_dim * length * 2.5  # whole, across, and half of one: causal
    return Workload(
        "encoder-decoder",
        f"Encoder-decoder {num_layers}+{num_layers} layers D{model_dim} T{length}, batch {batch_size}",
        partial(Translator, vocabulary, length, (model_dim, num_layers, 4)),
        losses.softmax_cross_entropy,
        tokens[..., : 2 * length],
        tokens[..., 2 * length :],
        steps,
        batch_size * length * (6 * weights + attention),
    )


class Upsampling(nnx.Module):
    """A transposed convolution, and a scale before it for the sake of which the inputs' gradient is computed too."""

    def __init__(self, channels: int, rngs: nnx.Rngs):
        self.scale = nnx.Param(np.ones(channels, np.float32))
        self.conv = ConvTranspose(channels, channels, (4, 4), 2, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Return the outputs, twice as large."""
        return self.conv(inputs * self.scale[...])


def upsampling(channels: int, size: int, batch_size: int, steps: int) -> Workload:
    """Return a workload of one transposed convolution."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(NUM_BATCHES, batch_size, size, size, channels)).astype(np.float32)
    targets = random.normal(size=(NUM_BATCHES, batch_size, 2 * size, 2 * size, channels)).astype(np.float32)
    module = partial(Upsampling, channels)
    flops = 6 * batch_size * size**2 * 16 * channels**2
    about = f"transposed convolution 4x4 stride 2, {channels} channels, {size}x{size}, batch {batch_size}"
    return Workload("upsampling", about, module, losses.mse, inputs, targets, steps, flops)


# By name; made when they are needed, for some are large.
WORKLOADS: Mapping[str, Callable[[], Workload]] = {
    "mlp-small": partial(mlp, (64, 64, 64, 10), 32, 400),
    "mlp-population": partial(mlp, (64, 64, 64, 10), 32, 50, members=32),
    "mlp": partial(mlp, (784, 256, 256, 10), 128, 40),
    "cnn": partial(cnn, (32, 64, 64), 128, 32, 64, 8),
    "lstm": partial(recurrent, "LSTM", 256, 128, 64, 3),
    "lstm-small": partial(recurrent, "LSTM", 64, 128, 1, 20),
    "gru": partial(recurrent, "GRU", 256, 128, 64, 3),
    "gpt-small": partial(gpt, 128, 64, 12, 6),
    "gpt": partial(gpt, 256, 256, 8, 3),
    "resnet": partial(residual, 64, 32, 32, 4),
    "autoencoder": partial(autoencoder, (784, 500, 32, 500, 784), 128, 20),
    "encoder-decoder": partial(translator, 128, 24, 32, 6),
    "upsampling": partial(upsampling, 64, 32, 32, 3),
}
