"""Layouts of image models: torchvision's ResNet and MobileNetV2, and EfficientNet-Lite in PyTorch."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxnets.errors import InputError
from jaxnets.models import efficientnet, mobilenet, resnet
from jaxnets.models.inverted import Stage
from jaxnets.weights.layout import Layout, Rule, conv, dense, same

_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
_LITE_NAMES = {  # of a block's convolutions and norms
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}


class _Layer(NamedTuple):
    """A convolution and the normalisation after it: their names for the two, and our path of both."""

    conv: str
    norm: str
    ours: str


def torchvision_resnet(depth: int) -> Layout:
    """Return the layout of torchvision's ``resnet18``, ``resnet34`` or ``resnet50``, our ``ResNet`` of that depth.

    Raises:
        InputError: for another depth.
    """
    if depth not in resnet.STAGES:
        raise InputError(f"{depth=} is no depth of a ResNet here; use one of {', '.join(map(str, resnet.STAGES))}")
    convs = 3 if depth >= 50 else 2
    layers, number = [_Layer("conv1", "bn1", "stem")], 0
    for stage, num_blocks in enumerate(resnet.STAGES[depth]):
        for i in range(num_blocks):
            theirs, ours = f"layer{stage + 1}.{i}", f"blocks/{number}"
            layers += [
                _Layer(f"{theirs}.conv{j + 1}", f"{theirs}.bn{j + 1}", f"{ours}/layers/{j}") for j in range(convs)
            ]
            if i == 0 and (stage > 0 or convs == 3):
                shortcut = f"{theirs}.downsample"
                layers.append(_Layer(f"{shortcut}.0", f"{shortcut}.1", f"{ours}/shortcut"))
            number += 1
    return _layout(f"torchvision's ResNet-{depth}", layers, "fc")


def torchvision_mobilenet_v2() -> Layout:
    """Return the layout of torchvision's ``mobilenet_v2`` of any width, our ``MobileNetV2``."""
    blocks = list(_parts(mobilenet.stages()))
    layers = [_Layer("features.0.0", "features.0.1", "stem")]
    for i, (*activated, last) in enumerate(blocks):
        theirs, ours, j = f"features.{i + 1}.conv", f"blocks/{i}", len(activated)
        layers += [_Layer(f"{theirs}.{k}.0", f"{theirs}.{k}.1", f"{ours}/{part}") for k, part in enumerate(activated)]
        layers.append(_Layer(f"{theirs}.{j}", f"{theirs}.{j + 1}", f"{ours}/{last}"))
    head = f"features.{len(blocks) + 1}"
    layers.append(_Layer(f"{head}.0", f"{head}.1", "conv_head"))
    return _layout("torchvision's MobileNetV2", layers, "classifier.1")


def efficientnet_lite(variant: str = "lite0") -> Layout:
    """Return the layout of the PyTorch package efficientnet_lite_pytorch, our ``EfficientNet``, "lite0" to "lite4".

    Raises:
        InputError: for another variant.
    """
    if variant not in efficientnet.LITE:
        raise InputError(f"{variant=} is no EfficientNet-Lite; use one of {', '.join(efficientnet.LITE)}")
    layers = [_Layer("_conv_stem", "_bn0", "stem")]
    for i, found in enumerate(_parts(efficientnet.stages(*efficientnet.LITE[variant]))):
        for part in found:
            conv_name, norm = _LITE_NAMES[part]
            layers.append(_Layer(f"_blocks.{i}.{conv_name}", f"_blocks.{i}.{norm}", f"blocks/{i}/{part}"))
    layers.append(_Layer("_conv_head", "_bn1", "conv_head"))
    return _layout(f"EfficientNet-{variant.capitalize()}", layers, "_fc")


def _parts(stages: Iterable[Stage]) -> Iterator[tuple[str, ...]]:
    """Yield the layers of each inverted residual block."""
    for stage in stages:
        parts = ("expand", "depthwise", "project")
        yield from [parts if stage.expansion > 1 else parts[1:]] * stage.num_blocks


def _layout(name: str, layers: Iterable[_Layer], out: str) -> Layout:
    rules: list[Rule] = []
    constants: dict[str, np.ndarray] = {}
    for layer in layers:
        rules.append(conv(f"{layer.conv}.weight", f"{layer.ours}/layer/kernel"))
        rules += [same(f"{layer.norm}.{theirs}", f"{layer.ours}/norm/{ours}") for theirs, ours in _NORM.items()]
        constants[f"{layer.norm}.num_batches_tracked"] = np.zeros((), np.int64)  # PyTorch reads it without a momentum
    rules += [dense(f"{out}.weight", "out/kernel"), same(f"{out}.bias", "out/bias")]
    return Layout(name, tuple(rules), constants=constants)
