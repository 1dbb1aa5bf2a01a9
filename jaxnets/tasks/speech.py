"""Speech: which word a recording is, or which words are said in it, and when."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Spec, Splits, speech
from jaxnets.data.sound import SOUNDS, clipped, read_sound
from jaxnets.data.telling import tell
from jaxnets.errors import InputError
from jaxnets.inference.ctc import aligned, prefix_beam
from jaxnets.metrics import character_error_rate, word_error_rate
from jaxnets.nn.spectrogram import log_mel, mel_filters
from jaxnets.runs import plots
from jaxnets.tasks.classes import classes
from jaxnets.tasks.task import Examples, Finished, NoOptions, Row, Task, Trained, one_row_each
from jaxnets.training.evaluation import predict

BREAK = "|"  # between words, where tokens are characters: a class that is named by a space would have no name
_BLOCK = 0.5  # seconds by whole numbers of which recordings are filled up, so that few lengths are compiled
_QUIET = 10 ** (-30 / 20)  # of the loudest 10 ms: below it nothing is said
_DRAWN = 3  # recordings
_MOST_SECONDS = 60


class Said(NamedTuple):
    """A word, and when it is said, in seconds."""

    word: str
    start: float
    end: float


class Heard(NamedTuple):
    """What was made of recordings: samples of each, and the words."""

    rate: int
    samples: list[np.ndarray]
    said: list[list[Said]]


def reading_sound(rate: int) -> Callable[[Sequence[str], Any], Examples]:
    """Return a ``read`` of WAV, FLAC, MP3 and Ogg files, or folders of them, as samples at this rate."""

    def read(given: Sequence[str], options: Any) -> Examples:
        if not given:
            raise InputError("nothing is given; give WAV, FLAC, MP3 or Ogg files")
        paths = [path for name in given for path in _files(Path(name))]
        samples = [read_sound(path, rate) for path in paths]
        for path, found in zip(paths, samples, strict=True):
            if len(found) > _MOST_SECONDS * rate:
                raise InputError(f"{path}: {len(found) / rate:.0f} s; at most {_MOST_SECONDS} s are heard: cut it")
            if clipped(found):
                tell(f"{path} is clipped (too loud), which the model may not have heard: record it more quietly")
        block = round(_BLOCK * rate)
        length = -(-max(map(len, samples)) // block) * block
        rows = speech.filled_up([speech.whole_numbers(found) for found in samples], length)
        return Examples([{"file": str(path)} for path in paths], rows)

    return read


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SOUNDS and file.is_file()]
    if not found:
        raise InputError(f"{path}: a folder that holds no recordings ({', '.join(sorted(SOUNDS))}); name files")
    return found


def spoken_words(spec: Spec, rate: int) -> Task:
    """Return the task of one word a recording."""
    task, names = classes(spec, reading_sound(rate), NoOptions()), spec["labels"].classes

    def said(inputs: np.ndarray, made: np.ndarray) -> list[Said]:
        return [
            Said(names[row.argmax()], *_heard(_samples(sound), rate)) for sound, row in zip(inputs, made, strict=True)
        ]

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        found = [
            {"word": one.word, "probability": float(row.max()), "start": one.start, "end": one.end}
            for one, row in zip(said(examples.inputs, made), made, strict=True)
        ]
        return one_row_each(examples, found)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Draw the confusion matrix and some recordings."""
        assert task.finish is not None
        done = task.finish(trained, splits, folder)
        test = splits.test or splits.validation
        if test is not None:
            some = test.take(np.linspace(0, test.num_examples - 1, _DRAWN).round().astype(int))
            each = said(some["inputs"], trained.mean(some["inputs"], jax.nn.softmax))
            heard = Heard(rate, [_samples(row) for row in some["inputs"]], [[one] for one in each])
            save_spoken(folder / "recordings.png", heard, [names[label] for label in some["labels"]])
        return done

    return replace(task, rows=rows, finish=finish)


