"""What trained models are used for beyond predicting."""

from jaxnets.inference import generation

__all__ = ["generation"]
