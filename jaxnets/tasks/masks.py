"""Masks: the class of each pixel, predicted over images of any size, drawn with its errors, its objects counted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets.data import Data, Spec, Splits, read_inputs
from jaxnets.data.decoding import IMAGES, decode_image
from jaxnets.errors import InputError, nearest
from jaxnets.inference.tiling import flipped, tiled
from jaxnets.metrics import hausdorff95, instances, rand_error
from jaxnets.runs import plots
from jaxnets.tasks.task import Examples, FileOptions, Finished, Row, Task, Trained, given_files, one_row_each

_SHOWN = 4  # test images that are drawn
_COLOURS = ((0.9, 0.3, 0.2), (0.2, 0.5, 0.9), (0.2, 0.7, 0.3), (0.9, 0.7, 0.1), (0.6, 0.3, 0.7), (0.2, 0.7, 0.8))


class Masks(NamedTuple):
    """What was found in images of any size: each one's name, and probabilities [H, W, C]; the value of each class."""

    names: list[str]
    probabilities: list[np.ndarray]
    values: np.ndarray


def masks(spec: Spec, tile: int, overlap: int, objects: str | None = None, *, flips: bool = True) -> Task:
    """Return the task of logits [B, H, W, C], one for each of the classes of ``spec``'s labels.

    Args:
        spec: of the training data.
        tile: height and width of the tiles that images are predicted by.
        overlap: pixels that neighbouring tiles share.
        objects: the class whose connected parts are counted, if there is one.
        flips: predict the mean over the eight ways to turn and mirror a tile.

    Raises:
        InputError: if there is no such class.
    """
    classes = spec["labels"].classes
    if objects is not None and objects not in classes:
        raise InputError(
            f"instances={objects!r} is no class{nearest(objects, classes)}; there are {', '.join(classes)}: name "
            "one, or None"
        )
    numbers = [int(name) if name.isdecimal() else 256 for name in classes]  # what masks hold names classes, at first
    values = np.array(numbers if max(numbers) < 256 else range(len(classes)), np.uint8)

    def read(given: Sequence[str], options: FileOptions) -> Examples:
        return read_images(spec, given, options)

    def predict(trained: Trained, examples: Examples) -> Masks:
        def probabilities(tiles: np.ndarray) -> np.ndarray:
            return np.asarray(trained.mean(tiles, lambda logits: jax.nn.softmax(logits, -1)))

        one = flipped(probabilities) if flips else probabilities
        found = [tiled(one, image, tile, overlap) for image in examples.inputs]
        return Masks([Path(name["file"]).stem for name in examples.names], found, values)

    def rows(examples: Examples, made: Masks) -> Sequence[Row]:
        results = []
        for probabilities in made.probabilities:
            mask = probabilities.argmax(-1)
            row: Row = {name: float((mask == i).mean()) for i, name in enumerate(classes)}
            if objects is not None:
                row["instances"] = int(instances(mask == classes.index(objects)).max())
            results.append(row)
        return one_row_each(examples, results)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Measure the masks of the test images, by tiles and flips, and draw some; beside a single class for all."""
        test = splits.test or splits.validation
        if test is None:
            return Finished()
        examples = Examples([{"file": str(i)} for i in range(test.num_examples)], list(test["inputs"]))
        each = [predict(Trained(trained.learner, [state]), examples).probabilities for state in trained.states]
        found = [[image.argmax(-1) for image in seed] for seed in each]
        save_masks(folder / "masks.png", test.take(slice(_SHOWN)), found[0], spec)
        measured = [measure(seed, test, classes, objects) for seed in found]
        metrics = {f"test/{name}": [seed[name] for seed in measured] for name in measured[0]}
        how = f"of tiles of {tile}, {'eight ways each' if flips else 'as they are'}"
        counts = test.get("mask", np.ones(test["labels"].shape, np.uint8)) != 0
        trained_on = splits.train["labels"]
        if "mask" in splits.train:
            trained_on = trained_on[splits.train["mask"] != 0]
        largest = np.bincount(trained_on.ravel()).argmax()
        alone = float((test["labels"] == largest)[counts].mean())
        about = (
            dict.fromkeys(metrics, how)
            | {"test/hd95": f"pixels, {how}; a class that is missed, or found where it is not, is the diagonal off"}
            | {"test/pixel_accuracy_of_one_class": f"all {classes[largest]}"}
        )
        return Finished(metrics, {"test/pixel_accuracy_of_one_class": alone}, about)

    return Task(
        read=read,
        predict=predict,
        rows=rows,
        options=FileOptions(),
        save=save_as_images,
        check_save=check_folder,
        finish=finish,
    )


def read_images(spec: Spec, given: Sequence[str], options: FileOptions) -> Examples:
    """Return images of any size, [H, W, C] each: image files and folders of them, or arrays in npy and npz files."""
    if not given:
        raise InputError("nothing is given; give images, folders of them, npy or npz files")
    column = spec["inputs"]
    names: list[Row] = []
    images = []
    for path in (path for name in given for path in given_files(Path(name))):
        if path.suffix.lower() in IMAGES:
            image = decode_image(str(path), path.read_bytes, channels=column.shape[-1])
            found = [255 - image if options.invert else image]
        else:
            found = list(read_inputs(path, column))
        names += [{"file": str(path), "row": row} for row in range(len(found))]
        images += found
    return Examples(names, images)


def measure(found: Sequence[np.ndarray], test: Data, classes: Sequence[str], objects: str | None) -> dict[str, float]:
    """Return what is measured of masks [H, W] of test images, by name; pixels that do not count are left out."""
    counts = test.get("mask", np.ones(test["labels"].shape, np.uint8)) != 0
    true, guess = test["labels"], np.stack(found)
    overlaps = [
        (2 * (guess == i)[counts & (true == i)].sum(), (guess == i)[counts].sum() + (true == i)[counts].sum())
        for i in range(len(classes))
    ]
    dice = {name: both / sides for name, (both, sides) in zip(classes, overlaps, strict=True) if sides}
    results = {"tiled_pixel_accuracy": float((guess == true)[counts].mean())}
    results["tiled_dice"] = float(np.mean(list(dice.values())))
    if len(classes) == 2:
        results |= {f"tiled_dice_of_{name}": float(value) for name, value in dice.items()}
    far = [
        _distance((guess[row] == i) & counts[row], (true[row] == i) & counts[row])
        for row in range(len(true))
        for i in range(len(classes))
    ]
    results["hd95"] = float(np.nanmean(far)) if not np.isnan(far).all() else float("nan")
    return results | ({} if objects is None else _of_objects(guess, true, counts, classes.index(objects)))


def _distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the HD95 of two masks; where one alone has pixels the diagonal, as in BraTS; where none has, NaN."""
    return float(np.hypot(*found.shape)) if found.any() != wanted.any() else hausdorff95(found, wanted)


