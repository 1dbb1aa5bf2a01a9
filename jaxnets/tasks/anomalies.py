"""Anomalies: how unlike the normal an image is, under a detector for each kind of normal."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from jaxnets.data import Data, Spec, Splits
from jaxnets.runs import plots
from jaxnets.tasks.task import Examples, FileOptions, Finished, Row, Task, Trained, one_row_each, reading_files
from jaxnets.training.evaluation import predict

_AT_ONCE = 2000  # images that are scored together, for their reconstructions are many times larger
_SHOWN = 6  # images of a kind in a row of the picture


def anomalies(spec: Spec) -> Task:
    """Return the task of detectors side by side, each an autoencoder of one of the classes of ``spec``'s inputs."""
    names, high = spec["inputs"].classes, spec["inputs"].high

    def score(trained: Trained, examples: Examples) -> np.ndarray:
        return trained.mean(examples.inputs, lambda coded: anomaly_scores(examples.inputs, coded.outputs, high))

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        found = [{f"unlike {name}": float(value) for name, value in zip(names, row, strict=True)} for row in made]
        return one_row_each(examples, found)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Measure the area under the ROC curve, beside Isolation Forest's; draw what was most unlike the normal."""
        if splits.test is None:
            return Finished()
        images, normal = splits.test["inputs"][:, 0], splits.test["mask"].astype(bool)
        scores = [_scores_of(trained, i, images, high) for i in range(len(trained.states))]
        of_seeds = np.array([_areas(one, normal) for one in scores])  # [seeds, detectors]
        of_forest = _areas(_forest(splits.train, images), normal)
        titles = [
            f"normal: {name} (AUROC {own:.3f}, Isolation Forest {other:.3f})"
            for name, own, other in zip(names, of_seeds[0], of_forest, strict=True)
        ]
        plots.save_image_rows(folder / "anomalies.png", _extremes(titles, scores[0], normal, images / high))
        metrics = {"test/auroc": of_seeds.mean(1).tolist(), "test/auroc_of_worst_class": of_seeds.min(1).tolist()}
        return Finished(metrics, {"test/auroc_of_isolation_forest": float(of_forest.mean())})

    return Task(read=reading_files(spec), predict=score, rows=rows, options=FileOptions(), finish=finish)


def anomaly_scores(inputs: np.ndarray, made: np.ndarray, high: float) -> np.ndarray:
    """Return how unlike the normal images are, [N, detectors]: the squared error over the norm of each image's pixels.

    Without the norm, an image with little in it, such as a 1, would be like everything: there is little to get wrong.

    Args:
        inputs: images [N, H, W, C].
        made: the logits that each detector makes of them, [..., N, detectors, H, W, C].
        high: the pixels' highest value.
    """
    pixels = (inputs / np.float32(high))[:, None]
    errors = np.square(np.asarray(jax.nn.sigmoid(made)) - pixels).sum((-3, -2, -1))
    return errors / np.maximum(np.linalg.norm(pixels.reshape(len(inputs), 1, -1), axis=-1), 1.0)


def _scores_of(trained: Trained, seed: int, images: np.ndarray, high: float) -> np.ndarray:
    parts = np.array_split(images, max(1, len(images) // _AT_ONCE))
    made = (anomaly_scores(part, predict(trained.learner, trained.states[seed], part).outputs, high) for part in parts)
    return np.concatenate(list(made))


def _forest(train: Data, images: np.ndarray) -> np.ndarray:
    """Return the scores of an Isolation Forest for each detector, [N, detectors]."""
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415  (slow to import)

    scores = []
    for i, kept in enumerate(train["mask"].astype(bool).T):
        flat = train["inputs"][kept, i].reshape(kept.sum(), -1)
        forest = IsolationForest(random_state=0, n_jobs=-1).fit(flat)
        scores.append(-forest.score_samples(images.reshape(len(images), -1)))
    return np.stack(scores, 1)


def _areas(scores: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve of each detector, scores and normality [N, detectors]."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  (slow to import)

    return np.array([roc_auc_score(~of, score) for of, score in zip(normal.T, scores.T, strict=True)])


def _extremes(
    titles: Sequence[str], scores: np.ndarray, normal: np.ndarray, pixels: np.ndarray
) -> dict[str, np.ndarray]:
    """Return a row of images for each detector: the normal ones that look odd, and others that look normal."""
    rows = {}
    for title, score, of in zip(titles, scores.T, normal.T, strict=True):
        odd = np.argsort(np.where(of, score, -np.inf))[::-1][: min(_SHOWN, of.sum())]
        missed = np.argsort(np.where(of, np.inf, score))[: min(_SHOWN, (~of).sum())]
        rows[f"{title}. Normal images that look odd ({len(odd)}), others that look normal"] = pixels[[*odd, *missed]]
    return rows
