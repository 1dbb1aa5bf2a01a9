"""The command that chats."""

import json as json_text
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from jaxnets.commands.opening import RecipeFile, open_run
from jaxnets.data.conversations import chat_template
from jaxnets.errors import InputError, check_number, check_whole, nearest
from jaxnets.inference.chatting import Chatter, Conversation, begin, reply
from jaxnets.inference.generation import categorical
from jaxnets.runs.console import console
from jaxnets.training import readable
from jaxnets.training.compiling import use_compile_cache
from jaxnets.weights.cards import CARDS
from jaxnets.weights.pretrained import pretrained


def chat(
    name: Annotated[str, tyro.conf.Positional],
    /,
    messages: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    *,
    system: str | None = None,
    temperature: float = 0.2,
    top_p: float = 0.9,
    length: int = 512,
    context: int = 2048,
    seed: int = 0,
    weights: Path | None = None,
    recipe: RecipeFile = None,
    json: bool = False,
) -> int:
    """Chat with pretrained weights, or a run of one's own, by their chat template; replies appear as they are drawn.

    Args:
        name: of the weights (jaxnets pretrained ls), or its beginning, or the folder of a run.
        messages: what is said, one turn each; lines of the standard input if there are none.
        system: what the model is told first; what its template says if absent, "" for nothing.
        temperature: below 1 likelier and duller, 0 always the likeliest.
        top_p: draw each token from the fewest, the likeliest first, that have this probability together.
        length: the most tokens of a reply.
        context: the most tokens of a conversation; beyond, its oldest turns are forgotten.
        seed: of the draws.
        weights: a file of the weights; found in a package, the cache, or fetched, if absent.
        recipe: the recipe's file, if it is a run of one's own recipe.
        json: print JSON, one object a reply.
    """
    draw = categorical(temperature, top_p=top_p)
    check_number("seed", seed, 0, 2**31, "from 0 to 2**31 - 1")
    model = chatter(name, weights, context, recipe)
    conversation, key = begin(model, system), jax.random.key(seed)
    for number, message in enumerate(messages or _lines()):
        options = {"length": length, "draw": draw, "key": jax.random.fold_in(key, number)}
        conversation = _said(model, conversation, message, json=json, **options)
    return 0


def chatter(name: str, weights: Path | None, context: int, recipe: Path | None = None) -> Chatter:
    """Return the model of weights whose name begins so, or of the run in this folder, with room for so many tokens."""
    if name not in CARDS and Path(name).is_dir():
        return _of_run(Path(name), weights, context, recipe)
    if recipe is not None:
        raise InputError(f"recipe={str(recipe)!r} changes nothing: {name} is no run")
    found = [each for each in CARDS if each.startswith(name)] if name not in CARDS else [name]
    chosen = found[0] if len(found) == 1 else name
    if chosen not in CARDS:
        near = nearest(name, CARDS)
        raise InputError(
            f"there are no weights {name!r} and no such folder of a run{near}; there are {', '.join(CARDS)}"
        )
    if CARDS[chosen].kind != "text":
        raise InputError(f"{chosen}: takes {CARDS[chosen].kind}, and does not chat; use smollm2-135m")
    use_compile_cache()
    model = pretrained(chosen, weights, max_length=context)
    template = chat_template(model.template, model.tokenizer, chosen)

    def predict(state: Any, inputs: Any) -> Any:
        params, model_state = state
        return model.network.apply(params, model_state, inputs)[0]

    return Chatter(predict, jax.device_put((model.params, model.model_state)), template, context)


def _of_run(path: Path, weights: Path | None, context: int, recipe: Path | None) -> Chatter:
    """Return the model that a run trained; of several seeds, the first's."""
    if weights is not None:
        raise InputError(f"weights={str(weights)!r} changes nothing: {path} is a run, and has its own")
    check_whole("context", context)
    opened = open_run(path, recipe)
    if opened.task.chatter is None:
        raise InputError(
            f"{path}: {opened.config.recipe} has no chat template, and does not chat; train what does: jaxnets train "
            "chat --data FILE.jsonl"
        )
    use_compile_cache()
    return opened.task.chatter(opened.trained().first, context)


def _lines() -> Iterator[str]:
    """Yield the messages on the standard input, a line each; at a terminal they are asked for."""
    asking = sys.stdin.isatty()
    if asking:
        console.print("end with Ctrl+D")
    while True:
        if asking:
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _said(model: Chatter, conversation: Conversation, message: str, *, json: bool, **options: Any) -> Conversation:
    """Print the reply to a message as it comes, and return the conversation with both."""
    forgotten, tokens, shown, times = conversation.forgotten, [], "", [time.perf_counter()]
    drawing = reply(model, conversation, message, **options)
    while True:
        try:
            tokens.append(next(drawing))
            times.append(time.perf_counter())
        except StopIteration as end:
            conversation = end.value
            break
        text = model.template.told(tokens)
        if not json and not text.endswith("\ufffd"):  # a character may need several tokens
            print(text[len(shown) :], end="", flush=True)
            shown = text
    text, seconds = model.template.told(tokens), times[-1] - times[0]
    rate = (len(tokens) - 1) / (times[-1] - times[1]) if len(tokens) > 1 else 0.0
    ended = "length" if conversation.cut else "stop"
    if json:
        facts = {"message": message, "reply": text, "tokens": len(tokens), "seconds": round(seconds, 3)}
        facts |= {"tokens_per_second": round(rate, 2), "end": ended, "forgotten_turns": conversation.forgotten}
        print(json_text.dumps(facts, ensure_ascii=False), flush=True)
        return conversation
    print(text[len(shown) :], flush=True)
    note = f"{len(tokens)} tokens in {readable.seconds(seconds)}" + f", {rate:.1f} a second once begun" * (rate > 0)
    note += "; cut at --length, or at the end of the --context" if conversation.cut else ""
    if conversation.forgotten > forgotten:
        note += f"; the context is full: {conversation.forgotten - forgotten} of the oldest turns are forgotten"
    print(f"({note})", file=sys.stderr)
    return conversation
