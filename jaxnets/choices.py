"""What the words on the command line stand for; in code, functions are handed in themselves."""

from typing import Literal

import jax.numpy as jnp

from jaxnets.nn import ELMAN, GRU, LSTM

CellName = Literal["rnn", "lstm", "gru"]
CELLS = {"rnn": ELMAN, "lstm": LSTM, "gru": GRU}
DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}
