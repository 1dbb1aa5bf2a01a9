"""Generative adversarial networks: one learner of two networks, each with an optimizer of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnets.errors import InputError, check_callable, check_kind, check_whole
from jaxnets.learner import Batch, Initial, Learner, Sums, TrainState, begin, check_key, check_network, check_tx
from jaxnets.learners.arrays import COUNTING, check_names
from jaxnets.learners.supervised import row_weights
from jaxnets.metrics import Metric, mean_of, per_example
from jaxnets.network import Coded, Key, Network, PyTree, example_keys, named

# What both players measure; neither falls steadily in a game that goes well.
_METRICS: dict[str, Metric] = dict.fromkeys(("loss", "generator_loss", "fooled"), per_example(lambda values, _: values))


class Game(NamedTuple):
    """What the two players minimise, from the discriminator's scores: high for what it holds for real.

    Attributes:
        discriminator: ``discriminator(real_scores, fake_scores) -> losses``, [B] each.
        generator: ``generator(fake_scores) -> losses``, [B] each.
        penalty: weight of ``(|gradient of the score| - 1) ** 2`` at points between real and generated examples. It
            is of single examples: a discriminator with batch normalisation, which mixes them, does not suit it.
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array], jax.Array]
    penalty: float = 0.0


NON_SATURATING = Game(
    lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake), lambda fake: jax.nn.softplus(-fake)
)
"""Goodfellow et al., 2014: cross-entropy, the generator's with the labels swapped."""
HINGE = Game(lambda real, fake: jax.nn.relu(1 - real) + jax.nn.relu(1 + fake), lambda fake: -fake)
"""Lim and Ye, 2017."""
WASSERSTEIN = Game(lambda real, fake: fake - real, lambda fake: -fake, penalty=10.0)
"""Gulrajani et al., 2017: the Wasserstein distance, with a gradient penalty."""


def adversarial(
    generator: Network,
    discriminator: Network,
    code_dim: int,
    generator_tx: optax.GradientTransformation,
    discriminator_tx: optax.GradientTransformation,
    *,
    game: Game = NON_SATURATING,
    target: Callable[[Any], Any] = lambda inputs: inputs,
    num_classes: int = 0,
    discriminator_steps: int = 1,
) -> Learner:
    """Return the learner of a generative adversarial network (Goodfellow et al., 2014).

    A step updates the discriminator, then the generator, by as many examples as are in the discriminator's last part.
    Params, optimizer states and model states are ``{"generator": ..., "discriminator": ...}``. Metrics are the two
    losses ("loss" is the discriminator's, of its last update and without a penalty; neither falls steadily in a game
    that goes well) and "fooled", the share of generated examples with scores above 0. ``predict`` returns images for
    ``Coded`` codes (standard normal, then, if conditional, a one-hot class), and for images the discriminator's scores
    [B], if conditional those of the likeliest class.

    Args:
        generator: codes [B, code_dim + num_classes] to examples.
        discriminator: examples to scores, [B, 1]; conditional, it is given images with ``num_classes`` channels more.
        code_dim: standard normal numbers in a code.
        generator_tx: the generator's optimizer.
        discriminator_tx: the discriminator's; it takes ``discriminator_steps`` updates a step.
        game: ``NON_SATURATING``, ``HINGE``, ``WASSERSTEIN`` or another.
        target: what of the inputs the generator is to make, such as ``lambda images: images / 127.5 - 1``.
        num_classes: if not 0, both networks are given the class, "labels" of the batch (Mirza and Osindero, 2014).
        discriminator_steps: the parts that a batch is cut into, one for each of the discriminator's updates in a step.
    """
    check_network("generator", generator)
    check_network("discriminator", discriminator)
    check_tx("generator_tx", generator_tx)
    check_tx("discriminator_tx", discriminator_tx)
    check_kind("game", game, Game, "give NON_SATURATING, HINGE, WASSERSTEIN or another Game")
    check_callable("target", target, "give a function of the inputs, such as lambda images: images / 127.5 - 1")
    check_whole("code_dim", code_dim)
    check_whole("discriminator_steps", discriminator_steps)
    check_whole("num_classes", num_classes, 0)
    networks = {"generator": named("generator", generator), "discriminator": named("discriminator", discriminator)}
    txs = {"generator": generator_tx, "discriminator": discriminator_tx}
    players = _Players(networks, txs, code_dim, game, target, num_classes, discriminator_steps)
    return Learner(players.init, players.step, players.evaluate, players.predict, players.check, _METRICS)


