"""Transcription of speech by Whisper (Radford et al., 2022): windows of 30 s, rules of decoding, segments of text."""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data.subwords import decode_tokens, encode_tokens, token_number
from jaxnets.errors import InputError, check_kind, check_number, check_whole
from jaxnets.inference.beams import search
from jaxnets.models import Continued, SourceTarget
from jaxnets.models.whisper import HOP, RATE, sound_frames
from jaxnets.network import Apply, PyTree
from jaxnets.weights.pretrained import Pretrained

_STEP = 0.02  # seconds from one timestamp to the next, two frames
_LATEST_START = 50  # timestamps: the first of a window is at most 1 s
_MOST_TOKENS = 224  # of a window
_ENGLISH = 51_864  # tokens of the models for English; those for many languages have more
# What is not spoken: written alone or after a space, as one token; notes of music also by their first.
_SIGNS = [
    *"\"#()*+/:;<=>@[\\]^_`{|}~「」『』",
    "<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", "(\"", "((", "))", "(((", ")))", "[[", "]]", "{{", "}}",
    "♪♪", "♪♪♪",
]  # fmt: skip
_NOTES = "♩♪♫♬♭♮♯"


class Rules(NamedTuple):
    """Tokens that mean something else than text, and those that are never written.

    Attributes:
        end: ends a window's text; all tokens from it on are special.
        start: begins it.
        no_timestamps: comes next where none are wanted; timestamps 0.00, 0.02, ... are all tokens after it.
        no_speech: is likely after ``start`` where nobody speaks.
        suppressed: are never written.
        suppressed_first: are not the first that is written.
    """

    end: int
    start: int
    no_timestamps: int
    no_speech: int
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]

    @property
    def stamps(self) -> int:
        """The token of timestamp 0.00."""
        return self.no_timestamps + 1


class Segment(NamedTuple):
    """A piece of what was said.

    Attributes:
        start: in seconds.
        end: in seconds.
        text: without spaces at its ends.
        log_prob: mean log-probability of its window's tokens.
        no_speech: probability that nobody speaks in its window.
    """

    start: float
    end: float
    text: str
    log_prob: float
    no_speech: float


def transcribe(
    model: Pretrained,
    samples: np.ndarray,
    *,
    timestamps: bool = False,
    num_beams: int = 1,
    no_speech: float = 0.6,
    least_log_prob: float = -1.0,
) -> Iterator[Segment]:
    """Yield what was said, a segment at a time, as it is found.

    Windows of 30 s are transcribed one after another, each from the last timestamp of the one before; a last one is
    filled up with silence. Of several windows no more than the sound is handed on: what was written before is not.

    Args:
        model: ``pretrained("whisper-tiny.en")``.
        samples: the sound, float32 from -1 to 1, [N], 16,000 a second.
        timestamps: begin and end segments where their words do; else, of what fits into a window, there is one.
        num_beams: sequences that are gone on with at each step, 1 for the likeliest token each time; the best is that
            of the highest mean log-probability.
        no_speech: a window where this probability is exceeded, and the next is not reached, has no text.
        least_log_prob: mean log-probability of a window's tokens.

    Raises:
        InputError: if the samples are no sound, or the model is no Whisper for English.
    """
    check_kind("model", model, Pretrained, 'give jaxnets.pretrained("whisper-tiny.en")')
    if model.card.kind != "speech":
        raise InputError(f"a model of {model.card.kind} transcribes nothing; use whisper-tiny.en")
    samples = np.asarray(samples)
    if samples.ndim != 1 or not len(samples) or samples.dtype.kind != "f" or not np.isfinite(samples).all():
        raise InputError(f"samples of {samples.dtype}{list(samples.shape)} are no sound; give finite floats [N]")
    check_whole("num_beams", num_beams)
    check_number("no_speech", no_speech, 0, 1.01, "a probability, 0 to 1")
    return _transcribed(model, samples, timestamps, num_beams, (no_speech, least_log_prob))


