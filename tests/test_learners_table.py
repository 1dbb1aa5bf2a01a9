"""Every learner, and every transformation of one, through one table of properties; a new learner is a new row.

What a learner lacks stands in its row, with the reason, and what it refuses is tested to be refused.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import adam, assert_same_bits, keys, member

import jaxnets as jn
from jaxnets import learners
from jaxnets.data import augment, paired
from jaxnets.learners import (
    Shape,
    detection,
    embedding,
    ensembled,
    maml,
    matching,
    pointing,
    prototypical,
    reconstructing,
    reptile,
    segmentation,
    sequence_to_sequence,
    supervised_contrastive,
    variational,
)
from jaxnets.models import (
    MLP,
    RNN,
    Columns,
    EncoderDecoder,
    HistoryTransformer,
    MaskedDecoder,
    RatingFactors,
    TableEnsemble,
    Tabular,
    Transformer,
    UNet,
    ViT,
)
from jaxnets.network import reshaped
from jaxnets.nn import GRU
from jaxnets.runs import checkpoint
from jaxnets.transforms import augmented_pairs, probed, trimmed, windowed

SIZE = 8  # examples of a batch
PADDING, SEPARATOR = 0, 2
Arrays = dict[str, np.ndarray]


class Lack(NamedTuple):
    """Why a learner lacks a property, and, where it is refused, the error."""

    reason: str
    error: str = ""


class Case(NamedTuple):
    """A learner.

    Attributes:
        make: ``make(tx, **options)``; the options are the networks'.
        arrays: ``arrays(random, size)``, so many examples.
        draws: a step draws numbers for a batch as a whole, such as noise: those of a part of it are others.
        members: of a group; 0 for none.
        lacks: properties that it has not.
        rounds: a member rounds as its run alone does but for the last bit of some weights: XLA fuses what it is cut
            from otherwise.
    """

    make: Callable[..., jn.Learner]
    arrays: Callable[[np.random.Generator, int], Arrays]
    draws: bool = False
    members: int = 0
    lacks: Mapping[str, Lack] = {}
    rounds: bool = False


def classification(tx: Any, **options: Any) -> jn.Learner:
    network = jn.network(MLP, 4, (6,), 3, **options)
    return jn.supervised(network, jn.losses.softmax_cross_entropy, tx, {"accuracy": jn.losses.accuracy})


def adapted(tx: Any, **options: Any) -> jn.Learner:
    network = jn.lora(jn.network(MLP, 4, (6,), 3, **options), 2, ["**/layer/kernel"])
    metrics = {"accuracy": jn.losses.accuracy}
    return jn.frozen(jn.supervised(network, jn.losses.softmax_cross_entropy, tx, metrics), ["base/**", "!base/out/**"])


def regression(tx: Any, **options: Any) -> jn.Learner:
    return jn.supervised(jn.network(MLP, 4, (6,), 2, **options), jn.losses.mse, tx, {"mae": jn.losses.mae})


def binary(tx: Any, **options: Any) -> jn.Learner:
    return jn.supervised(jn.network(MLP, 4, (6,), 1, **options), jn.losses.sigmoid_cross_entropy, tx)


def members(tx: Any, *, dropout: float = 0.0, **options: Any) -> jn.Learner:
    body = partial(TableEnsemble, hidden=(6,), members=2, dropout=dropout)
    network = jn.network(Tabular, Columns((2,), (3, 3)), 4, body, 3, **options)
    return ensembled(network, jn.losses.softmax_cross_entropy, tx, {"accuracy": jn.metrics.accuracy})


def continued(network: jn.Network, tx: Any) -> jn.Learner:
    return jn.autoregressive(jn.supervised(network, jn.losses.softmax_cross_entropy, tx))


def recurrent(tx: Any, **options: Any) -> jn.Learner:
    return continued(jn.network(RNN, 6, (4,), 6, embedding=3, cell=GRU, **options), tx)


def gpt(tx: Any, **options: Any) -> jn.Learner:
    return continued(jn.network(Transformer, 6, 8, 1, 2, 6, tokens=True, causal=True, max_length=5, **options), tx)


def translating(tx: Any, **options: Any) -> jn.Learner:
    kind = {"max_length": 6, "padding": PADDING, "positions": "sinusoidal"}
    network = jn.network(EncoderDecoder, 6, 8, 1, 2, **kind, **options)
    metrics = {"accuracy": jn.losses.accuracy}
    return sequence_to_sequence(jn.supervised(network, jn.losses.softmax_cross_entropy, tx, metrics), PADDING)


def rating_films(tx: Any, **options: Any) -> jn.Learner:
    network = jn.network(RatingFactors, 3, 6, np.eye(2), mean=3.0, features=4, ranges=(3.0,), **options)
    return learners.rating(jn.supervised(network, jn.losses.mse, tx, {"rmse": jn.metrics.rmse}))


def following(tx: Any, **options: Any) -> jn.Learner:
    network = jn.network(HistoryTransformer, 3, 12, 8, 1, 2, max_length=4, **options)
    return learners.next_item(network, learners.softmax_over_items, tx)


def pointing_at(tx: Any, **options: Any) -> jn.Learner:
    kind = {"tokens": True, "padding": PADDING, "num_segments": 2, "max_length": 7, "use_bias": False}
    return pointing(jn.network(Transformer, 8, 4, 1, 2, 2, **kind, **options), SEPARATOR, tx)


def autoencoder(tx: Any, corrupt: Any = None, **options: Any) -> jn.Learner:
    encoder, decoder = jn.network(MLP, 4, (6,), 2, **options), jn.network(MLP, 2, (6,), 4, **options)
    return reconstructing(encoder, decoder, jn.losses.mse, tx, {"mae": jn.losses.mae}, corrupt=corrupt)


def vae(tx: Any, **options: Any) -> jn.Learner:
    encoder, decoder = jn.network(MLP, 4, (6,), 4, **options), jn.network(MLP, 2, (6,), 4, **options)
    return variational(encoder, decoder, tx, importance_samples=2)


def gan(tx: Any, **options: Any) -> jn.Learner:
    generator, discriminator = jn.network(MLP, 2, (6,), 4, **options), jn.network(MLP, 4, (6,), 1, **options)
    return jn.adversarial(generator, discriminator, 2, tx, tx)


def detecting(tx: Any, **options: Any) -> jn.Learner:
    return detection(reshaped(jn.network(MLP, 16, (6,), 24, **options), (2, 2, 6)), tx, ("a", "b"), (4, 4), stride=2)


def segmenting(tx: Any, **options: Any) -> jn.Learner:
    network = jn.network(UNet, 1, (3, 4), 2, norm=None, **options)
    loss = segmentation.total([segmentation.cross_entropy, segmentation.dice_loss])
    return segmentation.segmenting(network, loss, tx, {"pixel_accuracy": jn.metrics.pixel_accuracy()})


def cut_out(tx: Any, **options: Any) -> jn.Learner:
    return augmented_pairs(segmenting(tx, **options), paired.chain(paired.crop(4), paired.flips()))


def embedded(tx: Any, **options: Any) -> jn.Learner:
    network = jn.network(MLP, 4, (6,), 3, **options)
    return embedding(network, supervised_contrastive(0.5), tx, {"auc": jn.metrics.pair_auc()})


def episodic(make: Callable[..., jn.Learner], tx: Any, **options: Any) -> jn.Learner:
    shape = Shape(ways=2, shots=1, queries=1)
    return make(jn.network(MLP, 4, (6,), 2, **options), tx, shape, shape)


def noisy(tx: Any, *parts: jn.Network, make: Callable[..., jn.Learner]) -> jn.Learner:
    return make(*parts, tx, augment.noise(0.3, low=-9))


def byol(tx: Any, **options: Any) -> jn.Learner:
    sizes = (4, (6,), 5), (5, (6,), 3), (3, (6,), 3)
    return noisy(tx, *(jn.network(MLP, *size, **options) for size in sizes), make=learners.byol)


def vicreg(tx: Any, **options: Any) -> jn.Learner:
    sizes = (4, (6,), 5), (5, (6,), 3)
    return noisy(tx, *(jn.network(MLP, *size, **options) for size in sizes), make=learners.vicreg)


def masked_autoencoder(tx: Any, **options: Any) -> jn.Learner:
    encoder = jn.network(ViT, (4, 4, 1), 2, 8, 1, 2, None, **options)
    return learners.masked_autoencoding(encoder, jn.network(MaskedDecoder, 4, 8, 8, 1, 2, 4), 2, tx, masked=0.5)


def points(random: np.random.Generator, size: int) -> Arrays:
    return {"inputs": random.normal(size=(size, 4)).astype(np.float32)}


def classes(random: np.random.Generator, size: int) -> Arrays:
    return points(random, size) | {"labels": random.integers(0, 3, size).astype(np.int32)}


def values(random: np.random.Generator, size: int) -> Arrays:
    return points(random, size) | {"labels": random.normal(size=(size, 2)).astype(np.float32)}


def answers(random: np.random.Generator, size: int) -> Arrays:
    return points(random, size) | {"labels": random.integers(0, 2, (size, 1)).astype(np.int32)}


def boxes(random: np.random.Generator, size: int) -> Arrays:
    corner = random.uniform(0, 3, (size, 3, 2))
    labels = np.concatenate([corner, corner + 1, random.integers(-1, 2, (size, 3, 1))], -1)
    labels[..., :4] *= labels[..., 4:] >= 0
    return {"inputs": random.normal(size=(size, 4, 4, 1)).astype(np.float32), "labels": labels.astype(np.float32)}


def images(random: np.random.Generator, size: int) -> Arrays:
    return {"inputs": random.normal(size=(size, 4, 4, 1)).astype(np.float32)}


def bits(random: np.random.Generator, size: int) -> Arrays:
    return {"inputs": random.integers(0, 2, (size, 4)).astype(np.float32)}


def tokens(random: np.random.Generator, size: int, length: int = 6) -> Arrays:
    return {"inputs": random.integers(0, 6, (size, length)).astype(np.int32)}


def pairs(random: np.random.Generator, size: int, most: int = 6) -> Arrays:
    """Sentences of 3 to ``most`` tokens, filled up to 6."""
    kept = np.arange(6) < random.integers(3, most + 1, (2, size, 1))
    source, target = np.where(kept, random.integers(1, 6, (2, size, 6)), PADDING).astype(np.int32)
    return {"inputs": source, "targets": target}


def rated(random: np.random.Generator, size: int) -> Arrays:
    names = {"inputs": 6, "user": 3, "tags": 2, "times": 9, "given": 2}
    found = {name: random.integers(0, most, (size, 4)).astype(np.int32) for name, most in names.items()}
    stars = random.integers(1, 6, (size, 4)).astype(np.float32)
    return found | {"user": found["user"][:, 0], "ratings": stars, "labels": stars}


def histories(random: np.random.Generator, size: int) -> Arrays:
    rows = np.array([1 + random.permutation(11)[:5] for _ in range(size)], np.int32)
    kept = np.arange(4) < random.integers(1, 5, (size, 1))
    user = random.integers(0, 3, size).astype(np.int32)
    return {"inputs": np.where(kept, rows[:, :4], 0), "user": user, "labels": rows[:, 4]}


def asked(random: np.random.Generator, size: int) -> Arrays:
    """Rows of a beginning, a question, a separator, a text of two or three tokens, a separator, and padding."""
    rows = random.integers(4, 8, (size, 7)).astype(np.int32)
    rows[:, 0], rows[:, 2] = 1, SEPARATOR
    short = random.random(size) < 0.5
    rows[:, 6] = np.where(short, PADDING, SEPARATOR)
    rows[short, 5] = SEPARATOR
    return {"inputs": rows, "labels": np.array([[0, 0], [3, 3], [3, 4], [4, 4]], np.int32)[random.integers(0, 4, size)]}


def pictures(random: np.random.Generator, size: int) -> Arrays:
    labels = random.integers(0, 2, (size, 6, 6)).astype(np.int32)
    return {"inputs": (labels[..., None] + random.normal(size=(size, 6, 6, 1))).astype(np.float32), "labels": labels}


def pairs_of_two(random: np.random.Generator, size: int) -> Arrays:
    both = [values(random, size) for _ in range(2)]
    return {name: np.stack([one[name] for one in both], 1) for name in both[0]}


def two_classes(random: np.random.Generator, size: int) -> Arrays:
    return points(random, size) | {"labels": (np.arange(size) // 2 % 2).astype(np.int32)}


PAIRS = "weights are of examples, and embeddings learn from pairs"
WHOLE = {
    "mask": Lack("whole episodes", "episodes take no mask in training"),
    "weights": Lack("whole episodes", "episodes take no weights in training"),
    "evaluation mask": Lack("an episode counts where all of its rows do"),
    "evaluation weights": Lack("whole episodes", "the data hold weights, which no part of the learner reads"),
    "accumulation": Lack("whole episodes: with a mask and weights, as that test has, they are refused"),
}
NOISE = {"accumulation": Lack("each part draws noise of its own")}
STATISTICS = Lack("batch statistics are of all rows, whatever they count")
ONE_GRADIENT = "accumulate=2 is for learners that follow one gradient, before averaged"
LEARNERS = {
    "classification": Case(classification, classes),
    "classification, batch norm": Case(
        partial(classification, norm="batch"),
        classes,
        lacks={"mask": STATISTICS, "weights": STATISTICS, "accumulation": Lack("batch statistics are those of a part")},
    ),
    "regression": Case(regression, values),
    "members": Case(members, classes),
    "binary": Case(binary, answers),
    "detection": Case(detecting, boxes),
    "autoregressive, gru": Case(recurrent, tokens),
    "autoregressive, transformer": Case(gpt, tokens),
    "sequence to sequence": Case(translating, pairs),
    "rating": Case(rating_films, rated),
    "next item": Case(following, histories, rounds=True),
    "pointing": Case(pointing_at, asked, rounds=True),
    "reconstructing": Case(autoencoder, points),
    "denoising": Case(partial(autoencoder, corrupt=augment.noise(0.3, low=-9)), points, draws=True, lacks=NOISE),
    "variational": Case(vae, bits, draws=True, lacks=NOISE),
    "adversarial": Case(
        gan,
        points,
        draws=True,
        lacks={
            "mask": Lack("two players", "an adversarial learner takes no mask in training; leave out the rows"),
            "weights": Lack("two players", "an adversarial learner takes no weights in training; leave out the rows"),
            "accumulation": Lack("two gradients", ONE_GRADIENT),
        },
    ),
    "embedding": Case(
        embedded,
        two_classes,
        lacks={
            "weights": Lack("pairs", PAIRS),
            "evaluation weights": Lack("pairs", "the data hold weights, which no part of the learner reads"),
            "accumulation": Lack("pairs are within a part"),
        },
    ),
    "prototypical": Case(partial(episodic, prototypical), two_classes, lacks=WHOLE),
    "matching": Case(partial(episodic, matching), two_classes, lacks=WHOLE),
    "maml": Case(partial(episodic, maml), two_classes, lacks=WHOLE),
    "reptile": Case(partial(episodic, reptile), two_classes, lacks=WHOLE),
    "byol": Case(byol, points, draws=True, lacks=NOISE),
    "vicreg": Case(
        vicreg,
        points,
        draws=True,
        lacks=NOISE | {"weights": Lack("the loss is of a batch", "VICReg's loss is of a whole batch; leave them out")},
    ),
    "masked autoencoder": Case(masked_autoencoder, images, draws=True, lacks=NOISE),
    "probed": Case(
        lambda tx, **options: probed(classification(tx, **options), 3, 3),
        classes,
        lacks={"accumulation": Lack("it comes after", ONE_GRADIENT)},
    ),
    "augmented": Case(
        lambda tx, **options: jn.augmented(classification(tx, **options), augment.noise(0.3, low=-9)),
        classes,
        draws=True,
        lacks=NOISE,
    ),
    "segmenting": Case(segmenting, pictures),
    "segmenting, of crops": Case(cut_out, pictures, draws=True, lacks=NOISE, rounds=True),
    "windowed, of crops": Case(
        lambda tx, **options: jn.augmented(windowed(gpt(tx, **options), 5), augment.crop(5)),
        partial(tokens, length=9),
        draws=True,
        lacks=NOISE,
    ),
    "trimmed": Case(lambda tx, **options: trimmed(translating(tx, **options), PADDING, (5,)), partial(pairs, most=5)),
    "frozen": Case(lambda tx, **options: jn.frozen(classification(tx, **options), ["hidden/**"]), classes),
    "lora": Case(adapted, classes),
    "unfrozen": Case(lambda tx, **options: jn.unfrozen(classification(tx, **options), 2), classes),
    "grouped": Case(lambda tx, **options: jn.grouped(regression(tx, **options), 2), pairs_of_two, members=2),
    "accumulated": Case(lambda tx, **options: jn.accumulated(regression(tx, **options), 2), values),
    "averaged": Case(
        lambda tx, **options: jn.averaged(classification(tx, **options), 0.9),
        classes,
        lacks={
            "accumulation": Lack("it comes after", ONE_GRADIENT),
            "average": Lack("the average is there", "the weights are averaged once; leave one out"),
        },
    ),
}
FAST = {"classification"}  # in every run of the suite; the others where there is more time


class Trial:
    """A learner of the table with data, so that all tests share what is compiled."""

    def __init__(self, case: Case):
        self.case = case
        self.learner = case.make(optax.sgd(0.5))  # a step is the gradient
        self.random = case.make(adam(1e-2), dropout=0.2)
        self.traces = 0
        self.batch = self.examples(SIZE)
        self.data = jn.Data(**self.examples(10))

        def step(*args: Any) -> Any:
            self.traces += 1
            return self.learner.step(*args)

        self.step = jax.jit(step)

    def examples(self, size: int) -> Arrays:
        return self.case.arrays(np.random.default_rng(0), size)

    def rows(self, numbers: Any) -> np.ndarray:
        """Return a number a row, [B], as the learner takes it."""
        return np.repeat(numbers[:, None], self.case.members, 1) if self.case.members else numbers

    @cached_property
    def state(self) -> jn.TrainState:
        return self.learner.init(key(0))

    def evaluate(self, arrays: Arrays) -> dict[str, Any]:
        return jn.evaluate(self.learner, self.state, arrays, batch_size=SIZE)

    @cached_property
    def run(self) -> dict[int, jn.RunState]:
        """The states of a run at steps 3 and 6, of dropout and Adam."""
        return dict(self.events())

    def events(self, resume: Any = None) -> Iterator[tuple[int, jn.RunState]]:
        options = {"validation": self.data, "evaluate_every": 3, "resume": resume}
        for event in jn.events(self.random, self.data, **RUN, seed=1, **options):
            yield event.step, jax.device_get(event.run_state)

    def lacks(self, name: str, use: Callable[[], Any]) -> bool:
        """Return whether the learner lacks a property, which ``use`` would need; what it refuses must be refused."""
        if name not in self.case.lacks:
            return False
        reason, error = self.case.lacks[name]
        if not error:
            pytest.skip(reason)
        with pytest.raises(jn.InputError, match=error):
            use()
        return True


RUN: dict[str, Any] = {"duration": 6, "batch_size": 4}


@pytest.fixture(scope="module")
def trial(request: pytest.FixtureRequest) -> Trial:
    return Trial(LEARNERS[request.param])


TWINS = {"matching", "reptile", "segmenting, of crops"}  # of others, which CI tries


pytestmark = pytest.mark.parametrize(
    "trial",
    [
        pytest.param(
            name,
            id=name,
            marks=[pytest.mark.slow] * (name not in FAST) + [pytest.mark.release] * (name in TWINS),
        )
        for name in LEARNERS
    ],
    indirect=True,
    scope="module",
)


def key(seed: int = 1) -> jax.Array:
    return keys(seed, 1)[0]


MASK = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
WEIGHTS = np.array([0.5, 1, 0, 2, 1, 3, 0, 0.5], np.float32)
ONES = np.ones(SIZE, np.float32)


def with_garbage(arrays: Arrays) -> Arrays:
    """Return the arrays with something else where the mask is 0, of the kind that padding may hold, and the mask."""

    def spoiled(array: np.ndarray) -> np.ndarray:
        other = np.full_like(array, 1 if array.dtype.kind == "i" else 9)
        return np.where(MASK.reshape(-1, *[1] * (array.ndim - 1)), array, other)

    return {name: spoiled(array) for name, array in arrays.items()} | {"mask": MASK}


def taken(arrays: Arrays, rows: Any) -> Arrays:
    return {name: array[rows] for name, array in arrays.items()}


def assert_close(got: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    chex.assert_trees_all_close(got, wanted, rtol=tolerance, atol=tolerance)


def test_masked_rows_are_not_evaluated(trial):
    trial.learner.check(trial.batch)
    if trial.lacks("evaluation mask", lambda: None):
        return
    assert_close(trial.evaluate(with_garbage(trial.batch)), trial.evaluate(taken(trial.batch, MASK)))


def test_masked_rows_do_not_train(trial):
    if trial.lacks("mask", lambda: trial.step(trial.state, trial.batch | {"mask": MASK}, key())):
        return
    got = trial.step(trial.state, with_garbage(trial.batch), key())
    assert_close(got, trial.step(trial.state, trial.batch | {"mask": MASK}, key()))
    if not trial.case.draws:
        assert_close(got, trial.step(trial.state, taken(trial.batch, MASK), key()))


def test_a_weight_counts_a_row_in_evaluation(trial):
    times = np.array([2, 1, 0, 1, 3, 0, 1, 0])
    given = trial.batch | {"weights": trial.rows(times.astype(np.float32))}
    if trial.lacks("evaluation weights", lambda: trial.evaluate(given)):
        return
    assert_close(trial.evaluate(given), trial.evaluate(taken(trial.batch, np.repeat(np.arange(SIZE), times))))


def test_a_weight_is_a_factor_of_a_rows_gradient(trial):
    """The gradient is that of the mean over the rows of weight times loss, each row's taken by itself."""

    def moved(**more: np.ndarray) -> tuple[Any, Any]:
        new, sums = trial.step(trial.state, trial.batch | more, key())
        return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), new.params, trial.state.params), sums["loss"]

    weights = trial.rows(WEIGHTS)
    if trial.lacks("weights", lambda: moved(weights=weights)):
        return
    moves, losses = zip(*(moved(mask=row) for row in np.eye(SIZE, dtype=bool)), strict=True)
    counts = np.array([loss.count for loss in losses])
    shares = WEIGHTS * counts / counts.sum()
    wanted = jax.tree.map(lambda *rows: np.tensordot(shares, np.stack(rows), 1), *moves)
    got, loss = moved(mask=np.ones(SIZE, bool), weights=weights)
    assert_close(got, wanted)
    assert_close(np.array(loss), np.array([WEIGHTS @ [loss.total for loss in losses], WEIGHTS @ counts]))
    assert_close(moved(mask=np.ones(SIZE, bool), weights=trial.rows(ONES)), moved())


