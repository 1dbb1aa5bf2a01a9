"""Models against the same network written in PyTorch, weights copied over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn
from jaxnets.models import CNN, MLP, RNN, Forecaster, StridedDecoder, StridedEncoder, UNet
from jaxnets.nn import GRU

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")


def numpy(tree):
    return jax.tree.map(np.asarray, tree)


def set_linear(layer, params):
    layer.weight.data = torch.tensor(params["kernel"].T.copy())
    if layer.bias is not None:
        layer.bias.data = torch.tensor(params["bias"].copy())


def set_norm(layer, params):
    layer.weight.data, layer.bias.data = (torch.tensor(params[name].copy()) for name in ("scale", "bias"))


def gradient(network, params, model_state, x, y):
    def loss(params):
        outputs, _ = network.apply(params, model_state, x, train=True)
        return jn.losses.softmax_cross_entropy(outputs, y).mean()

    return numpy(jax.grad(loss)(params))


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_mlp(norm):
    network = jn.network(MLP, 5, (8,), 3, norm=norm)
    params, model_state = numpy(network.init(jax.random.key(0)))
    x, y = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32), np.arange(6) % 3
    hidden, out = torch.nn.Linear(5, 8, bias=norm != "batch"), torch.nn.Linear(8, 3)
    set_linear(hidden, params["hidden"][0]["layer"])
    set_linear(out, params["out"])
    between = {None: torch.nn.Identity(), "batch": torch.nn.BatchNorm1d(8), "layer": torch.nn.LayerNorm(8, 1e-6)}[norm]
    if norm:
        set_norm(between, params["hidden"][0]["norm"])
    model = torch.nn.Sequential(hidden, between, torch.nn.ReLU(), out)
    got, _ = network.apply(params, model_state, x, train=True)
    np.testing.assert_allclose(got, model(torch.tensor(x)).detach(), atol=1e-5)
    torch.nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(y)).backward()
    grads = gradient(network, params, model_state, x, y)
    np.testing.assert_allclose(grads["hidden"][0]["layer"]["kernel"], hidden.weight.grad.T, atol=1e-5)
    np.testing.assert_allclose(grads["out"]["bias"], out.bias.grad, atol=1e-5)


def test_batch_statistics():
    """Flax moves 1% towards the batch's mean and (biased) variance; PyTorch told to do the same agrees on the mean."""
    network = jn.network(MLP, 5, (8,), 3, norm="batch")
    params, model_state = numpy(network.init(jax.random.key(0)))
    x = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    hidden, norm = torch.nn.Linear(5, 8, bias=False), torch.nn.BatchNorm1d(8, momentum=0.01)
    set_linear(hidden, params["hidden"][0]["layer"])
    norm(hidden(torch.tensor(x)))
    _, new = network.apply(params, model_state, x, train=True)
    np.testing.assert_allclose(new["hidden"][0]["norm"]["mean"], norm.running_mean, atol=1e-6)
    outputs, unchanged = network.apply(params, new, x)
    np.testing.assert_array_equal(unchanged["hidden"][0]["norm"]["mean"], new["hidden"][0]["norm"]["mean"])
    assert jnp.isfinite(outputs).all()


@pytest.mark.slow
def test_cnn():
    network = jn.network(CNN, (8, 8, 2), (4, "pool", 6, "pool"), (7,), 3)
    params, model_state = numpy(network.init(jax.random.key(0)))
    x, y = np.random.default_rng(0).normal(size=(5, 8, 8, 2)).astype(np.float32), np.arange(5) % 3
    convs = [torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(4, 6, 3, padding=1)]
    for i, conv in enumerate(convs):
        layer = params["convs"][i]["layer"]
        conv.weight.data = torch.tensor(layer["kernel"].transpose(3, 2, 0, 1).copy())
        conv.bias.data = torch.tensor(layer["bias"].copy())
    hidden, out = torch.nn.Linear(24, 7), torch.nn.Linear(7, 3)
    set_linear(hidden, params["head"]["hidden"][0]["layer"])
    set_linear(out, params["head"]["out"])

    def model(x):
        for conv in convs:
            x = torch.nn.functional.max_pool2d(torch.relu(conv(x)), 2)
        return out(torch.relu(hidden(x.permute(0, 2, 3, 1).flatten(1))))

    tx = torch.tensor(x.transpose(0, 3, 1, 2).copy())
    got, _ = network.apply(params, model_state, x)
    np.testing.assert_allclose(got, model(tx).detach(), atol=1e-5)
    torch.nn.functional.cross_entropy(model(tx), torch.tensor(y)).backward()
    grads = gradient(network, params, model_state, x, y)
    for i, conv in enumerate(convs):
        wanted = conv.weight.grad.numpy().transpose(2, 3, 1, 0)
        np.testing.assert_allclose(grads["convs"][i]["layer"]["kernel"], wanted, atol=1e-5)


