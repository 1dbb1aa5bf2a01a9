"""The command that embeds sentences or images."""

from pathlib import Path
from typing import Annotated

import tyro

from jaxnets.data import write_table
from jaxnets.data.images import is_image
from jaxnets.data.tokens import lines
from jaxnets.errors import InputError
from jaxnets.inference.similarity import embed as embeddings
from jaxnets.runs.console import console
from jaxnets.runs.json_files import to_json
from jaxnets.training.compiling import use_compile_cache
from jaxnets.weights.pretrained import pretrained


def embed(name: Annotated[str, tyro.conf.Positional], /, data: Path, out: Path, weights: Path | None = None) -> int:
    """Write embeddings of a file's sentences, or of a folder's images, by pretrained weights.

    What was embedded stands in a JSON file beside, by which ``jaxnets search`` says what it finds.

    Args:
        name: of the weights (jaxnets pretrained ls).
        data: a text file of a sentence a line, or a folder of images.
        out: the .npy file to write; each row has length 1, so that products are cosines.
        weights: a file or a folder of the weights; found in a package, the cache, or fetched, if absent.
    """
    if out.suffix != ".npy":
        raise InputError(f"out={str(out)!r} must be an .npy file")
    described = out.with_suffix(".json")
    if not out.parent.is_dir():
        raise InputError(f"out={str(out)!r}: there is no folder {out.parent}; make it first")
    if described.exists() and (described.resolve() == data.resolve() or not out.exists()):
        raise InputError(f"out={str(out)!r}: {described}, which is to say what was embedded, is another file")
    model = pretrained(name, weights)
    given = _given(data, model.card.kind)
    use_compile_cache()
    made = embeddings(model, given)
    write_table(out, made, [])
    place = None if weights is None else str(weights.absolute())
    to_json(described, {"weights": name, "place": place, "rows": given})
    console.print(f"{len(made):,} embeddings of {made.shape[1]} numbers each, kept in {out}")
    return 0


def _given(data: Path, kind: str) -> list[str]:
    """Return the sentences of a file, or the paths of a folder's images."""
    if kind != "images":
        found = [line for line in lines(data) if line.strip()]
        if not found:
            raise InputError(f"data={str(data)!r}: holds no sentences; give one a line")
        return found
    if not data.is_dir():
        raise InputError(f"data={str(data)!r} is no folder; give one of images")
    found = [path for path in sorted(data.rglob("*")) if path.is_file() and is_image(path.relative_to(data).parts)]
    if not found:
        raise InputError(f"data={str(data)!r}: holds no images")
    return [str(path.absolute()) for path in found]
