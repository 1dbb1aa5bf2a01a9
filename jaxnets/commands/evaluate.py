"""The command that evaluates a run."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from rich.table import Table

from jaxnets.commands.clinical import ClinicalOptions
from jaxnets.commands.clinical import report as report_clinical
from jaxnets.commands.opening import Opened, RecipeFile, RunFolder, data_again, open_run, print_json
from jaxnets.data import Data
from jaxnets.errors import InputError
from jaxnets.inference.ensembles import ensemble as together
from jaxnets.inference.ensembles import ensemble_metrics, reliability
from jaxnets.learner import TrainState
from jaxnets.learners.supervised import row_weights
from jaxnets.runs import plots, report
from jaxnets.runs.console import console, warn
from jaxnets.runs.training import spread
from jaxnets.training import readable
from jaxnets.training.compiling import use_compile_cache
from jaxnets.training.evaluation import evaluate as evaluate_data
from jaxnets.training.evaluation import predict


def evaluate(
    run: RunFolder,
    /,
    recipe: RecipeFile = None,
    data: str | None = None,
    json: bool = False,
    ensemble: bool = False,
    out: Path | None = None,
    clinical: ClinicalOptions = ClinicalOptions(),
) -> int:
    """Evaluate a run's weights (once it has ended, those that were kept) on held-out data.

    Args:
        run: the run's folder.
        recipe: the recipe's file, if the run is of one's own recipe.
        data: where the run's data are now, if they have moved; other data are refused.
        json: print JSON.
        ensemble: what the seeds of a classifier say together, beside each alone: accuracy, log loss, calibration.
        out: with --ensemble: a picture of how often they are right, by how sure they are; with --clinical: the curves.
        clinical: what a clinician reads.
    """
    opened = open_run(run, recipe)
    if out is not None:
        if ensemble == clinical.clinical:
            raise InputError(f"out={out} is where --ensemble or --clinical draws; give one of them, too")
        plots.check_picture(out)
    if ensemble:
        _check_ensemble(run, opened)
    _, splits = data_again(opened.run, opened.recipe, data)
    learner = opened.members
    state = opened.run.train_state(learner)
    use_compile_cache()
    if clinical.clinical:
        return report_clinical(opened, state, splits, clinical, out, json=json)
    if ensemble:
        left = ("train",) if opened.config.folds is None else ("train", "validation")
        parts = {name: part for name, part in splits.parts.items() if name not in left}
        if len(left) > 1:
            warn("the validation data are left out: all members but one were trained on each of their rows")
        if not parts:
            raise InputError(f"{run}: no data are left to measure an ensemble on; leave --ensemble out")
        return _ensemble(opened, state, parts, out, json=json)
    metrics = {
        f"{split}/{name}": value
        for split, data in splits.parts.items()
        if split != "train"
        for name, value in evaluate_data(learner, state, data).items()
    }
    if json:
        print_json({name: spread(value) for name, value in metrics.items()})
    else:
        console.print(report.metrics(metrics, report.members(opened.config)))
    return 0


def _check_ensemble(run: Path, opened: Opened) -> None:
    """Check that there are several classifiers."""
    if len(opened.config.seeds) == 1:
        raise InputError(f"{run}: has one seed, which makes no ensemble; train with --seeds 5")
    if "labels" not in opened.spec.columns or not opened.spec["labels"].classes or opened.spec["labels"].shape != ():
        raise InputError(f"{run}: {opened.config.recipe} has no classes, whose probabilities an ensemble would average")


def _ensemble(opened: Opened, state: TrainState, parts: Mapping[str, Data], out: Path | None, *, json: bool) -> int:
    """Print, and draw, what the members say together."""
    rows, found, diagrams = [], {}, {}
    for part, data in parts.items():
        logits = predict(opened.members, state, data["inputs"])
        weights = row_weights(dict(data))
        for name, (members, whole) in ensemble_metrics(logits, data["labels"], weights).items():
            found[f"{part}/{name}"] = {"members": spread(members), "ensemble": whole}
            rows.append((f"{part} {name.replace('_', ' ')}", name, members, whole))
        said = together(logits)
        found[f"{part}/disagreement"] = float(said.disagreement.mean())
        found[f"{part}/agreement"] = float(said.agreement.mean())
        each = np.asarray(jax.nn.softmax(logits, -1))
        pooled = each.reshape(-1, each.shape[-1]), np.tile(data["labels"], len(each))
        diagrams = {"members": reliability(*pooled), "ensemble": reliability(said.probabilities, data["labels"])}
    if out is not None:  # of the last part, the test data
        plots.save_reliability(out, diagrams)
    if json:
        print_json(found)
        return 0
    table = Table(box=None, pad_edge=False)
    for title in ("", f"a member (mean ± std of {len(opened.config.seeds)})", "the ensemble"):
        table.add_column(title, justify="left" if not title else "right", no_wrap=True)
    for title, name, members, whole in rows:
        table.add_row(title, readable.metric(name, members), readable.metric(name, whole))
    console.print(table)
    for part in parts:
        nats, share = found[f"{part}/disagreement"], found[f"{part}/agreement"]
        console.print(
            f"{part}: {share:.2%} of the members say what the ensemble says; they disagree by {nats:.4f} nats"
        )
    return 0