@pytest.mark.slow
def test_separable_cnn():
    """Grouped convolutions in PyTorch; the first one is a full one."""
    network = jn.network(CNN, (6, 6, 2), (4, 6), (), 3, separable=True, norm="batch")
    params, model_state = numpy(network.init(jax.random.key(0)))
    x, y = np.random.default_rng(0).normal(size=(5, 6, 6, 2)).astype(np.float32), np.arange(5) % 3
    halves = params["convs"][1]
    parts = [params["convs"][0], halves["depthwise"], halves["pointwise"]]
    weights = [torch.tensor(p["layer"]["kernel"].transpose(3, 2, 0, 1).copy(), requires_grad=True) for p in parts]
    out = torch.nn.Linear(6 * 6 * 6, 3)
    set_linear(out, params["head"]["out"])

    def model(x):
        for weight, options in zip(weights, ({"padding": 1}, {"padding": 1, "groups": 4}, {}), strict=True):
            x = torch.nn.functional.conv2d(x, weight, **options)
            x = torch.relu(torch.nn.functional.batch_norm(x, None, None, training=True))
        return out(x.permute(0, 2, 3, 1).flatten(1))

    outputs = model(torch.tensor(x.transpose(0, 3, 1, 2).copy()))
    got, _ = network.apply(params, model_state, x, train=True)
    np.testing.assert_allclose(got, outputs.detach(), atol=1e-4)
    torch.nn.functional.cross_entropy(outputs, torch.tensor(y)).backward()
    grads = gradient(network, params, model_state, x, y)["convs"]
    got = [grads[0], grads[1]["depthwise"], grads[1]["pointwise"]]
    for grad, weight in zip(got, weights, strict=True):
        np.testing.assert_allclose(grad["layer"]["kernel"], weight.grad.numpy().transpose(2, 3, 1, 0), atol=1e-4)


@pytest.mark.slow
def test_forecaster():
    """The normalisation of each window and column, the patches, a GRU over them, and the way back."""
    gru = lambda num, patch, horizon, **options: RNN(patch, (5,), horizon, cell=GRU, pool="last", **options)
    network = jn.network(Forecaster, 12, 4, gru, patch=3, linear=True)
    params, model_state = numpy(network.init(jax.random.key(0)))
    assert not params["linear"]["kernel"].any()
    params["linear"]["kernel"] = np.random.default_rng(1).normal(size=(12, 4)).astype(np.float32)
    x = 10 + np.random.default_rng(0).normal(size=(6, 12, 2)).cumsum(1).astype(np.float32)
    layer = params["backbone"]["layers"][0][0]
    cell, out = torch.nn.GRU(3, 5, batch_first=True), torch.nn.Linear(5, 4)
    for name in ("kernel", "state_kernel", "bias", "state_bias"):
        side, kind = ("hh" if "state" in name else "ih"), ("bias" if "bias" in name else "weight")
        getattr(cell, f"{kind}_{side}_l0").data = torch.tensor(layer[name].T.copy())
    set_linear(out, params["backbone"]["out"])
    wanted = np.empty((6, 4, 2))
    for row, column in np.ndindex(6, 2):
        window = torch.tensor(x[row, :, column])
        mean, deviation = window.mean(), (window.var(correction=0) + 1e-5).sqrt()
        normalised = (window - mean) / deviation
        outputs, _ = cell(normalised.reshape(1, 4, 3))
        outputs = out(outputs[0, -1]) + normalised @ torch.tensor(params["linear"]["kernel"])
        wanted[row, :, column] = (outputs * deviation + mean).detach()
    np.testing.assert_allclose(network.apply(params, model_state, x)[0], wanted, rtol=1e-5)


