"""Dropout, with its probability checked."""

from flax import nnx

from jaxnets.errors import check_number


def dropout_layer(probability: float) -> nnx.Dropout:
    """Return the layer that drops each number with this probability in training.

    Raises:
        InputError: if the probability is not in [0, 1).
    """
    check_number("dropout", probability, 0, 1, "in [0, 1), such as 0.2")
    return nnx.Dropout(probability)
