"""The commands: what each does, given its arguments."""

from jaxnets.commands.bench import bench
from jaxnets.commands.recipes import lr_find, ls, summary, train
from jaxnets.commands.runs import encode, evaluate, generate, plot, predict, resume

__all__ = ["bench", "encode", "evaluate", "generate", "lr_find", "ls", "plot", "predict", "resume", "summary", "train"]
