"""Models that come with weights, by name: found in a file, an installed package or the cache, or fetched."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets.data.cache import cache_dir
from jaxnets.data.decoding import decode_image
from jaxnets.data.fetching import fetch, sha256_of
from jaxnets.data.subwords import encode_sentences, num_subwords
from jaxnets.data.unpacking import reading
from jaxnets.errors import InputError, check_kind
from jaxnets.models import EfficientNet, ResNet
from jaxnets.models.efficientnet import LITE
from jaxnets.network import Network, PyTree, fitted, network, standardized
from jaxnets.parameters import matches, paths, without
from jaxnets.transforms.features import features
from jaxnets.weights.cards import Card, card
from jaxnets.weights.files import read_weights
from jaxnets.weights.gguf import read_gguf
from jaxnets.weights.gguf_tokenizer import tokenizer_of
from jaxnets.weights.hugging_face import from_config, from_gguf, gguf_config
from jaxnets.weights.layout import Layout, imported
from jaxnets.weights.layouts_images import efficientnet_lite, torchvision_resnet
from jaxnets.weights.whisper import from_ctranslate2, is_ctranslate2_whisper

HEAD = ("out/**",)  # parameters of what is specific to the classes that a model was trained on
_TOKENIZER = "tokenizer.json"
_WRITING = ("text", "speech")  # kinds of models whose outputs are tokens


class Pretrained(NamedTuple):
    """A network with weights, and how inputs are prepared for it.

    Attributes:
        card: what is known of the weights.
        network: it takes tokens [B, T], or pixels from 0 to 255, [B, H, W, 1 or 3]; the size that the weights take,
            their mean and their standard deviation are in it. One of speech takes a ``SourceTarget``.
        params: its parameters, on the host; without those of a new head.
        model_state: its batch statistics and the like.
        tokenizer: how text becomes tokens, JSON of the ``tokenizers`` library; "" of images.
        layout: of its weights in their files.
        template: how conversations become text, in Jinja, where the weights' file says so.
    """

    card: Card
    network: Network
    params: PyTree
    model_state: PyTree
    tokenizer: str
    layout: Layout
    template: str = ""

    @property
    def body(self) -> Network:
        """The network whose outputs are what a head takes: the mean over a sentence's tokens, or over an image.

        Raises:
            InputError: if the weights are of a model that writes text.
        """
        if self.card.kind in _WRITING:
            raise InputError("a model that writes text has no features of a whole; use minilm")
        headed = any(matches(pattern, name) for pattern in HEAD for name in paths(self.params))
        return features(self.network, "out", "inputs") if headed else self.network

    def prepare(self, inputs: Sequence[Any]) -> np.ndarray:
        """Return inputs as the network takes them.

        Args:
            inputs: sentences, which become tokens int32 [N, T]; or paths of images, which are resized to those that the
                weights were trained on, uint8 [N, H, W, 3].

        Raises:
            InputError: if an image cannot be read, or there is no text in a sentence.
        """
        check_kind("inputs", inputs, (list, tuple), "give a list of sentences or of paths")
        kinds, remedy = ((str, Path), "a path") if self.card.kind == "images" else (str, "a sentence")
        for i, given in enumerate(inputs):
            check_kind(f"inputs[{i}]", given, kinds, f"give {remedy}")
        if self.card.kind == "images":
            height, width, channels = self.card.shape
            paths = map(Path, inputs)
            return np.stack([decode_image(str(path), path.read_bytes, (height, width), channels) for path in paths])
        return encode_sentences(inputs, self.tokenizer)


def pretrained(name: str, weights: Path | str | None = None, **options: Any) -> Pretrained:
    """Return a model with its weights, such as ``pretrained("minilm")``.

    They are those of a file or folder that is named, else of an installed package that carries them, else of the cache
    folder, into which they are fetched from their home; all but named ones have a pinned SHA-256.

    Args:
        name: of the weights (``jaxnets pretrained ls``).
        weights: a file, or a folder, of weights in the same layout.
        **options: of ``architecture``.

    Raises:
        InputError: if there are none of this name, they cannot be had, their checksum is another, or they are not in
            the layout of this model, with what is missing and what is left over.
    """
    found = card(name)
    file = _pinned(name, found, found.weights) if weights is None else _given(found, Path(weights))
    template = ""
    if found.kind == "text":
        metadata, tensors = read_gguf(file)
        made, layout = from_gguf(metadata, tensors, **options)
        tokenizer, template = tokenizer_of(metadata, str(file)), _template_of(metadata)
    elif found.kind == "speech":
        tensors = read_weights(file)
        own = is_ctranslate2_whisper(tensors)
        made, layout = from_ctranslate2(tensors, **options) if own else from_config(found.config, **options)
        tokenizer = tokenizer_of_weights(name, file)
    else:
        made, layout = _made(found, options)
        tensors = read_weights(file)
        tokenizer = tokenizer_of_weights(name, file) if found.kind == "sentences" else ""
    shapes = jax.eval_shape(made.init, jax.random.key(0))
    fresh = HEAD if "out_features" in options else ()
    params, model_state = imported(layout, tensors, shapes, fresh)
    params = without(params, fresh) if fresh else params
    return Pretrained(found, made, params, model_state, tokenizer, layout, template)


class Written(NamedTuple):
    """What the file of a model that writes text says of it, without its weights.

    Attributes:
        tokenizer: how text becomes tokens, JSON of the ``tokenizers`` library.
        template: how conversations become text, in Jinja; "" if it does not say.
        config: what builds the network, a ``config.json``.
    """

    tokenizer: str
    template: str
    config: Mapping[str, Any]


def written(name: str, weights: Path | None = None) -> Written:
    """Return what the file of a model that writes text says of it; its weights are not read.

    Raises:
        InputError: as ``pretrained``, or if the model writes no text.
    """
    found = card(name)
    if found.kind != "text":
        raise InputError(f"{name}: takes {found.kind}, and writes no text; use smollm2-135m")
    file = _pinned(name, found, found.weights) if weights is None else _given(found, weights)
    metadata, tensors = read_gguf(file)
    return Written(tokenizer_of(metadata, str(file)), _template_of(metadata), gguf_config(metadata, tensors))


def _template_of(metadata: Mapping[str, Any]) -> str:
    template = metadata.get("tokenizer.chat_template", "")
    return template if isinstance(template, str) else ""


def tokenizer_of_weights(name: str, weights: Path | None = None) -> str:
    """Return how text becomes the tokens of such weights, without these: JSON of the ``tokenizers`` library.

    Args:
        name: of the weights.
        weights: a file or a folder of them, beside or in which their own tokenizer may be.

    Raises:
        InputError: if there are none of this name, or the tokenizer cannot be had or is not theirs.
    """
    folder = None if weights is None else weights if weights.is_dir() else weights.parent
    return _tokenizer(name, card(name), folder)


def architecture(name: str, *, raw: bool = True, **options: Any) -> Network:
    """Return the network that weights of this name fit, without them; it takes pixels from 0 to 255, or tokens.

    Args:
        name: of the weights.
        raw: whether images are pixels from 0 to 255, or prepared as the weights' training data were.
        **options: of the model, such as ``out_features=3`` for a new head, ``shape=(128, 128, 3)`` for images of
            another size, or ``dropout=0.1``. A model of sentences gives the mean of its tokens' outputs, [B, D].

    Raises:
        InputError: if there are none of this name, or what builds the network is in their file.
    """
    found = card(name)
    if found.kind in _WRITING:
        raise InputError(f"{name}: its file says what it is made of; use pretrained({name!r})")
    return _made(found, options, raw=raw)[0]


def layout_of(name: str, **options: Any) -> Layout:
    """Return the layout of these weights in their files; ``options`` are those of ``architecture``."""
    return _made(card(name), options)[1]


def _made(found: Card, options: dict[str, Any], *, raw: bool = True) -> tuple[Network, Layout]:
    if found.kind == "sentences":
        return from_config(found.config, **{"pool": "mean", "pooler": False} | options)
    options = {"out_features": 1000, "shape": found.shape} | options
    shape, out_features = options.pop("shape"), options.pop("out_features")
    if found.config["model"] == "resnet":
        depth = found.config["depth"]
        made = network(ResNet, shape, depth, out_features, stem="imagenet", **options)
        layout = torchvision_resnet(depth)
    else:
        variant = found.config["variant"]
        made = network(EfficientNet, shape, out_features, **LITE[variant]._asdict(), **options)
        layout = efficientnet_lite(variant)
    return (fitted(standardized(made, found.mean, found.std), shape) if raw else made), layout


def obtained(name: str) -> Path:
    """Return the folder of the files of some weights, which are fetched if they are not here, their checksums right.

    Raises:
        InputError: if there are none of this name, they cannot be had, or a checksum is another.
    """
    found = card(name)
    here = [_pinned(name, found, file) for file in found.files]
    return here[0].parent


def _given(found: Card, given: Path) -> Path:
    """Return the file of weights that is named, or is in the folder that is."""
    if not given.exists():
        raise InputError(f"weights={str(given)!r}: there is no such file or folder")
    return given / found.weights if (given / found.weights).is_file() else given


def _pinned(name: str, found: Card, file: str) -> Path:
    """Return one of a card's files, from a package or the cache, else fetched into it, with the pinned checksum."""
    path, remote = (_in_package(found) or cache_dir() / "weights" / name) / file, found.files[file]
    if not path.is_file():
        _fetched(name, found, path, remote.url, remote.sha256)
    elif (digest := sha256_of(path)) != remote.sha256:
        raise InputError(
            f"{path}: its SHA-256 is {digest}, not the pinned {remote.sha256}; remove it to have it fetched again, or, "
            "if you trust it, name it by --weights"
        )
    return path


