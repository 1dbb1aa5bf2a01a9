"""Recordings of speech with what is said in them: a named set, folders of words, files with transcripts.

Samples are kept as whole numbers of 16 bits, short recordings filled up with ``PADDING``, which no sample is.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.fetching import places
from jaxnets.data.images import Tree, with_progress, with_tree
from jaxnets.data.separated import read_sheet
from jaxnets.data.sound import SOUNDS, clipped, decode_sound, resampled
from jaxnets.data.telling import tell
from jaxnets.data.unpacking import BROKEN
from jaxnets.errors import InputError, check_number, check_whole

PADDING = -(2**15)
ARCHIVE = "fsdd-recordings.zip"
_HOME = "https://github.com/Jakobovski/free-spoken-digit-dataset"
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TESTED = 5  # recordings of each speaker and digit, the first ones: the official split
_SPLITS = ("train", "validation", "test")
_MOST_SECONDS = 60  # of a recording that is trained on
_LISTED = 5


class Recordings(NamedTuple):
    """Recordings, and what is said in each.

    Attributes:
        samples: of each, [N] int16, at one rate.
        texts: what is said, words with a space between.
        speakers: who says it; "" where that is not known.
        parts: "train", "validation" or "test", as their home has it.
        names: of the files, for errors.
    """

    samples: list[np.ndarray]
    texts: list[str]
    speakers: list[str]
    parts: list[str]
    names: list[str]

    def take(self, rows: Sequence[int] | np.ndarray) -> "Recordings":
        """Return these recordings."""
        columns: Any = ([column[row] for row in rows] for column in self)
        return Recordings(*columns)


def whole_numbers(samples: np.ndarray) -> np.ndarray:
    """Return samples from -1 to 1 as int16, none of them ``PADDING``; louder ones are cut off."""
    return np.clip(np.round(samples * 2.0**15), -(2**15) + 1, 2**15 - 1).astype(np.int16)


def filled_up(samples: Sequence[np.ndarray], length: int | None = None) -> np.ndarray:
    """Return recordings as rows of one length, the longest's if none is given, [N, L] int16."""
    rows = np.full((len(samples), length or max(map(len, samples))), PADDING, np.int16)
    for row, found in zip(rows, samples, strict=True):
        row[: len(found)] = found
    return rows


def fsdd(data_dir: Path | None = None, rate: int = 8000) -> Recordings:
    """Return the Free Spoken Digit Dataset (Jackson et al.): ten words, 50 times each by six speakers, 8 kHz.

    The first five of each speaker and word are for testing. Its home has no archive whose bytes stay the same, so it is
    not fetched.

    Args:
        data_dir: where fsdd-recordings.zip or the folder "recordings" is; ``JAXNETS_DATA``, or the cache folder's
            "fsdd", if absent.
        rate: samples a second.

    Raises:
        InputError: if it is not there; it says what to put where.
    """
    looked = places("fsdd", data_dir)
    for path in (place / name for place in looked for name in (ARCHIVE, "recordings")):
        if path.exists():
            return with_tree(path, lambda tree, path=path: _digits(path, tree, rate))
    raise InputError(
        f"data='fsdd': no {ARCHIVE} and no folder recordings in {', '.join(map(str, looked))}; put the folder "
        f"recordings of {_HOME} there, or a zip file of it"
    )


def _digits(path: Path, tree: Tree, rate: int) -> Recordings:
    found = {}
    for parts in sorted(tree.others):
        if match := re.fullmatch(r"(\d)_(\w+)_(\d+)\.wav", parts[-1]):
            found[parts] = match
    if not found:
        raise InputError(f"{path}: holds no recordings named DIGIT_SPEAKER_NUMBER.wav")
    return Recordings(
        _decoded(path, {parts: tree.others[parts] for parts in found}, rate),
        [_WORDS[int(match[1])] for match in found.values()],
        [match[2] for match in found.values()],
        ["test" if int(match[3]) < _TESTED else "train" for match in found.values()],
        ["/".join(parts) for parts in found],
    )


def words_in_folders(path: Path, rate: int) -> Recordings:
    """Return the recordings of a folder or a zip file, WORD/FILE.wav, or train/WORD/FILE.wav and test/WORD/FILE.wav.

    Raises:
        InputError: if there are none, they lie otherwise, or one cannot be read.
    """
    return with_tree(path, lambda tree: _in_folders(path, tree, rate))