def _of_objects(guess: np.ndarray, true: np.ndarray, counts: np.ndarray, number: int) -> dict[str, float]:
    """Return how objects are parted, over the images that have some, and how far their number is off.

    The latter is the sum over all images of objects too many or too few, over the number that there is.
    """
    errors, off, there = [], 0, 0
    for row in range(len(true)):
        parts, wanted = (instances((mask[row] == number) & counts[row]) for mask in (guess, true))
        if wanted.any():
            errors.append(rand_error(parts, wanted).error)
        off, there = off + abs(int(parts.max()) - int(wanted.max())), there + int(wanted.max())
    if not there:
        return {}
    return {"rand_error": float(np.mean(errors)), "instance_count_error": off / there}


def check_folder(path: Path) -> None:
    """Check that masks can be kept in a folder of that name.

    Raises:
        InputError: if it looks like a file's name, or there is no place for it.
    """
    if path.suffix or path.is_file() or not path.parent.is_dir():
        raise InputError(f"out={path} must be a folder, here or where there is one: a mask of each image is kept there")


def save_as_images(path: Path, made: Masks) -> None:
    """Keep each mask as a PNG with a palette, whose numbers are the training masks' (of named classes, 0, 1, ...)."""
    from PIL import Image  # noqa: PLC0415  (slow to import)

    path.mkdir(exist_ok=True)
    palette = np.zeros((256, 3), np.uint8)
    palette[made.values] = (255 * _palette(len(made.values))).astype(np.uint8)
    for i, (name, probabilities) in enumerate(zip(made.names, made.probabilities, strict=True)):
        image = Image.fromarray(made.values[probabilities.argmax(-1)])
        image.putpalette(palette.ravel().tolist())
        image.save(path / (f"{name}.png" if made.names.count(name) == 1 else f"{name}-{i}.png"))


def _palette(number: int) -> np.ndarray:
    return np.array([_COLOURS[i % len(_COLOURS)] for i in range(number)])


def save_masks(path: Path, data: Data, found: Sequence[np.ndarray], spec: Spec) -> None:
    """Save a picture: images, the masks that were found laid over them, and the pixels that are wrong.

    The class with the most pixels is not coloured; a wrong pixel has the colour of the class that it is, and where that
    is the most frequent one, of black.
    """
    names, high = spec["labels"].classes, spec["inputs"].high
    usual = int(np.bincount(data["labels"].ravel(), minlength=len(names)).argmax())
    colours, opacity = _palette(len(names)), np.full(len(names), 0.6)
    opacity[usual] = 0.0
    drawing = plots.figure(figsize=(12, 4.2 * data.num_examples))
    panels = drawing.subplots(data.num_examples, 3, squeeze=False)
    for row, mask in zip(range(data.num_examples), found, strict=False):
        image, true = data["inputs"][row] / high, data["labels"][row]
        image = np.broadcast_to(image, (*image.shape[:2], 3)) if image.shape[-1] == 1 else image
        wrong = mask != true
        if "mask" in data:
            wrong &= data["mask"][row] != 0
        laid = _laid(image, colours[mask], opacity[mask])
        errors = _laid(0.5 + 0.5 * image, np.where((true == usual)[..., None], 0.0, colours[true]), 1.0 * wrong)
        for axes, shown in zip(panels[row], (image, laid, errors), strict=True):
            axes.imshow(shown, interpolation="nearest")
            axes.set_axis_off()
        panels[row][2].set_title(f"{wrong.mean():.1%} of the pixels are wrong", fontsize="small")
    panels[0][0].set_title("image", fontsize="small")
    panels[0][1].set_title("found: all but " + names[usual], fontsize="small")
    others = [i for i in range(len(names)) if i != usual][: len(_COLOURS)]
    from matplotlib.patches import Patch  # noqa: PLC0415  (slow to import)

    handles = [Patch(color=colours[i], label=f"{names[i]}; as an error: missed") for i in others]
    handles.append(Patch(color="black", label=f"as an error: {names[usual]} taken for something else"))
    drawing.legend(handles=handles, loc="outside lower center", ncols=2, fontsize="small")
    drawing.savefig(path, dpi=110)


def _laid(image: np.ndarray, colours: np.ndarray, opacity: Any) -> np.ndarray:
    """Return an image [H, W, 3] with colours laid over it, of so much opacity [H, W]."""
    opacity = np.asarray(opacity)[..., None]
    return np.clip((1 - opacity) * image + opacity * colours, 0, 1)
