"""Boxes: what is found where, drawn beside the truth, counted, and measured as COCO does."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data import Column, Spec, Splits
from jaxnets.data.box_formats import read_coco
from jaxnets.data.boxes import CORNERS
from jaxnets.data.decoding import decode_image, resized
from jaxnets.errors import InputError, check_field, nearest
from jaxnets.metrics import average_precisions, precision_at_recalls
from jaxnets.runs import plots
from jaxnets.tasks.task import Examples, Finished, Row, Task, Trained, given_files
from jaxnets.training.evaluation import predict as predict_outputs

_SHOWN = 6  # test images that are drawn
_MOST_DRAWN = 8  # images that a prediction draws
_MOST_CURVES = 10  # classes whose precision and recall are drawn
_LETTERS = 12  # of the name of a class beside a box
_CHOSEN_ON = 200  # training images on which a threshold is chosen where there are none for validation


class _Made(NamedTuple):
    """Images [N, H, W, C], pixels 0 to 1, the boxes in them [N, 100, 6], and the least score of one that is shown."""

    images: np.ndarray
    boxes: np.ndarray
    threshold: float


class _Ids(NamedTuple):
    """The ids of images and of classes, in their orders."""

    images: Sequence[Any]
    categories: Sequence[Any]


@dataclass(frozen=True)
class BoxOptions:
    """Which boxes are printed."""

    threshold: float = 0.3
    """the least score of a box"""
    coco: bool = False
    """print boxes as COCO's results have them: image_id, category_id, bbox (left, top, width, height) and score"""
    ids: Path | None = None
    """with --coco: COCO's file of annotations that has the ids of the images and categories; they count from 0 without
    it"""

    def __post_init__(self) -> None:
        """Check the ranges, and that no flag is without use."""
        if self.ids is not None and not self.coco:
            raise InputError(f"ids={self.ids} changes nothing without --coco; give it, too")
        check_field(self, "threshold", 0 <= self.threshold <= 1, "in [0, 1], such as 0.3")


def boxes(spec: Spec, sizes: tuple[float, float]) -> Task:
    """Return the task of boxes [100, 6] that are found in images like those of ``spec``.

    Args:
        spec: of the training data.
        sizes: sides of squares, in pixels, below and above which boxes are small and large.
    """
    column, classes = spec["inputs"], spec["labels"].classes

    def read(given: Sequence[str], options: BoxOptions) -> Examples:
        """Read images, and remember how large they are."""
        if not given:
            raise InputError("nothing is given; give images, or folders of them")
        names, made = [], []
        files = [path for name in given for path in given_files(Path(name))]
        ids = _ids(files, classes, options.ids)
        for path, number in zip(files, ids.images, strict=True):
            image = decode_image(str(path), path.read_bytes, channels=column.shape[-1])
            size = {"size": image.shape[:2], "image_id": number, "category_ids": ids.categories}
            names.append({"file": str(path), "options": options} | size)
            made.append(resized(image, column.shape[:2]))
        return Examples(names, np.stack(made))

    def predict(trained: Trained, examples: Examples) -> _Made:
        """Return the boxes of each image, [N, 100, 6], by the first seed."""
        found = predict_outputs(trained.learner, trained.first, examples.inputs)
        return _Made(examples.inputs / column.high, found, examples.names[0]["options"].threshold)

    def save(path: Path, made: _Made) -> None:
        """Draw the images with their boxes, the first of many."""
        some = slice(_MOST_DRAWN)
        save_boxes(path, made.images[some], {"found": made.boxes[some]}, classes, made.threshold)

    def rows(examples: Examples, made: _Made) -> Sequence[Row]:
        found = []
        for name, of_image in zip(examples.names, made.boxes, strict=True):
            options, (height, width) = name["options"], name["size"]
            scale = np.tile([width / column.shape[1], height / column.shape[0]], 2)
            sure = of_image[(of_image[:, 5] >= 0) & (of_image[:, 4] >= options.threshold)]
            corners = (sure[:, :4] * scale).round(2)
            if options.coco:
                found += [_coco_row(name, *pair) for pair in zip(corners, sure, strict=True)]
            else:
                found += [_row(name["file"], *pair, classes) for pair in zip(corners, sure, strict=True)]
                found += (
                    []
                    if len(sure)
                    else [{"file": name["file"], "class": None, "score": None, **dict.fromkeys(CORNERS[:4])}]
                )
        if not found:
            raise InputError("nothing was found that COCO's results could hold; use a smaller --threshold")
        return found

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        return _finished(column, classes, sizes, trained, splits, folder)

    return Task(
        read=read,
        predict=predict,
        rows=rows,
        options=BoxOptions(),
        save=save,
        check_save=plots.check_picture,
        finish=finish,
    )


