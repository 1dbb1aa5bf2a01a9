"""Recurrent layers against PyTorch's, packed sequences included, and what masks, states and truncation mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_same_bits, quick
from jax import export
from jax.test_util import check_grads

import jaxnets as jn
from jaxnets.errors import InputError
from jaxnets.models import RNN, Continued
from jaxnets.nn import ELMAN, GRU, LSTM, Recurrent, recurrent

CELLS = {"rnn": ELMAN, "lstm": LSTM, "gru": GRU}
each_cell = pytest.mark.parametrize("name", quick(sorted(CELLS)))
LENGTHS = np.array([5, 7, 1, 5])


def layer(name, features=4, **kwargs) -> Recurrent:
    return Recurrent(CELLS[name], 3, features, **kwargs, rngs=nnx.Rngs(0))


def sequences(batch=4, steps=7) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (batch, steps, 3))


def state(name, batch=4, features=4) -> tuple[jax.Array, ...]:
    return tuple(jax.random.normal(jax.random.key(i), (batch, features)) for i in range(CELLS[name].num_carries))


@each_cell
def test_a_split_sequence_goes_on_from_its_state(name):
    one, x = layer(name), sequences()
    whole, last = one(x, state(name))
    first, middle = one(x[:, :3], state(name))
    second, end = one(x[:, 3:], middle)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), end, last)


@pytest.mark.slow
@each_cell
@pytest.mark.parametrize("reverse", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_masked_sequence_is_what_it_would_be_alone(name, reverse):
    """Outputs, last states and every gradient; what stands behind the end changes nothing."""
    one, x = layer(name, reverse=reverse), sequences()
    mask = jnp.arange(7) < LENGTHS[:, None]
    graph, params = nnx.split(one)

    @jax.jit
    def run(params, x, carry, mask=None):
        outputs, last = nnx.merge(graph, params)(x, carry, mask=mask)
        return (outputs**2).sum() + sum((part**3).sum() for part in last), (outputs, last)

    gradients = jax.value_and_grad(run, argnums=(0, 1, 2), has_aux=True)
    (_, (outputs, last)), (of_params, of_x, of_carry) = gradients(params, x, state(name), mask)
    total = jax.tree.map(jnp.zeros_like, of_params)
    for row, length in enumerate(LENGTHS):
        carry = tuple(part[row : row + 1] for part in state(name))
        (_, (alone, end)), (grads, x_grad, carry_grad) = gradients(params, x[row : row + 1, :length], carry)
        np.testing.assert_allclose(outputs[row, :length], alone[0], atol=1e-6)
        assert not outputs[row, length:].any() and not of_x[row, length:].any()
        np.testing.assert_allclose(of_x[row, :length], x_grad[0], atol=1e-5)
        for many, single in zip((*last, *of_carry), (*end, *carry_grad), strict=True):
            np.testing.assert_allclose(many[row], single[0], atol=1e-5)
        total = jax.tree.map(jnp.add, total, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), of_params, total)
    noise = jnp.where(mask[..., None], x, 1e6)
    assert_same_bits(run(params, noise, state(name), mask)[1], run(params, x, state(name), mask)[1])


@each_cell
def test_a_sequence_of_padding_keeps_its_state(name):
    outputs, last = layer(name)(sequences(), state(name), mask=jnp.zeros((4, 7)))
    assert not outputs.any()
    assert_same_bits(last, state(name))


@each_cell
def test_projections_inside_and_outside_the_scan_agree(name, monkeypatch):
    one, x = layer(name), sequences()
    inside, _ = one(x)
    monkeypatch.setattr(recurrent, "_MOST_ROWS_OUTSIDE", 64)
    outside, _ = one(x)
    np.testing.assert_allclose(inside, outside, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", quick(["lstm", "gru"]))
@pytest.mark.parametrize("reverse", quick([False, True]))
def test_truncation_stops_gradients_and_nothing_else(name, reverse):
    """An output depends, for the gradient, on the inputs of its own stretch of three steps alone."""
    cut, x = layer(name, truncate=3, reverse=reverse), sequences()
    whole = layer(name, reverse=reverse)
    assert_same_bits(cut(x)[0], whole(x)[0])
    order = np.arange(7)[::-1] if reverse else np.arange(7)

    def reached(one, step):
        return np.flatnonzero(np.abs(jax.grad(lambda x: one(x)[0][:, step].sum())(x)).sum((0, 2))).tolist()

    assert reached(cut, order[4]) == sorted(order[3:5].tolist())
    assert reached(cut, order[6]) == [order[6]]
    assert reached(whole, order[4]) == sorted(order[:5].tolist())


@each_cell
@pytest.mark.slow
def test_gradients_against_finite_differences(name):
    with jax.enable_x64(True):
        one = layer(name, dtype=jnp.float64)
        graph, params = nnx.split(one)
        params = jax.tree.map(lambda a: a.astype(jnp.float64), params)
        x, mask = sequences().astype(jnp.float64), jnp.arange(7) < LENGTHS[:, None]
        carry = tuple(part.astype(jnp.float64) for part in state(name))
        run = jax.jit(lambda params, x, carry: nnx.merge(graph, params)(x, carry, mask=mask))
        check_grads(run, (params, x, carry), order=1, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


def test_initial_values():
    """Each gate's recurrent kernel is orthogonal, and an LSTM starts by remembering."""
    one = layer("lstm", features=8)
    for gate in jnp.split(one.state_kernel[...], 4, -1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(8), atol=1e-5)
    assert one.bias[...].tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16


