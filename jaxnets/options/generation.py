"""What is drawn from a trained model."""

from dataclasses import dataclass
from pathlib import Path

from jaxnets.errors import FINITE, InputError, check_field


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
        check_field(self, "seed", 0 <= self.seed < 2**31, "from 0 to 2**31 - 1")
        check_field(self, "top_k", self.top_k is None or self.top_k >= 1, "1 or more")
        check_field(self, "top_p", 0 < self.top_p <= 1, "in (0, 1]")
        check_field(self, "temperature", 0 <= self.temperature < FINITE, "0 (always the likeliest) or more")

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
