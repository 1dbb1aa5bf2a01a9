"""The command that writes down what is said."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from jaxnets.commands.opening import print_json
from jaxnets.data.sound import clipped, read_sound
from jaxnets.errors import InputError
from jaxnets.inference.transcription import RATE, Segment
from jaxnets.inference.transcription import transcribe as transcribed
from jaxnets.training.compiling import use_compile_cache
from jaxnets.weights.pretrained import pretrained

_MOST_BEAMS = 32


def transcribe(
    file: Annotated[Path, tyro.conf.Positional],
    /,
    weights: Path | None = None,
    timestamps: bool = False,
    beam: int = 1,
    json: bool = False,
) -> int:
    """Write down what is said in a file, in English, by the weights whisper-tiny.en.

    Args:
        file: WAV, FLAC, MP3 or Ogg.
        weights: a file or a folder of them; found in a package, the cache, or fetched, if absent.
        timestamps: print a line for each segment, with the times between which it was said.
        beam: sequences that are gone on with at each step; 1 takes the likeliest token each time.
        json: print JSON, with the segments.
    """
    if not 1 <= beam <= _MOST_BEAMS:
        raise InputError(f"beam={beam} must be from 1 to {_MOST_BEAMS}")
    samples = read_sound(file, RATE)
    if clipped(samples):
        print(f"{file}: was too loud: more than 1% of it is cut off at full scale", file=sys.stderr)
    model = pretrained("whisper-tiny.en", weights)
    use_compile_cache()
    found: list[Segment] = []
    for segment in transcribed(model, samples, timestamps=timestamps, num_beams=beam):
        found.append(segment)
        if timestamps and not json:
            print(f"[{_clock(segment.start)} --> {_clock(segment.end)}] {segment.text}", flush=True)
        elif not json:
            print(segment.text, flush=True)
    if json:
        text = " ".join(segment.text for segment in found)
        seconds = len(samples) / RATE
        print_json({"text": text, "seconds": seconds, "segments": [segment._asdict() for segment in found]})
    elif not found:
        print(f"{file}: nothing is said in it, as far as the model hears", file=sys.stderr)
    return 0


def _clock(seconds: float) -> str:
    """Return seconds as hours, if there are any, minutes, and seconds to thousandths."""
    minutes, rest = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours}:' if hours else ''}{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"
