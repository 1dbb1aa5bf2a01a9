"""Embeddings: whether two examples are of one person, and of whom, of people who were not trained on."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data import Data, Spec, Splits
from jaxnets.inference.similarity import normalized
from jaxnets.metrics.verification import (
    Roc,
    area,
    cumulative_matches,
    equal_error,
    open_set_scores,
    pairs_of,
    rank,
    roc,
)
from jaxnets.runs import plots
from jaxnets.runs.json_files import to_json
from jaxnets.tasks.task import Examples, FileOptions, Finished, Row, Task, Trained, one_row_each, reading_files
from jaxnets.training.evaluation import predict

THRESHOLDS = "thresholds.json"
_SHOWN = 8  # pairs in a row of the picture
_MAPPED = 1000  # test examples whose embeddings are drawn as a map
_COMPONENTS = 100  # of eigenfaces, and below Fisherfaces


class Thresholds(NamedTuple):
    """The least cosines at which two examples are taken for one person, chosen on people who were not trained on.

    Attributes:
        compare: for two examples: as many pairs of strangers are accepted as pairs of one person are not.
        identify: for the example most alike among many, likewise.
    """

    compare: float
    identify: float


class Kind(NamedTuple):
    """What is embedded.

    Attributes:
        read: as a ``Task`` has it.
        options: of ``read``.
        plain: ``plain(train, test)``: embeddings of the test's examples by plain methods, of length 1, by their names.
        pictures: ``pictures(inputs)``: examples as images [N, H, W, C], pixels 0 to 1, to be shown.
    """

    read: Callable[[Sequence[str], Any], Examples]
    options: Any
    plain: Callable[[Data, Data], Mapping[str, np.ndarray]]
    pictures: Callable[[np.ndarray], np.ndarray]


def embeddings(spec: Spec, kind: Kind | None = None) -> Task:
    """Return the task of embeddings of length 1, [N, D]; of several seeds they stand side by side (``embed``).

    Args:
        spec: of the training data.
        kind: what is embedded; images if absent, beside eigenfaces and Fisherfaces.
    """
    what = kind or Kind(reading_files(spec), FileOptions(), _baselines, lambda images: images / spec["inputs"].high)

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        """Tell which other of the examples each is most like; of one alone, how large its largest number is."""
        if len(made) == 1:
            return one_row_each(examples, [{"most like": "", "cosine": 1.0}])
        cosines = made @ made.T
        np.fill_diagonal(cosines, -np.inf)
        names = [" row ".join(map(str, name.values())) for name in examples.names]
        found = [{"most like": names[row.argmax()], "cosine": float(row.max())} for row in cosines]
        return one_row_each(examples, found)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Choose thresholds on the validation people, measure them on the test's, and draw both."""
        test = splits.test
        assert test is not None
        thresholds = None
        if splits.validation is not None:
            thresholds = thresholds_on(embed(trained, splits.validation["inputs"]), splits.validation["labels"])
            to_json(folder / THRESHOLDS, thresholds._asdict())
        labels = test["labels"]
        of_seeds = [predict(trained.learner, state, test["inputs"]) for state in trained.states]
        metrics = {"test/rank_1": [rank(cumulative_matches(made, labels)) for made in of_seeds]}
        methods = {"this model": embed(trained, test["inputs"]), **what.plain(splits.train, test)}
        if thresholds is not None:
            genuine, impostors = pairs_of(methods["this model"], labels)
            metrics["test/false_accepts"] = [float((impostors >= thresholds.compare).mean())]
            metrics["test/false_rejects"] = [float((genuine < thresholds.compare).mean())]
        _draw(folder, test, methods, what.pictures, thresholds)
        together = methods.pop("this model")
        beside = methods if len(of_seeds) == 1 else {"ensemble": together, **methods}
        return Finished(metrics, _measured(beside, labels), _ABOUT)

    return Task(
        read=what.read,
        predict=lambda trained, examples: embed(trained, examples.inputs),
        rows=rows,
        options=what.options,
        encode=lambda trained, examples: embed(trained, examples.inputs),
        finish=finish,
    )


_ABOUT = {
    "test/auc_of_ensemble": "by the mean cosine over all seeds, as predict gives it",
    "test/false_accepts": "of pairs of two people, at the threshold chosen on validation people",
    "test/false_rejects": "of pairs of one person, at that threshold",
}


def embed(trained: Trained, inputs: Any) -> np.ndarray:
    """Return embeddings of length 1, [N, seeds * D], whose products are the mean cosine over the seeds."""
    made = [predict(trained.learner, state, inputs) for state in trained.states]
    return np.concatenate(made, 1) / math.sqrt(len(made))


def thresholds_on(made: np.ndarray, labels: np.ndarray) -> Thresholds:
    """Return the thresholds of equal error of embeddings [N, D], of people [N]."""
    of_pairs = equal_error(roc(*pairs_of(made, labels)))[1]
    return Thresholds(of_pairs, equal_error(roc(*open_set_scores(made, labels)))[1])


