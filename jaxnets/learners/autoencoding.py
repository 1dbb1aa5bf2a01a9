"""Learning to reconstruct: autoencoders, plain and denoising, and variational ones."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnets import losses
from jaxnets.errors import InputError, check_callable, check_whole
from jaxnets.learner import Batch, Learner, Sums, TrainState, check_network, mapped, with_training
from jaxnets.learners.arrays import COUNTING, check_names, counted
from jaxnets.learners.supervised import row_weights, supervised
from jaxnets.losses import Loss, check_labels
from jaxnets.metrics import mean_of, per_example
from jaxnets.network import Coded, Key, Network, PyTree, example_keys, named

Target = Callable[[Any], Any]
Corrupt = Callable[[Key, jax.Array], jax.Array]


class Autoencoded(NamedTuple):
    """What an autoencoder makes of its inputs: their codes [B, D], and what the decoder makes of these [B, ...]."""

    codes: jax.Array
    outputs: jax.Array


def reconstructing(
    encoder: Network,
    decoder: Network,
    loss: Loss,
    tx: optax.GradientTransformation,
    metrics: Mapping[str, Loss] | None = None,
    *,
    corrupt: Corrupt | None = None,
    target: Target = lambda inputs: inputs,
) -> Learner:
    """Return the learner of an autoencoder (Hinton and Salakhutdinov, 2006), a denoising one with ``corrupt``.

    Batches hold "inputs", and, where these are corrupted already, what they were as "clean". ``predict`` returns
    ``Autoencoded``, of inputs or of ``Coded`` codes; params are ``{"encoder": ..., "decoder": ...}``.

    Args:
        encoder: inputs to codes [B, D].
        decoder: codes to outputs.
        loss: ``loss(outputs, targets)`` for each value or example: ``losses.mse``, or, of values from 0 to 1, which it
            learns faster, ``losses.sigmoid_cross_entropy``.
        tx: an Optax optimizer.
        metrics: more functions like the loss, by name, to be reported beside "loss".
        corrupt: ``corrupt(key, inputs)``: what the encoder is given in training (Vincent et al., 2008).
        target: what of the inputs is to be reconstructed, such as ``lambda images: images / 255``.
    """
    _check_parts(encoder, decoder, target)
    if corrupt is not None:
        check_callable("corrupt", corrupt, "give one of corrupt(key, inputs), such as jaxnets.data.augment.noise(30)")
    encoder, decoder = named("encoder", encoder), named("decoder", decoder)
    network = _autoencoder(encoder, decoder)

    def outputs_alone(params: PyTree, model_state: PyTree, inputs: PyTree, **options: Any) -> tuple[Any, PyTree]:
        coded, model_state = network.apply(params, model_state, inputs, **options)
        return coded.outputs, model_state

    learner = supervised(network._replace(apply=outputs_alone), loss, tx, metrics)
    if corrupt is not None:
        learner = _corrupted(learner, corrupt)
    return _predicting(_with_targets(learner, target), network)


def variational(
    encoder: Network,
    decoder: Network,
    tx: optax.GradientTransformation,
    *,
    nll: Loss = losses.bernoulli_nll,
    target: Target = lambda inputs: inputs,
    importance_samples: int = 0,
) -> Learner:
    """Return the learner of a variational autoencoder with Gaussian codes (Kingma and Welling, 2014).

    The loss is the negative evidence lower bound in nats an example, with one code drawn for each; its two parts are
    reported as "distortion" and "kl". In evaluation an example's code is drawn by ``example_keys``, so that its loss
    depends on nothing else. ``predict`` returns ``Autoencoded``, its codes being the means.

    Args:
        encoder: inputs to the mean and the logarithm of the variance of each code, [B, 2 * D].
        decoder: codes [B, D] to outputs, such as logits.
        tx: an Optax optimizer.
        nll: ``nll(outputs, targets)``, [B, values] each: the negative log-likelihood of each example.
        target: what of the inputs is to be reconstructed.
        importance_samples: if not 0, evaluation reports as "nll" the negative log-likelihood as well, estimated from so
            many codes an example (Burda et al., 2016): a bound that is the tighter, the more there are.
    """
    _check_parts(encoder, decoder, target)
    check_callable("nll", nll, "give one of nll(outputs, targets), such as jaxnets.losses.bernoulli_nll")
    check_whole("importance_samples", importance_samples, 0)
    encoder, decoder = named("encoder", encoder), named("decoder", decoder)
    parts = _Variational(encoder, decoder, nll)
    network = _autoencoder(encoder._replace(apply=parts.means), decoder)
    metrics = {"distortion": parts.distortion, "kl": lambda drawn, targets: drawn.kl}
    learner = supervised(network._replace(apply=parts.apply), parts.loss, tx, metrics)

    def check(arrays: Mapping[str, np.ndarray]) -> None:
        learner.check(arrays)
        check_labels(nll, jax.ShapeDtypeStruct((1,), jnp.float32), counted(arrays))

    def evaluate(state: TrainState, batch: Batch) -> Sums:
        sums = learner.evaluate(state, batch)
        if importance_samples:
            sums |= {"nll": mean_of(parts.importance_nll(state, batch, importance_samples), row_weights(batch))}
        return sums

    metrics = {**learner.metrics, "nll": per_example(lambda values, _: values, "lower")}
    return _predicting(
        _with_targets(learner._replace(evaluate=evaluate, check=check, metrics=metrics), target), network
    )


def _check_parts(encoder: Any, decoder: Any, target: Any) -> None:
    check_network("encoder", encoder)
    check_network("decoder", decoder)
    check_callable("target", target, "give a function of the inputs, such as lambda images: images / 255")


class _Drawn(NamedTuple):
    """What the decoder makes of codes that were drawn, and the divergence of each code's distribution [B]."""

    outputs: jax.Array
    kl: jax.Array


