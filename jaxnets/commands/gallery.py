"""The command about a gallery of known people."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.table import Table

from jaxnets.commands.opening import Opened, RecipeFile, RunFolder, file_options, open_run, print_json
from jaxnets.data import read_npy
from jaxnets.errors import InputError
from jaxnets.inference.similarity import normalized
from jaxnets.runs import checkpoint
from jaxnets.runs.console import console
from jaxnets.runs.json_files import from_json, to_json
from jaxnets.runs.lock import written
from jaxnets.tasks.embeddings import THRESHOLDS
from jaxnets.tasks.task import Examples
from jaxnets.training.compiling import use_compile_cache


def gallery(
    action: Annotated[Literal["enrol", "identify", "compare"], tyro.conf.Positional],
    run: RunFolder,
    given: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    gallery: Path | None = None,
    threshold: float | None = None,
    recipe: RecipeFile = None,
    invert: bool = False,
    json: bool = False,
) -> int:
    """Enrol known people (enrol RUN FOLDER), say whose a file is (identify), or whether two are of one (compare).

    Files are pictures or recordings, as the run was trained on. One is of the person whose enrolled file is most like
    it, and of nobody known below the threshold.

    Args:
        action: enrol, identify or compare.
        run: the folder of a run that learned embeddings, such as of faces or voices.
        given: a folder of PERSON/FILE to enrol; files, or folders of them, to identify; two files to compare.
        gallery: the .npy file of who is enrolled, with a .json file beside; gallery.npy in the run's folder if absent.
        threshold: the least cosine at which two files are taken for one person; what was chosen on validation people,
            if absent.
        recipe: the recipe's file, if the run is of one's own recipe.
        invert: swap dark and bright in images.
        json: print JSON.
    """
    opened = open_run(run, recipe)
    path = gallery or run / "gallery.npy"
    if path.suffix != ".npy":
        raise InputError(f"gallery={str(path)!r} must be an .npy file")
    if opened.task.encode is None:
        raise InputError(f"{run}: {opened.config.recipe} makes no embeddings; give a run that does, such as of faces")
    if action == "enrol" and threshold is not None:
        raise InputError(f"threshold={threshold} changes nothing with enrol; give it to identify or compare")
    if action == "compare" and gallery is not None:
        raise InputError(f"gallery={str(gallery)!r} changes nothing with compare, which takes two files")
    if threshold is not None and not -1 <= threshold <= 1:
        raise InputError(f"threshold={threshold} must be a cosine, in [-1, 1]")
    use_compile_cache()
    options = file_options(opened.task, invert)
    if action == "enrol":
        return _enrol(opened, given, path, options, json)
    least = _threshold(run, action) if threshold is None else threshold
    return (_identify if action == "identify" else _compare)(opened, given, path, least, options, json)


def _enrol(opened: Opened, given: tuple[Path, ...], path: Path, options: Any, json: bool) -> int:
    """Write embeddings of a folder's files, and whose they are."""
    if len(given) != 1 or not given[0].is_dir():
        raise InputError(f"enrol takes one folder of PERSON/FILE, not {' '.join(map(str, given)) or 'nothing'}")
    (folder,) = given
    examples, made = _embedded(opened, given, options)
    files = [Path(name["file"]) for name in examples.names]
    if loose := next((file for file in files if file.parent == folder), None):
        raise InputError(f"{loose}: is in no person's folder; use {folder}/PERSON/{loose.name}")
    people = [str(file.relative_to(folder).parent) for file in files]
    with written(path):
        np.save(path, made)
        to_json(path.with_suffix(".json"), {"people": people, "weights": _digest(opened)})
    counts = {person: people.count(person) for person in dict.fromkeys(people)}
    if json:
        print_json(counts)
        return 0
    one = sum(count == 1 for count in counts.values())
    alone = f" ({one} of them by one file alone)" if one else ""
    console.print(f"{len(counts):,} people{alone}, {len(files):,} files, kept in {path}")
    return 0


