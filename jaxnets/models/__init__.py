"""Models: one family a file; they know nothing of training."""

from jaxnets.models.bert import bert
from jaxnets.models.cnn import CNN
from jaxnets.models.conformer import Conformer
from jaxnets.models.continuing import Seen
from jaxnets.models.detector import Detector
from jaxnets.models.efficientnet import EfficientNet
from jaxnets.models.encoder_decoder import EncoderDecoder
from jaxnets.models.forecaster import Forecaster
from jaxnets.models.gpt2 import gpt2
from jaxnets.models.listener import BothWays, Listener, TimeConvs
from jaxnets.models.llama import llama
from jaxnets.models.masked import MaskedDecoder
from jaxnets.models.members import TableEnsemble
from jaxnets.models.memory import Attended, MemoryNetwork
from jaxnets.models.mlp import MLP
from jaxnets.models.mobilenet import MobileNetV2
from jaxnets.models.next_items import HistoryFactors, HistoryTransformer, Matched
from jaxnets.models.rating_factors import RatingFactors
from jaxnets.models.resnet import ResNet
from jaxnets.models.rnn import RNN
from jaxnets.models.sequences import Continued, Segmented, SourceTarget
from jaxnets.models.strided import StridedDecoder, StridedEncoder
from jaxnets.models.tabular import Columns, FTTransformer, TableMLP, TableResNet, Tabular
from jaxnets.models.transformer import Transformer
from jaxnets.models.unet import UNet
from jaxnets.models.vit import Visible, ViT
from jaxnets.models.whisper import Whisper

__all__ = [
    "CNN",
    "MLP",
    "RNN",
    "Attended",
    "BothWays",
    "Columns",
    "Conformer",
    "Continued",
    "Detector",
    "EfficientNet",
    "EncoderDecoder",
    "FTTransformer",
    "Forecaster",
    "HistoryFactors",
    "HistoryTransformer",
    "Listener",
    "MaskedDecoder",
    "Matched",
    "MemoryNetwork",
    "MobileNetV2",
    "RatingFactors",
    "ResNet",
    "Seen",
    "Segmented",
    "SourceTarget",
    "StridedDecoder",
    "StridedEncoder",
    "TableEnsemble",
    "TableMLP",
    "TableResNet",
    "Tabular",
    "TimeConvs",
    "Transformer",
    "UNet",
    "ViT",
    "Visible",
    "Whisper",
    "bert",
    "gpt2",
    "llama",
]