def test_bfloat16_keeps_its_state_in_float32():
    outputs, last = layer("lstm", dtype=jnp.bfloat16)(sequences().astype(jnp.bfloat16))
    assert outputs.dtype == jnp.bfloat16 and {part.dtype for part in last} == {jnp.dtype("float32")}
    np.testing.assert_allclose(outputs.astype(jnp.float32), layer("lstm")(sequences())[0], atol=0.02)


def test_truncation_leaves_the_first_stretch_its_first_state():
    reached = jax.grad(lambda carry: layer("gru", truncate=50)(sequences(), carry)[0].sum())(state("gru"))
    assert np.abs(reached[0]).min() > 0


def test_refuses():
    one, x = layer("lstm"), sequences()
    for message, call in {
        "truncate=0 must be a whole number of 1 or more, steps": lambda: layer("rnn", truncate=0),
        r"got inputs of shape \(4, 7, 2\), not \[B, T, 3\]": lambda: one(x[..., :2]),
        r"mask of shape \(4, 1\) for inputs of shape \(4, 7, 3\); give \[B, T\]": lambda: one(x, mask=jnp.ones((4, 1))),
        r"a state of shapes \[\(2, 4\), \(2, 4\)\]": lambda: one(x, state("lstm", batch=2)),
        r"a state of shapes \[\(4, 4\)\]": lambda: one(x, state("gru")),
        "pool='average'": lambda: RNN(3, (4,), 2, pool="average", rngs=nnx.Rngs(0)),
        r"hidden=\(\)": lambda: RNN(3, (), 2, rngs=nnx.Rngs(0)),
    }.items():
        with pytest.raises(InputError, match=message):
            call()


