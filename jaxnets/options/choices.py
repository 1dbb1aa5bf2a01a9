"""What the words on the command line stand for; in code, functions are handed in themselves."""

from typing import Literal

import jax.numpy as jnp
from flax import nnx

from jaxnets.nn import ELMAN, GRU, LSTM

CellName = Literal["rnn", "lstm", "gru"]
CELLS = {"rnn": ELMAN, "lstm": LSTM, "gru": GRU}
ActivationName = Literal["relu", "gelu", "tanh", "sigmoid"]
ACTIVATIONS = {"relu": nnx.relu, "gelu": nnx.gelu, "tanh": nnx.tanh, "sigmoid": nnx.sigmoid}
Precision = Literal["float32", "bfloat16"]
DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}