@pytest.mark.release
def test_jit_equals_eager(trial):
    batch = jax.tree.map(jnp.asarray, trial.batch)
    assert_close(trial.step(trial.state, trial.batch, key()), trial.learner.step(trial.state, batch, key()))
    sums = jax.device_get(trial.learner.evaluate(trial.state, batch))
    assert_close(trial.evaluate(trial.batch), jn.metrics.compute(trial.learner.metrics, sums))


def test_one_trace(trial):
    state, before = trial.state, trial.traces
    for i in range(3):
        state, _ = trial.step(state, trial.batch, key(i))
    assert state.step == 3 and trial.traces - before <= 1


@pytest.mark.slow
@pytest.mark.bits
def test_a_member_has_the_bits_of_its_run_alone(trial):
    many = jn.population(trial.random, 2, "map")
    fitted = jn.fit(many, trial.data, **RUN, seed=(0, 1), progress=False)
    found, wanted = jax.device_get(member(fitted.state, 1)), trial.run[6].train
    if trial.case.rounds:
        assert_close(found, jax.device_get(wanted), 1e-6)
    else:
        assert_same_bits(found, wanted)


@pytest.mark.release
@pytest.mark.slow
def test_members_that_are_trained_together_measure_the_same(trial):
    one_by_one, together = (
        jn.fit(jn.population(trial.random, 2, how), trial.data, **RUN, seed=(0, 1), progress=False)
        for how in ("map", "vmap")
    )
    wanted, got = ({n: v for n, v in run.history[-1].items() if n != "seconds"} for run in (one_by_one, together))
    assert_close(got, wanted, 1e-3)


