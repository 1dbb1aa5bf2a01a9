"""Weights from strangers: code, bombs, lies and damage. Each is one error that names the file, and nothing runs."""

import pickle
import re
import struct
import subprocess
import sys
import time
import zipfile

import fuzzing
import numpy as np
import pytest
from weight_files import (
    BLOCKS,
    MAGIC,
    METADATA,
    PROTOCOL,
    ROOT,
    SMALL,
    SPOKEN,
    STORED,
    Raw,
    as_legacy,
    as_zip,
    called,
    ctranslate2,
    gguf,
    name,
    ops,
    pickled,
    safetensors,
    storage,
    tensor,
    text,
    torch_legacy,
    torch_zip,
)

from jaxnets import InputError
from jaxnets.weights.files import read_weights


class Evil:
    def __reduce__(self):
        return __import__("os").system, ("touch executed",)


def torch(root: object, **storages: bytes) -> bytes:
    return torch_zip(pickled(root), storages or STORED)


WHOLE = storage("0", 6)
CODE = "it holds code: '(posix|nt).system'; nothing was executed. Save only the tensors"
CYCLE = Raw(b"}q\0X\1\0\0\0ah\0s")  # a dict that holds itself
LAUGHS = b"]q\0" + b"".join(b"](" + bytes([104, i]) * 9 + b"eq" + bytes([i + 1]) for i in range(40))  # nine in each
MANY = [tensor(storage("0", 1 << 20), (1 << 20,), (1,))] * 60  # 60 times the file
PICKLES = [
    # what the pickle holds, and what the error says
    (Raw(pickle.dumps(Evil(), 2)[2:-1]), CODE),
    (Raw(pickle.dumps({"a": Evil()}, 4)[2:-1]), CODE),
    (called("builtins.eval", "1"), "it holds code: 'builtins.eval'"),
    (called("torch.storage._load_from_bytes", "x"), "it holds code: 'torch.storage._load_from_bytes'"),
    (called("numpy.core.multiarray._reconstruct", 1), "it holds code: 'numpy.core.multiarray._reconstruct'"),
    (called("torch.nn.modules.linear.Linear"), "it holds code"),
    (Raw(b"cposix\nsystem extra\n"), "it holds code: 'posix.system.extra'"),
    (Raw(b"c" + b"x" * 100_000 + b"\ny\n"), "it holds code: 'x*...; nothing"),
    (Raw(b"iposix\nsystem\n"), "an opcode INST, which no tensors need"),
    (Raw(b"(S'touch executed'\nposix\nsystem\no"), "an opcode STRING, which no tensors need"),
    (Raw(b")\x81"), "an opcode NEWOBJ"),
    (Raw(b"\x82\x01"), "an opcode EXT1"),
    (Raw(b"0"), "an opcode POP"),
    (Raw(b"R"), "more off its stack than is there"),
    (Raw(b"t"), "its pickle is broken at TUPLE"),
    (Raw(b"h\x05"), "its pickle is broken at BINGET"),
    (Raw(b"NNR"), "it calls what is no function"),
    (Raw(b"NNb"), "it sets attributes of what is no OrderedDict"),
    (Raw(b"}Na"), "it appends to what is no list"),
    (Raw(b"]NNs"), "it sets items of what is no dict"),
    (Raw(b"X\xff\xff\xff\xffabc"), "expected 4294967295 bytes"),
    (Raw(b"\x8a\xff"), "cannot be read as a PyTorch file"),
    (Raw(name("torch.FloatStorage") + b")R"), "it calls what is no function"),
    (called("collections.OrderedDict", "ab"), "makes an OrderedDict of what is no list"),
    (called("collections.OrderedDict", [1, 2]), "cannot be read as a PyTorch file"),
    (called("torch._utils._rebuild_tensor_v2", 1), "cannot be read as a PyTorch file"),
    ({"a": called("torch._utils._rebuild_tensor_v3", WHOLE, 0, (1,), (1,), False, None, 1)}, "without a dtype"),
    (Raw(ops(("module", 1, 2, 3, 4)) + b"Q"), "it names a storage that is none"),
    (Raw(ops(("storage", name("torch.Size"), "0", "cpu", 1)) + b"Q"), "its storages of torch.Size"),
    ([WHOLE, storage("0", 6, "Half")], "its storage '0' is of two kinds"),
    (CYCLE, "values in values without end"),
    (Raw(LAUGHS), "values in values without end"),
    (Raw(b"]" * 100_000 + b"a" * 99_999), "values in values without end"),
    (Raw(b"}" + b"N}" * 100_000 + b"s" * 100_000), "values in values without end"),
    (Raw(b"]" + b"q\0" * 400_000), "more than 400,000 steps"),
    ({"a": 1}, "it holds no tensors"),
    ({"a": {"b": tensor(WHOLE, (1,), (1,))}, "a.b": tensor(WHOLE, (1,), (1,))}, "two tensors of one name"),
    ({"a" * 2000: tensor(WHOLE, (1,), (1,))}, "whose name has 2,000 letters"),
    ({"\ud800": tensor(WHOLE, (1,), (1,))}, "surrogates not allowed"),
    ({("a",): tensor(WHOLE, (1,), (1,))}, "neither texts nor numbers"),
    ({"a": tensor(WHOLE, (7,), (1,))}, "'a' reaches past its data: .7. float32 in 24 bytes"),
    ({"a": tensor(WHOLE, (2, 3), (3, 2))}, "'a' reaches past its data"),
    ({"a": tensor(WHOLE, (1,), (1,), 6)}, "'a' reaches past its data"),
    ({"a": tensor(WHOLE, (1,), (1,), 1 << 62)}, "'a' reaches past its data"),
    ({"a": tensor(WHOLE, (1 << 40,), (1,))}, "'a' reaches past its data"),
    ({"a": tensor(WHOLE, (1 << 40,), (0,))}, "24 bytes|would become 4,398,046,511,104"),
    ({"a": tensor(WHOLE, (1 << 62, 1 << 62), (0, 0))}, "cannot be read as a PyTorch file"),
    ({"a": tensor(WHOLE, (0, 1 << 62, 1 << 62), (1, 1, 1))}, "cannot be read as a PyTorch file"),
    ({"a": tensor(WHOLE, (2,), (-1,), 5)}, "'a' has no shape"),
    ({"a": tensor(WHOLE, (-2,), (1,))}, "'a' has no shape"),
    ({"a": tensor(WHOLE, (1,), (1,), -1)}, "'a' has no storage, offset or strides"),
    ({"a": tensor(WHOLE, (1,) * 33, (1,) * 33)}, "'a' has no shape"),
    ({"a": tensor(WHOLE, (2,), (1, 1))}, "'a' has no storage, offset or strides"),
    ({"a": tensor(WHOLE, (True,), (1,))}, "'a' has no shape"),
    ({"a": tensor(Raw(b"N"), (1,), (1,))}, "'a' has no storage"),
    ({"a": tensor(storage("2", 6), (1,), (1,))}, "it lacks 'data/2'"),
    ({"a": tensor(storage("../data.pkl", 6), (1,), (1,))}, "it lacks 'data/../data.pkl'"),
    ({"a": tensor(storage("0", 5), (1,), (1,))}, "its storage '0' has not the 5 numbers that"),
    ({"a": tensor(WHOLE, (1,), (1,), 0, {"conj": True})}, "conjugated"),
]  # fmt: skip


