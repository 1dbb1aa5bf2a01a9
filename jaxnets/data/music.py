"""Music as frames: which of a piano's 88 keys sound in each step of time; read from JSON, written as MIDI and WAV."""

import itertools
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnets.data.formats import read_text
from jaxnets.data.unpacking import parse_json
from jaxnets.errors import InputError

KEYS = 88
LOWEST = 21  # MIDI's number of the lowest key, A0
_SAMPLE_RATE = 22_050


def read_pieces(path: Path) -> dict[str, list[np.ndarray]]:
    """Return the pieces of a JSON file, {"train": [[[pitch, ...], ...], ...], "valid": ..., "test": ...}, as frames.

    Returns:
        Pieces by split, each uint8 [T, 88], 1 where a key sounds.

    Raises:
        InputError: if the file is broken, or a pitch is not on the piano (MIDI 21 to 108).
    """
    text = read_text(path)
    try:
        splits = parse_json(text)
        return {name: [_as_frames(piece) for piece in pieces] for name, pieces in splits.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        wanted = '{"train": [piece, ...], ...}, a piece [[pitch, ...], ...]'
        raise InputError(f"{path}: is no JSON of {wanted}: {error}") from error


def read_chords(text: str) -> np.ndarray:
    """Return chords written as "60 64 67, 62 65 69" (MIDI pitches; 60 is the middle C) as frames, [T, 88].

    Raises:
        InputError: if a pitch is no number or not on the piano.
    """
    try:
        return _as_frames([[int(pitch) for pitch in chord.split()] for chord in text.split(",")])
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{text!r} is no music; write chords of MIDI pitches as '60 64 67 72, 62 65 69 74'") from error


def padded(pieces: Sequence[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pieces, each behind a silent frame, and a mask of the frames that are theirs.

    Returns:
        Frames [N, length, 88] and mask [N, length], uint8.

    Raises:
        InputError: if a piece is empty, or longer than ``length - 1``.
    """
    frames, mask = np.zeros((len(pieces), length, KEYS), np.uint8), np.zeros((len(pieces), length), np.uint8)
    for row, piece in enumerate(pieces):
        if not 0 < len(piece) < length:
            raise InputError(f"piece {row} has {len(piece)} frames; 1 to {length - 1} are taken")
        frames[row, 1 : len(piece) + 1] = piece
        mask[row, 1 : len(piece) + 1] = 1
    return frames, mask


def write_midi(path: Path, frames: np.ndarray, bpm: float = 84.0) -> None:
    """Write frames [T, 88] of a quarter note each as a MIDI file; a key that sounds on is held."""
    import mido  # noqa: PLC0415

    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm))])
    file = mido.MidiFile(tracks=[track])
    waited = 0
    for before, now in _changes(frames):
        for key in np.flatnonzero(before & ~now):
            track.append(mido.Message("note_off", note=int(key) + LOWEST, time=waited))
            waited = 0
        for key in np.flatnonzero(now & ~before):
            track.append(mido.Message("note_on", note=int(key) + LOWEST, velocity=72, time=waited))
            waited = 0
        waited += file.ticks_per_beat
    file.save(path)


def write_wav(path: Path, frames: np.ndarray, bpm: float = 84.0) -> None:
    """Write the sound of frames [T, 88] of a quarter note each, of a plain organ: five harmonics, soft edges."""
    beat = round(_SAMPLE_RATE * 60 / bpm)
    sound = np.zeros((len(frames) + 1) * beat)
    for key, start, stop in _notes(frames):
        time = np.arange((stop - start) * beat + beat // 2) / _SAMPLE_RATE
        pitch = 440.0 * 2.0 ** ((key + LOWEST - 69) / 12)
        tone = sum(np.sin(2 * np.pi * n * pitch * time) / n**1.5 for n in range(1, 6))
        edges = np.minimum(1.0, time / 0.02) * np.clip((time[-1] - time) / (0.5 * 60 / bpm), 0, 1) ** 2
        sound[start * beat : start * beat + len(time)] += tone * edges
    samples = (0.9 * 32767 * sound / max(np.abs(sound).max(), 1e-9)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_SAMPLE_RATE)
        file.writeframes(samples.tobytes())


def _as_frames(piece: Sequence[Sequence[int]]) -> np.ndarray:
    frames = np.zeros((len(piece), KEYS), np.uint8)
    for frame, pitches in zip(frames, piece, strict=True):
        for pitch in pitches:
            if int(pitch) != pitch or not LOWEST <= pitch < LOWEST + KEYS:
                raise InputError(f"pitch {pitch} is not on the piano, {LOWEST} to {LOWEST + KEYS - 1}")
            frame[int(pitch) - LOWEST] = 1
    return frames


def _changes(frames: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each frame with the one before it, from silence to silence."""
    silence = np.zeros((1, KEYS), bool)
    sounding = np.concatenate([silence, frames != 0, silence])
    return list(itertools.pairwise(sounding))


def _notes(frames: np.ndarray) -> list[tuple[int, int, int]]:
    """Return key, first frame and the frame after the last of every note."""
    started: dict[int, int] = {}
    notes = []
    for at, (before, now) in enumerate(_changes(frames)):
        notes += [(int(key), started.pop(int(key)), at) for key in np.flatnonzero(before & ~now)]
        started |= {int(key): at for key in np.flatnonzero(now & ~before)}
    return notes