def _in_folders(path: Path, tree: Tree, rate: int) -> Recordings:
    files = {parts: read for parts, read in sorted(tree.others.items()) if _is_sound(parts)}
    if not files:
        raise InputError(
            f"{path}: holds no recordings ({', '.join(sorted(SOUNDS))}); put them in a folder for each word"
        )
    if single := next((name for name, *inner in files if not inner), ""):
        raise InputError(
            f"{path}: {single} lies in no folder, whose name would be its word; give WORD/FILE.wav, or a file "
            "transcripts.csv with the columns file and text"
        )
    parts = [next((part for part in _SPLITS if part in map(str.lower, file[:-2])), "train") for file in files]
    words, names = [file[-2] for file in files], ["/".join(file) for file in files]
    return Recordings(_decoded(path, files, rate), words, [""] * len(files), parts, names)


def voices(path: Path, rate: int) -> Recordings:
    """Return the recordings of a folder or a zip file by speaker: PERSON/FILE.wav, or files WORD_PERSON_NUMBER.wav.

    The names count where all files lie in one folder. What is said is not known, "".

    Raises:
        InputError: if there are none, they lie otherwise, or one cannot be read.
    """
    return with_tree(path, lambda tree: _of_people(path, tree, rate))


def _of_people(path: Path, tree: Tree, rate: int) -> Recordings:
    files = {parts: read for parts, read in sorted(tree.others.items()) if _is_sound(parts)}
    if not files:
        raise InputError(
            f"{path}: holds no recordings ({', '.join(sorted(SOUNDS))}); put those of each person in a folder"
        )
    people = ["/".join(parts[:-1]) for parts in files]
    if len(set(people)) == 1:
        found = [re.fullmatch(r"[^_]+_(.+)_\d+\.\w+", parts[-1]) for parts in files]
        if other := next((parts for parts, match in zip(files, found, strict=True) if match is None), None):
            raise InputError(
                f"{path}: {'/'.join(other)} is in one folder with all others, and not named WORD_PERSON_NUMBER "
                "(seven_ann_3.wav); give PERSON/FILE.wav, or such names"
            )
        people = [match[1] for match in found if match]
    elif "" in people:
        name = list(files)[people.index("")][-1]
        raise InputError(f"{path}: {name} is in no person's folder; give PERSON/{name}")
    number, names = len(files), ["/".join(parts) for parts in files]
    return Recordings(_decoded(path, files, rate), [""] * number, people, ["train"] * number, names)