def refuses(content: bytes, message: str, tmp_path, monkeypatch, suffix: str = "a.bin"):
    monkeypatch.chdir(tmp_path)  # where code would leave its trace
    path = tmp_path / suffix
    path.write_bytes(content)
    start = time.process_time()
    with pytest.raises(InputError, match=message) as error:
        read_weights(path)
    assert str(path) in str(error.value) and str(error.value).isprintable()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name] and time.process_time() - start < 5


@pytest.mark.parametrize(("root", "message"), PICKLES, ids=map(str, range(len(PICKLES))))
def test_hostile_pickles_in_a_zip_file(root, message, tmp_path, monkeypatch):
    refuses(torch(root), message, tmp_path, monkeypatch)


OF_BOTH = [row for row in PICKLES if not re.search("data/|numbers that", row[1])]


@pytest.mark.parametrize(("root", "message"), OF_BOTH, ids=map(str, range(len(OF_BOTH))))
def test_hostile_pickles_in_the_older_format(root, message, tmp_path, monkeypatch):
    content = pickled(root)
    held = {"0": (6, STORED["0"])} if b"Storage" in content else {}
    refuses(torch_legacy(content, held), message, tmp_path, monkeypatch)


def test_tensors_that_share_their_storage_too_often(tmp_path, monkeypatch):
    message = "bytes whose tensors, up to '16', would become 71,303,168"
    refuses(torch(MANY, **{"0": bytes(4 << 20)}), message, tmp_path, monkeypatch)