def _finished(
    column: Column, classes: Sequence[str], sizes: tuple[float, float], trained: Trained, splits: Splits, folder: Path
) -> Finished:
    """Draw boxes beside the truth and precision by recall, and measure and count as COCO does."""
    held_out = splits.test or splits.validation
    if held_out is None:
        return Finished()
    images, labels = held_out["inputs"], held_out["labels"]
    chosen_on = splits.validation if splits.validation is not None else splits.train.take(slice(_CHOSEN_ON))
    metrics: dict[str, list[float]] = {}
    for i, state in enumerate(trained.states):
        found, other = (predict_outputs(trained.learner, state, part["inputs"]) for part in (held_out, chosen_on))
        least = surest_counts(other, chosen_on["labels"], len(classes))
        precisions = precision_at_recalls(found, labels, len(classes), sizes)
        values = {f"coco_{name}": value for name, value in average_precisions(precisions, classes).items()}
        values |= {"count_error": count_error(found, labels, len(classes), least), "count_threshold": least}
        for name, value in values.items():
            if not np.isnan(value):
                metrics.setdefault(f"test/{name}", []).append(value)
        if i == 0:
            pixels = images[:_SHOWN] / column.high
            beside = {"labelled": labels[:_SHOWN], "found": found[:_SHOWN]}
            save_boxes(folder / "boxes.png", pixels, beside, classes, least)
            save_precisions(folder / "precision-recall.png", precisions, classes)
            save_counts(folder / "counts.png", found, labels, classes, least)
    usual = count_classes(splits.train["labels"], len(classes)).mean(0).round()
    blind = float(np.abs(count_classes(labels, len(classes)) - usual).sum(-1).mean())
    about = dict.fromkeys(("test/coco_map", "test/coco_map50"), "as pycocotools")
    where = "validation" if splits.validation is not None else "training"
    about |= {"test/count_error": f"boxes an image, of scores from the threshold, which is chosen on {where} data"}
    return Finished(metrics, {"test/count_error_of_mean": blind}, about)


def _row(file: str, corners: np.ndarray, box: np.ndarray, classes: Sequence[str]) -> Row:
    where = dict(zip(CORNERS, corners.tolist(), strict=False))
    return {"file": file, "class": classes[int(box[5])], "score": float(box[4]), **where}


def _coco_row(name: Row, corners: np.ndarray, box: np.ndarray) -> Row:
    left, top, right, bottom = corners.tolist()
    sides = [left, top, round(right - left, 2), round(bottom - top, 2)]
    numbers = {"image_id": name["image_id"], "category_id": name["category_ids"][int(box[5])]}
    return {**numbers, "bbox": sides, "score": float(box[4]), "file": name["file"]}


def _ids(files: Sequence[Path], classes: Sequence[str], annotations: Path | None) -> _Ids:
    """Return the ids that a file of annotations has, by the images' and the classes' names; 0, 1, ... without one.

    Raises:
        InputError: if it has none of an image, or of a class.
    """
    if annotations is None:
        return _Ids(range(len(files)), range(len(classes)))
    try:
        found = read_coco(str(annotations), annotations.read_bytes())
    except OSError as error:
        raise InputError(f"ids={annotations} cannot be read: {error}; give COCO's file of annotations") from error
    listed = [(PurePosixPath(file.replace("\\", "/")).name, number) for file, number in found.images.items()]
    by_name = dict(listed)
    if len(by_name) < len(listed):
        twice, _ = Counter(name for name, _ in listed).most_common(1)[0]
        raise InputError(
            f"ids={annotations} names two images called {twice}, of different folders; use a file for each"
        )
    for kind, names, known in (
        ("an image", [file.name for file in files], by_name),
        ("a category", classes, found.categories),
    ):
        if missing := [name for name in names if name not in known]:
            raise InputError(
                f"ids={annotations} does not name {kind} called {missing[0]}{nearest(missing[0], list(known))}; give "
                "the annotations of these images"
            )
    return _Ids([by_name[file.name] for file in files], [found.categories[name] for name in classes])


def count_classes(rows: np.ndarray, num_classes: int, threshold: float | None = None) -> np.ndarray:
    """Return how many boxes of each class an image has, [N, M, 5 or 6] -> [N, C]; with a threshold, those as sure."""
    number = rows[..., -1] if threshold is None else np.where(rows[..., 4] >= threshold, rows[..., 5], -1)
    return np.stack([(number == one).sum(-1) for one in range(num_classes)], -1)


