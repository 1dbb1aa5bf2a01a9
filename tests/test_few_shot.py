"""Learners of episodes against PyTorch and plain loops, and what they learn of classes that are not trained on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import adam, keys, quick

import jaxnets as jn
from jaxnets.data import episodes
from jaxnets.errors import InputError
from jaxnets.learners import Episode, Shape, maml, matching, prototypical, reptile
from jaxnets.models import MLP

SHAPE = Shape(ways=3, shots=2, queries=4)
BATCH = 2 * SHAPE.rows


def rows(seed: int = 0) -> np.ndarray:
    """Return two episodes' inputs, [2 * rows, 4]."""
    return np.random.default_rng(seed).normal(size=(BATCH, 4)).astype(np.float32)


def parts(inputs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return support [W, shots, ...] and queries [W, Q, ...] of each episode, by what the order's docstring says."""
    found = []
    for episode in inputs.reshape(-1, SHAPE.rows, *inputs.shape[1:]):
        support, queries = episode[: SHAPE.ways * SHAPE.shots], episode[SHAPE.ways * SHAPE.shots :]
        found.append((support.reshape(SHAPE.ways, SHAPE.shots, -1), queries.reshape(SHAPE.ways, SHAPE.queries, -1)))
    return found


def identity() -> jn.Network:
    """Return a network that embeds inputs as they are, times a number."""

    def apply(params, model_state, inputs, *, train=False, key=None):
        return inputs * params["scale"], model_state

    return jn.Network(lambda key: ({"scale": jnp.ones(())}, {}), apply)


def plain_prototypical(support, queries):
    prototypes = [shots.mean(0) for shots in support]
    return np.array([[-np.square(query - p).sum() for p in prototypes] for of_class in queries for query in of_class])


def plain_matching(support, queries):
    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    logits = []
    for query in queries.reshape(-1, queries.shape[-1]):
        attention = np.exp([[10 * cosine(query, shot) for shot in shots] for shots in support])
        logits.append(np.log(attention.sum(1) / attention.sum()))
    return np.array(logits)


@pytest.mark.slow
@pytest.mark.parametrize("make", quick([matching, prototypical]))
def test_logits_equal_plain_loops(make):
    plain = {matching: plain_matching, prototypical: plain_prototypical}[make]
    learner = make(identity(), optax.sgd(0.1), SHAPE, SHAPE)
    state, inputs = learner.init(keys(0, 1)[0]), rows()
    wanted = np.array([plain(*part) for part in parts(inputs)])
    support = np.stack([part[0].reshape(-1, 4) for part in parts(inputs)])
    queries = np.stack([part[1].reshape(-1, 4) for part in parts(inputs)])
    targets = np.repeat(np.eye(3, dtype=np.float32), 2, 0)[None].repeat(2, 0)
    got = learner.predict(state, Episode(support, targets, queries))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    labels = np.repeat(np.arange(3), 4)
    sums = jn.metrics.compute(learner.metrics, jax.device_get(learner.evaluate(state, {"inputs": inputs})))
    right = (wanted.argmax(-1) == labels).mean(1)
    likelihoods = np.take_along_axis(wanted, labels[None, :, None], -1)[..., 0]
    assert sums["loss"] == pytest.approx((np.log(np.exp(wanted).sum(-1)) - likelihoods).mean(), rel=1e-5)
    assert sums["accuracy"] == pytest.approx(right.mean())
    assert sums["interval_95"] == pytest.approx(1.96 * right.std(ddof=1) / np.sqrt(2), rel=1e-4)
    # Rows that do not count, as of a class with fewer shots, are as if they were not there.
    fewer = learner.predict(state, Episode(support[:, :-1], targets[:, :-1], queries))
    masked = learner.predict(state, Episode(support, np.where(np.arange(6)[:, None] < 5, targets, 0), queries))
    np.testing.assert_allclose(masked, fewer, rtol=1e-5, atol=1e-6)


def forward(params, x):
    """Return the logits of an MLP of one hidden layer (tanh), in PyTorch."""
    hidden = (x @ params[0] + params[1]).tanh()
    return hidden @ params[2] + params[3]


def leaves(params) -> list[np.ndarray]:
    named = jn.parameters.paths(params)
    order = ("hidden/0/layer/kernel", "hidden/0/layer/bias", "out/kernel", "out/bias")
    return [np.asarray(named[name]) for name in order]


def tanh_network() -> jn.Network:
    return jn.network(MLP, 4, (6,), 3, activation=jnp.tanh)


def torch_adapted(torch, params, support, steps, rate, graph):
    labels = torch.repeat_interleave(torch.arange(3), support.shape[1])
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(forward(params, support.reshape(-1, 4)), labels)
        grads = torch.autograd.grad(loss, params, create_graph=graph)
        params = [p - rate * g for p, g in zip(params, grads, strict=True)]
    return params


@pytest.mark.parametrize("first_order", quick([False, True]))
@pytest.mark.parametrize("steps", quick([3, 1]))
def test_a_step_of_maml_equals_pytorchs(steps, first_order):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[bench]'")
    learner = maml(tanh_network(), optax.sgd(0.5), SHAPE, SHAPE, rate=0.4, steps=steps, first_order=first_order)
    state, inputs = learner.init(keys(0, 1)[0]), rows()
    new, sums = jax.jit(learner.step)(state, {"inputs": inputs}, keys(1, 1)[0])
    old = [torch.tensor(leaf, dtype=torch.float64, requires_grad=True) for leaf in leaves(state.params)]
    total = 0
    for support, queries in parts(inputs):
        given = torch.tensor(support, dtype=torch.float64)
        adapted = torch_adapted(torch, old, given, steps, 0.4, not first_order)
        labels = torch.repeat_interleave(torch.arange(3), SHAPE.queries)
        outputs = forward(adapted, torch.tensor(queries.reshape(-1, 4), dtype=torch.float64))
        total = total + torch.nn.functional.cross_entropy(outputs, labels) / 2
    grads = torch.autograd.grad(total, old)
    np.testing.assert_allclose(sums["loss"].total / sums["loss"].count, total.item(), rtol=1e-5)
    for got, leaf, grad in zip(leaves(new.params), old, grads, strict=True):
        np.testing.assert_allclose(got, (leaf - 0.5 * grad).detach().numpy(), atol=2e-6)


@pytest.mark.slow
def test_second_order_is_not_first_order():
    moves = []
    for first_order in (False, True):
        learner = maml(tanh_network(), optax.sgd(0.5), SHAPE, SHAPE, first_order=first_order)
        state = learner.init(keys(0, 1)[0])
        moves.append(leaves(learner.step(state, {"inputs": rows()}, keys(1, 1)[0])[0].params)[0])
    assert np.abs(moves[0] - moves[1]).max() > 1e-3


@pytest.mark.slow
def test_a_test_may_take_more_steps_than_training():
    tx, batch = optax.sgd(0.5), {"inputs": rows(), "labels": np.zeros(len(rows()), np.int32)}
    one, more, three = (
        maml(tanh_network(), tx, SHAPE, SHAPE, **options) for options in ({}, {"test_steps": 3}, {"steps": 3})
    )
    state = one.init(jax.random.key(0))
    support, queries = (part.reshape(1, -1, 4) for part in parts(rows())[0])
    episode = Episode(support, np.repeat(np.eye(3, dtype=np.float32), 2, 0)[None], queries)
    np.testing.assert_array_equal(more.predict(state, episode), three.predict(state, episode))
    stepped = [learner.step(state, batch, jax.random.key(1))[0].params for learner in (one, more)]
    jax.tree.map(np.testing.assert_array_equal, *stepped)


@pytest.mark.parametrize("make", [maml, reptile])
def test_batch_statistics_are_those_of_the_examples_at_hand(make):
    """So the scale of all inputs of an episode, which the first batch normalisation divides out, changes nothing."""
    network = jn.network(MLP, 4, (6,), 3, norm="batch")
    learner = make(network, optax.sgd(0.1), SHAPE, SHAPE)
    state = learner.init(jax.random.key(0))
    batch = {"inputs": rows(), "labels": np.zeros(len(rows()), np.int32)}
    once, larger = (learner.evaluate(state, {**batch, "inputs": scale * batch["inputs"]}) for scale in (10.0, 1000.0))
    assert float(once["loss"].total) == pytest.approx(float(larger["loss"].total), rel=1e-3)
    support, queries = (part.reshape(-1, 4) for part in parts(rows())[0])
    targets, params = np.repeat(np.eye(3, dtype=np.float32), 2, 0), state.params
    steps, rate = (1, 0.4) if make is maml else (10, 0.1)
    for _ in range(steps):

        def loss(params):
            logits, _ = network.apply(params, state.model_state, support, train=True)
            return optax.softmax_cross_entropy(logits, targets).mean()

        params = jax.tree.map(lambda leaf, grad: leaf - rate * grad, params, jax.grad(loss)(params))
    wanted, _ = network.apply(params, state.model_state, queries, train=True)
    episode = Episode(support[None], targets[None], queries[None])
    np.testing.assert_allclose(learner.predict(state, episode)[0], wanted, rtol=1e-4, atol=1e-5)


def test_a_step_of_reptile_equals_pytorchs():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[bench]'")
    learner = reptile(tanh_network(), optax.sgd(0.1), SHAPE, SHAPE, rate=0.2, steps=3, test_steps=4)
    state, inputs = learner.init(keys(0, 1)[0]), rows()
    new, _ = learner.step(state, {"inputs": inputs}, keys(1, 1)[0])
    old = [torch.tensor(leaf, dtype=torch.float64, requires_grad=True) for leaf in leaves(state.params)]
    ends, logits = [], []
    for support, queries in parts(inputs):
        both = torch.tensor(np.concatenate([support, queries], 1), dtype=torch.float64)
        ends.append(torch_adapted(torch, old, both, 3, 0.2, False))
        adapted = torch_adapted(torch, old, torch.tensor(support, dtype=torch.float64), 4, 0.2, False)
        logits.append(forward(adapted, torch.tensor(queries.reshape(-1, 4), dtype=torch.float64)).detach().numpy())
    for i, (got, leaf) in enumerate(zip(leaves(new.params), old, strict=True)):
        gradient = sum((leaf - end[i]) / 0.2 for end in ends) / 2
        np.testing.assert_allclose(got, (leaf - 0.1 * gradient).detach().numpy(), atol=2e-6)
    labels = np.repeat(np.arange(3), 4)
    right = (np.array(logits).argmax(-1) == labels).mean()
    measured = jn.metrics.compute(learner.metrics, jax.device_get(learner.evaluate(state, {"inputs": inputs})))
    assert measured["accuracy"] == pytest.approx(right)


def marked(number: int, seed: int) -> jn.Data:
    """Return ten examples of each of so many classes: half of the numbers tell the class, half are noise."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(number), 10)
    marks = random.normal(size=(number, 4))[labels] + 0.15 * random.normal(size=(len(labels), 4))
    return jn.Data(inputs=np.concatenate([marks, 1.5 * random.normal(size=marks.shape)], 1), labels=labels)


def drawn(data: jn.Data, shape: Shape, number: int) -> jn.Data:
    return data.take(episodes(*shape)(data, shape.rows, 0).rows(0, number).reshape(-1))


MAKERS = {
    "prototypical": lambda tx: prototypical(jn.network(MLP, 8, (), 8), tx, Shape(8, 1, 3), SHAPE),
    "matching": lambda tx: matching(jn.network(MLP, 8, (), 8), tx, Shape(8, 1, 3), SHAPE),
    "maml": lambda tx: maml(jn.network(MLP, 8, (24,), 3), tx, SHAPE, SHAPE, rate=0.5, steps=3),
    "reptile": lambda tx: reptile(jn.network(MLP, 8, (24,), 3), tx, SHAPE, SHAPE, rate=0.3, steps=5),
}


@pytest.mark.parametrize("name", quick(MAKERS, 0))
def test_new_classes_are_learned_from_few_examples(name):
    learner = MAKERS[name](adam(1e-2))
    train, test = marked(60, 0), drawn(marked(20, 1), SHAPE, 100)
    shape = Shape(8, 1, 3) if name in ("prototypical", "matching") else SHAPE
    before = jn.evaluate(learner, learner.init(keys(0, 1)[0]), test)["accuracy"]
    options = {"order": episodes(*shape), "batch_size": 4 * shape.rows, "evaluate_every": 150, "progress": False}
    fitted = jn.fit(learner, train, duration=300, validation=test, **options)
    after = jn.evaluate(learner, fitted.state, test)
    assert after["accuracy"] > max(0.75, before + 0.1) and 0 < after["interval_95"] < 0.05
    assert fitted.history[-1]["validation/accuracy"] == pytest.approx(after["accuracy"])


def test_refuses():
    network = identity()
    with pytest.raises(InputError, match=r"train.ways=1 must be a whole number of 2 or more"):
        prototypical(network, optax.sgd(0.1), Shape(1, 1, 1), SHAPE)
    with pytest.raises(InputError, match="ways=3 of the test but 5 in training"):
        maml(network, optax.sgd(0.1), Shape(5, 1, 1), SHAPE)
    with pytest.raises(InputError, match="rate=0 must be a number greater than 0"):
        maml(network, optax.sgd(0.1), SHAPE, SHAPE, rate=0)
    with pytest.raises(InputError, match="steps=1 must be a whole number of 2 or more"):
        reptile(network, optax.sgd(0.1), SHAPE, SHAPE, steps=1)
    learner = prototypical(network, optax.sgd(0.1), SHAPE, SHAPE)
    state = learner.init(keys(0, 1)[0])
    with pytest.raises(InputError, match="17 rows are no whole episodes of 18, 3 ways with 2"):
        learner.step(state, {"inputs": rows()[:17]}, keys(1, 1)[0])
    with pytest.raises(InputError, match="episodes take no mask in training"):
        learner.step(state, {"inputs": rows(), "mask": np.ones(BATCH)}, keys(1, 1)[0])
    with pytest.raises(InputError, match="the data hold weights"):
        learner.check({"inputs": rows(), "labels": np.zeros(BATCH, int), "weights": np.ones(BATCH)})
