"""The workloads in Keras on JAX, trained by ``fit`` as its users do; the weights are ours, copied over."""

import os
from collections.abc import Callable, Mapping
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"  # before its import

import jax.numpy as jnp
import keras as typed_keras
import numpy as np

from jaxnets.bench.jax_peers import Way
from jaxnets.bench.workloads import LEARNING_RATE, NUM_BATCHES, Workload
from jaxnets.models.embeddings import sinusoidal

keras: Any = typed_keras  # its annotations do not say what its functions take
layers: Any = keras.layers
Params = Mapping[str, Any]


def train(workload: Workload, params: Params) -> Way:
    """Return ``fit`` over the workload's steps, in the order of the batches; what a call of it costs is in its time."""
    build, loss = MODELS[workload.kind]
    model = build(params, workload.inputs.shape[2:])
    model.compile(keras.optimizers.Adam(LEARNING_RATE, epsilon=1e-8), loss, jit_compile=True)
    order = np.arange(workload.steps) % NUM_BATCHES
    inputs, labels = (array[order].reshape(-1, *array.shape[2:]) for array in (workload.inputs, workload.labels))
    options = {"batch_size": workload.inputs.shape[1], "shuffle": False, "verbose": 0}

    def run() -> float:
        return model.fit(inputs, labels, **options).history["loss"][0]

    return run


def _mlp(params: Params, shape: tuple[int, ...]) -> Any:
    hidden = [block["layer"] for _, block in sorted(params["hidden"].items())]
    dense = [layers.Dense(len(block["bias"]), "relu") for block in hidden] + [layers.Dense(len(params["out"]["bias"]))]
    model = keras.Sequential([layers.Input(shape), *dense])
    model.set_weights([part for block in (*hidden, params["out"]) for part in (block["kernel"], block["bias"])])
    return model


def _cnn(params: Params, shape: tuple[int, ...]) -> Any:
    blocks = [block["layer"] for _, block in sorted(params["convs"].items())]
    convs = [
        part
        for block in blocks
        for part in (layers.Conv2D(len(block["bias"]), 3, padding="same", activation="relu"), layers.MaxPooling2D())
    ]
    features = keras.Sequential([layers.Input(shape), *convs, layers.Flatten()])
    features.set_weights([part for block in blocks for part in (block["kernel"], block["bias"])])
    return keras.Sequential([features, _mlp(params["head"], features.output_shape[1:])])


def _lstm(params: Params, shape: tuple[int, ...]) -> Any:
    weights, out = params["layers"][0][0], params["out"]
    layer = layers.LSTM(len(weights["state_kernel"]))
    model = keras.Sequential([layers.Input(shape), layer, layers.Dense(len(out["bias"]))])
    model.set_weights([weights["kernel"], weights["state_kernel"], weights["bias"], out["kernel"], out["bias"]])
    return model


def _gru(params: Params, shape: tuple[int, ...]) -> Any:
    weights, out = params["layers"][0][0], params["out"]

    def reordered(array: np.ndarray) -> np.ndarray:
        reset, update, new = np.split(array, 3, -1)  # Keras has the update gate first
        return np.concatenate([update, reset, new], -1)

    model = keras.Sequential(
        [layers.Input(shape), layers.GRU(len(weights["state_kernel"])), layers.Dense(len(out["bias"]))]
    )
    kernels = [reordered(weights[name]) for name in ("kernel", "state_kernel")]
    biases = np.stack([reordered(weights[name]) for name in ("bias", "state_bias")])
    model.set_weights([*kernels, biases, out["kernel"], out["bias"]])
    return model


class _Tied(layers.Layer):
    """The logits of vectors by the weights of the tokens' embedding, or the vectors of tokens: embedding and place."""

    def __init__(self, embedding: np.ndarray, positions: np.ndarray, *, learned: bool):
        super().__init__()
        self.embedding = self.add_weight(shape=embedding.shape)
        self.positions = self.add_weight(shape=positions.shape) if learned else positions
        self.scale = 1 if learned else embedding.shape[1] ** 0.5
        self.set_weights([embedding, positions] if learned else [embedding])

    def call(self, x: Any, logits: bool = False) -> Any:
        """Return the one or the other."""
        if logits:
            return keras.ops.matmul(x, keras.ops.transpose(self.embedding))
        return keras.ops.take(self.embedding, x, axis=0) * self.scale + self.positions


