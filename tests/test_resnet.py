"""Residual networks: torchvision's sizes, and the same network written in PyTorch, weights copied over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnets as jn
from jaxnets.models import ResNet
from jaxnets.models.resnet import ResidualBlock
from jaxnets.network import num_parameters

SIZES = [  # torchvision's, and the usual CIFAR variant's
    (18, "imagenet", 1000, 11_689_512),
    pytest.param(34, "imagenet", 1000, 21_797_672, marks=pytest.mark.slow),
    pytest.param(50, "imagenet", 1000, 25_557_032, marks=pytest.mark.slow),
    (18, "cifar", 10, 11_173_962),
]


@pytest.mark.parametrize(("depth", "stem", "classes", "wanted"), SIZES)
def test_number_of_parameters(depth, stem, classes, wanted):
    network = jn.network(ResNet, (32, 32, 3), depth, classes, stem=stem)
    params, model_state = jax.eval_shape(network.init, jax.random.key(0))
    assert num_parameters(params) == wanted
    outputs, _ = jax.eval_shape(network.apply, params, model_state, jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32))
    assert outputs.shape == (2, classes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "stem", "widest"), [(18, "imagenet", (2, 7, 7, 512)), (50, "cifar", (2, 28, 28, 2048))]
)
def test_where_images_are_halved(depth, stem, widest):
    """Five times with the ImageNet stem, three times with CIFAR's."""
    seen = []
    network = jn.network(ResNet, (224, 224, 3), depth, 10, stem=stem, activation=lambda x: (seen.append(x.shape), x)[1])
    state = jax.eval_shape(network.init, jax.random.key(0))
    jax.eval_shape(network.apply, *state, jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32))
    assert seen[-1] == widest


def test_a_block_is_its_shortcut_at_first():
    block = ResidualBlock(4, 4, rngs=nnx.Rngs(0))
    x = jax.nn.relu(jax.random.normal(jax.random.key(0), (2, 5, 5, 4)))
    np.testing.assert_array_equal(block(x), x)
    assert not np.array_equal(ResidualBlock(4, 4, zero_init=False, rngs=nnx.Rngs(0))(x), x)


def test_half_precision_keeps_statistics_in_float32():
    network = jn.network(ResNet, (8, 8, 3), 18, 3, width=4, dtype=jnp.bfloat16)
    params, model_state = jax.eval_shape(network.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((4, 8, 8, 3), jnp.bfloat16)
    outputs, new = jax.eval_shape(lambda *args: network.apply(*args, train=True), params, model_state, inputs)
    assert outputs.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((params, model_state, new))} == {jnp.dtype("float32")}


def test_refuses():
    with pytest.raises(jn.InputError, match="depth=20 is no depth of a ResNet here; use one of 10, 18, 34, 50"):
        jn.network(ResNet, (32, 32, 3), 20, 10)
    with pytest.raises(jn.InputError, match="stem='big' is not a stem"):
        jn.network(ResNet, (32, 32, 3), 18, 10, stem="big")
    network = jn.network(ResNet, (32, 32, 3), 18, 10, width=2)
    with pytest.raises(
        jn.InputError, match=r"ResNet\(input_shape=\(32, 32, 3\)\) got inputs of shape \(1, 28, 28, 1\)"
    ):
        jax.eval_shape(network.apply, *jax.eval_shape(network.init, jax.random.key(0)), jnp.zeros((1, 28, 28, 1)))


