"""Cross-validation in one program: each member is measured on the fold that it has not seen."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnets.errors import InputError
from jaxnets.learner import Batch, Learner, Sums, TrainState, mapped
from jaxnets.transforms.population import Way, each_of, fitting_way, population

_FOLD = "fold"  # an array of the data: in which fold a row is


def folded(learner: Learner, folds: int, how: Way | None = None) -> Learner:
    """Return the population of so many members of which member i is measured on the rows of fold i alone.

    The data say of each row in an array "fold", [N], in which it is, as ``data.in_folds`` does, whose order of rows
    keeps a member from those of its own. Data without the array, such as a test set, are measured whole by all.

    Args:
        learner: what each member does.
        folds: how many.
        how: as in ``population``.
    """
    if learner.block > 1:
        raise InputError(
            f"{folds=} would part rows that belong together, such as pictures of one person: this learner evaluates "
            f"blocks of {learner.block}; leave folds out"
        )
    how = fitting_way() if how is None else how
    plain = mapped(learner, _without_fold)
    many = population(plain, folds, how)

    def evaluate(state: TrainState, batch: Batch) -> Sums:
        if _FOLD not in batch:
            return many.evaluate(state, batch)

        def measure(member: TrainState, number: Any) -> Sums:
            own = batch[_FOLD] == number
            mask = jnp.asarray(batch["mask"]) if "mask" in batch else jnp.ones(own.shape, bool)
            keep = own.reshape(own.shape + (1,) * (mask.ndim - 1))
            return plain.evaluate(member, {**batch, "mask": mask * keep.astype(mask.dtype)})

        return each_of(folds, how)(measure, state, jnp.arange(folds))

    def check(arrays: Mapping[str, Any]) -> None:
        plain.check(arrays)
        if _FOLD in arrays and int(np.max(arrays[_FOLD])) + 1 != folds:
            raise InputError(
                f"{folds=}, and the data are in {int(np.max(arrays[_FOLD])) + 1} folds; make them the same"
            )

    return many._replace(evaluate=evaluate, check=check)


def _without_fold(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: array for name, array in batch.items() if name != _FOLD}