@pytest.mark.bits
def test_resume_has_the_bits_of_an_unbroken_run(trial):
    assert_same_bits(dict(trial.events(trial.run[3]))[6], trial.run[6])


@pytest.mark.bits
def test_a_checkpoint_has_the_same_bits(trial, tmp_path):
    state = trial.run[6].train
    checkpoint.save(tmp_path, 6, state, {})
    restored, _ = checkpoint.restore(tmp_path, jax.eval_shape(trial.random.init, key(0)))
    assert_same_bits(restored, state)


def test_an_average_follows_the_formula(trial):
    """Training is as without it."""
    if trial.lacks("average", lambda: jn.averaged(trial.learner, 0.3).init(key(0))):
        return
    learner = jn.averaged(trial.learner, 0.3)
    state, other, step = learner.init(key(0)), trial.state, jax.jit(learner.step)

    def weights() -> Any:
        return {"params": other.params, "model_state": other.model_state}

    wanted = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), weights())
    for i in range(5):
        state, _ = step(state, trial.batch, key(i))
        other, _ = trial.step(other, trial.batch, key(i))
        keep = min(0.3, (1 + i) / (10 + i))
        wanted = jax.tree.map(lambda old, new, keep=keep: keep * old + (1 - keep) * np.asarray(new), wanted, weights())
    assert_close((state.params, state.model_state), (other.params, other.model_state))
    assert_close(state.extra["average"], jax.tree.map(np.float32, wanted))
    in_use = jn.evaluate(trial.learner, other.replace(**state.extra["average"]), trial.batch, batch_size=SIZE)
    assert_close(jn.evaluate(learner, state, trial.batch, batch_size=SIZE), in_use)