class _Variational(NamedTuple):
    """The functions of a variational autoencoder; ``variational`` says what the fields are."""

    encoder: Network
    decoder: Network
    nll: Loss

    def moments(self, params: PyTree, model_state: PyTree, inputs: PyTree, **options: Any) -> tuple[Any, PyTree]:
        """Return mean and logarithm of the variance of each code, [B, D] both, in float32."""
        outputs, model_state = self.encoder.apply(params, model_state, inputs, **options)
        if outputs.ndim != 2 or outputs.shape[1] % 2:
            raise InputError(f"the encoder makes outputs of shape {outputs.shape}; it must make moments, [B, 2 * D]")
        return jnp.split(outputs.astype(jnp.float32), 2, axis=-1), model_state

    def means(self, params: PyTree, model_state: PyTree, inputs: PyTree, **options: Any) -> tuple[Any, PyTree]:
        """Return the codes that are likeliest, [B, D]."""
        (mean, _), model_state = self.moments(params, model_state, inputs, **options)
        return mean, model_state

    def apply(
        self, params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[_Drawn, PyTree]:
        """Draw a code for each example, by ``key`` or, without one, by the example's own."""
        encoder_key, noise_key, decoder_key = [None] * 3 if key is None else jax.random.split(key, 3)
        (mean, log_variance), encoder_state = self.moments(
            params["encoder"], model_state["encoder"], inputs, train=train, key=encoder_key
        )
        noise = (
            _noise(example_keys(inputs), mean)
            if noise_key is None
            else jax.random.normal(noise_key, mean.shape, mean.dtype)
        )
        codes = mean + jnp.exp(0.5 * log_variance) * noise
        outputs, decoder_state = self.decoder.apply(
            params["decoder"], model_state["decoder"], codes, train=train, key=decoder_key
        )
        kl = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance).sum(-1)
        return _Drawn(outputs, kl), {"encoder": encoder_state, "decoder": decoder_state}

    def distortion(self, drawn: _Drawn, targets: jax.Array) -> jax.Array:
        """Return the negative log-likelihood of each example given its code, [B]."""
        if drawn.outputs.shape != targets.shape:
            raise InputError(
                f"the decoder makes outputs of shape {drawn.outputs.shape}, not the targets' {targets.shape}"
            )
        values = self.nll(*(values.reshape(values.shape[0], -1) for values in (drawn.outputs, targets)))
        if values.shape != targets.shape[:1]:
            raise InputError(f"nll gives {values.shape} values for a batch; it must give one an example: bernoulli_nll")
        return values

    def loss(self, drawn: _Drawn, targets: jax.Array) -> jax.Array:
        """Return the negative evidence lower bound of each example, [B]."""
        return self.distortion(drawn, targets) + drawn.kl

    def importance_nll(self, state: TrainState, batch: Batch, num_samples: int) -> jax.Array:
        """Return the negative log-likelihood of each example, [B], estimated from so many codes."""
        params, model_state = state.params, state.model_state
        (mean, log_variance), _ = self.moments(params["encoder"], model_state["encoder"], batch["inputs"])
        keys = example_keys(batch["inputs"])

        def add(total: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
            noise = _noise(jax.vmap(jax.random.fold_in, (0, None))(keys, i), mean)
            codes = mean + jnp.exp(0.5 * log_variance) * noise
            outputs, _ = self.decoder.apply(params["decoder"], model_state["decoder"], codes)
            # log p(z) - log q(z | x): what both normal densities have in common cancels.
            log_ratio = 0.5 * (jnp.square(noise) + log_variance - jnp.square(codes)).sum(-1)
            drawn = _Drawn(outputs.astype(jnp.float32), log_ratio)
            return jnp.logaddexp(total, log_ratio - self.distortion(drawn, batch["labels"])), None

        total, _ = lax.scan(add, jnp.full(mean.shape[:1], -jnp.inf, mean.dtype), jnp.arange(num_samples))
        return jnp.log(num_samples) - total


def _autoencoder(encoder: Network, decoder: Network) -> Network:
    """Return both as one network, with outputs ``Autoencoded``; of ``Coded`` inputs only the decoder runs."""

    def init(key: Key) -> tuple[PyTree, PyTree]:
        keys = jax.random.split(key)
        (encoder_params, encoder_state), (decoder_params, decoder_state) = encoder.init(keys[0]), decoder.init(keys[1])
        params = {"encoder": encoder_params, "decoder": decoder_params}
        return params, {"encoder": encoder_state, "decoder": decoder_state}

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Autoencoded, PyTree]:
        keys = [None] * 2 if key is None else jax.random.split(key)
        if isinstance(inputs, Coded):
            codes, encoder_state = inputs.codes, model_state["encoder"]
        else:
            codes, encoder_state = encoder.apply(
                params["encoder"], model_state["encoder"], inputs, train=train, key=keys[0]
            )
        outputs, decoder_state = decoder.apply(
            params["decoder"], model_state["decoder"], codes, train=train, key=keys[1]
        )
        return Autoencoded(codes, outputs), {"encoder": encoder_state, "decoder": decoder_state}

    return Network(init, apply, encoder.check)