def torch_parameters(theirs, tree):
    """Yield each of our layers' parameters with PyTorch's of the same place, in our layout, by name."""
    for number, directions in tree["layers"].items():
        for way, ours in directions.items():
            suffix = f"l{number}" + "_reverse" * way
            weights = {name: getattr(theirs, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh")}
            biases = [getattr(theirs, f"bias_{name}_{suffix}") for name in ("ih", "hh")]
            yield ours, dict(zip(("kernel", "state_kernel"), weights.values(), strict=True)), biases


def masked_stack(name, params, x, carries, mask):
    """Return the outputs and last states of our layers under a mask, which a whole model of numbers does not take."""
    last = []
    for number, directions in params["layers"].items():
        both = []
        for way, values in directions.items():
            one = Recurrent(
                CELLS[name], x.shape[-1], values["state_kernel"].shape[0], reverse=way == 1, rngs=nnx.Rngs(0)
            )
            nnx.update(one, values)
            both.append(one(x, carries[number][way], mask=mask))
        x = jnp.concatenate([outputs for outputs, _ in both], -1)
        last.append([carry for _, carry in both])
    return x @ params["out"]["kernel"] + params["out"]["bias"], last


@each_cell
@pytest.mark.parametrize("packed", [False, True], ids=["full", "packed"])
@pytest.mark.parametrize("ways", [1, 2], ids=["one-way", "both-ways"])
def test_against_torch(name, packed, ways):
    """Two layers: outputs and last states to 1e-5, gradients of weights, inputs and first states to 1e-4."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    size = 6
    make = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name]
    theirs = make(3, size, num_layers=2, batch_first=True, bidirectional=ways == 2)
    head = torch.nn.Linear(ways * size, 5)
    network = jn.network(RNN, 3, (size, size), 5, cell=CELLS[name], bidirectional=ways == 2)
    params, model_state = jax.tree.map(np.array, network.init(jax.random.key(0)))
    for ours, weights, biases in torch_parameters(theirs, params):
        both = [bias.detach().numpy() for bias in biases]
        ours.update({kind: weight.detach().numpy().T for kind, weight in weights.items()})
        ours.update({"bias": both[0], "state_bias": both[1]} if "state_bias" in ours else {"bias": sum(both)})
    params["out"] = {"kernel": head.weight.detach().numpy().T, "bias": head.bias.detach().numpy()}
    random = np.random.default_rng(0)
    x = random.normal(size=(4, 7, 3)).astype(np.float32)
    starts = random.normal(size=(CELLS[name].num_carries, 2 * ways, 4, size)).astype(np.float32)
    lengths = LENGTHS if packed else np.full(4, 7)
    mask = np.arange(7) < lengths[:, None]

    def objective(params, x, starts):
        carries = [[tuple(starts[:, ways * number + way]) for way in range(ways)] for number in range(2)]
        if packed:
            outputs, last = masked_stack(name, params, x, carries, jnp.asarray(mask))
        else:
            (outputs, last), _ = network.apply(params, model_state, Continued(x, carries))
        ends = [jnp.stack([carry[i] for both in last for carry in both]) for i in range(len(starts))]
        return (outputs**2 * mask[..., None]).sum() + sum((end**3).sum() for end in ends), (outputs, ends)

    gradient = jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True))
    (_, (outputs, ends)), (grads, x_grad, starts_grad) = gradient(params, x, starts)

    tx, tstarts = torch.tensor(x, requires_grad=True), torch.tensor(starts, requires_grad=True)
    rnn = torch.nn.utils.rnn
    fed = rnn.pack_padded_sequence(tx, lengths, batch_first=True, enforce_sorted=False) if packed else tx
    hidden, last = theirs(fed, tuple(tstarts) if name == "lstm" else tstarts[0])
    hidden = rnn.pad_packed_sequence(hidden, batch_first=True, total_length=7)[0] if packed else hidden
    wanted, last = head(hidden), last if name == "lstm" else (last,)
    ((wanted**2 * torch.tensor(mask)[..., None]).sum() + sum((end**3).sum() for end in last)).backward()
    np.testing.assert_allclose(outputs * mask[..., None], wanted.detach().numpy() * mask[..., None], atol=1e-5)
    for ours, end in zip(ends, last, strict=True):
        np.testing.assert_allclose(ours, end.detach(), atol=1e-5)
    np.testing.assert_allclose(x_grad, tx.grad, atol=1e-4)
    np.testing.assert_allclose(starts_grad, tstarts.grad, atol=1e-4)
    np.testing.assert_allclose(grads["out"]["kernel"], head.weight.grad.T, atol=1e-4)
    for ours, weights, biases in torch_parameters(theirs, grads):
        for kind, weight in weights.items():
            np.testing.assert_allclose(ours[kind], weight.grad.T, atol=1e-4)
        np.testing.assert_allclose(ours["bias"], biases[0].grad, atol=1e-4)
        if "state_bias" in ours:
            np.testing.assert_allclose(ours["state_bias"], biases[1].grad, atol=1e-4)


@pytest.mark.slow
def test_a_network_can_be_exported_for_batches_of_any_size():
    network = jn.network(RNN, 2, (4,), 3, pool="last")
    params, model_state = network.init(jax.random.key(0))
    (size,) = export.symbolic_shape("b,")
    forward = jax.jit(lambda inputs: network.apply(params, model_state, inputs)[0])
    exported = export.export(forward)(jax.ShapeDtypeStruct((size, 5, 2), jnp.float32))
    for rows in (1, 20):
        inputs = np.random.default_rng(0).normal(size=(rows, 5, 2)).astype(np.float32)
        np.testing.assert_allclose(exported.call(inputs), forward(inputs), rtol=1e-5, atol=1e-6)