class _Weights(list[tuple[Any, list[np.ndarray]]]):
    """The layers of a transformer, and the weights that they are to have once all is built."""

    def norm(self, x: Any, params: Params) -> Any:
        layer = layers.LayerNormalization(epsilon=1e-5, center=False)
        self.append((layer, [params["scale"]]))
        return layer(x)

    def attention(self, params: Params, num_heads: int, x: Any, memory: Any, **options: Any) -> Any:
        width = x.shape[-1]
        layer = layers.MultiHeadAttention(num_heads, width // num_heads, use_bias=False)
        heads = [params[name]["kernel"].reshape(width, num_heads, -1) for name in ("q", "k", "v")]
        self.append((layer, [*heads, params["out"]["kernel"].reshape(num_heads, -1, width)]))
        return layer(x, memory, **options)

    def block(self, x: Any, params: Params, memory: Any = None, *, causal: bool = True, num_heads: int = 4) -> Any:
        y = self.norm(x, params["attention_norm"])
        x = x + self.attention(params["attention"], num_heads, y, y, use_causal_mask=causal)
        if memory is not None:
            x = x + self.attention(params["cross"], num_heads, self.norm(x, params["cross_norm"]), memory)
        up, down = (params["feed_forward"][name]["kernel"] for name in ("up", "down"))
        widen = layers.Dense(up.shape[1], lambda x: keras.activations.gelu(x, approximate=True), use_bias=False)
        narrow = layers.Dense(down.shape[1], use_bias=False)
        self.extend([(widen, [up]), (narrow, [down])])
        return x + narrow(widen(self.norm(x, params["feed_forward_norm"])))

    def set(self) -> None:
        for layer, own in self:
            layer.set_weights(own)


def _gpt(params: Params, shape: tuple[int, ...]) -> Any:
    tied, weights = _Tied(params["embed"]["embedding"], params["position_embedding"], learned=True), _Weights()
    tokens = layers.Input(shape, dtype="int32")
    x = tied(tokens)
    for _, block in sorted(params["blocks"].items()):
        x = weights.block(x, block)
    model = keras.Model(tokens, tied(weights.norm(x, params["norm"]), logits=True))
    weights.set()
    return model


def _encoder_decoder(params: Params, shape: tuple[int, ...]) -> Any:
    encoder, decoder = params["model"]["encoder"], params["model"]["decoder"]
    embedding, length = decoder["embed"]["embedding"], shape[0] // 2
    positions = np.asarray(sinusoidal(jnp.arange(length), embedding.shape[1]))
    tied, weights = _Tied(embedding, positions, learned=False), _Weights()
    tokens = layers.Input(shape, dtype="int32")
    source, target = tied(tokens[:, :length]), tied(tokens[:, length:])
    for _, block in sorted(encoder["blocks"].items()):
        source = weights.block(source, block, causal=False)
    memory = weights.norm(source, encoder["norm"])
    for _, block in sorted(decoder["blocks"].items()):
        target = weights.block(target, block, memory)
    model = keras.Model(tokens, tied(weights.norm(target, decoder["norm"]), logits=True))
    weights.set()
    return model


def _resnet(params: Params, shape: tuple[int, ...]) -> Any:
    blocks = [block["layer"] | block["norm"] for _, block in sorted(params["block"]["layers"].items())]
    inputs = layers.Input(shape)
    x, made = inputs, []
    for number, block in enumerate(blocks):
        conv = layers.Conv2D(len(block["scale"]), 3, padding="same", use_bias=False)
        norm = layers.BatchNormalization(epsilon=1e-5)
        x = norm(conv(x if number == 0 else layers.ReLU()(x)))
        made.append((conv, norm))
    x = layers.ReLU()(x + inputs)
    out = layers.Dense(len(params["out"]["bias"]))
    model = keras.Model(inputs, out(layers.GlobalAveragePooling2D()(x)))
    for (conv, norm), block in zip(made, blocks, strict=True):
        conv.set_weights([block["kernel"]])
        norm.set_weights([block["scale"], block["bias"], np.zeros_like(block["scale"]), np.ones_like(block["scale"])])
    out.set_weights([params["out"]["kernel"], params["out"]["bias"]])
    return model


class _Scale(layers.Layer):
    def __init__(self, scale: np.ndarray):
        super().__init__()
        self.scale = self.add_weight(shape=scale.shape)
        self.set_weights([scale])

    def call(self, x: Any) -> Any:
        """Return the inputs times the scale."""
        return x * self.scale


def _upsampling(params: Params, shape: tuple[int, ...]) -> Any:
    kernel = params["conv"]["kernel"]
    layer = layers.Conv2DTranspose(kernel.shape[3], 4, 2, padding="same")
    model = keras.Sequential([layers.Input(shape), _Scale(params["scale"]), layer])
    layer.set_weights([kernel[::-1, ::-1].transpose(0, 1, 3, 2), params["conv"]["bias"]])
    return model


def _cross_entropy() -> Any:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


MODELS: Mapping[str, tuple[Callable[..., Any], Any]] = {
    "mlp": (_mlp, _cross_entropy()),
    "cnn": (_cnn, _cross_entropy()),
    "lstm": (_lstm, _cross_entropy()),
    "gru": (_gru, _cross_entropy()),
    "gpt": (_gpt, _cross_entropy()),
    "encoder-decoder": (_encoder_decoder, _cross_entropy()),
    "resnet": (_resnet, _cross_entropy()),
    "autoencoder": (_mlp, keras.losses.MeanSquaredError()),
    "upsampling": (_upsampling, keras.losses.MeanSquaredError()),
}
