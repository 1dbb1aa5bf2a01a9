"""The command that looks whether a run's checkpoints are as they were saved."""

from jaxnets.commands.opening import RunFolder
from jaxnets.errors import InputError
from jaxnets.runs import checkpoint
from jaxnets.runs.console import console
from jaxnets.runs.folder import Run


def verify(run: RunFolder, /) -> int:
    """Say whether a run's checkpoints are as they were saved, and print a digest of the newest.

    Two runs have the same state where their digests are the same. Exits with 1 if a checkpoint is damaged.

    Args:
        run: the run's folder, or the folder of one checkpoint in it.
    """
    opened = Run.open(run)
    folder = opened.checkpoints
    newest, damaged = "", False
    for step in checkpoint.steps(folder) if opened.step is None else [opened.step]:
        try:
            arrays, _ = checkpoint.read(folder, step)
        except checkpoint.DamagedError as error:
            if opened.step is None and step not in checkpoint.steps(folder):
                continue  # the run goes on, and has removed it meanwhile
            damaged = True
            console.print(f"step {step:,}: damaged: {error}", markup=False)
            continue
        newest = f"step {step:,} {checkpoint.digest(arrays)}"
        console.print(f"step {step:,}: sound")
    if not newest:
        raise InputError(f"{run}: holds no checkpoint that is sound")
    console.print(newest)
    return int(damaged)