def test_accumulation_equals_the_whole_batch(trial):
    """Also with a mask that falls unevenly on the parts, and weights."""
    if trial.lacks("accumulation", lambda: jn.accumulated(trial.learner, 2)):
        return
    step = jax.jit(jn.accumulated(trial.learner, 2).step)
    for mask, weights in ((MASK, WEIGHTS), (np.ones(SIZE, bool), ONES)):
        batch = trial.batch | {"mask": mask, "weights": trial.rows(weights)}
        assert_close(step(trial.state, batch, key()), trial.step(trial.state, batch, key()))


def stepped(learner: jn.Learner, *args: Any) -> tuple[jn.TrainState, Any]:
    """Return the state after a step, and the sums of the step and of an evaluation after it."""

    @jax.jit
    def both(state: jn.TrainState, batch: Arrays, key: jax.Array) -> Any:
        state, sums = learner.step(state, batch, key)
        return state, (sums, learner.evaluate(state, batch))

    state, sums = both(*args)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, sums)))
    return state, sums


def dtypes(tree: Any) -> list[np.dtype]:
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]


SUMS = {np.dtype(np.float32), np.dtype(np.int32)}


def test_bfloat16_leaves_losses_and_weights_in_float32(trial):
    learner = trial.case.make(optax.sgd(0.5), dtype=jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):  # dtypes are mixed on purpose
        state, sums = stepped(learner, trial.state, trial.batch, key())
    assert dtypes(state) == dtypes(trial.state) and set(dtypes(sums)) <= SUMS


@pytest.mark.slow
def test_a_state_keeps_its_dtypes_in_64_bits(trial):
    usual = dtypes(trial.run[6].train)
    with jax.enable_x64(True):
        learner = trial.case.make(adam(1e-2))
        state = learner.init(key(0))
        assert dtypes(state) == usual
        state, sums = stepped(learner, state, trial.batch, key())
    assert dtypes(state) == usual and set(dtypes(sums)) <= SUMS