def _with_targets(learner: Learner, target: Target) -> Learner:
    """Return a learner whose labels are what of its inputs (or of "clean" ones) is to be reconstructed."""

    def labelled(batch: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: array for name, array in batch.items() if name != "clean"}
        return kept | {"labels": target(batch.get("clean", batch["inputs"]))}

    def check(arrays: Mapping[str, np.ndarray]) -> None:
        check_names(arrays, ("inputs",), ("clean", "labels", *COUNTING))  # labels are for pictures of the codes
        arrays = labelled(arrays)
        labels = arrays["labels"].astype(jax.dtypes.canonicalize_dtype(arrays["labels"].dtype))
        learner.check({**arrays, "labels": labels})

    return mapped(learner, labelled)._replace(check=check)


def _corrupted(learner: Learner, corrupt: Corrupt) -> Learner:
    """Return a learner that is given ``corrupt(key, inputs)`` in training."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def train(state: TrainState, batch: Batch, key: Key) -> Any:
            corrupt_key, key = jax.random.split(key)
            return function(state, {**batch, "inputs": corrupt(corrupt_key, batch["inputs"])}, key)

        return train

    return with_training(learner, wrap)


def _predicting(learner: Learner, network: Network) -> Learner:
    """Return a learner that predicts with the network."""

    def predict(state: TrainState, inputs: Any) -> Any:
        coded, _ = network.apply(state.params, state.model_state, inputs)
        return jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), coded)

    return learner._replace(predict=predict)


def _noise(keys: Key, like: jax.Array) -> jax.Array:
    """Return standard normal numbers, a row for each key."""
    return jax.vmap(lambda key: jax.random.normal(key, like.shape[1:], like.dtype))(keys)
