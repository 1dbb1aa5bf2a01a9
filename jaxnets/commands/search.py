"""The command that searches among embeddings."""

from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from jaxnets.commands.opening import print_json
from jaxnets.data import read_npy
from jaxnets.errors import InputError
from jaxnets.inference.similarity import embed, most_similar
from jaxnets.runs.console import console
from jaxnets.runs.json_files import from_json
from jaxnets.training.compiling import use_compile_cache
from jaxnets.weights.pretrained import pretrained


def search(
    embeddings: Annotated[Path, tyro.conf.Positional],
    query: Annotated[str, tyro.conf.Positional],
    /,
    number: int = 5,
    weights: Path | None = None,
    json: bool = False,
) -> int:
    """Find what is most like a query among what was embedded: exact, by the cosine.

    Args:
        embeddings: the .npy file that jaxnets embed wrote.
        query: a sentence, or the path of an image.
        number: how many to show.
        weights: a file or a folder of the weights; where jaxnets embed had them, if absent.
        json: print JSON.
    """
    known = read_npy(embeddings)
    if known.ndim != 2:
        raise InputError(f"{embeddings}: an array of shape {known.shape}, not embeddings [N, D]")
    name, place, rows = _described(embeddings.with_suffix(".json"), len(known))
    use_compile_cache()
    order, cosines = most_similar(known, embed(pretrained(name, weights or place), [query])[0], number)
    found = [
        {"cosine": float(cosine), "row": int(at), "found": rows[at]} for at, cosine in zip(order, cosines, strict=True)
    ]
    if json:
        print_json(found)
        return 0
    table = Table("cosine", "row", "found")
    for hit in found:
        table.add_row(f"{hit['cosine']:.4f}", str(hit["row"]), str(hit["found"]))
    console.print(table)
    return 0


def _described(path: Path, number: int) -> tuple[str, Path | None, list[str]]:
    """Return by which weights rows were embedded, where they were, if named, and what the rows are."""
    found: Any = from_json(path)
    rows = found.get("rows") if isinstance(found, dict) else None
    name = found.get("weights") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not isinstance(name, str) or len(rows) != number:
        raise InputError(f"{path}: does not describe the {number} embeddings beside it; embed them again")
    place = found.get("place")
    return name, Path(place) if isinstance(place, str) else None, rows