def count_error(found: np.ndarray, labels: np.ndarray, num_classes: int, threshold: float) -> float:
    """Return by how much an image's counts are wrong on average, summed over the classes."""
    away = count_classes(found, num_classes, threshold) - count_classes(labels, num_classes)
    return float(np.abs(away).sum(-1).mean())


def surest_counts(found: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """Return the score, of 0.05, 0.06, ..., 0.95, from which on counts of boxes are least wrong."""
    scores = np.linspace(0.05, 0.95, 91).round(2).tolist()
    return min(scores, key=lambda score: count_error(found, labels, num_classes, score))


def save_boxes(
    path: Path, images: np.ndarray, boxes: Mapping[str, np.ndarray], classes: Sequence[str], threshold: float
) -> None:
    """Save images [N, H, W, C], pixels 0 to 1, with boxes that are drawn, a row of images for each kind of boxes.

    Args:
        path: of the picture.
        images: that are drawn.
        boxes: labels [N, M, 5] or what is found [N, K, 6], by a title.
        classes: their names.
        threshold: the least score of what is found.
    """
    figure = plots.figure(figsize=(2.6 * len(images), 2.3 * len(boxes) * images.shape[1] / images.shape[2] + 1.2))
    panels = figure.subplots(len(boxes), len(images), squeeze=False)
    for row, (title, of_all) in zip(panels, boxes.items(), strict=True):
        for axes, image, of_image in zip(row, images, of_all, strict=True):
            shown = of_image[of_image[:, -1] >= 0]
            shown = shown[shown[:, 4] >= threshold] if shown.shape[-1] == 6 else shown
            axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1)
            for box in shown:
                _draw(axes, box, classes)
            axes.set_title(f"{title}: {len(shown)}", fontsize="small")
            axes.set_axis_off()
    for number, name in enumerate(classes[:_MOST_CURVES]):
        panels[0][0].plot([], [], color=f"C{number}", label=name)
    figure.legend(loc="outside lower center", ncols=10, fontsize="small")
    figure.savefig(path, dpi=130)


def _draw(axes: Any, box: np.ndarray, classes: Sequence[str]) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415  (slow to import)

    left, top, right, bottom = box[:4]
    colour = f"C{int(box[-1]) % 10}"
    corner = (left - 0.5, top - 0.5)  # edges lie between pixels, whose centres have the whole numbers
    axes.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.2))
    score = f" {box[4]:.2f}" if len(box) == 6 else ""
    axes.text(left, top - 1, f"{classes[int(box[-1])][:_LETTERS]}{score}", color=colour, fontsize=5, va="bottom")


def save_precisions(path: Path, precisions: np.ndarray, classes: Sequence[str]) -> None:
    """Save the precision by recall of each class, at IoUs of 0.5 and 0.75, of precisions [4, 10, C, 101]."""
    figure = plots.figure(figsize=(9, 4))
    for axes, (iou, at) in zip(figure.subplots(1, 2), ((0.5, 0), (0.75, 5)), strict=True):
        for number, name in enumerate(classes[:_MOST_CURVES]):
            values = precisions[0, at, number]
            if not np.isnan(values).any():
                axes.plot(np.linspace(0, 1, len(values)), values, label=f"{name}: {values.mean():.3f}")
        axes.set(xlabel="recall", ylabel="precision", title=f"IoU {iou}", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(fontsize="small", loc="lower left")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def save_counts(path: Path, found: np.ndarray, labels: np.ndarray, classes: Sequence[str], threshold: float) -> None:
    """Save how many boxes of each class are found in each image, by how many are labelled."""
    shown = list(classes[:_MOST_CURVES])
    true, counted = count_classes(labels, len(classes)), count_classes(found, len(classes), threshold)
    figure = plots.figure(figsize=(5.5, 5))
    axes, random = figure.subplots(), np.random.default_rng(0)
    for number, name in enumerate(shown):
        apart = random.uniform(-0.2, 0.2, (2, len(true)))  # so that images with the same counts are seen
        axes.scatter(true[:, number] + apart[0], counted[:, number] + apart[1], s=9, alpha=0.6, label=name)
    most = max(true.max(), counted.max()) + 1
    axes.plot([0, most], [0, most], color="grey", linewidth=0.8)
    axes.set(
        xlabel="labelled in an image", ylabel=f"found, of scores from {threshold:.2f}", title=f"{len(true)} test images"
    )
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