@dataclass(frozen=True)
class _Players:
    """The two networks, and the functions of their learner; ``adversarial`` says what the fields are."""

    networks: Mapping[str, Network]
    txs: Mapping[str, optax.GradientTransformation]
    code_dim: int
    game: Game
    target: Callable[[Any], Any]
    num_classes: int
    discriminator_steps: int

    def init(self, key: Key, initial: Initial | None = None) -> TrainState:
        check_key(key)
        made = {
            player: network.init(jax.random.fold_in(key, i))
            for i, (player, network) in enumerate(self.networks.items())
        }
        params = {player: params for player, (params, _) in made.items()}
        model_states = {player: model_state for player, (_, model_state) in made.items()}
        params, model_states = begin(params, model_states, initial)
        opt_states = {player: tx.init(params[player]) for player, tx in self.txs.items()}
        return TrainState(jnp.zeros((), jnp.int32), params, opt_states, model_states)

    def step(self, state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Sums]:
        if refused := sorted({"mask", "weights"} & set(batch)):
            what = " and no ".join(refused)
            raise InputError(
                f"an adversarial learner takes no {what} in training; leave out the rows that do not count"
            )
        size, parts = len(batch["inputs"]), self.discriminator_steps
        if size % parts:
            raise InputError(
                f"discriminator_steps={parts} does not divide the batch of {size} examples; give one that does"
            )
        cut = {name: jnp.asarray(array).reshape(parts, -1, *array.shape[1:]) for name, array in batch.items()}

        def train(i: jax.Array, carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
            real, labels = self._real({name: array[i] for name, array in cut.items()})
            return self._train_discriminator(carry[0], real, labels, jax.random.fold_in(key, i))

        start = train(jnp.int32(0), (state, jnp.zeros(size // parts)))
        state, lost = lax.fori_loop(1, parts, train, start) if parts > 1 else start
        real, labels = self._real({name: array[0] for name, array in cut.items()})
        state, (values, fooled) = self._train_generator(state, real, labels, jax.random.fold_in(key, parts))
        metrics = {"loss": mean_of(lost), "generator_loss": mean_of(values), "fooled": mean_of(fooled)}
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: TrainState, batch: Batch) -> Sums:
        real, labels = self._real(batch)
        codes = jax.vmap(lambda key: jax.random.normal(key, (self.code_dim,), jnp.float32))(
            example_keys(batch["inputs"])
        )
        fake = self.predict(state, Coded(self._with_class(codes, labels)))
        (real_scores, _), (fake_scores, _) = (self._scores(state, x, labels) for x in (real, fake))
        values = {
            "loss": self.game.discriminator(real_scores, fake_scores),
            "generator_loss": self.game.generator(fake_scores),
            "fooled": fake_scores > 0,
        }
        return {name: mean_of(value, row_weights(batch)) for name, value in values.items()}

    def predict(self, state: TrainState, inputs: Any) -> jax.Array:
        if isinstance(inputs, Coded):
            params, model_state = state.params["generator"], state.model_state["generator"]
            return self.networks["generator"].apply(params, model_state, inputs.codes)[0].astype(jnp.float32)
        real, _ = self._real({"inputs": inputs, "labels": None})
        if not self.num_classes:
            return self._scores(state, real, None)[0]
        labels = jnp.arange(self.num_classes)[:, None].repeat(len(real), 1)
        return jax.vmap(lambda label: self._scores(state, real, label)[0])(labels).max(0)

    def check(self, arrays: Mapping[str, np.ndarray]) -> None:
        check_names(arrays, ("inputs", "labels") if self.num_classes else ("inputs",), ("labels", *COUNTING))
        if self.num_classes:
            labels = arrays["labels"]
            if labels.ndim != 1 or labels.dtype.kind not in "iu":
                raise InputError(f"labels are {labels.dtype}{list(labels.shape)}; give the number of each class, [N]")
            low, high = labels.min(), labels.max()
            if low < 0 or high >= self.num_classes:
                raise InputError(f"labels range from {low} to {high}, outside 0..{self.num_classes - 1}")
        state = jax.eval_shape(lambda: self.init(jax.random.key(0)))
        dtype = jax.dtypes.canonicalize_dtype(arrays["inputs"].dtype)
        inputs = jax.ShapeDtypeStruct((2, *arrays["inputs"].shape[1:]), dtype)
        codes = Coded(jax.ShapeDtypeStruct((2, self.code_dim + self.num_classes), jnp.float32))
        wanted, got = jax.eval_shape(self.target, inputs).shape, jax.eval_shape(self.predict, state, codes).shape
        if got != wanted:
            raise InputError(f"the generator makes examples of shape {got[1:]}, but the data's are {wanted[1:]}")
        jax.eval_shape(self.predict, state, inputs)

    def _real(self, batch: Batch) -> tuple[jax.Array, jax.Array | None]:
        """Return the examples that the generator is to match, and their classes if these matter."""
        return jnp.asarray(self.target(batch["inputs"]), jnp.float32), batch["labels"] if self.num_classes else None

    def _with_class(self, codes: jax.Array, labels: jax.Array | None) -> jax.Array:
        return codes if labels is None else jnp.concatenate([codes, jax.nn.one_hot(labels, self.num_classes)], -1)

    def _scores(
        self, state: TrainState, x: jax.Array, labels: jax.Array | None, **options: Any
    ) -> tuple[jax.Array, PyTree]:
        """Return the discriminator's scores [B] and model state; a class is given as planes of zeros and a one."""
        if labels is not None:
            planes = jax.nn.one_hot(labels, self.num_classes).reshape(len(x), *(1,) * (x.ndim - 2), -1)
            x = jnp.concatenate([x, jnp.broadcast_to(planes, (*x.shape[:-1], self.num_classes))], -1)
        params, model_state = state.params["discriminator"], state.model_state["discriminator"]
        outputs, model_state = self.networks["discriminator"].apply(params, model_state, x, **options)
        if outputs.shape != (len(x), 1):
            raise InputError(
                f"the discriminator makes outputs of shape {outputs.shape}, not one score each, {(len(x), 1)}"
            )
        return outputs.astype(jnp.float32)[:, 0], model_state

    def _generated(self, state: TrainState, size: int, labels: jax.Array | None, key: Key) -> tuple[jax.Array, PyTree]:
        """Return examples in training mode, and the generator's model state."""
        code_key, key = jax.random.split(key)
        codes = self._with_class(jax.random.normal(code_key, (size, self.code_dim), jnp.float32), labels)
        params, model_state = state.params["generator"], state.model_state["generator"]
        images, model_state = self.networks["generator"].apply(params, model_state, codes, train=True, key=key)
        return images.astype(jnp.float32), model_state

    def _train_discriminator(
        self, state: TrainState, real: jax.Array, labels: jax.Array | None, key: Key
    ) -> tuple[TrainState, jax.Array]:
        """Return the state after one update, and the losses [B]."""
        keys = jax.random.split(key, 5)
        fake, _ = self._generated(state, len(real), labels, keys[0])

        def objective(params: PyTree) -> tuple[jax.Array, tuple[PyTree, jax.Array]]:
            moved = _with(state, "discriminator", params=params)
            real_scores, model_state = self._scores(moved, real, labels, train=True, key=keys[1])
            moved = _with(moved, "discriminator", model_state=model_state)
            fake_scores, model_state = self._scores(moved, fake, labels, train=True, key=keys[2])
            values = self.game.discriminator(real_scores, fake_scores)
            loss = values.mean()
            if self.game.penalty:
                share = jax.random.uniform(keys[3], (len(real),) + (1,) * (real.ndim - 1), jnp.float32)
                between = share * real + (1 - share) * fake
                slopes = jax.grad(lambda x: self._scores(moved, x, labels, train=True, key=keys[4])[0].sum())(between)
                loss += self.game.penalty * jnp.square(_norms(slopes.reshape(len(real), -1)) - 1).mean()
            return loss, (model_state, values)

        grads, (model_state, values) = jax.grad(objective, has_aux=True)(state.params["discriminator"])
        return self._updated("discriminator", state, grads, model_state), values

    def _train_generator(
        self, state: TrainState, real: jax.Array, labels: jax.Array | None, key: Key
    ) -> tuple[TrainState, tuple[jax.Array, jax.Array]]:
        """Return the state after one update, the losses [B], and which examples had scores above 0 [B]."""
        keys = jax.random.split(key)

        def objective(params: PyTree) -> tuple[jax.Array, tuple[PyTree, tuple[jax.Array, jax.Array]]]:
            moved = _with(state, "generator", params=params)
            fake, model_state = self._generated(moved, len(real), labels, keys[0])
            # This pass does not update the discriminator's batch statistics.
            fake_scores, _ = self._scores(moved, fake, labels, train=True, key=keys[1])
            values = self.game.generator(fake_scores)
            return values.mean(), (model_state, (values, fake_scores > 0))

        grads, (model_state, results) = jax.grad(objective, has_aux=True)(state.params["generator"])
        return self._updated("generator", state, grads, model_state), results

    def _updated(self, player: str, state: TrainState, grads: PyTree, model_state: PyTree) -> TrainState:
        params = state.params[player]
        updates, opt_state = self.txs[player].update(grads, state.opt_state[player], params)
        params = optax.apply_updates(params, updates)
        return _with(state, player, params=params, opt_state=opt_state, model_state=model_state)


def _with(state: TrainState, player: str, **fields: PyTree) -> TrainState:
    """Return the state with these fields of one player in place of its own."""
    return state.replace(**{name: {**getattr(state, name), player: value} for name, value in fields.items()})


def _norms(rows: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(rows).sum(-1) + 1e-12)  # of a row of zeros too, the gradient is finite