def _in_package(found: Card) -> Path | None:
    """Return the folder of an installed package that carries the files; nothing of it is imported."""
    package, _, inside = found.package.partition("/")
    spec = importlib.util.find_spec(package) if package else None
    folders = [Path(place) / inside for place in (spec and spec.submodule_search_locations) or ()]
    return next((folder for folder in folders if all((folder / file).is_file() for file in found.files)), None)


def _fetched(name: str, found: Card, path: Path, url: str, sha256: str) -> None:
    try:
        fetch(url, sha256, path)
    except OSError as error:
        package = found.package.partition("/")[0].replace("_", "-")
        raise InputError(
            f"{name}: cannot fetch {url} ({error}). Put {', '.join(found.files)} into {path.parent}, or into a folder "
            f"named by --weights{f', or install the package {package} (--no-deps will do)' if package else ''}"
        ) from error


def _tokenizer(name: str, found: Card, folder: Path | None) -> str:
    """Return what says how text becomes tokens: the file beside the weights, else the one that the card pins."""
    beside = None if folder is None else folder / _TOKENIZER
    path = beside if beside is not None and beside.is_file() else _pinned(name, found, _TOKENIZER)
    text = reading(path, "a tokenizer", lambda path: path.read_text(encoding="utf-8"))
    number, wanted = num_subwords(text), found.config["vocab_size"]
    stamps = found.config.get("max_source_positions", 1500) + 1 if found.kind == "speech" else 0
    if number not in (wanted, wanted - stamps):  # of timestamps, tokenizers of some homes know nothing
        raise InputError(f"{path}: a tokenizer of {number:,} tokens, and the weights have {wanted:,}; it is not theirs")
    return text


def where(name: str) -> str:
    """Return where a card's files are on this machine, or an empty string if they would be fetched."""
    found = card(name)
    folder = _in_package(found) or cache_dir() / "weights" / name
    return str(folder) if all((folder / file).is_file() for file in found.files) else ""