def transcripts(spec: Spec, rate: int, frame: float, characters: bool, num_beams: int) -> Task:
    """Return the task of what is said in recordings, and when.

    Args:
        spec: of the training data, with the vocabulary: class 0 is the blank.
        rate: samples a second.
        frame: seconds of one of the network's frames.
        characters: whether tokens are characters, else words.
        num_beams: prefixes that are followed at once in search of the likeliest.
    """
    names = spec["labels"].classes

    def made_of(logits: np.ndarray, inputs: np.ndarray) -> list[list[Said]]:
        found = []
        for row, sound in zip(logits, inputs, strict=True):
            frames = row[: max(1, int(len(_samples(sound)) / rate / frame))]
            tokens = prefix_beam(frames, num_beams)[0].tokens
            each = [Said(names[one.token], one.start * frame, one.end * frame) for one in aligned(frames, tokens)]
            found.append(_in_words(each) if characters else each)
        return found

    def predict_words(trained: Trained, examples: Examples) -> Heard:
        said = made_of(predict(trained.learner, trained.first, examples.inputs), examples.inputs)
        return Heard(rate, [_samples(row) for row in examples.inputs], said)

    def rows(examples: Examples, made: Heard) -> Sequence[Row]:
        return one_row_each(examples, [{"text": _text(said), "times": _times(said)} for said in made.said])

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Measure error rates of the search over prefixes on the test recordings, and draw some."""
        test = splits.test
        assert test is not None
        wanted = [(" ", "")[characters].join(names[token] for token in row if token) for row in test["labels"]]
        wanted = [text.replace(BREAK, " ") if characters else text for text in wanted]
        metrics: dict[str, list[float]] = {"test/word_error_rate": [], "test/character_error_rate": []}
        heard = Heard(rate, [], [])
        for state in trained.states[::-1]:
            heard = Heard(rate, [], made_of(predict(trained.learner, state, test["inputs"]), test["inputs"]))
            texts = [_text(said) for said in heard.said]
            metrics["test/word_error_rate"].insert(0, word_error_rate(texts, wanted))
            metrics["test/character_error_rate"].insert(0, character_error_rate(texts, wanted))
        some = np.linspace(0, test.num_examples - 1, _DRAWN).round().astype(int)
        drawn = Heard(rate, [_samples(test["inputs"][i]) for i in some], [heard.said[i] for i in some])
        save_spoken(folder / "recordings.png", drawn, [wanted[i] for i in some])
        return Finished(metrics, about=dict.fromkeys(metrics, f"by {num_beams} beams"))

    return Task(
        read=reading_sound(rate),
        predict=predict_words,
        rows=rows,
        save=save_spoken,
        check_save=plots.check_picture,
        finish=finish,
    )


def _samples(row: np.ndarray) -> np.ndarray:
    """Return a row without what fills it up."""
    return row[row != speech.PADDING]


def _heard(samples: np.ndarray, rate: int) -> tuple[float, float]:
    """Return when sound begins and ends: the first and last 10 ms that are less than 30 dB below the loudest."""
    size = rate // 100
    blocks = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    loud = np.sqrt(np.square(blocks).mean(1))
    (where,) = np.nonzero(loud >= _QUIET * loud.max())
    return float(where[0] * size / rate), float((where[-1] + 1) * size / rate)


def _in_words(characters: Sequence[Said]) -> list[Said]:
    """Return characters with their times as words with theirs."""
    words: list[Said] = []
    new = True
    for one in characters:
        if one.word == BREAK:
            new = True
        elif new:
            words.append(one)
            new = False
        else:
            words[-1] = Said(words[-1].word + one.word, words[-1].start, one.end)
    return words


def _text(said: Sequence[Said]) -> str:
    return " ".join(one.word for one in said)


def _times(said: Sequence[Said]) -> str:
    return ", ".join(f"{one.word} {one.start:.2f}-{one.end:.2f} s" for one in said)


def save_spoken(path: Path, heard: Heard, wanted: Sequence[str] = ()) -> None:
    """Save a picture: the spectrogram of each recording, with the words where they are said.

    Args:
        path: of the picture.
        heard: recordings and their words.
        wanted: what is really said in each, for titles.
    """
    figure = plots.figure(figsize=(10, 2.4 * len(heard.samples)))
    fft, hop, rate = heard.rate // 32, heard.rate // 100, heard.rate
    filters = mel_filters(rate, fft, 40)
    for number, (axes, samples) in enumerate(
        zip(figure.subplots(len(heard.samples), 1, squeeze=False)[:, 0], heard.samples, strict=True)
    ):
        bands = np.asarray(log_mel(jnp.asarray(samples / 2.0**15, jnp.float32), filters, fft, hop))
        extent = (-0.5 * hop / rate, (len(bands) - 0.5) * hop / rate, 0, len(filters))
        axes.imshow(10 * bands.T, origin="lower", aspect="auto", extent=extent, cmap="magma")
        for one in heard.said[number]:
            axes.axvspan(one.start, one.end, color="white", alpha=0.15, linewidth=0)
            for edge in (one.start, one.end):
                axes.axvline(edge, color="cyan", linewidth=0.8)
            middle = (one.start + one.end) / 2
            axes.text(middle, 0.97 * len(filters), one.word, color="white", ha="center", va="top", fontsize="small")
        axes.set(xlabel="seconds", ylabel="mel band")
        if wanted:
            right = wanted[number] == _text(heard.said[number])
            axes.set_title(f"said: {wanted[number]}", fontsize="small", color="black" if right else "C3")
    figure.savefig(path, dpi=110)
