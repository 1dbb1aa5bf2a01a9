"""Bad input at public functions and flags: an ``InputError`` that names argument, value, range and remedy.

Each case is a name, a call, and words of the message. None of them compiles.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax
import numpy as np
import optax
import pytest
from flax import linen, nnx
from helpers import fails
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnets as jn
from jaxnets import cli
from jaxnets.commands import faults
from jaxnets.data import augment
from jaxnets.data.cache import cache_dir
from jaxnets.errors import InputError
from jaxnets.training.duration import Duration

J: Any = jn  # what is given is of the wrong kind, on purpose
A: Any = augment
GEN: Any = jn.generation
NAN, INF = float("nan"), float("inf")
DATA = jn.Data(inputs=np.random.default_rng(0).normal(size=(30, 4)), labels=np.arange(30) % 3)
NETWORK = jn.network(jn.models.MLP, 4, (8,), 3)
SGD = optax.sgd(0.1)
LEARNER = jn.supervised(NETWORK, jn.losses.softmax_cross_entropy, SGD, {"accuracy": jn.metrics.accuracy})
STATE = J.TrainState(np.zeros((), np.int32), {}, (), {})
PROMPT = np.zeros((1, 2), np.int32)
IMAGES = jax.ShapeDtypeStruct((2, 4, 4, 1), np.float32)
KEY = jax.ShapeDtypeStruct((), jax.eval_shape(lambda: jax.random.key(0)).dtype)


def fit(**options: Any) -> Any:
    return J.fit(
        options.pop("learner", LEARNER),
        options.pop("train", DATA),
        progress=False,
        **{"duration": 1, "batch_size": 10} | options,
    )


def model(name: str, *args: Any, **options: Any) -> Any:
    return jn.network(getattr(jn.models, name), *args, **options)


def transformer(**options: Any) -> Any:
    sizes = {"features": 8, "num_layers": 1, "num_heads": 2, "out_features": 5, "max_length": 6}
    return model("Transformer", in_features=5, **sizes | options)


def game(**options: Any) -> Any:
    parts = {"generator": NETWORK, "discriminator": NETWORK, "code_dim": 2}
    return J.adversarial(**parts | {"generator_tx": SGD, "discriminator_tx": SGD} | options)


Case = tuple[str, Callable[[], Any], str]
CASES: list[Case] = []


def case(name: str, call: Callable[[], Any], words: str) -> None:
    CASES.append((name, call, words))


for value in (0, -3, NAN, "8", None, True, 2.5, [3]):
    words = f"batch_size={value!r} must be a whole number of 1 or more"
    case(f"fit batch_size {value!r}", lambda value=value: fit(batch_size=value), words)
    if value is not None:
        case(f"evaluate batch_size {value!r}", lambda v=value: J.evaluate(LEARNER, STATE, DATA, batch_size=v), words)
        case(f"predict batch_size {value!r}", lambda v=value: J.predict(LEARNER, STATE, PROMPT, batch_size=v), words)
for value in (0, -1, NAN, "2", None, True, 2.5, [2]):
    words = f"={value!r} must be a whole number of 1 or more"
    case(f"population {value!r}", lambda v=value: J.population(LEARNER, v), "size" + words)
    case(f"grouped {value!r}", lambda v=value: J.grouped(LEARNER, v), "size" + words)
    case(f"accumulated {value!r}", lambda v=value: J.accumulated(LEARNER, v), "accumulate" + words)
    case(f"patience {value!r}", lambda v=value: J.EarlyStopping(v), "patience" + words)
    case(f"generate length {value!r}", lambda v=value: J.generate(LEARNER, STATE, PROMPT, v, KEY), "length" + words)
    case(f"confusion_matrix {value!r}", lambda v=value: J.metrics.confusion_matrix(v), f"num_classes={value!r} must be")
for value in (NAN, 1, -1, 1.5, "0.9", None, [0.9]):
    case(f"averaged {value!r}", lambda v=value: J.averaged(LEARNER, v), f"decay={value!r} must be in [0, 1), such as")
    case(
        f"dropout {value!r}",
        lambda v=value: model("MLP", 4, (8,), 3, dropout=v),
        f"dropout={value!r} must be in [0, 1)",
    )
for value in (NAN, -1, INF, "x", None, [1]):
    case(f"temperature {value!r}", lambda v=value: GEN.categorical(v), f"temperature={value!r} must be 0")
    case(f"bernoulli {value!r}", lambda v=value: GEN.bernoulli(v), f"temperature={value!r} must be 0")
    case(f"min_delta {value!r}", lambda v=value: J.EarlyStopping(3, v), f"min_delta={value!r} must be 0 or more")
    case(f"rotate {value!r}", lambda v=value: A.rotate(v), f"degrees={value!r} must be 0 or more")
    case(f"shift {value!r}", lambda v=value: A.shift(v), f"pixels={value!r} must be a whole number of 0 or more")
for value in (0, 1, 1.5, -0.2, NAN, "0.2", None):
    case(
        f"split {value!r}", lambda v=value: J.Data(inputs=[[1], [2]]).split(v), f"fraction={value!r} must be in (0, 1)"
    )
for value in (-1, 0, NAN, INF, "x", None):
    case(
        f"huber {value!r}",
        lambda v=value: J.losses.huber(PROMPT, PROMPT, v),
        f"delta={value!r} must be a number greater than 0",
    )
for value in (-1, 2**31, NAN, "0", None, True, 1.5, [], [1.5], [[1], [1, 2]]):
    case(f"fit seed {value!r}", lambda v=value: fit(seed=v), "seed=")
    case(f"run_keys {value!r}", lambda v=value: J.run_keys(v), "must be a whole number from 0 to 2**31 - 1")
for value in (0, -1, "", "5 parsecs", NAN, None, "9" * 400, 10**400, 2**31, "0.001ep", 2.5):
    case(
        f"duration {str(value)[:9]}",
        lambda v=value: fit(duration=v),
        "duration " if value != "0.001ep" else "must be one example or more",
    )
for value in (NETWORK, None, 3, "x", jn.models.MLP):
    kind = f"the class {value.__name__}" if isinstance(value, type) else f"of {type(value).__name__}"
    words = f"learner is {kind}; give a jaxnets.Learner, such as supervised(network, loss, tx)"
    calls: dict[str, Callable[[Any], Any]] = {
        "fit": lambda v: fit(learner=v),
        "evaluate": lambda v: J.evaluate(v, STATE, DATA),
        "predict": lambda v: J.predict(v, STATE, PROMPT),
        "generate": lambda v: J.generate(v, STATE, PROMPT, 2, KEY),
        "population": lambda v: J.population(v, 2),
        "grouped": lambda v: J.grouped(v, 2),
        "accumulated": lambda v: J.accumulated(v, 2),
        "averaged": lambda v: J.averaged(v, 0.9),
        "frozen": lambda v: J.frozen(v, ["a"]),
        "unfrozen": lambda v: J.unfrozen(v, 3),
        "augmented": lambda v: J.augmented(v, augment.flip()),
        "autoregressive": J.autoregressive,
        "sequence_to_sequence": lambda v: J.sequence_to_sequence(v, 0),
        "chunk": J.chunk,
    }
    for name, call in calls.items():
        case(f"{name} of {kind}", lambda call=call, v=value: call(v), words)
for value in (LEARNER, None, 3, "x", nnx.Linear):
    case(
        f"supervised network {type(value)}",
        lambda v=value: J.supervised(v, J.losses.mse, SGD),
        "give a jaxnets.Network",
    )
    for name, make in (("lora", J.lora), ("features", J.features)):
        case(f"{name} {type(value)}", lambda make=make, v=value: make(v, 1), "network is")
    case(f"standardized {type(value)}", lambda v=value: J.standardized(v, [0], [1]), "give a jaxnets.Network")
    case(f"variational {type(value)}", lambda v=value: J.variational(v, NETWORK, SGD), "encoder is")
for value in (None, 3, "adam", 1e-3):
    case(f"tx {value!r}", lambda v=value: J.supervised(NETWORK, J.losses.mse, v), f"tx={value!r} is no optimizer")
    case(f"generator_tx {value!r}", lambda v=value: game(generator_tx=v), f"generator_tx={value!r} is no optimizer")
for value in (None, 3, {}, "x"):
    case(f"evaluate state {value!r}", lambda v=value: J.evaluate(LEARNER, v, DATA), "give a TrainState")
    case(f"predict state {value!r}", lambda v=value: J.predict(LEARNER, v, PROMPT), "give a TrainState")

more: dict[str, tuple[Callable[[], Any], str]] = {
    "loss": (lambda: J.supervised(NETWORK, "mse", SGD), "loss='mse' is no function; give one of loss(outputs, labels)"),
    "metrics list": (lambda: J.supervised(NETWORK, J.losses.mse, SGD, ["a"]), "metrics is of list; give them by name"),
    "metric": (lambda: J.supervised(NETWORK, J.losses.mse, SGD, {"a": 3}), "metrics['a']=3 is no function"),
    "evaluate data": (lambda: J.evaluate(LEARNER, STATE, (1, 2)), "data is of tuple; give named arrays"),
    "evaluate lengths": (lambda: J.evaluate(LEARNER, STATE, {"a": [1], "b": [1, 2]}), "unequal length"),
    "resume": (lambda: fit(resume=3), "resume is of int; give the run_state of an event"),
    "elapsed": (lambda: fit(elapsed=3), "elapsed is of int; give Elapsed("),
    "on_device": (lambda: fit(on_device="x"), "on_device='x' must be True, False or None"),
    "monitor": (lambda: J.EarlyStopping(3, monitor=3), "monitor=3 must be the name of a metric"),
    "maximize": (lambda: J.EarlyStopping(3, maximize="yes"), "maximize='yes' must be True, False, or None"),
    "how": (lambda: J.population(LEARNER, 2, "pmap"), "how='pmap' must be 'map' or 'vmap'"),
    "frozen none": (lambda: J.frozen(LEARNER, None), "patterns=None must be a list of patterns"),
    "frozen 3": (lambda: J.frozen(LEARNER, [3]), "pattern 3 is of int; give a text"),
    "matches": (lambda: J.parameters.matches("a", 3), "path is of int"),
    "augmented": (lambda: J.augmented(LEARNER, "flip"), "augment='flip' is no function"),
    "chain": (lambda: A.chain(3), "augment=3 is no function"),
    "shift too far": (
        lambda: jax.eval_shape(A.shift(4), KEY, IMAGES),
        "shift=4 moves images of 4 x 4 pixels out of sight",
    ),
    "cutout too large": (lambda: jax.eval_shape(A.cutout(8), KEY, IMAGES), "cutout=8 blanks all of images of 4 x 4"),
    "flip of rows": (lambda: A.flip()(None, PROMPT), "flip() got inputs of shape (1, 2); it is of images"),
    "ragged": (lambda: J.Data(inputs=[[1], [1, 2]]), "inputs: rows of unlike lengths are no array"),
    "classes 3": (lambda: J.Data(inputs=[1, 2], labels=[0, 1], classes=3), "classes=3 must be a list of names"),
    "classes text": (lambda: J.Data(inputs=[1, 2], labels=[0, 1], classes="ab"), "classes='ab' must be a list"),
    "classes twice": (lambda: J.Data(inputs=[1, 2], labels=[0, 1], classes=["a", "a"]), "classes name 'a' twice"),
    "classes numbers": (
        lambda: J.Data(inputs=[1, 2], labels=[0, 1], classes=[0, 1]),
        "0 is no name; give texts, such as '0'",
    ),
    "known": (lambda: J.Data(inputs=[1, 2], known={"inputs": {"x": 1}}), "must be fields of Column"),
    "take": (lambda: J.Data(inputs=np.zeros(30)).take([30]), "must be a list of rows, each in 0..29"),
    "split small": (lambda: DATA.split(0.01), "that makes 29 and 1, and each side needs 3 or more, one of each class"),
    "split lone": (lambda: J.Data(inputs=[1, 2, 3], labels=[0, 0, 1]).split(0.5), "class '1' has one example"),
    "prompts": (lambda: J.generate(LEARNER, STATE, [[0], [0, 1]], 2, KEY), "prompts of unlike lengths are no array"),
    "prompt text": (lambda: J.generate(LEARNER, STATE, "abc", 2, KEY), "prompt='abc' is <U3, not numbers"),
    "too long": (lambda: J.generate(LEARNER, STATE, PROMPT, 10**13, KEY), "length=10000000000000 takes 80,000.0 GB"),
    "top_k": (lambda: GEN.categorical(top_k=2.5), "top_k=2.5 must be a whole number of 1 or more"),
    "top_p": (lambda: GEN.categorical(top_p=0), "top_p=0 must be in (0, 1]"),
    "end": (lambda: GEN.beam_search(LEARNER, STATE, PROMPT, 2, end=1.5), "end=1.5 must be a whole number"),
    "num_beams": (lambda: GEN.beam_search(LEARNER, STATE, PROMPT, 2, end=0, num_beams="3"), "num_beams='3' must be"),
    "penalty": (
        lambda: GEN.beam_search(LEARNER, STATE, PROMPT, 2, end=0, length_penalty=NAN),
        "length_penalty=nan must",
    ),
    "mse lists": (lambda: J.losses.mse([1.0], [1.0]), "mse: outputs and labels must be arrays, not [1.0]"),
    "accuracy": (lambda: J.losses.accuracy(None, PROMPT), "accuracy: outputs and labels must be arrays, not None"),
    "per_example": (lambda: J.metrics.per_example(J.losses.mse, "up"), "better='up' must be 'higher', 'lower' or None"),
    "top_k_accuracy": (lambda: J.metrics.top_k_accuracy(NAN), "k=nan must be a whole number"),
    "bleu": (lambda: J.metrics.bleu("0"), "bleu: padding='0' must be a whole number of 0 or more"),
    "frechet": (lambda: J.metrics.frechet_distance("x", "y"), "the features are no arrays of numbers"),
    "hidden": (lambda: model("MLP", 4, 8, 3), "hidden=8 must be a list of whole numbers"),
    "activation": (lambda: model("MLP", 4, (8,), 3, activation="relu"), "activation='relu' is no function"),
    "input_shape": (
        lambda: model("CNN", (8, 8), (4,), (8,), 3),
        "input_shape=(8, 8) must be height, width and channels",
    ),
    "features": (lambda: model("CNN", (8, 8, 1), 4, (8,), 3), "features=4 must be a list of channels and 'pool'"),
    "kernel_size": (
        lambda: model("CNN", (8, 8, 1), (4,), (8,), 3, kernel_size=0),
        "kernel_size=0 must be a whole number",
    ),
    "cell": (lambda: model("RNN", 5, (4,), 5, cell="lstm"), "cell is of str; give nn.ELMAN, nn.LSTM, nn.GRU"),
    "embedding": (lambda: model("RNN", 5, (4,), 5, embedding=0), "embedding=0 must be a whole number of 1 or more"),
    "truncate": (lambda: model("RNN", 5, (4,), 5, truncate=2.5), "truncate=2.5 must be a whole number"),
    "num_layers": (lambda: transformer(num_layers=10**6), "num_layers=1000000 must be a whole number from 1 to 10000"),
    "max_length": (lambda: transformer(max_length=NAN), "max_length=nan must be a whole number"),
    "patch": (lambda: model("ViT", (8, 8, 1), "x", 8, 1, 2, 3), "patch='x' must be a whole number"),
    "resnet width": (lambda: model("ResNet", (8, 8, 1), 10, 3, width=0), "width=0 must be a whole number of 1 or more"),
    "stem": (lambda: model("MobileNetV2", (8, 8, 1), 3, stem="big"), "stem='big' is not a stem; use 'cifar'"),
    "width factor": (lambda: model("EfficientNet", (8, 8, 1), 3, width=0), "width=0 must be a factor of the published"),
    "depth factor": (lambda: model("EfficientNet", (8, 8, 1), 3, depth=NAN), "depth=nan must be a factor of the"),
    "build": (lambda: J.network("MLP", 4), "build='MLP' is no function; give an nnx.Module class"),
    "linen": (lambda: J.linen_network(nnx.Linear, PROMPT), "module is the class Linear; give a flax.linen module"),
    "example": (lambda: J.linen_network(linen.Dense(3), "x"), "must have a shape and a dtype"),
    "mean": (lambda: J.standardized(NETWORK, "x", [1]), "mean='x' must be a list of numbers"),
    "std": (lambda: J.standardized(NETWORK, [0], [-1]), "std 0 or more"),
    "means": (lambda: J.standardized(NETWORK, [0] * 3, [1] * 4), "give one of each a feature"),
    "shape": (lambda: J.reshaped(NETWORK, 3), "shape=3 must be a list of whole numbers"),
    "summarize": (lambda: J.summarize(LEARNER, 3), "example=[3] must have a shape and a dtype"),
    "summarize model": (lambda: J.summarize(3, IMAGES), "model is of int; give a network or a learner"),
    "jit": (lambda: J.jit(3), "function=3 is no function"),
    "load": (lambda: J.data.load(3), "there is no data set 3"),
    "weighted": (lambda: J.data.weighted("x"), "shares='x' must be a list of numbers"),
    "episodes": (lambda: J.data.episodes(2, 1.5, 2), "shots=1.5 must be a whole number"),
    "code_dim": (lambda: game(code_dim=2.5), "code_dim=2.5 must be a whole number"),
    "game": (lambda: game(game="hinge"), "game is of str; give NON_SATURATING, HINGE"),
    "target": (lambda: game(target=3), "target=3 is no function"),
    "samples": (lambda: J.variational(NETWORK, NETWORK, SGD, importance_samples=-1), "importance_samples=-1 must be"),
    "corrupt": (lambda: J.reconstructing(NETWORK, NETWORK, J.losses.mse, SGD, corrupt=3), "corrupt=3 is no function"),
    "padding": (lambda: J.sequence_to_sequence(LEARNER, None), "padding=None must be a whole number of 0 or more"),
    "init key": (lambda: J.supervised(NETWORK, J.losses.mse, SGD).init(0), "key=0 is no random key"),
    "too large": (
        lambda: fit(learner=jn.supervised(model("MLP", 4, (10**11,), 3), jn.losses.softmax_cross_entropy, SGD)),
        "the state with its gradients takes 6,400.0 GB, and the device has",
    ),
}
CASES += [(name, call, words) for name, (call, words) in more.items()]


def test_there_are_150_cases_with_names_of_their_own():
    assert len({name for name, _, _ in CASES}) == len(CASES) >= 150


@pytest.mark.parametrize(("call", "words"), [pytest.param(call, words, id=name) for name, call, words in CASES])
def test_bad_input_of_functions(call, words):
    with pytest.raises(InputError, match=re.escape(words)):
        call()


FLAGS = {
    "--hidden 99999999999 --dry-run": "takes 120,000.0 GB, and the device has",
    "--seeds 1000000 --dry-run": "the state of 1,000,000 seeds with its gradients takes",
    f"--data {'a' * 5000}": "File name too long",
    f"--out {'a' * 300} --duration 1": "File name too long",
    f"--duration {'9' * 400}": "must be more than 0",
    f"--evaluate-every {'9' * 400}": "evaluate_every '999",
    "--duration 0.0000001ep --dry-run": "1e-07 epochs of 1293 examples must be one example or more",
    "--shift 8 --dry-run": "shift=8 moves images of 8 x 8 pixels out of sight",
    "--cutout 16 --dry-run": "cutout=16 blanks all of images of 8 x 8 pixels",
    "--image-size 0": "give 2 values, INT INT, not 1: 0",
    "--validation 0.0001": "that makes 1436 and 1, and each side needs 10 or more, one of each class",
}


@pytest.mark.parametrize(("flags", "words"), FLAGS.items(), ids=[flags[:30] for flags in FLAGS])
def test_bad_input_of_flags(flags, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in fails(capsys, "train", "digits-mlp", *flags.split())


def test_other_commands(capsys, tmp_path):
    (tmp_path / "broken.py").write_text("\nraise ValueError('mine')\n")
    assert "broken.py: cannot be imported: line 2: ValueError: mine" in fails(capsys, "train", tmp_path / "broken.py")
    assert "holds a character of number 0" in fails(capsys, "train", "digits-mlp", "--out", "a\0b")
    assert "File name too long" in fails(capsys, "resume", "a" * 5000)
    assert "give 3 values" in fails(capsys, "train", "forecast-linear", "--split", "inf")
    assert "columns names 'OT' twice" in fails(capsys, "train", "forecast-linear", "--columns", "OT", "OT")


def test_without_a_home_folder_the_remedy_is_named(monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    for name in ("JAXNETS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", unknown)
    with pytest.raises(InputError, match="set JAXNETS_CACHE to a folder"):
        cache_dir()


def test_a_fault_of_ours_is_told_with_the_environment_and_where_to_report(capsys, monkeypatch):
    def broken(name):
        raise RuntimeError("ours")

    monkeypatch.setattr(cli, "function", broken)
    assert cli.main(["ls"]) == 70
    printed = capsys.readouterr().err
    for part in (
        "Traceback",
        "RuntimeError: ours",
        "a fault of jaxnets, not yours",
        "issue tracker",
        "jax: ",
        "backend: ",
    ):
        assert part in printed
    assert "command: jaxnets ls" in printed
    assert "a fault of mine.py, or of jaxnets" in faults.report(RuntimeError("x"), ["train", "mine.py"])


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.builds(dict),
)
TAKERS: list[Callable[[Any], Any]] = [
    J.EarlyStopping,
    lambda value: J.EarlyStopping(1, value),
    lambda value: J.averaged(LEARNER, value),
    lambda value: J.population(LEARNER, value),
    lambda value: J.accumulated(LEARNER, value),
    lambda value: J.frozen(LEARNER, value),
    lambda value: Duration.parse(value).steps(100, 10),
    DATA.split,
    DATA.take,
    lambda value: J.Data(inputs=value),
    lambda value: J.Data(inputs=[[1], [2]], labels=[0, 1], classes=value),
    lambda value: J.reshaped(NETWORK, value),
    lambda value: J.standardized(NETWORK, value, [1.0]),
    GEN.categorical,
    lambda value: GEN.categorical(top_k=value),
    A.shift,
    A.rotate,
    J.metrics.auroc,
    J.data.weighted,
]


def tried(value: Any) -> None:
    for call in TAKERS:
        with suppress(InputError):
            call(value)


@given(ANYTHING)
@settings(max_examples=40, deadline=None)
def test_any_value_gives_a_result_or_an_input_error(value):
    tried(value)


@pytest.mark.slow
@given(ANYTHING)
@settings(max_examples=1000, deadline=None)
def test_any_of_many_values_gives_a_result_or_an_input_error(value):
    tried(value)
