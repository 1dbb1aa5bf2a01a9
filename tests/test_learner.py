"""Supervised learning: one step against PyTorch's, metrics as sums, masks, accumulation, and checks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import small_learner

import jaxnets as jn
from jaxnets import InputError, metrics

KEY = jax.random.key(3)


def rows(blobs, size=12):
    return {name: jnp.asarray(array[:size]) for name, array in blobs.items()}


def test_a_step_descends_the_gradient(blobs):
    learner = small_learner(tx=optax.sgd(0.1))
    state = learner.init(jax.random.key(0))
    new, sums = jax.jit(learner.step)(state, rows(blobs), jax.random.key(1))
    assert new.step == 1 and sums["loss"].count == 12
    after = learner.evaluate(new, rows(blobs))
    assert after["loss"].total < sums["loss"].total


@pytest.mark.slow
def test_masked_rows_count_for_nothing(blobs):
    learner = small_learner()
    state = learner.init(jax.random.key(0))
    data = rows(blobs)
    mask = jnp.arange(12) < 5
    garbage = {"inputs": data["inputs"].at[5:].set(1e6), "labels": data["labels"].at[5:].set(0), "mask": mask}
    five = {name: array[:5] for name, array in data.items()}
    got, wanted = learner.evaluate(state, garbage), learner.evaluate(state, five)
    assert got["accuracy"] == wanted["accuracy"] and got["loss"].count == 5
    np.testing.assert_allclose(got["loss"].total, wanted["loss"].total, rtol=1e-6)
    step = jax.jit(learner.step)
    stepped, _ = step(state, garbage, jax.random.key(0))
    alone, _ = step(state, five, jax.random.key(0))
    np.testing.assert_allclose(stepped.params["out"]["kernel"], alone.params["out"]["kernel"], atol=1e-6)


def test_a_mask_of_rows_covers_sequences():
    mean = metrics.mean_of(jnp.ones((3, 4)), jnp.array([True, False, True]))
    assert (mean.total, mean.count) == (8, 8)
    mean = metrics.mean_of(jnp.ones((3, 4)), jnp.ones((3, 4)).at[0, 0].set(0))
    assert (mean.total, mean.count) == (11, 11)


def test_accumulation_equals_the_whole_batch(blobs):
    network = jn.network(jn.models.MLP, 4, (16,), 3)
    steps = {}
    for parts in (1, 4):
        learner = jn.accumulated(jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1)), parts)
        steps[parts] = jax.jit(learner.step)(learner.init(jax.random.key(0)), rows(blobs), jax.random.key(1))
    for a, b in zip(*(jax.tree.leaves(steps[parts]) for parts in (1, 4)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_accumulation_counts_the_rows_that_are_left(blobs):
    """Outside jit, of NumPy arrays, and with a mask that falls unevenly on the parts."""
    network = jn.network(jn.models.MLP, 4, (16,), 3)
    data = {name: array[:12] for name, array in blobs.items()} | {"mask": np.arange(12) < 7}
    whole, parts = (
        jn.accumulated(jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(1.0)), number)
        for number in (1, 3)
    )
    state = whole.init(jax.random.key(0))
    new, sums = parts.step(state, data, jax.random.key(1))
    wanted, _ = whole.step(state, data, jax.random.key(1))
    assert sums["loss"].count == 7
    for a, b in zip(jax.tree.leaves(new.params), jax.tree.leaves(wanted.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_accumulation_must_divide_the_batch(blobs):
    learner = jn.accumulated(
        jn.supervised(jn.network(jn.models.MLP, 4, (16,), 3), jn.losses.softmax_cross_entropy, optax.sgd(0.1)), 5
    )
    with pytest.raises(jn.InputError, match="accumulate=5 does not divide the batch of 12 examples"):
        learner.step(learner.init(jax.random.key(0)), rows(blobs), jax.random.key(1))


def test_low_precision_outputs_are_measured_in_float32(blobs):
    learner = small_learner(dtype=jnp.bfloat16)
    state = learner.init(jax.random.key(0))
    new, sums = jax.jit(learner.step)(state, rows(blobs), jax.random.key(1))
    assert sums["loss"].total.dtype == jnp.float32
    assert learner.predict(new, rows(blobs)["inputs"]).dtype == jnp.float32
    assert new.params["out"]["kernel"].dtype == jnp.float32


def test_the_loss_is_no_metric_of_ones_own():
    network, loss = jn.network(jn.models.MLP, 4, (16,), 3), jn.losses.softmax_cross_entropy
    with pytest.raises(jn.InputError, match="'loss' is what is minimised"):
        jn.supervised(network, loss, optax.sgd(0.1), {"loss": jn.metrics.accuracy})


def test_check_names_what_is_wrong(blobs):
    learner = small_learner()
    learner.check(blobs)
    with pytest.raises(jn.InputError, match=r"\['x'\] but no inputs or labels"):
        learner.check({"x": blobs["inputs"]})
    with pytest.raises(jn.InputError, match=r"labels range from 0 to 3, outside 0..2"):
        learner.check({"inputs": blobs["inputs"], "labels": blobs["labels"] + (blobs["labels"] == 2)})
    with pytest.raises(ValueError, match=r"in_features=4.*\(2, 3\)"):
        learner.check({"inputs": blobs["inputs"][:, :3], "labels": blobs["labels"]})
    with pytest.raises(jn.InputError, match="need labels of shape"):
        learner.check({"inputs": blobs["inputs"], "labels": blobs["labels"][:, None]})


class TestAutoregressive:
    def learner(self):
        network = jn.network(jn.models.RNN, 5, (4,), 5, embedding=3)
        return jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1))

    @pytest.mark.slow
    def test_each_element_is_predicted_from_those_before(self):
        """The same step and the same measures as of inputs and labels that were shifted by hand."""
        rows = jnp.array([[0, 1, 2, 3], [4, 3, 2, 1], [1, 1, 1, 1]])
        inner, learner = self.learner(), jn.autoregressive(self.learner())
        state = learner.init(jax.random.key(0))
        for mask in (None, jnp.array([1, 1, 0]), jnp.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])):
            given, shifted = {"inputs": rows}, {"inputs": rows[:, :-1], "labels": rows[:, 1:]}
            if mask is not None:
                given, shifted = given | {"mask": mask}, shifted | {"mask": mask if mask.ndim == 1 else mask[:, 1:]}
            ours, theirs = jax.jit(learner.step)(state, given, KEY), jax.jit(inner.step)(state, shifted, KEY)
            jax.tree.map(np.testing.assert_array_equal, ours, theirs)
            measured = jax.jit(learner.evaluate)(state, given), jax.jit(inner.evaluate)(state, shifted)
            jax.tree.map(np.testing.assert_array_equal, *measured)
        assert theirs[1]["loss"].count == 2 + 3

    def test_check(self):
        learner = jn.autoregressive(self.learner())
        learner.check({"inputs": np.array([[0, 4, 2]], np.int32)})
        with pytest.raises(InputError, match=r"tokens range from 0 to 5, outside the vocabulary's 0\.\.4"):
            learner.check({"inputs": np.array([[0, 5, 2]], np.int32)})
        with pytest.raises(InputError, match="hold nothing to predict"):
            learner.check({"inputs": np.array([[0]], np.int32)})


def test_a_models_own_check_comes_first():
    network = jn.network(jn.models.RNN, 5, (4,), 3, embedding=3, padding=0, pool="max")
    check = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1)).check
    labels = np.array([0, 1], np.int32)
    check({"inputs": np.array([[1, 2, 0], [3, 0, 0]], np.int32), "labels": labels})
    for inputs, message in (
        ([[1, 2], [-1, 0]], "tokens range from -1 to 2, outside the vocabulary's 0..4"),
        ([[1, 2], [0, 0]], r"row 1 is nothing but padding \(token 0\)"),
        ([[1.0, 2.0], [1.0, 0.0]], "inputs are float32, not tokens"),
    ):
        with pytest.raises(InputError, match=message):
            check(jn.Data(inputs=inputs, labels=labels))
    with pytest.raises(InputError, match="padding=0 is a token, but without embedding="):
        jn.network(jn.models.RNN, 5, (4,), 3, padding=0)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_twenty_steps_equal_pytorchs(name, decay, blobs):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    from jaxnets.options.optimizer import OptimizerConfig, make_optimizer

    config = OptimizerConfig(name, learning_rate=0.01, schedule="constant", weight_decay=decay)
    network = jn.network(jn.models.MLP, 4, (16,), 3, activation=jnp.tanh)
    learner = jn.supervised(network, jn.losses.softmax_cross_entropy, make_optimizer(config, 20))
    state = learner.init(jax.random.key(0))
    layers = [torch.nn.Linear(4, 16), torch.nn.Linear(16, 3)]
    for layer, params in zip(layers, (state.params["hidden"][0]["layer"], state.params["out"]), strict=True):
        layer.weight.data = torch.tensor(np.asarray(params["kernel"]).T.copy())
        layer.bias.data = torch.tensor(np.asarray(params["bias"]).copy())
    groups = [
        {"params": [layer.weight for layer in layers], "weight_decay": decay},
        {"params": [layer.bias for layer in layers], "weight_decay": 0.0},
    ]
    optimizer = {
        "sgd": lambda: torch.optim.SGD(groups, 0.01),
        "momentum": lambda: torch.optim.SGD(groups, 0.01, momentum=0.9),
        "nesterov": lambda: torch.optim.SGD(groups, 0.01, momentum=0.9, nesterov=True),
        "adagrad": lambda: torch.optim.Adagrad(groups, 0.01, initial_accumulator_value=0.1),
        "rmsprop": lambda: torch.optim.RMSprop(groups, 0.01, alpha=0.9),
        "adam": lambda: torch.optim.Adam(groups, 0.01),
        "adamw": lambda: torch.optim.AdamW(groups, 0.01),
    }[name]()
    model = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1])
    step = jax.jit(learner.step)
    for i in range(20):
        data = {key: array[i : i + 12] for key, array in blobs.items()}
        state, _ = step(state, data, jax.random.key(i))
        optimizer.zero_grad()
        labels = torch.tensor(data["labels"].astype(np.int64))
        torch.nn.functional.cross_entropy(model(torch.tensor(data["inputs"])), labels).backward()
        optimizer.step()
    np.testing.assert_allclose(state.params["out"]["kernel"], layers[1].weight.detach().numpy().T, atol=2e-5)
    np.testing.assert_allclose(state.params["out"]["bias"], layers[1].bias.detach().numpy(), atol=2e-5)