def middles(samples: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Return recordings as rows of one length, [N, length] int16: of a longer one its middle."""
    starts = [max(0, len(found) - length) // 2 for found in samples]
    return filled_up([found[at : at + length] for found, at in zip(samples, starts, strict=True)], length)


def at_speeds(data: Data, speeds: Sequence[float], rate: int) -> Data:
    """Return recordings [N, L] and, behind them, the same played at other speeds, as voices of their own.

    Pitch and formants move with the speed (Yamamoto et al., 2019).

    Args:
        data: with classes, who speaks.
        speeds: 1 is as it was recorded.
        rate: samples a second.
    """
    rows, length = data["inputs"], data["inputs"].shape[1]
    real = [row[row != PADDING].astype(np.float32) / 2.0**15 for row in rows]
    parts, names = [rows], list(data.classes)
    for speed in speeds:
        played = [whole_numbers(resampled(samples, round(rate * speed), rate)) for samples in real]
        parts.append(middles(played, length))
        names += [f"{name}, {speed:g} times as fast" for name in data.classes]
    labels = np.concatenate([data["labels"] + i * len(data.classes) for i in range(len(parts))])
    return Data(inputs=np.concatenate(parts), labels=labels, classes=names, known=data.known)


def transcribed(path: Path, rate: int) -> Recordings:
    """Return the recordings that a CSV file lists: columns file (beside it) and text, and if it likes speaker and part.

    Raises:
        InputError: if a column or a file is missing, a text is empty, or a part is not train, validation or test.
    """
    sheet = read_sheet(path)
    sheet.check_names("file", "text")
    names, texts = (sheet.column(name).tolist() for name in ("file", "text"))
    more = {name: sheet.column(name).tolist() for name in ("speaker", "part") if name in sheet.header}
    speakers, parts = more.get("speaker", [""] * len(names)), more.get("part", ["train"] * len(names))
    texts = [" ".join(text.split()) for text in texts]
    for row, (text, part) in enumerate(zip(texts, parts, strict=True)):
        if not text:
            raise InputError(f"{sheet.at('text', row)} is empty; write what is said, or leave the file out")
        if part not in _SPLITS:
            raise InputError(f"{sheet.at('part', row)} is {part!r}; use {', '.join(_SPLITS)}")
        if name := names[row] if names[row].startswith("/") or ".." in PurePosixPath(names[row]).parts else "":
            raise InputError(f"{path}: {name!r} leads out of the folder; name files inside of it")
    files = {PurePosixPath(name).parts: (path.parent / name).read_bytes for name in names}
    if len(files) < len(names):
        raise InputError(f"{path}: names a file twice; give each one line")
    return Recordings(_decoded(path.parent, files, rate), texts, speakers, parts, names)


def _is_sound(parts: tuple[str, ...]) -> bool:
    return PurePosixPath(parts[-1]).suffix.lower() in SOUNDS


def _decoded(path: Path, files: Mapping[tuple[str, ...], Callable[[], bytes]], rate: int) -> list[np.ndarray]:
    """Return the samples of each file; tell which are clipped."""
    samples, loud = [], []
    for parts, read in with_progress(f"reading {path.name}", files.items(), len(files)):
        name = f"{path}: {'/'.join(parts)}"
        try:
            content = read()
        except FileNotFoundError:
            raise InputError(f"{name}: there is no such file") from None
        except BROKEN as error:  # a folder, or no name of a file
            raise InputError(f"{name}: cannot be read: {error}") from error
        found = decode_sound(name, content, rate)
        if len(found) > _MOST_SECONDS * rate:
            raise InputError(
                f"{name}: {len(found) / rate:.0f} s; recordings of up to {_MOST_SECONDS} s are trained on: cut it into "
                "sentences"
            )
        if clipped(found):
            loud.append("/".join(parts))
        samples.append(whole_numbers(found))
    if loud:
        tell(f"{path}: {len(loud)} recordings are clipped (too loud): {', '.join(loud[:_LISTED])}")
    return samples


def joined(recordings: Recordings, number: int, words: tuple[int, int], gap: float, rate: int, seed: int) -> Recordings:
    """Return strings of recordings, each of one speaker, with gaps of random length and a faint noise over the whole.

    Ends of recordings are faded over 5 ms, so that no click betrays where they are joined.

    Args:
        recordings: what is joined.
        number: strings.
        words: the least and the most of a string.
        gap: the longest gap, in seconds.
        rate: of the samples.
        seed: what is drawn from.
    """
    check_whole("number", number)
    check_number("gap", gap, 0, 60, "seconds in [0, 60)")
    random, speakers = np.random.default_rng(seed), sorted(set(recordings.speakers))
    rows_of = [[row for row, who in enumerate(recordings.speakers) if who == speaker] for speaker in speakers]
    shares = np.array([len(rows) for rows in rows_of]) / len(recordings.texts)
    ramp = np.linspace(0, 1, rate // 200, dtype=np.float32)
    samples, texts, whose = [], [], []
    for speaker in random.choice(len(speakers), number, p=shares):
        rows = random.choice(rows_of[speaker], random.integers(words[0], words[1] + 1))
        pieces = []
        for row in rows:
            piece = recordings.samples[row].astype(np.float32)
            edge = min(len(ramp), len(piece) // 2)
            piece[:edge] *= ramp[:edge]
            piece[len(piece) - edge :] *= ramp[:edge][::-1]
            pieces += [np.zeros(random.integers(0, max(1, int(gap * rate)))), piece]
        whole = np.concatenate([*pieces, np.zeros(random.integers(0, max(1, int(gap * rate))))])
        noise = random.normal(size=len(whole)) * 10 ** random.uniform(0, 1.5)
        samples.append(whole_numbers((whole + noise) / 2.0**15))
        texts.append(" ".join(recordings.texts[row] for row in rows))
        whose.append(speakers[speaker])
    return Recordings(samples, texts, whose, [recordings.parts[0]] * number, ["a joined string"] * number)