def set_conv(layer, params, *, transposed: bool = False):
    kernel = (
        params["kernel"][::-1, ::-1].transpose(2, 3, 0, 1) if transposed else params["kernel"].transpose(3, 2, 0, 1)
    )
    layer.weight.data = torch.tensor(kernel.copy())
    if layer.bias is not None:
        layer.bias.data = torch.tensor(params["bias"].copy())


@pytest.mark.slow
def test_strided_encoder_and_decoder():
    """DCGAN's discriminator and generator: values, and gradients of the outputs' sum of squares."""
    x = np.random.default_rng(0).normal(size=(6, 8, 12, 2)).astype(np.float32)
    codes = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    down = jn.network(StridedEncoder, (8, 12, 2), (4, 6), 3, hidden=(7,), norm="batch")
    up = jn.network(StridedDecoder, 5, (8, 12, 2), (6, 4), hidden=(9,), out_activation=jnp.tanh)
    (p, down_state), (q, up_state) = (numpy(network.init(jax.random.key(0))) for network in (down, up))
    convs = [torch.nn.Conv2d(2, 4, 4, 2, 1), torch.nn.Conv2d(4, 6, 4, 2, 1, bias=False), torch.nn.BatchNorm2d(6, 1e-5)]
    linear, project = torch.nn.Linear(7, 3), torch.nn.Linear(9, 2 * 3 * 6, bias=False)
    dense = {
        "down": (torch.nn.Linear(6 * 2 * 3, 7, bias=False), torch.nn.BatchNorm1d(7, 1e-5)),
        "up": (torch.nn.Linear(5, 9, bias=False), torch.nn.BatchNorm1d(9, 1e-5)),
    }
    for (layer, norm), params in zip(dense.values(), (p, q), strict=True):
        set_linear(layer, params["hidden"][0]["layer"])
        set_norm(norm, params["hidden"][0]["norm"])
    norms = [torch.nn.BatchNorm2d(6, 1e-5), torch.nn.BatchNorm2d(4, 1e-5)]
    deconvs = [torch.nn.ConvTranspose2d(6, 4, 4, 2, 1, bias=False), torch.nn.ConvTranspose2d(4, 2, 4, 2, 1)]
    set_conv(convs[0], p["convs"][0]["layer"])
    set_conv(convs[1], p["convs"][1]["layer"])
    set_norm(convs[2], p["convs"][1]["norm"])
    set_linear(linear, p["out"])
    set_linear(project, q["project"])
    set_norm(norms[0], q["first"]["norm"])
    set_conv(deconvs[0], q["deconvs"][0]["layer"], transposed=True)
    set_norm(norms[1], q["deconvs"][0]["norm"])
    set_conv(deconvs[1], q["out"], transposed=True)

    def torch_down(images):
        y = torch.nn.functional.leaky_relu(convs[0](images.permute(0, 3, 1, 2)), 0.2)
        y = torch.nn.functional.leaky_relu(convs[2](convs[1](y)), 0.2)
        layer, norm = dense["down"]
        y = norm(layer(y.permute(0, 2, 3, 1).reshape(len(images), -1)))
        return linear(torch.nn.functional.leaky_relu(y, 0.2))

    def torch_up(codes):
        layer, norm = dense["up"]
        y = project(torch.relu(norm(layer(codes)))).reshape(-1, 2, 3, 6).permute(0, 3, 1, 2)
        y = torch.relu(norms[1](deconvs[0](torch.relu(norms[0](y)))))
        return torch.tanh(deconvs[1](y)).permute(0, 2, 3, 1)

    for network, params, model_state, inputs, other, weights in (
        (down, p, down_state, x, torch_down, lambda g: (g["convs"][0]["layer"]["kernel"], convs[0].weight)),
        (up, q, up_state, codes, torch_up, lambda g: (g["deconvs"][0]["layer"]["kernel"], deconvs[0].weight)),
    ):
        outputs, _ = network.apply(params, model_state, inputs, train=True)
        expected = other(torch.tensor(inputs))
        np.testing.assert_allclose(outputs, expected.detach(), atol=2e-5)
        expected.square().sum().backward()
        grads = jax.grad(lambda p: jnp.square(network.apply(p, model_state, inputs, train=True)[0]).sum())(params)  # noqa: B023
        got, weight = weights(grads)
        axes = (2, 3, 1, 0) if network is down else (2, 3, 0, 1)
        grad = weight.grad.permute(axes).numpy()
        np.testing.assert_allclose(got, grad if network is down else grad[::-1, ::-1], rtol=1e-3, atol=1e-3)