def _measured(methods: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    found = {}
    for name, made in methods.items():
        curve, key = roc(*pairs_of(made, labels)), name.lower().replace(" ", "_")
        found[f"test/auc_of_{key}"] = area(curve)
        found[f"test/eer_of_{key}"] = equal_error(curve)[0]
        found[f"test/rank_1_of_{key}"] = rank(cumulative_matches(made, labels))
    return found


def _baselines(train: Data, test: Data) -> dict[str, np.ndarray]:
    """Return embeddings of length 1 by eigenfaces (Turk and Pentland, 1991) and Fisherfaces (Belhumeur et al., 1997).

    Both begin with 100 principal components. Fisherfaces are a linear discriminant analysis of them whose covariance is
    shrunk (Ledoit and Wolf, 2004), for it is of few pictures.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415  (slow to import)
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # noqa: PLC0415

    pixels, new = (part["inputs"].reshape(part.num_examples, -1).astype(np.float64) for part in (train, test))
    people = len(np.unique(train["labels"]))
    number = max(1, min(_COMPONENTS, len(pixels) - people, pixels.shape[1] - 1))
    of_all = PCA(number, random_state=0).fit(pixels)
    coded = of_all.transform(new)
    fisher = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(of_all.transform(pixels), train["labels"])
    return {
        "eigenfaces": normalized(coded),
        "Fisherfaces": normalized(fisher.transform(coded)),
    }


def _draw(
    folder: Path,
    test: Data,
    methods: Mapping[str, np.ndarray],
    pictures: Callable[[np.ndarray], np.ndarray],
    thresholds: Thresholds | None,
) -> None:
    """Write pairs.png, verification.png and embeddings.png."""
    made, labels = methods["this model"], test["labels"]
    least = None if thresholds is None else thresholds.compare
    save_pairs(folder / "pairs.png", pictures(test["inputs"]), made, labels, least)
    _save_curves(folder / "verification.png", methods, labels, least)
    some = np.linspace(0, len(labels) - 1, min(_MAPPED, len(labels))).round().astype(int)
    if len(some) >= 10:  # of fewer there is no map
        known, numbers = np.unique(labels[some], return_inverse=True)
        plots.save_map(folder / "embeddings.png", made[some], numbers, [test.classes[number] for number in known])


def save_pairs(
    path: Path, images: np.ndarray, made: np.ndarray, labels: np.ndarray, threshold: float | None = None
) -> None:
    """Save pairs of images [N, H, W, C], pixels 0 to 1, with distances: the hardest of each kind, and some others.

    Distances are those of embeddings [N, D] of length 1, 0 to 2. Titles are red where a threshold errs, else green.
    """
    first, second = np.triu_indices(len(labels), 1)
    cosines, same = (made @ made.T)[first, second], labels[first] == labels[second]
    order = np.argsort(cosines, kind="stable")
    genuine, impostors = order[same[order]], order[~same[order]][::-1]
    shown = {
        "one person, most unlike": genuine[:_SHOWN],
        "one person, some": genuine[np.linspace(0, len(genuine) - 1, _SHOWN).astype(int)],
        "two people, most alike": impostors[:_SHOWN],
        "two people, some": impostors[np.linspace(0, len(impostors) - 1, _SHOWN).astype(int)],
    }
    figure = plots.figure(figsize=(1.5 * _SHOWN, 1.35 * len(shown)))
    panels = figure.subplots(len(shown), _SHOWN, squeeze=False)
    for row, (kind, pairs) in zip(panels, shown.items(), strict=True):
        for axes, pair in zip(row, pairs, strict=False):
            both = np.concatenate([images[first[pair]], np.ones_like(images[0][:, :1]), images[second[pair]]], 1)
            axes.imshow(both if both.shape[-1] == 3 else both[..., 0], cmap="gray", vmin=0, vmax=1)
            right = threshold is None or (cosines[pair] >= threshold) == same[pair]
            distance = math.sqrt(max(0.0, 2 - 2 * cosines[pair]))
            axes.set_title(f"{distance:.2f}", fontsize="small", color="C2" if right else "C3")
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(kind.replace(", ", ",\n"), fontsize="small")
    least = "" if threshold is None else f"; one person up to {math.sqrt(max(0.0, 2 - 2 * threshold)):.2f}, errors red"
    figure.suptitle(f"distances between embeddings{least}", fontsize="small")
    figure.savefig(path, dpi=120)


def _save_curves(path: Path, methods: Mapping[str, np.ndarray], labels: np.ndarray, threshold: float | None) -> None:
    """Save the cosines of both kinds of pairs, the ROC curves and the cumulative matches of each method."""
    figure = plots.figure(figsize=(13, 4))
    scores, rates, matches = figure.subplots(1, 3)
    for name, cosines in zip(("one person", "two people"), pairs_of(methods["this model"], labels), strict=True):
        scores.hist(cosines, 50, range=(-1, 1), density=True, alpha=0.6, label=name)
    if threshold is not None:
        scores.axvline(threshold, color="black", linestyle=":", label="threshold")
    scores.set(xlabel="cosine", ylabel="density of pairs")
    for name, made in methods.items():
        curve: Roc = roc(*pairs_of(made, labels))
        rates.plot(curve.far, curve.tar, label=f"{name}: {area(curve):.3f}, EER {equal_error(curve)[0]:.1%}")
        found = cumulative_matches(made, labels)
        matches.plot(range(1, len(found) + 1), found, marker=".", label=f"{name}: rank 1 {found[0]:.1%}")
    rates.set(xlabel="pairs of strangers accepted", ylabel="pairs of one person accepted", xscale="log", xlim=(1e-3, 1))
    matches.set(xlabel="rank", ylabel="share of examples whose person is found (CMC)")
    for axes in (scores, rates, matches):
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
