"""What the command line can ask for beside a recipe's own settings, as dataclasses whose fields are flags."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxnets.duration import Duration
from jaxnets.errors import InputError, check_field
from jaxnets.stopping import EarlyStopping


@dataclass(frozen=True)
class TrainingConfig:
    """How long, in which batches, and when to look."""

    duration: str = "10ep"
    """how long: 500 (steps), 5ep (epochs), 90s, 30m or 1.5h"""
    batch_size: int = 64
    """examples of a step; 1 is stochastic descent, all of them batch descent"""
    evaluate_every: str = "1ep"
    """steps or epochs between two rows of metrics"""
    patience: int | None = None
    """stop after so many evaluations without a better validation loss, and keep the best weights"""
    min_delta: float = 0.0
    """how much lower a validation loss must be to count as better"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        Duration.parse(self.duration)
        Duration.parse(self.evaluate_every)
        check_field(self, "batch_size", self.batch_size >= 1, "1 or more")
        self.early_stopping  # noqa: B018  (checks its own)

    @property
    def early_stopping(self) -> EarlyStopping | None:
        """The rule for stopping early, if there is one."""
        return None if self.patience is None else EarlyStopping(self.patience, self.min_delta)

    def num_steps(self, num_examples: int) -> int | None:
        """Return the length of a run in steps; None for a duration in time."""
        return Duration.parse(self.duration).steps(num_examples, self.batch_size)

    def options(self) -> dict[str, Any]:
        """Return these as arguments of ``fit`` and ``events``."""
        return {
            "duration": self.duration,
            "batch_size": self.batch_size,
            "evaluate_every": self.evaluate_every,
            "early_stopping": self.early_stopping,
        }


@dataclass(frozen=True)
class TransformerConfig:
    """What a transformer is made of, where a recipe's model is one."""

    num_layers: int = 4
    """blocks (transformer)"""
    num_heads: int = 4
    """heads of the attention (transformer)"""
    model_dim: int = 128
    """width of the blocks, which the heads share (transformer)"""
    positions: Literal["rotary", "learned", "sinusoidal"] = "rotary"
    """how it is known where in a sequence an element stands (transformer)"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("num_layers", "num_heads", "model_dim"):
            check_field(self, name, getattr(self, name) >= 1, "1 or more")
        check_field(self, "num_heads", self.model_dim % self.num_heads == 0, f"a divisor of model_dim={self.model_dim}")

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Width, blocks and heads, as ``Transformer`` takes them."""
        return self.model_dim, self.num_layers, self.num_heads


@dataclass(frozen=True)
class TrainOptions:
    """How a recipe is run."""

    seeds: int = 1
    """how many seeds to train, in one compiled program; results are then mean ± standard deviation"""
    seed: int = 0
    """the first seed"""
    population: Literal["map", "vmap"] | None = None
    """several seeds one after the other in each step, each with the bits of its own run (map: the default on CPU), or
    together (vmap: the default elsewhere)"""
    out: Path | None = None
    """the run's folder; runs/RECIPE-ID if absent"""
    dry_run: bool = False
    """check every shape, dtype and range of the whole run, without compiling or training"""
    overfit_one_batch: bool = False
    """train on one batch only, to see whether the model can learn at all; nothing is kept"""
    compile_cache: bool = True
    """keep compiled programs in the cache folder, so that the next start is quick"""


@dataclass(frozen=True)
class LrFindOptions:
    """How the range test is run."""

    steps: int = 200
    """steps of the test"""
    seed: int = 0
    """of initial values and the order of rows"""
    out: Path = Path("lr-find.png")
    """the picture"""


@dataclass(frozen=True)
class GenerateOptions:
    """What is drawn from a trained model."""

    prompt: str = ""
    """what it begins with"""
    length: int | None = None
    """how much to draw; the recipe's own measure if absent"""
    temperature: float = 1.0
    """below 1 likelier and duller, 0 always the likeliest; 1 as the model was trained"""
    top_k: int | None = None
    """draw each token from so many of the likeliest only"""
    top_p: float = 1.0
    """draw each token from the fewest, the likeliest first, that have this probability together"""
    seed: int = 0
    """of the draws"""
    out: Path | None = None
    """the file to write; in the run's folder if absent"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "length", self.length is None or self.length >= 1, "1 or more")
        if self.out is not None and not self.out.parent.is_dir():
            raise InputError(f"out={self.out}: there is no folder {self.out.parent}")
        check_field(self, "top_k", self.top_k is None or self.top_k >= 1, "1 or more")
        check_field(self, "top_p", 0 < self.top_p <= 1, "in (0, 1]")
        check_field(self, "temperature", 0 <= self.temperature < math.inf, "0 (always the likeliest) or more")

    def check_no_tokens(self) -> None:
        """Refuse what is about tokens, where none are drawn.

        Raises:
            InputError: if it is asked for.
        """
        for name, asked in (("top_k", self.top_k is not None), ("top_p", self.top_p < 1)):
            if asked:
                raise InputError(f"{name}={getattr(self, name)} is for models that draw tokens, one out of many")

    def files(self, *suffixes: str) -> tuple[Path, ...]:
        """Return ``out`` with each suffix, in place of one of them that it may have; none if there is no ``out``.

        Raises:
            InputError: if ``out`` has another suffix.
        """
        if self.out is None:
            return ()
        if self.out.suffix not in ("", *suffixes):
            raise InputError(f"out={self.out}: end the name in {' or '.join(suffixes)}, as what is drawn is kept so")
        return tuple(self.out.with_suffix(suffix) for suffix in suffixes)


@dataclass(frozen=True)
class NoOptions:
    """Nothing but the recipe's own flags."""
