"""What a task is: what a kind of output does beyond learning, from a user's files to pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets.data import Spec, read_inputs
from jaxnets.data.decoding import IMAGES
from jaxnets.data.images import is_image
from jaxnets.errors import InputError
from jaxnets.inference.chatting import Chatter
from jaxnets.learner import Learner, TrainState
from jaxnets.options import GenerateOptions
from jaxnets.training.evaluation import predict

Row = dict[str, Any]


class Examples(NamedTuple):
    """What a user gave, as the model takes it.

    Attributes:
        names: what stands before each one's result, such as its file and row.
        inputs: [N, ...], or a list where they are of several lengths.
    """

    names: list[Row]
    inputs: Any


@dataclass(frozen=True)
class Trained:
    """A learner of one seed, and a state for each seed that was trained."""

    learner: Learner
    states: Sequence[TrainState]

    @property
    def first(self) -> TrainState:
        """The first seed's state: for what has no mean, such as a translation."""
        return self.states[0]

    def mean(self, inputs: Any, link: Callable[[Any], Any] = lambda outputs: outputs) -> Any:
        """Return the mean over the seeds of ``link(outputs)``, such as probabilities, for inputs [N, ...]."""
        made = [link(predict(self.learner, state, inputs)) for state in self.states]
        if len(made) == 1:
            return made[0]
        return jax.tree.map(lambda *values: np.mean(np.stack(values), 0), *made)


class Generated(NamedTuple):
    """What was drawn, as text, and the files that hold it."""

    text: str
    files: tuple[Path, ...]


class Finished(NamedTuple):
    """What was measured of a run in the end.

    Attributes:
        metrics: by name, such as "test/auroc": one value a seed.
        baselines: by name, to stand beside them.
        about: what a name cannot say, such as "from 100 codes an image", by the same names.
    """

    metrics: Mapping[str, Sequence[float]] = {}
    baselines: Mapping[str, float] = {}
    about: Mapping[str, str] = {}


@dataclass(frozen=True)
class NoOptions:
    """No flags of its own."""


@dataclass(frozen=True)
class FileOptions:
    """How files of inputs are read."""

    invert: bool = False
    """swap dark and bright in images, for ink on paper and a model of white on black"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one kind of output does. What a kind cannot do is None.

    Attributes:
        read: ``read(given, options) -> Examples``: what a user gives to ``jaxnets predict RUN GIVEN...``.
        predict: ``predict(trained, examples) -> made``: what the model makes of them; it runs once.
        rows: ``rows(examples, made)``: what is printed, one dict a row.
        options: the dataclass of ``read``'s options, as it stands by default; its fields are flags.
        example: ``example(spec)``: shape and dtype of one example, as the learner's ``predict`` takes it.
        save: ``save(path, made)`` keeps what was made in a file (``--out``), after ``check_save(path)``.
        agreement: ``agreement(trained, examples)``: how far the seeds agree, one dict a row.
        encode: ``encode(trained, examples)``: codes, [N, D].
        generate: ``generate(trained, options) -> Generated``: what ``jaxnets generate RUN`` prints and writes.
        chatter: ``chatter(state, context) -> Chatter``: what ``jaxnets chat RUN`` talks with, with room for so many
            tokens.
        watch: ``watch(trained, step, folder)`` draws how far a run has come, at each evaluation.
        finish: ``finish(trained, splits, folder) -> Finished`` makes pictures and samples of a run that has ended, and
            measures what no metric in the loop does.
    """

    read: Callable[[Sequence[str], Any], Examples]
    predict: Callable[[Trained, Examples], Any]
    rows: Callable[[Examples, Any], Sequence[Row]]
    options: Any = NoOptions()
    example: Callable[[Spec], Any] = lambda spec: spec["inputs"].example
    save: Callable[[Path, Any], None] | None = None
    check_save: Callable[[Path], None] = lambda path: None
    agreement: Callable[[Trained, Examples], Sequence[Row]] | None = None
    encode: Callable[[Trained, Examples], np.ndarray] | None = None
    generate: Callable[[Trained, GenerateOptions], Generated] | None = None
    chatter: Callable[[TrainState, int], Chatter] | None = None
    watch: Callable[[Trained, int, Path], None] | None = None
    finish: Callable[[Trained, Any, Path], Finished] | None = None


def reading_files(spec: Spec) -> Callable[[Sequence[str], FileOptions], Examples]:
    """Return the ``read`` of a model of arrays or images: image, npy, npz or CSV files of inputs like ``spec``'s.

    A folder stands for the images in it.
    """

    def read(given: Sequence[str], options: FileOptions) -> Examples:
        if not given:
            raise InputError("nothing is given; give images, npy, npz or CSV files")
        paths = [path for name in given for path in given_files(Path(name))]
        inputs = [read_inputs(path, spec["inputs"], invert=options.invert) for path in paths]
        names = [
            {"file": str(path), "row": row}
            for path, rows in zip(paths, inputs, strict=True)
            for row in range(len(rows))
        ]
        return Examples(names, np.concatenate(inputs))

    return read


def given_files(path: Path) -> list[Path]:
    """Return the images in a folder and the folders in it, in the order of their names, or the file itself."""
    if not path.is_dir():
        return [path]
    found = [file for file in sorted(path.rglob("*")) if is_image(file.relative_to(path).parts) and file.is_file()]
    if not found:
        raise InputError(f"{path}: a folder that holds no images ({', '.join(sorted(IMAGES))}); name files")
    return found


def one_row_each(examples: Examples, results: Sequence[Row]) -> list[Row]:
    """Return the rows of results, one an example, each behind its name."""
    return [name | result for name, result in zip(examples.names, results, strict=True)]