def _identify(opened: Opened, given: tuple[Path, ...], path: Path, least: float, options: Any, json: bool) -> int:
    """Print whose each file is, or that it is nobody's who is known."""
    known, people = _enrolled(opened, path)
    examples, made = _embedded(opened, given, options)
    cosines = np.clip(made @ known.T, -1, 1)  # [N, enrolled]; rounding may leave the range
    rows = []
    for name, row in zip(examples.names, cosines, strict=True):
        nearest, cosine = people[row.argmax()], float(row.max())
        rows.append(name | {"person": nearest if cosine >= least else "unknown", "nearest": nearest, "cosine": cosine})
    if json:
        print_json(rows)
        return 0
    table = Table("file", "person", "nearest", "cosine")
    for row in rows:
        table.add_row(str(row["file"]), row["person"], row["nearest"], f"{row['cosine']:.4f}")
    console.print(table)
    console.print(f"unknown below a cosine of {least:.4f}")
    return 0


def _compare(opened: Opened, given: tuple[Path, ...], path: Path, least: float, options: Any, json: bool) -> int:
    """Print whether two files are of one person."""
    made = _embedded(opened, given, options)[1] if given else ()
    if len(made) != 2:
        raise InputError(f"compare takes two files, not {len(made)}")
    cosine = float(np.clip(made[0] @ made[1], -1, 1))
    distance = math.sqrt(max(0.0, 2 - 2 * cosine))
    if json:
        print_json({"same": cosine >= least, "cosine": cosine, "distance": distance, "threshold": least})
        return 0
    verdict = "one person" if cosine >= least else "two people"
    console.print(f"{verdict}: cosine {cosine:.4f} (one person from {least:.4f} on), distance {distance:.4f}")
    return 0


def _embedded(opened: Opened, files: Any, options: Any) -> tuple[Examples, np.ndarray]:
    """Return what files hold, and embeddings of it of length 1, [N, D]."""
    examples = opened.task.read([str(file) for file in files], options)
    assert opened.task.encode is not None
    return examples, normalized(opened.task.encode(opened.trained(), examples))


def _threshold(run: Path, action: str) -> float:
    """Return the threshold that the run chose on its validation people."""
    if not (run / THRESHOLDS).exists():
        raise InputError(
            f"{run}: chose no threshold, for it has not ended, or had no validation people; give --threshold"
        )
    found = from_json(run / THRESHOLDS)
    value = found.get(action) if isinstance(found, dict) else None
    if not isinstance(value, int | float) or not -1 <= value <= 1:
        raise InputError(f"{run / THRESHOLDS}: holds no cosine for {action}; give --threshold")
    return float(value)


def _enrolled(opened: Opened, path: Path) -> tuple[np.ndarray, list[str]]:
    """Return the embeddings of who is enrolled, [N, D], and the person of each."""
    if not path.exists():
        raise InputError(f"{path}: nobody is enrolled; jaxnets gallery enrol {opened.run.path} FOLDER does it")
    known, found = read_npy(path), from_json(path.with_suffix(".json"))
    people = found.get("people") if isinstance(found, dict) else None
    if known.ndim != 2 or not isinstance(people, list) or len(people) != len(known) or not np.isfinite(known).all():
        raise InputError(f"{path}: is no gallery with the {path.with_suffix('.json').name} beside it; enrol anew")
    if found.get("weights") != _digest(opened):
        raise InputError(f"{path}: was enrolled with other weights than {opened.run.path} has now; enrol anew")
    return known, [str(person) for person in people]


def _digest(opened: Opened) -> str:
    """Return the digest of the run's weights, as ``jaxnets verify`` prints it."""
    arrays, _ = checkpoint.read(opened.run.checkpoints, opened.run.step or opened.run.num_steps)
    return checkpoint.digest(arrays)