def shuffled(x, patch, into):
    """Squares of pixels as channels (depth), or back: PyTorch counts the channels first, we count the pixels first."""
    if into == "depth":
        batch, channels, *_ = x.shape
        x = torch.nn.functional.pixel_unshuffle(x, patch)
        return x.reshape(batch, channels, patch**2, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
    batch, channels, *sides = x.shape
    x = x.reshape(batch, patch**2, channels // patch**2, *sides).transpose(1, 2).flatten(1, 2)
    return torch.nn.functional.pixel_shuffle(x, patch)


@pytest.mark.slow
@pytest.mark.parametrize("patch", [1, 2])
def test_unet(patch):
    """Values, and gradients of every parameter; sides that the poolings do not divide."""
    network = jn.network(UNet, 2, (4, 6, 8), 3, patch=patch)
    params, model_state = numpy(network.init(jax.random.key(0)))
    random = np.random.default_rng(0)
    x, y = random.normal(size=(3, 10, 12, 2)).astype(np.float32), random.integers(0, 3, (3, 10, 12))
    pairs, leaves = {}, []
    for name in ("down", "up"):
        for i, pair in params[name].items():
            layers = []
            for half in ("first", "second"):
                kernel = pair[half]["layer"]["kernel"]
                conv = torch.nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1, bias=False)
                norm = torch.nn.BatchNorm2d(kernel.shape[3])
                set_conv(conv, pair[half]["layer"])
                set_norm(norm, pair[half]["norm"])
                layers += [conv, norm, torch.nn.ReLU()]
                leaves.append(((name, i, half, "layer", "kernel"), conv.weight))
            pairs[name, i] = torch.nn.Sequential(*layers)
    larger = []
    for i, layer in params["larger"].items():
        coarse, fine = layer["kernel"].shape[2:]
        larger.append(torch.nn.ConvTranspose2d(coarse, fine, 2, 2))
        set_conv(larger[-1], layer, transposed=True)
        leaves.append((("larger", i, "bias"), larger[-1].bias))
    out = torch.nn.Conv2d(4, 3 * patch**2, 1)
    set_conv(out, params["out"])
    spare = (0, 0, 0, 2) if patch == 1 else (0, 4, 0, 6)  # to 12 x 12, or 16 x 16

    def model(x):
        x = shuffled(torch.nn.functional.pad(x, spare, "replicate"), patch, "depth")
        seen = [pairs["down", 0](x)]
        for i in (1, 2):
            seen.append(pairs["down", i](torch.nn.functional.max_pool2d(seen[-1], 2)))
        x = seen[2]
        for i in (1, 0):
            x = pairs["up", i](torch.cat([seen[i], larger[i](x)], 1))
        return shuffled(out(x), patch, "space")[:, :, :10, :12]

    outputs = model(torch.tensor(x.transpose(0, 3, 1, 2).copy()))
    got, _ = network.apply(params, model_state, x, train=True)
    np.testing.assert_allclose(got, outputs.detach().permute(0, 2, 3, 1), atol=1e-4)
    torch.nn.functional.cross_entropy(outputs, torch.tensor(y)).backward()
    grads = gradient(network, params, model_state, x, y)
    for path, weight in leaves:
        grad = grads
        for name in path:
            grad = grad[name]
        wanted = weight.grad.numpy()
        np.testing.assert_allclose(grad, wanted.transpose(2, 3, 1, 0) if wanted.ndim == 4 else wanted, atol=1e-4)