def in_pytorch(torch, depth: int, stem: str, params: dict, model_state: dict, x, train: bool):
    """Return the outputs of torchvision's network, written as a function of our weights."""
    functional = torch.nn.functional
    num_blocks, convs = {10: ((1, 1, 1, 1), 2), 18: ((2, 2, 2, 2), 2), 50: ((3, 4, 6, 3), 3)}[depth]

    def conv_norm(x, p, state, stride):
        kernel = p["layer"]["kernel"]
        x = functional.conv2d(x, kernel.permute(3, 2, 0, 1), None, stride, (kernel.shape[0] - 1) // 2)
        running, weights = (state["norm"]["mean"], state["norm"]["var"]), (p["norm"]["scale"], p["norm"]["bias"])
        return functional.batch_norm(x, *running, *weights, train, 0.1, 1e-5)

    if stem == "cifar":
        x = torch.relu(conv_norm(x, params["stem"], model_state["stem"], 1))
    else:
        x = torch.relu(conv_norm(x, params["stem"], model_state["stem"], 2))
        x = functional.max_pool2d(x, 3, 2, 1)
    number = 0
    for stage, count in enumerate(num_blocks):
        for i in range(count):
            p, state = params["blocks"][number], model_state["blocks"][number]
            number += 1
            stride = 2 if stage and not i else 1
            y = x
            for j in range(convs):
                y = conv_norm(y, p["layers"][j], state["layers"][j], stride if j == convs - 2 else 1)
                y = torch.relu(y) if j < convs - 1 else y
            if i == 0 and (stage or convs == 3):
                x = conv_norm(x, p["shortcut"], state["shortcut"], stride)
            x = torch.relu(x + y)
    return functional.linear(x.mean((2, 3)), params["out"]["kernel"].T, params["out"]["bias"])


SLOW = [(18, "cifar"), pytest.param(50, "imagenet", marks=pytest.mark.release)]


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "stem"), [(10, "imagenet"), *SLOW])
def test_equals_pytorch(depth, stem):
    """In float64: rounding in float32 grows with every normalisation on the way."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    shape = (16, 12, 3) if stem == "cifar" else (40, 37, 3)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(6, *shape)), np.arange(6) % 5

    def vary(leaf):
        """Return statistics and scales as after some training, so that each of them matters."""
        return np.asarray(leaf, np.float64) * (random.uniform(0.5, 1.5, leaf.shape) if leaf.ndim == 1 else 1)

    with jax.enable_x64(True):
        network = jn.network(ResNet, shape, depth, 5, stem=stem, width=4, zero_init=False, dtype=jnp.float64)
        params, model_state = jax.tree.map(vary, network.init(jax.random.key(0)))

        @jax.jit
        def compute(params):
            def loss(params):
                outputs, new = network.apply(params, model_state, x, train=True)
                return jn.losses.softmax_cross_entropy(outputs, y).mean(), (outputs, new)

            return network.apply(params, model_state, x)[0], *jax.grad(loss, has_aux=True)(params)

        predicted, grads, (outputs, new) = jax.tree.map(np.asarray, compute(params))

    tp, ts = jax.tree.map(torch.tensor, (params, model_state))
    tx = torch.tensor(x.transpose(0, 3, 1, 2).copy())
    np.testing.assert_allclose(predicted, in_pytorch(torch, depth, stem, tp, ts, tx, train=False), rtol=1e-8)
    for leaf in jax.tree.leaves(tp):
        leaf.requires_grad_()
    wanted = in_pytorch(torch, depth, stem, tp, ts, tx, train=True)  # also writes the new statistics into ts
    torch.nn.functional.cross_entropy(wanted, torch.tensor(y)).backward()
    np.testing.assert_allclose(outputs, wanted.detach(), rtol=1e-7)
    for (path, grad), leaf in zip(jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(tp), strict=True):
        scale = float(leaf.grad.abs().max())
        np.testing.assert_allclose(grad, leaf.grad, atol=1e-7 * scale, err_msg=jax.tree_util.keystr(path))
    for (path, ours), theirs in zip(jax.tree_util.tree_leaves_with_path(new), jax.tree.leaves(ts), strict=True):
        if path[-1].key == "mean":  # of variances, PyTorch keeps the unbiased ones
            np.testing.assert_allclose(ours, theirs, atol=1e-7, err_msg=jax.tree_util.keystr(path))
