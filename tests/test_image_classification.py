"""Image classification: what each choice of model and data becomes."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from test_images import write, zipped

from jaxnets import InputError, cli, data, summarize
from jaxnets.data import NAMED, Data
from jaxnets.network import num_parameters
from jaxnets.options import ImageData, LayerConfig
from jaxnets.recipes import image_classification as recipe

CIFAR10 = recipe.PRESETS["cifar10-resnet"].config


def outline(config: recipe.Config, shape: tuple[int, ...] = (32, 32, 3)):
    """Return the learner for images of this shape, and its state's shapes."""
    images = np.zeros((1000, *shape), np.uint8)
    learner = recipe.build(config, Data(inputs=images, labels=np.arange(1000) % 10).spec)
    return learner, jax.eval_shape(learner.init, jax.random.key(0))


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        pytest.param({}, 11_173_962, marks=pytest.mark.slow),
        pytest.param({"depth": 50}, 23_520_842, marks=pytest.mark.slow),
        ({"depth": 10, "width": 16}, 308_826),
        (
            {"model": "separable", "features": (8, 16, "pool"), "hidden": (), "layers": LayerConfig(norm="batch")},
            41_450,
        ),
        pytest.param({"model": "mobilenet"}, 2_236_682, marks=pytest.mark.slow),
        pytest.param({"model": "efficientnet", "width": 32}, 1_025_482, marks=pytest.mark.slow),
    ],
)
def test_sizes(changes, wanted):
    learner, state = outline(replace(CIFAR10, **changes))
    assert num_parameters(state.params) == wanted
    batch = {"inputs": np.zeros((2, 32, 32, 3), np.uint8), "labels": np.zeros(2, np.int32)}
    after, metrics = jax.eval_shape(learner.step, state, batch, jax.random.key(0))
    assert jax.tree.structure(after) == jax.tree.structure(state) and set(metrics) == {"loss", "accuracy"}


@pytest.mark.parametrize(("size", "kernel"), [(64, 3), (65, 7)])
def test_large_images_get_the_imagenet_stem(size, kernel):
    _, state = outline(replace(CIFAR10, width=4), (size, size, 3))
    assert state.params["stem"]["layer"]["kernel"].shape == (kernel, kernel, 3, 4)


@pytest.mark.parametrize(
    ("model", "size", "halved"),
    [
        ("mobilenet", 64, 3),
        pytest.param("mobilenet", 96, 5, marks=pytest.mark.slow),
        pytest.param("efficientnet", 96, 5, marks=pytest.mark.slow),
    ],
)
def test_small_images_are_halved_less_often(model, size, halved):
    learner, state = outline(replace(CIFAR10, model=model, width=4), (size, size, 3))
    summary = summarize(learner, jax.ShapeDtypeStruct((size, size, 3), np.uint8))
    shapes = {layer.path: layer.output_shape for layer in summary.layers}
    assert shapes["conv_head"] == (size // 2**halved, size // 2**halved, 1280)
    assert state.params["blocks"][16 if model == "mobilenet" else 15]["project"]["layer"]["kernel"].shape[-1] == 24


@pytest.mark.parametrize("name", ["animals", "animals.zip"])
def test_own_validation_part_is_used(name, tmp_path, monkeypatch):
    write(
        tmp_path / "animals",
        *(f"{part}/{kind}/{i}.png" for part in ("train", "val") for kind in "ab" for i in range(9)),
    )
    zipped(tmp_path / "animals", "animals.zip")
    monkeypatch.setenv("JAXNETS_DATA", str(tmp_path))
    splits = ImageData(name).load()
    assert [part.num_examples for part in splits] == [14, 18, 4]
    assert ImageData(name, image_size=(7, 9)).load().train["inputs"].shape[1:] == (7, 9, 3)
    assert ImageData(name, validation=0.0).load().validation is None
    with pytest.raises(InputError, match=r"validation=0\.5, but animals.* has a validation part"):
        ImageData(name, validation=0.5).load()


def test_cifar10_is_a_choice(monkeypatch):
    wanted = data.Splits(
        Data(inputs=np.arange(500 * 3072, dtype=np.uint8).reshape(500, 32, 32, 3), labels=np.arange(500) % 10)
    )
    monkeypatch.setitem(NAMED, "cifar10", NAMED["cifar10"]._replace(load=lambda folder: wanted))
    splits = recipe.load(CIFAR10)
    assert splits.train.num_examples == 490 and splits.validation.num_examples == 10


@pytest.mark.slow
def test_a_run_on_a_folder_predicts_images(tmp_path, capsys):
    write(tmp_path / "shades", *(f"dark/{i}.png" for i in range(40)), *(f"light/{200 + i}.png" for i in range(40)))
    out = str(tmp_path / "run")
    arguments = f"--data {tmp_path / 'shades'} --out {out} --duration 8ep --batch-size 16 --validation 0.1".split()
    model = ["--model", "separable", "--features", "4", "8", "--hidden", "8"]
    options = ["--shift", "0", "--label-smoothing", "0.1", "--learning-rate", "0.01"]
    assert cli.main(["train", "digits-cnn", *arguments, *model, *options]) == 0
    assert "test accuracy" in capsys.readouterr().out
    write(tmp_path / "new", "240.png", size=(8, 8))
    assert cli.main(["predict", out, str(tmp_path / "new" / "240.png"), "--json"]) == 0
    assert '"light"' in capsys.readouterr().out


def test_image_size_is_for_images():
    with pytest.raises(InputError, match=r"image_size=\(0, 3\) must be 1 or more"):
        ImageData(image_size=(0, 3))
