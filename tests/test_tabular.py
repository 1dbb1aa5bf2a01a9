"""Networks of tables against loops and PyTorch, and the learning of an ensemble inside a network."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets import losses
from jaxnets.learners import ensembled, mean_output, mean_probability
from jaxnets.models import Columns, TableEnsemble, TableResNet, Tabular
from jaxnets.models.members import MemberLinear
from jaxnets.models.tabular import ColumnEmbedding

RANDOM = np.random.default_rng(0)
COLUMNS = Columns(bins=(3, 5), sizes=(4, 3, 6))


def rows(number):
    z, position = RANDOM.normal(size=(number, 2)), RANDOM.uniform(0, 3, (number, 2))
    codes = np.stack([RANDOM.integers(0, size, number) for size in COLUMNS.sizes], 1)
    return np.concatenate([z, position, codes], 1).astype(np.float32)


def numpy(tree):
    return jax.tree.map(np.asarray, tree)


def test_embedding_of_columns_against_a_loop():
    network = jn.network(ColumnEmbedding, COLUMNS, 4)
    params, state = numpy(network.init(jax.random.key(0)))
    params["bias"] = RANDOM.normal(size=params["bias"].shape).astype(np.float32)
    inputs = rows(6)
    got, _ = network.apply(params, state, inputs)
    offsets = [0, 4, 7]
    for b in range(6):
        for column in range(3):
            code = int(inputs[b, 4 + column])
            want = params["bias"][column].copy()
            if code:
                want += params["embedding"][offsets[column] + code]
            if column < 2:
                z, position = inputs[b, column], inputs[b, 2 + column]
                want += z * params["kernel"][column, 0]
                for k in range(5):
                    want += min(max(position - k, 0.0), 1.0) * params["kernel"][column, 1 + k]
            np.testing.assert_allclose(got[b, column], want, atol=1e-5)


def test_members_against_a_loop():
    network = jn.network(MemberLinear, 3, 5, 4, signs=True, dtype=None)
    params, state = numpy(network.init(jax.random.key(0)))
    assert set(np.unique(params["before"]["scale"])) == {-1.0, 1.0}
    params["after"]["scale"], params["bias"] = (RANDOM.normal(size=(3, 4)).astype(np.float32) for _ in range(2))
    x = RANDOM.normal(size=(6, 3, 5)).astype(np.float32)
    got, _ = network.apply(params, state, x)
    for b in range(6):
        for k in range(3):
            mixed = params["dense"]["kernel"].T @ (x[b, k] * params["before"]["scale"][k])
            np.testing.assert_allclose(got[b, k], mixed * params["after"]["scale"][k] + params["bias"][k], atol=1e-5)
    shared, _ = network.apply(params, state, x[:, :1])
    each, _ = network.apply(params, state, np.repeat(x[:, :1], 3, 1))
    np.testing.assert_allclose(shared, each, atol=1e-6)


@pytest.mark.slow
def test_a_member_is_an_mlp_of_its_own_weights():
    """What the ensemble says of member k is what dense layers say whose weights are the shared ones, scaled."""
    body = partial(TableEnsemble, hidden=(6, 5), members=3)
    network = jn.network(Tabular, COLUMNS, 4, body, 2, linear=True)
    params, state = numpy(network.init(jax.random.key(0)))
    params["linear"]["embedding"] = RANDOM.normal(size=params["linear"]["embedding"].shape).astype(np.float32)
    inputs = rows(7)
    got, _ = network.apply(params, state, inputs)
    assert got.shape == (7, 3, 2)
    embedded, _ = jn.network(ColumnEmbedding, COLUMNS, 4).apply(params["embed"], {}, inputs)
    path, _ = jn.network(ColumnEmbedding, COLUMNS, 2).apply(params["linear"], {}, inputs)
    for k in range(3):
        x = np.asarray(embedded).reshape(7, -1)
        for number in range(2):
            layer = params["body"]["hidden"][number]
            kernel = layer["before"]["scale"][k][:, None] * layer["dense"]["kernel"] * layer["after"]["scale"][k][None]
            x = np.maximum(x @ kernel + layer["bias"][k], 0)
        want = x @ params["body"]["kernel"][k] + params["body"]["bias"][k] + np.asarray(path).sum(1)
        np.testing.assert_allclose(got[:, k], want, atol=1e-4)


@pytest.mark.slow
def test_residual_blocks_against_torch():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    network = jn.network(TableResNet, 3, 4, 2, hidden=(6, 5))
    params, state = numpy(network.init(jax.random.key(0)))
    x = RANDOM.normal(size=(7, 3, 4)).astype(np.float32)

    def dense(p, value):
        return torch.nn.functional.linear(value, torch.tensor(p["kernel"].T.copy()), torch.tensor(p["bias"].copy()))

    def norm(p, value):
        return torch.nn.functional.layer_norm(value, (6,), torch.tensor(p["scale"]), torch.tensor(p["bias"]), 1e-6)

    found = dense(params["stem"], torch.tensor(x.reshape(7, -1)))
    for i in range(2):
        inner = torch.relu(dense(params["up"][i], norm(params["norms"][i], found)))
        found = found + dense(params["down"][i], inner)
    found = dense(params["out"], torch.relu(norm(params["norm"], found)))
    got, _ = network.apply(params, state, x)
    np.testing.assert_allclose(got, found.numpy(), atol=1e-5)


@pytest.mark.slow
def test_each_member_learns_by_its_own_loss_and_the_mean_is_predicted():
    network = jn.network(Tabular, COLUMNS, 4, partial(TableEnsemble, hidden=(6,), members=3), 2)
    learner = ensembled(network, losses.softmax_cross_entropy, optax.sgd(1.0), {"accuracy": jn.metrics.accuracy})
    inputs, labels = rows(8), np.arange(8) % 2
    batch = {"inputs": inputs, "labels": labels, "weights": np.linspace(0.5, 2, 8, dtype=np.float32)}
    state = learner.init(jax.random.key(0))

    def total(params):
        outputs, _ = network.apply(params, state.model_state, inputs)
        each = [losses.softmax_cross_entropy(outputs[:, k], labels) for k in range(3)]
        return (batch["weights"] * sum(each) / 3).mean()

    stepped, _ = learner.step(state, batch, jax.random.key(1))
    want = jax.tree.map(lambda p, g: p - g, state.params, jax.grad(total)(state.params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), stepped.params, want)
    outputs, _ = network.apply(state.params, state.model_state, inputs)
    mean = np.asarray(jax.nn.softmax(outputs, -1)).mean(1)
    np.testing.assert_allclose(jax.nn.softmax(learner.predict(state, inputs), -1), mean, atol=1e-6)
    sums = learner.evaluate(state, batch)
    right = -np.log(mean[np.arange(8), labels])
    np.testing.assert_allclose(sums["loss"].total, (batch["weights"] * right).sum(), rtol=1e-5)


def test_combinations():
    outputs = jnp.asarray(RANDOM.normal(size=(5, 4, 3)), jnp.float32)
    np.testing.assert_allclose(np.exp(mean_probability(outputs)), jax.nn.softmax(outputs, -1).mean(1), rtol=1e-5)
    np.testing.assert_allclose(mean_output(outputs), np.asarray(outputs).mean(1), rtol=1e-6)
    network = jn.network(jn.models.MLP, 4, (5,), 3)
    learner = ensembled(network, losses.softmax_cross_entropy, optax.sgd(0.1))
    with pytest.raises(jn.InputError, match="have no axis of members"):
        learner.predict(learner.init(jax.random.key(0)), np.zeros((2, 4), np.float32))


def test_pinball_against_scikit_learn():
    from sklearn.metrics import mean_pinball_loss

    outputs, targets = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((20, 3), (20,)))
    quantiles = (0.1, 0.5, 0.9)
    want = np.mean([mean_pinball_loss(targets, outputs[:, i], alpha=q) for i, q in enumerate(quantiles)])
    np.testing.assert_allclose(losses.pinball(outputs, targets, quantiles).mean(), want, rtol=1e-5)
    with pytest.raises(jn.InputError, match="give one output for each of the 3 quantiles"):
        losses.pinball(outputs[:, :2], targets, quantiles)