def swapped(before: bytes, after: bytes, content: bytes) -> bytes:
    assert before in content and len(before) == len(after)
    return content.replace(before, after)


def twice(content: bytes) -> bytes:
    """Return a zip file in which a name is there twice, both with the same bytes."""
    return swapped(b"archive/data/1", b"archive/data/0", content)


def directory(size: int) -> bytes:
    """Return a zip file whose list of members has so many bytes."""
    return bytes(size) + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 1, 1, size, 0, 0)


HEAD = b'{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'
BODY = STORED["0"]
NEST = b"](" + b")" + b"\x85" * 100_000 + b"e."  # tuples in tuples: to hash them takes more stack than there is
FILES = [
    (pickle.dumps(Evil()), CODE),
    (pickle.dumps({"a": 1}), "a pickle, but not of torch.save; nothing was executed"),
    (as_legacy(SMALL)[:-1], "its storage '1' is cut short"),
    (as_legacy(SMALL)[:100], "cannot be read as a PyTorch file"),
    (torch_legacy(ROOT, {"0": (1 << 60, BODY), "1": (4, b"")}), "its storage '0' is cut short"),
    (torch_legacy(ROOT, {"0": (6, BODY)}), "not of each other"),
    (torch_legacy(ROOT, {"0": (6, BODY), "2": (6, BODY)}), "not of each other"),
    (MAGIC + PROTOCOL + pickled({}) + pickled({"a": tensor(WHOLE, (1,), (1,))}) + NEST, "not of each other"),
    (as_zip(SMALL)[:-30], "cannot be read as a zip file"),
    (swapped(BODY[:8], b"\1" * 8, as_zip(SMALL)), "'archive/data/0' is damaged: its checksum is another"),
    (twice(as_zip(SMALL)), "a name is there twice"),
    (b"PK" + directory(5 << 20), "its list of members has 5,242,880 bytes"),
    (torch_zip(ROOT, STORED, zipfile.ZIP_DEFLATED), "is packed or encrypted, as PyTorch packs nothing"),
    (torch_zip(ROOT, STORED, byteorder=b"middle"), "its byte order is 'middle'"),
    (torch_zip(ROOT, STORED, **{"constants.pkl": b""}), "a TorchScript program"),
    (torch_zip(pickled("x" * (9 << 20)), STORED), "its pickle has 9,437,192 bytes; at most 6,291,456 are read"),
    (safetensors(HEAD, BODY[:-1]), "'a' reaches past its data: .2, 3. float32 in 23 bytes"),
    (safetensors(HEAD, BODY + b"x"), "MetadataIncompleteBuffer|incomplete|deserializing header"),
    (safetensors(HEAD, BODY, size=90_000_000), "its header has 90,000,000 bytes; at most 6,291,456 are read"),
    (safetensors(HEAD[:-2], BODY), "cannot be read as a safetensors file"),
    (safetensors(HEAD.replace(b"F32", b"F4"), BODY), "cannot be read as a safetensors file"),
    (safetensors(HEAD.replace(b"2,3", b"-2,-3"), BODY), "cannot be read as a safetensors file"),
    (safetensors(HEAD.replace(b"[0,24]", b"[-24,0]"), BODY), "cannot be read as a safetensors file"),
    (safetensors(HEAD.replace(b"2,3", b"9" * 5000), BODY), "cannot be read as a safetensors file"),
    (safetensors(b"{" + b"[" * 100_000, BODY), "cannot be read as a safetensors file"),
    (safetensors(b'{"a":[' + b"[]," * 175_001 + b"0]}"), "and 350,00. values, more than weights need"),
    (b"{}", "it has no weight_map"),
    (b"{" + b"[" * 100_000, "cannot be read as an index of weights"),
    (b'{"weight_map": {"a": 1}}', "'a' should be in 1, which is no name of a file beside it"),
    (b'{"weight_map": {"a": "../b"}}', "'a' should be in '../b', which is no name"),
    (b'{"weight_map": {"a": "/etc/passwd"}}', "'a' should be in '/etc/passwd', which is no name"),
    (b'{"weight_map": {"a": ".."}}', "which is no name|not beside it"),
    (b'{"weight_map": {"a": "..\\\\b"}}', "which is no name"),
    (b'{"weight_map": {"a": "b\\u0000"}}', "which is no name"),
    (b'{"weight_map": {"a": "' + b"b" * 300 + b'"}}', "File name too long|not beside it"),
    (b'{"weight_map": {"a": "a.bin"}}', "not weights of a format that is read"),  # the index itself
    (b"GGUF", "cut short"),
    (gguf(BLOCKS, version=1), "version 1, or big-endian; versions 2 and 3"),
    (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    (gguf(BLOCKS, counts=(1 << 63, 0)), "it promises 9,223,372,036,854,775,808 tensors"),
    (gguf(BLOCKS, counts=(6, 0)), "cannot be read as a GGUF file"),
    (gguf(BLOCKS, {"a": struct.pack("<IQ", 8, 1 << 62)}), "4,611,686,018,427,387,904 more are promised"),
    (gguf(BLOCKS, {"a": struct.pack("<IIQ", 9, 8, 1 << 62)}), "cannot be read as a GGUF file"),
    (gguf(BLOCKS, {"a": struct.pack("<IIQ", 9, 12, 1 << 61)}), "more are promised"),
    (gguf(BLOCKS, {"a": struct.pack("<IIQ", 9, 9, 1)}), "a kind 9, or lists in lists"),
    (gguf(BLOCKS, {"a": struct.pack("<II", 77, 1)}), "a kind 77"),
    (gguf(BLOCKS, {"a": struct.pack("<IQB", 8, 1, 255)}), "utf-8"),
    (gguf({}, {"a": struct.pack("<IIQ", 9, 8, 1_000_001) + bytes(8 << 20)}), "more than 1,000,000 texts"),
    (gguf(BLOCKS, {"general.alignment": struct.pack("<II", 4, 0)}), "general.alignment is 0, no power of two"),
    (gguf(BLOCKS, {"general.alignment": struct.pack("<II", 4, 33)}), "general.alignment is 33, no power of two"),
    (gguf(BLOCKS, {"general.alignment": struct.pack("<IQ", 10, 1 << 63)}), "0 are there"),
    (gguf(BLOCKS, {"general.alignment": struct.pack("<IQ", 8, 0)}), "general.alignment is '', no power of two"),
    (gguf({"a": BLOCKS["a"]}, offsets={"a": 7}), "a multiple of 32"),
    (gguf({"a": BLOCKS["a"]}, offsets={"a": 1 << 63}), "'a' should have 40 bytes from 9,223,372,036,854,775,808 on"),
    (gguf(BLOCKS, offsets={"b": 0}), "'b' overlaps 'a'"),
    (gguf({"a": (0, (1 << 40, 1 << 40), BODY)}), "'a' should have"),
    (gguf({"a": (0, (0, 1 << 63), BODY)}), "'a' has the axes"),
    (gguf({"a": (0, (1,) * 5, BODY)}), "'a' has 5 axes; at most 4"),
    (gguf({"a": (2, (33,), BODY)}), "numbers in blocks of 32"),
    (gguf({"a": (12, (32,), BODY)}), "'a' is of type Q4_K; F32, F16, Q4_0, Q4_1, Q8_0, BF16 are read"),
    (gguf({"a": (99, (32,), BODY)}), "'a' is of type 99"),
    (gguf(BLOCKS, METADATA, alignment=64).replace(text("b"), text("a")), "a name is there twice"),
    (ctranslate2(SPOKEN, version=3), "version 3; 4, 5, 6 are read"),
    (ctranslate2(SPOKEN)[:-5], "cut short"),
    (ctranslate2(SPOKEN) + b"x", "1 bytes are left over at its end"),
    (ctranslate2(SPOKEN, counts=(1 << 31, 0)), "it promises 2,147,483,648 tensors"),
    (ctranslate2(SPOKEN, counts=(4, 0)), "cannot be read as a CTranslate2 model"),
    (ctranslate2(SPOKEN, counts=(3, 1 << 31)), "it promises 2,147,483,648 tensors"),
    (ctranslate2(SPOKEN, sizes={"a/w": 1 << 31}), "'a/w' has 2,147,483,648 bytes, and the shape"),
    (ctranslate2({"a" * 600: SPOKEN["b"]}), "a name of 601 bytes"),
    (ctranslate2({"a\0b": SPOKEN["b"]}), "a name does not end where it should"),
    (ctranslate2({"ä": SPOKEN["b"]}), "ascii"),
    (ctranslate2({"a": np.zeros((1,) * 9, "<f4")}), "'a' has 9 axes; at most 8"),
    (ctranslate2(SPOKEN).replace(struct.pack("<BI", 0, 8), struct.pack("<BI", 9, 8)), "'b' is of type 9; 0, 1"),
    (ctranslate2(SPOKEN, {"b": "heads"}), "'b' is to be another name of 'heads'"),
    (ctranslate2(SPOKEN, {"c": "d"}), "'c' is to be another name of 'd'"),
    (ctranslate2(SPOKEN).replace(b"heads\0", b"a/w\0\0\0"), "a name does not end"),
    (fuzzing.NPZ[:-40], "cannot be read as a zip file"),
]


@pytest.mark.parametrize(("content", "message"), FILES, ids=map(str, range(len(FILES))))
def test_hostile_files(content, message, tmp_path, monkeypatch):
    refuses(content, message, tmp_path, monkeypatch)


MEMORY = """
import re, sys, time
from pathlib import Path
from jaxnets import InputError
from jaxnets.weights.files import read_weights

def peak():  # of this process alone: what getrusage says begins with what its parent had
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

small, path = map(Path, sys.argv[1:])
read_weights(small)  # what importing takes
before, start = peak(), time.process_time()
try:
    said = f"{len(read_weights(path))} read"
except InputError as error:
    said = str(error)
print(said, peak() - before, time.process_time() - start, sep="\\n")
"""
BIG = np.zeros(50 << 20, "<f4")
BIG_HEAD = b'{"a":{"dtype":"F32","shape":[52428800],"data_offsets":[0,209715200]}}'
EMOJI = "\U0001f600" + "x" * (6 << 20)
LARGE = {
    "safetensors": lambda: safetensors(BIG_HEAD, BIG.tobytes()),
    "zip": lambda: as_zip({"a": BIG}),
    "legacy": lambda: as_legacy({"a": BIG}),
    "gguf": lambda: gguf({"a": (0, (BIG.size,), BIG.tobytes())}),
    "ctranslate2": lambda: ctranslate2({"a": BIG}),
    "tensors": lambda: ctranslate2({f"{i}": BIG[:0] for i in range(20_000)}),
    "dicts": lambda: torch([Raw(b"}" * 399_000)]),
    "older": lambda: MAGIC + PROTOCOL + pickled({}) + 2 * pickled([Raw(b"}" * 399_000)]),
    "memo": lambda: torch(Raw(b"}" + b"\x94" * 399_000)),
    "tuples": lambda: torch(Raw(b"}" + b"\x85" * 399_000)),
    "storages": lambda: torch([storage(str(i), 1) for i in range(30_000)]),
    "text": lambda: torch(EMOJI[: -(1 << 10)]),
    "header": lambda: safetensors(b'{"a":[' + b"{}," * 174_000 + b"0]}"),
    "keys": lambda: safetensors(b"{" + b",".join(b'"%d":0' % i for i in range(349_000)) + b"}"),
    "letters": lambda: safetensors(f'{{"{EMOJI[: -(1 << 10)]}":0}}'.encode()),
    "members": lambda: torch_zip(ROOT, {str(i): b"" for i in range(40_000)}),
    "texts": lambda: gguf({}, {"a": struct.pack("<IIQ", 9, 8, 999_999) + text("\u00e9") * 999_999}),
    "metadata": lambda: gguf({}, {str(i): struct.pack("<II", 4, i) for i in range(100_000)}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LARGE)
def test_reading_takes_at_most_twice_the_file_and_64_mb(kind, tmp_path):
    (tmp_path / "small").write_bytes(as_zip(SMALL))
    (tmp_path / "large").write_bytes(content := LARGE[kind]())
    command = [sys.executable, "-c", MEMORY, tmp_path / "small", tmp_path / "large"]
    said, taken, seconds = (
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().split("\n")
    )
    assert int(taken) <= 2 * len(content) + (64 << 20) and float(seconds) < fuzzing.HANG, said
    assert re.search("read$|cannot be read", said)
