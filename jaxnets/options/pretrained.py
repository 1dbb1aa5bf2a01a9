"""Weights of others to begin from, and how much of them learns."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxnets.data import Data, subwords
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Initial, Learner
from jaxnets.network import Network, PyTree
from jaxnets.options.conditions import GIVEN, only
from jaxnets.training.featurized import featurized
from jaxnets.transforms import frozen, lora, on_features
from jaxnets.weights.cards import Card, card
from jaxnets.weights.pretrained import HEAD, Pretrained, architecture, pretrained, tokenizer_of_weights


@dataclass(frozen=True)
class PretrainedConfig:
    """Weights of others to begin from, and how much of them learns."""

    pretrained: str = "minilm"
    """which weights (jaxnets pretrained ls); all but their head's are where training begins"""
    weights: Path | None = None
    """a file or a folder of them; found in an installed package, the cache, or fetched, if absent"""
    input_size: int | None = None
    """height and width to which the network resizes images; those that the weights were trained on, if absent"""
    lora: int | None = None
    """train adapters of this rank beside the weights, which stay as they are, and the head"""
    lora_patterns: tuple[str, ...] = only(("**/q/kernel", "**/v/kernel"), lora=GIVEN)
    """the kernels that get adapters"""
    frozen_features: bool = False
    """compute what the head takes once, keep it in the cache, and train the head alone, which takes seconds"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.weights is not None:  # a run may go on from elsewhere
            object.__setattr__(self, "weights", self.weights.absolute())
        check_field(self, "input_size", self.input_size is None or self.input_size >= 32, "32 or more")
        if self.input_size is not None and self.card.kind != "images":
            raise InputError(f"input_size={self.input_size} changes nothing: {self.pretrained} takes no images")
        check_field(self, "lora", self.lora is None or self.lora >= 1, "1 or more")
        check_field(self, "lora_patterns", bool(self.lora_patterns), "one pattern or more, such as '**/q/kernel'")
        if self.lora is not None and self.frozen_features:
            raise InputError(
                f"lora={self.lora} changes nothing with frozen_features: they are computed once; leave one out"
            )

    @property
    def card(self) -> Card:
        """What is known of the weights."""
        return card(self.pretrained)

    def check_kind(self, kind: str) -> None:
        """Check that the weights are of a model of this kind of inputs.

        Raises:
            InputError: if they are not.
        """
        if self.card.kind != kind:
            raise InputError(f"pretrained={self.pretrained!r} takes {self.card.kind}, and these data are {kind}")

    def read(self, **options: Any) -> Pretrained:
        """Return the model with its weights."""
        return pretrained(self.pretrained, self.weights, **self._sized(options))

    def _sized(self, options: dict[str, Any]) -> dict[str, Any]:
        return options if self.input_size is None else {"shape": (self.input_size, self.input_size, 3)} | options

    def tokenizer(self) -> str:
        """Return how text becomes the weights' tokens; the weights are not read."""
        return tokenizer_of_weights(self.pretrained, self.weights)

    def featured(self, model: Pretrained, data: Data) -> Data:
        """Return the data with what the head takes for inputs.

        What is known of the inputs stays what it was, so that predictions take such inputs as these.
        """
        padding = subwords.PADDING if model.card.kind == "sentences" else None
        made = featurized(model.body, model.params, model.model_state, data, keep=True, padding=padding)
        raw = dataclasses.asdict(data.spec["inputs"])
        return Data(**made, classes=data.classes or None, known={**data.known, "inputs": raw})

    def learner(self, learning: Callable[[Network], Learner], **options: Any) -> Learner:
        """Return a learner of the network, whose weights learn as far as is asked for.

        Args:
            learning: makes a learner of a network.
            **options: of ``architecture``, ``out_features`` among them.
        """
        options = self._sized(options)
        whole = architecture(self.pretrained, **options)
        if self.lora is not None:
            adapted = learning(lora(whole, self.lora, self.lora_patterns))
            return frozen(adapted, ["base/**", *(f"!base/{pattern}" for pattern in HEAD)])
        if self.frozen_features:
            return learning(on_features(whole, architecture(self.pretrained, raw=False, **options)))
        return learning(whole)

    def start(self, **options: Any) -> tuple[Initial, str]:
        """Return the weights that the learner begins from, and a line about them."""
        found = self.read(**options)
        return self._around(found), f"weights of {self.pretrained}: {found.card.summary} ({found.card.licence})"

    def _around(self, found: Pretrained) -> Initial:
        """Return the weights, named as the learner has them."""
        if self.frozen_features:
            return Initial(None, {"body": found.params, "state": found.model_state})
        return self.adapted(found.params, found.model_state)

    def adapted(self, params: PyTree, model_state: PyTree) -> Initial:
        """Return weights of the plain network as a learner with adapters, or without, begins from them."""
        if self.lora is None:
            return Initial(params, model_state)
        return Initial({"base": params}, {"base": model_state})
