"""Learning sequences: each element from those before it, or one sequence after reading another."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnets.errors import InputError, check_whole
from jaxnets.learner import Learner, check_learner, mapped
from jaxnets.learners.arrays import COUNTING, check_names
from jaxnets.models import SourceTarget


def autoregressive(learner: Learner) -> Learner:
    """Return a learner of sequences, [B, T + 1, ...] under "inputs": each element is predicted from those before it.

    The inner learner's inputs are the first T elements of each sequence, its labels the last T. A "mask" says which
    sequences [B], or which elements [B, T + 1], count as something to predict, and "weights" how much.

    Args:
        learner: a ``supervised`` learner whose network gives an output for every element, and never looks ahead (as one
            that is bidirectional does).
    """
    check_learner(learner)

    def shifted(batch: Mapping[str, Any]) -> dict[str, Any]:
        sequences = batch["inputs"]
        if sequences.ndim < 2 or sequences.shape[1] < 2:
            raise InputError(f"inputs of shape {sequences.shape} hold nothing to predict; give [N, T + 1, ...], T > 0")
        rest = {name: batch[name] for name in ("mask", "weights") if name in batch}
        rest = {name: array if array.ndim == 1 else array[:, 1:] for name, array in rest.items()}
        return {"inputs": sequences[:, :-1], "labels": sequences[:, 1:], **rest}

    def check(arrays: Mapping[str, Any]) -> None:
        check_names(arrays, ("inputs",), COUNTING)
        learner.check(shifted(arrays))

    return mapped(learner, shifted)._replace(check=check)


def sequence_to_sequence(learner: Learner, padding: int) -> Learner:
    """Return a learner of pairs: each token of "targets", [B, T + 1], is predicted from those before and from "inputs".

    Inputs are tokens, [B, S]. Padding is nothing to predict. ``predict`` takes a ``SourceTarget``, or ``Continued``, as
    ``generate`` and ``beam_search`` give it.

    Args:
        learner: a ``supervised`` learner whose network takes a ``SourceTarget``, such as an ``EncoderDecoder``.
        padding: the token that fills up short sequences.
    """
    check_learner(learner)
    check_whole("padding", padding, 0, remedy="the token that fills up short sequences")

    def paired(batch: Mapping[str, Any]) -> dict[str, Any]:
        targets = batch["targets"]
        if targets.ndim != 2 or targets.shape[1] < 2:
            raise InputError(f"targets of shape {targets.shape} hold nothing to predict; give [N, T + 1], T > 0")
        counts = targets[:, 1:] != padding
        if "mask" in batch:
            if batch["mask"].shape not in (targets.shape[:1], targets.shape):
                raise InputError(
                    f"a mask of shape {batch['mask'].shape} for targets of shape {targets.shape}; it says which rows "
                    "count, or which of their tokens"
                )
            counts = counts * (batch["mask"][:, None] if batch["mask"].ndim == 1 else batch["mask"][:, 1:])
        pairs = {"inputs": SourceTarget(batch["inputs"], targets[:, :-1]), "labels": targets[:, 1:], "mask": counts}
        return pairs | ({"weights": batch["weights"]} if "weights" in batch else {})

    def check(arrays: Mapping[str, Any]) -> None:
        check_names(arrays, ("inputs", "targets"), COUNTING)
        learner.check(paired(arrays))
        tokens = arrays["targets"][:, 1:] != padding
        if not (some := tokens.any(-1)).all():
            raise InputError(
                f"targets: row {int(np.argmin(some))} is nothing but padding (token {padding}); leave it out"
            )
        if (gaps := (tokens[:, 1:] & ~tokens[:, :-1]).any(-1)).any():
            raise InputError(
                f"targets: row {int(np.argmax(gaps))} has padding (token {padding}) before a token; fill up the end"
            )

    return mapped(learner, paired)._replace(check=check)