def _transcribed(
    model: Pretrained, samples: np.ndarray, timestamps: bool, num_beams: int, silent: tuple[float, float]
) -> Iterator[Segment]:
    positions, num_mels = model.params["encoder"]["position_embedding"].shape[0], _num_mels(model.params)
    rules = rules_of(model.tokenizer, model.params["decoder"]["embed"]["embedding"].shape[0], positions)
    window, total = 2 * positions, -(-len(samples) // HOP)  # frames
    params = jax.device_put(model.params)
    frames = sound_frames(samples, window, num_mels)
    stamped = timestamps or total > window
    prompt = [rules.start] if stamped else [rules.start, rules.no_timestamps]
    length = min(_MOST_TOKENS, model.params["decoder"]["position_embedding"].shape[0] - len(prompt))
    at = 0
    while at < total:
        size = min(window, total - at)
        given = (params, frames[None, at : at + window], jnp.asarray([prompt], jnp.int32))
        found = _decoded(model.network.apply, rules, stamped, num_beams, length, *given)
        written, log_prob, silence = (np.asarray(each)[0] for each in found)
        tokens = [int(token) for token in written[: np.argmax(np.append(written, rules.end) == rules.end)]]
        pieces, advance = _pieces(tokens, rules, size) if stamped else ([(0, size, tokens)], size)
        if silence > silent[0] and log_prob < silent[1]:
            pieces, advance = [], size
        for start, end, said in pieces:
            text = decode_tokens([token for token in said if token < rules.end], model.tokenizer).strip()
            first, last = (min(at + frame, total) * HOP / RATE for frame in (start, end))
            if text:
                yield Segment(first, last, text, float(log_prob), float(silence))
        at += advance


def rules_of(tokenizer: str, vocabulary: int, positions: int) -> Rules:
    """Return the rules of a Whisper for English.

    Args:
        tokenizer: JSON of the ``tokenizers`` library.
        vocabulary: tokens of the model, timestamps among them.
        positions: of its encoder; there is one timestamp more.

    Raises:
        InputError: if the tokenizer is none of Whisper's, or of one that writes many languages.
    """
    names = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>", "<|startofprev|>", "<|startoflm|>"]
    end, start, no_timestamps, *others = (token_number(name, tokenizer) for name in names)
    no_speech = [token_number(name, tokenizer) for name in ("<|nocaptions|>", "<|nospeech|>")]
    no_speech = next((number for number in no_speech if number is not None), None)
    if end is None or start is None or no_timestamps is None or no_speech is None:
        raise InputError("the tokenizer lacks Whisper's special tokens, such as <|startoftranscript|>")
    if vocabulary != no_timestamps + 2 + positions:
        raise InputError(
            f"a Whisper of {vocabulary:,} tokens, whose tokenizer has {no_timestamps + 2 + positions:,} with its "
            "timestamps: it is not its own"
        )
    if vocabulary > _ENGLISH:
        raise InputError("a Whisper of many languages is not read; use one for English, such as whisper-tiny.en")
    others += [token_number(name, tokenizer) for name in ("<|translate|>", "<|transcribe|>")]
    never = {start, no_speech, *(number for number in others if number is not None), *_not_spoken(tokenizer)}
    return Rules(end, start, no_timestamps, no_speech, tuple(sorted(never)), (*encode_tokens(" ", tokenizer), end))


def _not_spoken(tokenizer: str) -> set[int]:
    found = {encode_tokens(text, tokenizer)[0] for text in (" -", " '")}
    for sign in (*_SIGNS, *_NOTES):
        for tokens in (encode_tokens(sign, tokenizer), encode_tokens(f" {sign}", tokenizer)):
            if len(tokens) == 1 or sign in _NOTES:
                found.add(tokens[0])
    return found


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _decoded(
    apply: Apply,
    rules: Rules,
    stamped: bool,
    num_beams: int,
    length: int,
    params: PyTree,
    frames: jax.Array,
    prompt: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the tokens of windows [B, length], their mean log-probabilities, and the probabilities of no speech."""

    def step(tokens: Any, carry: PyTree) -> tuple[jax.Array, PyTree]:
        return apply(params, {}, Continued(tokens, carry))[0]

    outputs, carry = step(SourceTarget(frames, prompt), None)
    found = search(
        step,
        outputs[:, -1],
        carry,
        length,
        end=rules.end,
        num_beams=num_beams,
        dtype=jnp.int32,
        penalty=lambda count: count,
        reachable=lambda score, count: score / jnp.maximum(count, 1),
        rules=partial(allowed, rules, stamped),
    )
    return found.tokens[:, 0], found.scores[:, 0], jax.nn.softmax(outputs[:, 0])[:, rules.no_speech]


def allowed(rules: Rules, stamped: bool, written: jax.Array, count: jax.Array, logits: jax.Array) -> jax.Array:
    """Return the logits [..., V] with -inf for tokens that may not come next.

    Timestamps begin and end each segment, and never go back; they come in pairs, an end and the next start, but for the
    first and the last. Where all timestamps together are likelier than any text, one of them it is.

    Args:
        rules: of the tokens.
        stamped: whether there are timestamps.
        written: tokens so far, [..., length].
        count: how many.
        logits: of the next, [..., V].
    """
    numbers = jnp.arange(logits.shape[-1])
    first = jnp.isin(numbers, jnp.asarray(rules.suppressed_first)) & (count == 0)
    banned = jnp.isin(numbers, jnp.asarray(rules.suppressed)) | first
    if not stamped:
        return jnp.where(banned, -jnp.inf, logits)
    stamps = numbers >= rules.stamps
    earlier = jnp.arange(written.shape[-1]) < count
    latest = jnp.where(earlier & (written >= rules.stamps), written, -1).max(-1, keepdims=True)
    ended = (count >= 1) & (_token(written, count - 1) >= rules.stamps)
    begun = ended & ((count < 2) | (_token(written, count - 2) >= rules.stamps))
    lowest = jnp.where(ended & ~begun, latest, latest + 1)
    banned |= numbers == rules.no_timestamps
    banned |= (count == 0) & ~(stamps & (numbers <= rules.stamps + _LATEST_START))
    banned |= (begun & stamps) | (ended & ~begun & (numbers < rules.end)) | (stamps & (numbers < lowest))
    logs = jax.nn.log_softmax(jnp.where(banned, -jnp.inf, logits))
    together = jax.nn.logsumexp(logs[..., rules.stamps :], -1, keepdims=True)
    stamp = together > logs[..., : rules.stamps].max(-1, keepdims=True)
    return jnp.where(banned | (stamp & ~stamps), -jnp.inf, logits)


def _token(written: jax.Array, place: jax.Array) -> jax.Array:
    """Return the token at a place of each sequence, [..., 1]; any, where there is no such place."""
    return jax.lax.dynamic_index_in_dim(written, jnp.maximum(place, 0), -1)


def _pieces(tokens: list[int], rules: Rules, size: int) -> tuple[list[tuple[int, int, list[int]]], int]:
    """Return a window's segments, as frames and tokens, and from how many frames on to go on.

    Args:
        tokens: of the window, without its end's.
        rules: of the tokens.
        size: frames of the window that there is sound for.
    """
    stamped = [token >= rules.stamps for token in tokens]
    pairs = [i for i in range(1, len(tokens)) if stamped[i - 1] and stamped[i]]
    if not pairs:
        marks = [2 * (token - rules.stamps) for token in tokens if token > rules.stamps]
        return [(0, marks[-1] if marks else size, tokens)], size
    closed = stamped[-1] and not stamped[-2]  # the last segment has an end, and nothing is said after it
    cuts = [0, *pairs, *([len(tokens)] if closed else [])]
    parts = [tokens[a:b] for a, b in pairwise(cuts)]
    pieces = [(2 * (part[0] - rules.stamps), 2 * (part[-1] - rules.stamps), part) for part in parts]
    return pieces, size if closed else (pieces[-1][1] or size)


def _num_mels(params: PyTree) -> int:
    return params["encoder"]["conv1"]["kernel"].shape[1]
