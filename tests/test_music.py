"""Music as frames: read, padded, and written as MIDI and sound that say the same."""

import json
import wave

import mido
import numpy as np
import pytest

from jaxnets.data import music
from jaxnets.errors import InputError

CHORDS = "60 64 67, 60 65 69, , 62"


def test_chords():
    frames = music.read_chords(CHORDS)
    assert frames.shape == (4, 88)
    assert [(np.flatnonzero(frame) + 21).tolist() for frame in frames] == [[60, 64, 67], [60, 65, 69], [], [62]]
    with pytest.raises(InputError, match="'C major' is no music; write chords of MIDI pitches"):
        music.read_chords("C major")
    with pytest.raises(InputError, match="pitch 109 is not on the piano, 21 to 108"):
        music.read_chords("60 109")


def test_pieces(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"train": [[[60, 64], [62]]], "test": [[[21], [108]]]}))
    pieces = music.read_pieces(path)
    assert {name: [piece.shape for piece in many] for name, many in pieces.items()} == {
        "train": [(2, 88)],
        "test": [(2, 88)],
    }
    for broken in ("{", "[1, 2]", '{"train": [[60]]}', '{"train": [[[NaN]]]}', '{"train": [[[1e999]]]}'):
        path.write_text(broken)
        with pytest.raises(InputError, match=r"a\.json: is no JSON of"):
            music.read_pieces(path)
    path.write_text(json.dumps({"train": [[[60.0]]]}))
    assert music.read_pieces(path)["train"][0].sum() == 1
    path.write_text(json.dumps({"train": [[[60.5]]]}))
    with pytest.raises(InputError, match=r"pitch 60\.5 is not on the piano"):
        music.read_pieces(path)
    path.write_text(json.dumps({"train": [[[7]]]}))
    with pytest.raises(InputError, match=r"a\.json: pitch 7 is not on the piano"):
        music.read_pieces(path)


def test_padding():
    frames, mask = music.padded([music.read_chords(CHORDS), music.read_chords("60")], 6)
    assert frames.shape == (2, 6, 88) and not frames[:, 0].any()
    assert mask.tolist() == [[0, 1, 1, 1, 1, 0], [0, 1, 0, 0, 0, 0]]
    with pytest.raises(InputError, match="piece 0 has 4 frames; 1 to 3 are taken"):
        music.padded([music.read_chords(CHORDS)], 4)


def test_midi_holds_what_sounds_on(tmp_path):
    music.write_midi(tmp_path / "a.mid", music.read_chords(CHORDS), bpm=60)
    heard, now = [], 0.0
    for message in mido.MidiFile(tmp_path / "a.mid"):
        now += message.time
        if message.type in ("note_on", "note_off"):
            heard.append((message.type == "note_on", message.note, round(now)))
    assert [(on, note, at) for on, note, at in heard if note == 60] == [(True, 60, 0), (False, 60, 2)]
    assert sorted(note for on, note, _ in heard if on) == [60, 62, 64, 65, 67, 69]
    assert heard[-1] == (False, 62, 4)


def test_the_sound_has_the_pitches(tmp_path):
    music.write_wav(tmp_path / "a.wav", music.read_chords("69, , 57 76"), bpm=60)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (
            1,
            2,
            22050,
            88200,
        )
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)

    def loudest(second):
        spectrum = np.abs(np.fft.rfft(sound[second * 22050 : (second + 1) * 22050]))
        return set(np.argsort(spectrum)[-2:].tolist())

    assert 440 in loudest(0) and loudest(2) == {220, 659}
    assert np.abs(sound).max() == pytest.approx(0.9 * 32767, abs=1)
    assert np.abs(sound[22050 + 11025 : 2 * 22050]).max() == 0


def test_the_real_chorales(jaxnets_data):
    pieces = music.read_pieces(jaxnets_data / "jsb" / "jsb-chorales-quarter.json")
    assert {name: len(many) for name, many in pieces.items()} == {"train": 229, "valid": 76, "test": 77}
    assert sum(len(piece) for piece in pieces["test"]) == 4725
