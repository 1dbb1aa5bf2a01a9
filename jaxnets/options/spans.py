"""Where questions about texts come from, whose answers stand in these."""

from dataclasses import dataclass

from jaxnets import data as named
from jaxnets.data.spans import Asked, hold_out, span_parts
from jaxnets.errors import InputError, check_field
from jaxnets.options.data import DataConfig


@dataclass(frozen=True)
class SpanData(DataConfig):
    """Questions about texts, with the answers' places."""

    data: str = "babi-spans"
    """babi-spans; a JSON file in SQuAD's format, of which a fifth of the texts is for testing; or a folder of
    train*.json and dev*.json or test*.json"""
    validation: float | None = None
    """share of the training questions held out to choose by, whole articles, or texts where there are few, 0 for none;
    where a folder has none, 0.1 if absent"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "validation", self.validation is None or 0 <= self.validation < 1, "in [0, 1)")

    def load(self) -> dict[str, list[Asked]]:
        """Return the questions: "train", "test" and, if there are some to choose by, "validation"."""
        path = named.find("spans", self.data, self.data_dir, "a JSON file in SQuAD's format, or a folder of such")
        parts = dict(named.load(self.data, self.data_dir) if path is None else span_parts(path))
        try:
            if "test" not in parts:
                parts["train"], parts["test"] = hold_out(parts["train"], 0.2)
            if "validation" in parts:
                if self.validation is not None:
                    raise InputError(f"validation={self.validation}, but there is a dev file; leave --validation out")
            elif self.validation != 0:
                parts["train"], parts["validation"] = hold_out(parts["train"], self.validation or 0.1, seed=1)
        except InputError as error:
            raise InputError(f"{self.data}: {error}") from error
        return parts
