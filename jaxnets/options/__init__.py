"""Dataclasses whose fields are flags of the command line, each written once; what they do is written beside them."""

from jaxnets.options.augmentation import BoxAugmentation, ImageAugmentation
from jaxnets.options.conditions import GIVEN, only
from jaxnets.options.data import (
    BoxData,
    ConversationData,
    DataConfig,
    ImageData,
    PieceData,
    SentenceData,
    SeriesData,
    StoryData,
    TextData,
    TranslationData,
    with_data,
)
from jaxnets.options.embeddings import EmbeddingConfig, check_each, people_and_examples
from jaxnets.options.generation import GenerateOptions
from jaxnets.options.masks import MaskAugmentation, MaskData
from jaxnets.options.metrics import ClassMetrics
from jaxnets.options.networks import (
    Arithmetic,
    LayerConfig,
    RecurrentConfig,
    TokenRecurrentConfig,
    TransformerConfig,
)
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer, optimizer_for
from jaxnets.options.pretrained import PretrainedConfig
from jaxnets.options.ratings import RatingData
from jaxnets.options.spans import SpanData
from jaxnets.options.speech import ConformerConfig, Hearing, SpeechData, StringConfig
from jaxnets.options.tables import TableData, TableEncoding
from jaxnets.options.training import TrainingConfig
from jaxnets.options.unseen import EpisodeData, PeopleData, VoiceData
from jaxnets.options.views import ViewsConfig

__all__ = [
    "GIVEN",
    "Arithmetic",
    "BoxAugmentation",
    "BoxData",
    "ClassMetrics",
    "ConformerConfig",
    "ConversationData",
    "DataConfig",
    "EmbeddingConfig",
    "EpisodeData",
    "GenerateOptions",
    "Hearing",
    "ImageAugmentation",
    "ImageData",
    "LayerConfig",
    "MaskAugmentation",
    "MaskData",
    "OptimizerConfig",
    "PeopleData",
    "PieceData",
    "PretrainedConfig",
    "RatingData",
    "RecurrentConfig",
    "SentenceData",
    "SeriesData",
    "SpanData",
    "SpeechData",
    "StoryData",
    "StringConfig",
    "TableData",
    "TableEncoding",
    "TextData",
    "TokenRecurrentConfig",
    "TrainingConfig",
    "TransformerConfig",
    "TranslationData",
    "ViewsConfig",
    "VoiceData",
    "check_each",
    "make_optimizer",
    "only",
    "optimizer_for",
    "people_and_examples",
    "with_data",
]
