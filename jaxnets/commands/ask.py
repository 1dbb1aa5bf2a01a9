"""The command that answers questions from documents, with its sources."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from jaxnets.commands.chat import chatter
from jaxnets.commands.opening import print_json
from jaxnets.data.passages import Passage, read_passages
from jaxnets.errors import InputError, check_number, check_whole
from jaxnets.inference.chatting import begin, reply
from jaxnets.inference.similarity import embed, most_similar
from jaxnets.runs.console import console
from jaxnets.training.compiling import use_compile_cache
from jaxnets.weights.pretrained import Pretrained, pretrained

_LENGTH = 96  # tokens of an answer that is written


class _Source(NamedTuple):
    """A passage, and its cosine with the question."""

    cosine: float
    passage: Passage


def ask(
    documents: Annotated[Path, tyro.conf.Positional],
    question: Annotated[str, tyro.conf.Positional],
    /,
    *,
    answer: Literal["extract", "write"] = "extract",
    number: int = 3,
    least: float = 0.35,
    weights: Path | None = None,
    model: str = "smollm2-135m",
    json: bool = False,
) -> int:
    """Answer a question from documents, with its sources, or say that it is not in them.

    Args:
        documents: a text file, or a folder of them (.txt, .md, .rst).
        question: what is asked.
        answer: extract: the sentence of what was found, or two, most like the question; write: by a model that chats.
        number: passages to look into.
        least: the cosine of the best passage with the question below which it is not in these documents.
        weights: a file or a folder of MiniLM's weights; found in a package, the cache, or fetched, if absent.
        model: the weights that write, or the folder of a run of chat (write).
        json: print JSON.
    """
    check_whole("number", number, remedy="passages to look into")
    check_number("least", least, -1, 1.0001, "a cosine, -1 to 1")
    if not question.strip():
        raise InputError("the question is empty; ask something")
    passages = read_passages(documents)
    use_compile_cache()
    reader = pretrained("minilm", weights)
    sources = _found(reader, passages, question, number)
    if sources[0].cosine < least:
        _print(None, sources[:1], json=json)
        return 0
    near = [source for source in sources if source.cosine >= least]
    _print(
        _written(model, near, question) if answer == "write" else _extracted(reader, near, question), near, json=json
    )
    return 0


def _found(reader: Pretrained, passages: Sequence[Passage], question: str, number: int) -> list[_Source]:
    """Return the passages that are most like the question, the most alike first; their embeddings are kept."""
    known = embed(reader, [passage.text for passage in passages], keep=True)
    order, cosines = most_similar(known, embed(reader, [question])[0], number)
    return [_Source(float(cosine), passages[at]) for at, cosine in zip(order, cosines, strict=True)]


def _extracted(reader: Pretrained, sources: Sequence[_Source], question: str) -> str:
    """Return the sentence of the passages, or the two in a row, that are most like the question."""
    told = []
    for _, passage in sources:
        told += passage.sentences
        told += [" ".join(pair) for pair in pairwise(passage.sentences)]
    told = [text for text in told if not text.endswith("?")] or told
    order, _ = most_similar(embed(reader, told), embed(reader, [question])[0], 1)
    return told[int(order[0])]


def _written(name: str, sources: Sequence[_Source], question: str) -> str:
    """Return the answer that a model writes, given the passages; those that have no room are left out."""
    model = chatter(name, None, 2048)
    kept = [source.passage.text for source in sources]
    while True:
        asked = "\n\n".join([*kept, f"According to this text: {question}"])
        if len(kept) == 1 or len(model.template.asked(asked)) + _LENGTH + 64 < model.context:
            break
        kept.pop()
    return model.template.told(list(reply(model, begin(model), asked, length=_LENGTH))).strip()


def _print(answer: str | None, sources: Sequence[_Source], *, json: bool) -> None:
    """Print an answer and where it stands, or that it is nowhere, and what is nearest."""
    listed: list[dict[str, Any]] = [
        {"file": passage.file, "line": passage.line, "cosine": round(cosine, 4), "text": passage.text}
        for cosine, passage in sources
    ]
    if json:
        print_json([{"answer": answer, ("nearest" if answer is None else "sources"): listed}])
        return
    console.print("not in these documents; the nearest is" if answer is None else answer, markup=False)
    for cosine, passage in sources:
        console.print(f"{cosine:.2f}  {passage.file}:{passage.line}  {passage.text}", markup=False)
