"""Dropout, with its probability checked."""

from flax import nnx

from jaxnets.errors import InputError


def dropout_layer(probability: float) -> nnx.Dropout:
    """Return the layer that drops each number with this probability in training.

    Raises:
        InputError: if the probability is not in [0, 1).
    """
    if not 0 <= probability < 1:
        raise InputError(f"dropout={probability} must be in [0, 1), such as 0.2")
    return nnx.Dropout(probability)
