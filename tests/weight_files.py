"""Files of weights made by hand, without PyTorch: pickles from their opcodes, GGUF from its fields; and real ones."""

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

KINDS = {"<f4": "Float", "<f8": "Double", "<f2": "Half", "<i8": "Long", "|u1": "Byte"}
MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."
REBUILD = "torch._utils._rebuild_tensor_v2"


class Raw(bytes):
    """Opcodes as they are."""


def name(dotted: str) -> Raw:
    module, _, attribute = dotted.rpartition(".")
    return Raw(f"c{module}\n{attribute}\n".encode())


def called(function: str, *arguments: Any) -> Raw:
    return Raw(name(function) + ops(arguments) + b"R")


def ops(value: Any) -> bytes:  # noqa: PLR0911
    """Return the opcodes that build a value."""
    match value:
        case Raw():
            return value
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            size = value.bit_length() // 8 + 1
            return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            content = value.encode(errors="surrogatepass")
            return b"X" + struct.pack("<I", len(content)) + content
        case tuple():
            return b"(" + b"".join(map(ops, value)) + b"t"
        case list():
            return b"](" + b"".join(map(ops, value)) + b"e"
        case dict():
            return b"}(" + b"".join(ops(key) + ops(inner) for key, inner in value.items()) + b"u"
    raise TypeError(value)


def pickled(value: Any, protocol: int = 2) -> bytes:
    return bytes([0x80, protocol]) + ops(value) + b"."


def storage(key: str, size: int, kind: str = "Float", legacy: bool = False) -> Raw:
    view = (None,) if legacy else ()
    return Raw(ops(("storage", name(f"torch.{kind}Storage"), key, "cpu", size, *view)) + b"Q")


def tensor(held: Raw, shape: Any, strides: Any, offset: Any = 0, *more: Any) -> Raw:
    return called(REBUILD, held, offset, shape, strides, False, called("collections.OrderedDict"), *more)


def described(arrays: Mapping[str, np.ndarray], legacy: bool = False) -> dict[str, Raw]:
    """Return tensors that lie in storages "0", "1", ..., one each."""
    return {
        key: tensor(
            storage(str(i), array.size, KINDS[array.dtype.str], legacy),
            array.shape,
            tuple(step // array.itemsize for step in array.strides),
        )
        for i, (key, array) in enumerate(arrays.items())
    }


def torch_zip(
    root: bytes, storages: Mapping[str, bytes] = {}, packing: int = zipfile.ZIP_STORED, **more: bytes
) -> bytes:
    files = {"data.pkl": root, **{f"data/{key}": content for key, content in storages.items()}, **more}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for key, content in files.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{key}"), content, packing)
    return buffer.getvalue()


def torch_legacy(root: bytes, storages: Mapping[str, tuple[int, bytes]] = {}) -> bytes:
    body = b"".join(struct.pack("<Q", size) + content for size, content in storages.values())
    return MAGIC + PROTOCOL + pickled({"little_endian": True}) + root + pickled(list(storages)) + body


def as_zip(arrays: Mapping[str, np.ndarray]) -> bytes:
    return torch_zip(pickled(described(arrays)), {str(i): x.tobytes() for i, x in enumerate(arrays.values())})


def as_legacy(arrays: Mapping[str, np.ndarray]) -> bytes:
    storages = {str(i): (x.size, x.tobytes()) for i, x in enumerate(arrays.values())}
    return torch_legacy(pickled(described(arrays, legacy=True)), storages)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(
    tensors: Mapping[str, tuple[int, tuple[int, ...], bytes]],
    metadata: Mapping[str, bytes] = {},
    *,
    version: int = 3,
    alignment: int = 32,
    counts: tuple[int, int] | None = None,
    offsets: Mapping[str, int] = {},
) -> bytes:
    """Return a GGUF file.

    Args:
        tensors: type, dims in the file's order, and bytes, by name.
        metadata: kind and value, as bytes, by name.
        version: of the format.
        alignment: that the tensors have.
        counts: of tensors and metadata that the header claims, if others.
        offsets: that the header claims, if others.
    """
    num_tensors, num_metadata = counts or (len(tensors), len(metadata))
    header = b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_metadata)
    header += b"".join(text(key) + value for key, value in metadata.items())
    body = b""
    for key, (kind, dims, content) in tensors.items():
        at = offsets.get(key, len(body))
        header += text(key) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, at)
        body += content + bytes(-len(content) % alignment)
    return header + bytes(-len(header) % alignment) + body


def ctranslate2(
    tensors: Mapping[str, np.ndarray],
    others: Mapping[str, str] = {},
    *,
    version: int = 6,
    counts: tuple[int, int] | None = None,
    sizes: Mapping[str, int] = {},
) -> bytes:
    """Return a CTranslate2 file.

    Args:
        tensors: by name.
        others: names of the same tensors.
        version: of the format.
        counts: of tensors and other names that the file claims, if others.
        sizes: bytes that it claims for tensors, if others.
    """

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value.encode()) + 1) + value.encode() + b"\0"

    kinds = ["<f4", "|i1", "<i2", "<i4", "<f2"]
    num_tensors, num_others = counts or (len(tensors), len(others))
    file = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, num_tensors)
    for key, array in tensors.items():
        size = sizes.get(key, array.nbytes)
        file += text(key) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        file += struct.pack("<BI", kinds.index(array.dtype.str), size) + array.tobytes()
    return file + struct.pack("<I", num_others) + b"".join(text(key) + text(name) for key, name in others.items())


def safetensors(header: bytes, body: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + body


SMALL = {"a.weight": np.arange(6, dtype="<f4").reshape(2, 3), "b": np.arange(4, dtype="u1")}
STORED = {"0": SMALL["a.weight"].tobytes(), "1": SMALL["b"].tobytes()}
ROOT = pickled({"state_dict": described(SMALL), "epoch": 3, "losses": [1.5, None, True]})
# As protocol 4 has it: b, a view of the second storage, is remembered and there twice.
ROOT_4 = (
    b"\x80\x04}\x94(\x8c\x01b\x94\x8c\x0ctorch._utils\x8c\x12_rebuild_tensor_v2\x93"
    + ops((storage("1", 4, "Byte"), 1, (2,), (2,), False, called("collections.OrderedDict")))
    + b"R\x94\x8c\x01ch\x02u."
)
SHARD = safetensors(b'{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}', STORED["0"])
INDEX = b'{"metadata": {"total_size": 24}, "weight_map": {"a": "s.safetensors"}}'
METADATA = {
    "general.alignment": struct.pack("<II", 4, 64),
    "name": struct.pack("<I", 8) + text("größe"),
    "flag": struct.pack("<I?", 7, True),
    "tokens": struct.pack("<IIQ", 9, 8, 2) + text("a") + text(""),
    "scores": struct.pack("<IIQ2f", 9, 6, 2, 0.5, -1),
    "rate": struct.pack("<Id", 12, 0.1),
}
BLOCKS = {
    "a": (3, (32, 2), bytes(range(40))),
    "b": (8, (32,), bytes(range(34))),
    "c": (2, (32,), bytes(range(18))),
    "d": (0, (3, 2), STORED["0"]),
    "e": (30, (2,), bytes(4)),
}
SPOKEN = {"a/w": np.arange(6, dtype="<f2").reshape(2, 3), "heads": np.array(6, "<i2"), "b": np.arange(2, dtype="<f4")}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        assert found[key].dtype == array.dtype and found[key].shape == array.shape
        assert np.array_equal(found[key], array)
