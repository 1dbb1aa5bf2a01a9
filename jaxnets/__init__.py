"""Deep learning as pure functions, on JAX.

A model is a pair of functions (``Network``), how it learns a few more (``Learner``), a run is one: so the same run can
be compiled, resumed bit for bit, trained many at a time, or differentiated.
"""

from jaxnets import data, generation, losses, metrics, models, nn
from jaxnets.adversarial import adversarial
from jaxnets.autoencoding import Autoencoded, reconstructing, variational
from jaxnets.chunk import chunk, no_metrics, run_keys, step_key
from jaxnets.compiling import jit
from jaxnets.data import Data
from jaxnets.errors import InputError
from jaxnets.evaluation import evaluate, predict
from jaxnets.fit import Elapsed, Event, Fit, events, fit
from jaxnets.generation import generate
from jaxnets.learner import Learner, TrainState, autoregressive, supervised
from jaxnets.network import Coded, Network, linen_network, network, reshaped, standardized
from jaxnets.plan import RunState
from jaxnets.seq2seq import sequence_to_sequence
from jaxnets.stopping import EarlyStopping
from jaxnets.summary import summarize
from jaxnets.transforms import augmented, averaged, grouped, population

__all__ = [
    "Autoencoded",
    "Coded",
    "Data",
    "EarlyStopping",
    "Elapsed",
    "Event",
    "Fit",
    "InputError",
    "Learner",
    "Network",
    "RunState",
    "TrainState",
    "adversarial",
    "augmented",
    "autoregressive",
    "averaged",
    "chunk",
    "data",
    "evaluate",
    "events",
    "fit",
    "generate",
    "generation",
    "grouped",
    "jit",
    "linen_network",
    "losses",
    "metrics",
    "models",
    "network",
    "nn",
    "no_metrics",
    "population",
    "predict",
    "reconstructing",
    "reshaped",
    "run_keys",
    "sequence_to_sequence",
    "standardized",
    "step_key",
    "summarize",
    "supervised",
    "variational",
]
