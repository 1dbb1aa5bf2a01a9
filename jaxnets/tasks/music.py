"""Music, chord by chord: which keys are likely next, and pieces that are composed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Splits, music
from jaxnets.errors import InputError
from jaxnets.inference.generation import bernoulli, generate
from jaxnets.options import GenerateOptions
from jaxnets.runs import plots
from jaxnets.tasks.task import Examples, Finished, Generated, Row, Task, Trained, one_row_each

_SILENCE = np.zeros((1, music.KEYS), np.uint8)  # every piece begins with it
_LENGTH = 64  # chords that are composed, if nothing else is said
_LIKELY = 6  # keys that are printed


def pieces() -> Task:
    """Return the task of a model of frames, which of a piano's keys sound in each."""

    def read(given: Sequence[str], options: object) -> Examples:
        if not given:
            raise InputError('nothing is given; give chords of MIDI pitches, such as "60 64 67 72, 62 65 69 74"')
        return Examples([{"chords": text} for text in given], [music.read_chords(text) for text in given])

    def predict(trained: Trained, examples: Examples) -> list[np.ndarray]:
        framed = (np.concatenate([_SILENCE, chords])[None] for chords in examples.inputs)
        return [trained.mean(frames, jax.nn.sigmoid)[0, -1] for frames in framed]

    def rows(examples: Examples, made: list[np.ndarray]) -> Sequence[Row]:
        return one_row_each(examples, [{"next": _likely(probability)} for probability in made])

    def draw(trained: Trained, options: GenerateOptions) -> Generated:
        options.check_no_tokens()
        piece = _composed(trained, options)
        files = _written(piece, options)
        chords = (" ".join(str(pitch + music.LOWEST) for pitch in np.flatnonzero(frame)) for frame in piece)
        return Generated(", ".join(chords), files)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Write a sample (sample.mid, sample.wav) and its picture beside a piece of the test set (sample.png)."""
        options = GenerateOptions(out=folder / "sample", length=_LENGTH)
        piece = _composed(trained, options)
        _written(piece, options)
        assert splits.test is not None
        length = int(splits.test["mask"][0].sum()) + 1
        tested = splits.test["inputs"][0, 1 : length + 1][:_LENGTH]
        save_piano_rolls(folder / "sample.png", {"composed": piece, "from the test set": tested})
        return Finished()

    return Task(read=read, predict=predict, rows=rows, generate=draw, finish=finish)


def _likely(probability: np.ndarray) -> str:
    best = np.argsort(probability)[::-1][:_LIKELY]
    return ", ".join(f"{key + music.LOWEST} ({probability[key]:.0%})" for key in best)


def _composed(trained: Trained, options: GenerateOptions) -> np.ndarray:
    """Return a piece, [T, 88], that begins with the prompt."""
    prompt = music.read_chords(options.prompt) if options.prompt else _SILENCE[:0]
    frames = jnp.asarray(np.concatenate([_SILENCE, prompt]))[None]
    key, how = jax.random.key(options.seed), bernoulli(options.temperature)
    (drawn,) = np.asarray(generate(trained.learner, trained.first, frames, options.length or _LENGTH, key, how))
    return np.concatenate([prompt, drawn])


def _written(piece: np.ndarray, options: GenerateOptions) -> tuple[Path, ...]:
    """Write a piece to ``options.out`` (.mid and .wav), and return the files."""
    files = options.files(".mid", ".wav")
    for file in files:
        (music.write_midi if file.suffix == ".mid" else music.write_wav)(file, piece)
    return files


def save_piano_rolls(path: Path, pieces: Mapping[str, np.ndarray]) -> None:
    """Save pieces of music, frames [T, 88] by title, as piano rolls below one another."""
    figure = plots.figure(figsize=(9, 2.5 * len(pieces)))
    for axes, (title, frames) in zip(figure.subplots(len(pieces), 1, squeeze=False)[:, 0], pieces.items(), strict=True):
        extent = (0, len(frames), music.LOWEST, music.LOWEST + frames.shape[1])
        axes.imshow(frames.T, origin="lower", aspect="auto", cmap="Greys", interpolation="none", extent=extent)
        axes.set(title=title, xlabel="quarter notes", ylabel="MIDI pitch", ylim=(36, 96))
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
