"""Text, character by character: how likely it is, and what may follow."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Spec, Splits, tokens
from jaxnets.errors import InputError
from jaxnets.inference.generation import categorical, generate
from jaxnets.options import GenerateOptions
from jaxnets.tasks.task import Examples, Finished, Generated, Row, Task, Trained, one_row_each

SAMPLE_LENGTH = 1000  # characters of a sample at the end of a run


def texts(spec: Spec, window: int | None) -> Task:
    """Return the task of a model of characters.

    Args:
        spec: of the training data, with the vocabulary.
        window: the most characters that the model sees, if it has such a limit: a text is then read window by window,
            as in validation, each character after those of its own window.
    """
    vocabulary = spec["inputs"].classes

    def read(given: Sequence[str], options: object) -> Examples:
        if not given:
            raise InputError("nothing is given; give texts")
        encoded = [tokens.encode_characters(text, vocabulary) for text in given]
        for text, numbers in zip(given, encoded, strict=True):
            if len(numbers) < 2:
                raise InputError(f"{text!r} is too short to judge: give two characters or more")
        return Examples([{"text": text} for text in given], encoded)

    def predict(trained: Trained, examples: Examples) -> list[float]:
        return [_loss(trained, numbers, window or len(numbers)) for numbers in examples.inputs]

    def rows(examples: Examples, made: list[float]) -> Sequence[Row]:
        return one_row_each(examples, [{"loss": loss, "perplexity": float(np.exp(loss))} for loss in made])

    def draw(trained: Trained, options: GenerateOptions) -> Generated:
        prompt = options.prompt or ("\n" if "\n" in vocabulary else vocabulary[0])
        encoded = jnp.asarray(tokens.encode_characters(prompt, vocabulary))[None]
        how = categorical(options.temperature, top_k=options.top_k, top_p=options.top_p)
        key = jax.random.key(options.seed)
        (drawn,) = np.asarray(generate(trained.learner, trained.first, encoded, options.length or 500, key, how))
        text = options.prompt + "".join(vocabulary[token] for token in drawn)
        files = options.files(".txt")
        for file in files:
            file.write_text(text, encoding="utf-8")
        return Generated(text, files)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Write samples at three temperatures."""
        samples = []
        for temperature in (0.5, 0.8, 1.0):
            drawn = draw(trained, GenerateOptions(temperature=temperature, length=SAMPLE_LENGTH))
            samples.append(f"--- temperature {temperature}\n{drawn.text}\n\n")
        (folder / "samples.txt").write_text("".join(samples), encoding="utf-8")
        return Finished()

    return Task(read=read, predict=predict, rows=rows, generate=draw, finish=finish)


def _loss(trained: Trained, encoded: np.ndarray, window: int) -> float:
    """Return the mean negative log-likelihood of a text's characters but the first, in nats."""
    logs = []
    for start in range(0, len(encoded) - 1, window):
        part = encoded[start : start + window + 1]
        (probability,) = trained.mean(part[None, :-1], jax.nn.softmax)
        logs.append(np.log(probability[np.arange(len(part) - 1), part[1:]]))
    return -float(np.concatenate(logs).mean())
