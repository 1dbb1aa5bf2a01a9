"""Models: one family a file; they know nothing of training."""

from jaxnets.models.cnn import CNN
from jaxnets.models.forecaster import Forecaster
from jaxnets.models.mlp import MLP
from jaxnets.models.resnet import ResNet
from jaxnets.models.rnn import RNN, Continued
from jaxnets.models.strided import StridedDecoder, StridedEncoder

__all__ = ["CNN", "MLP", "RNN", "Continued", "Forecaster", "ResNet", "StridedDecoder", "StridedEncoder"]
