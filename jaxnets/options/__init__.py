"""Dataclasses whose fields are flags of the command line, each written once."""

from jaxnets.options.generation import GenerateOptions
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer
from jaxnets.options.training import TrainingConfig
from jaxnets.options.transformer import TransformerConfig

__all__ = ["GenerateOptions", "OptimizerConfig", "TrainingConfig", "TransformerConfig", "make_optimizer"]
