"""Files that are broken at random, given to every reader: ``python -m tests.fuzzing NUMBER [READER...]``.

A reader may return something, or raise an ``InputError``; anything else, and what computes for over five seconds, is
counted.
"""

import gzip
import io
import json
import os
import random
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxnets import InputError, data
from jaxnets.data import cifar, labelled_texts, music, passages, spans, speech, stories, tokens
from jaxnets.data.sound import read_sound
from jaxnets.data.word_vectors import read_word_vectors
from jaxnets.options import TrainingConfig
from jaxnets.runs import checkpoint
from jaxnets.runs.folder import Run, RunConfig
from jaxnets.runs.json_files import from_dict, from_json, to_json
from jaxnets.weights.files import read_weights

if __package__:  # python -m tests.fuzzing
    from tests import weight_files
    from tests.helpers import wav
else:
    import weight_files
    from helpers import wav

STORY = b"1 Mary went home.\n2 Where is Mary?\thome\t1\n1 Rex is green.\n2 Is Rex green?\tyes\t1\n"
ASKED = (
    b'{"data": [{"title": "t", "paragraphs": [{"context": "Mary went home.", "qas": [{"id": "1", "question": "Where?", '
    b'"answers": [{"text": "home", "answer_start": 10}]}, {"id": "2", "question": "Why?", "is_impossible": true}]}]}]}'
)
VECTORS = [b"the 0.5 -1 2\ngood 1 2e-3 .5\nfilm 4 5 6\n", b"2 3\ngood 1 2 3 \nfilm 4 5 6 \n"]
HANG = 5.0  # seconds of the processor's time: others may keep it busy
PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
TRANSCRIPTS = [b"file,text,speaker,part\na.wav,one two,ann,train\n", b"file,text\na.wav,x\n"]
TONE = np.sin(np.arange(90) * 0.3) * 0.5
SPEC = data.Data(inputs=PIXELS[None], labels=[0]).spec


class Reader(NamedTuple):
    """What reads a file of a name, whole contents of the kind to be broken, and what then makes a file of them."""

    name: str
    read: Callable[[Path], Any]
    seeds: list[bytes]
    wrap: Callable[[bytes], bytes] = bytes


def made(write: Callable[[Any], object]) -> bytes:
    """Return what a function writes to a file."""
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def picture(kind: str, mode: str = "RGB") -> bytes:
    return made(lambda file: Image.fromarray(PIXELS).convert(mode).save(file, kind))


def zip_of(files: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    def write(file: Any) -> None:
        with zipfile.ZipFile(file, "w", packing) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content, packing)

    return made(write)


def tar_of(files: dict[str, bytes]) -> bytes:
    def write(file: Any) -> None:
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    return made(write)


def png_of(content: bytes) -> bytes:
    """Return a PNG whose chunks have the checksums that they should, so that what is broken in them is looked at."""
    made, at = content[:8], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunk = content[at + 4 : at + 8 + size]
        made += content[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + size
    return made


def manifest_of(body: bytes) -> bytes:
    """Return a manifest with a checksum that is right, of whatever body."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return body
    return json.dumps({"body": value, "sha256": checkpoint._digest_of(value)}).encode()


def run_file(name: str, use: Callable[[Run], Any]) -> Callable[[Path], Any]:
    """Return a reader of one of a run's files, in a folder where the others are whole."""

    def read(path: Path) -> Any:
        run = Run(path.parent)
        path.replace(run.path / name)
        return use(run)

    return read


def read_checkpoint(path: Path) -> Any:
    target = path.parent / "checkpoints" / f"{1:010d}"
    target.mkdir(parents=True, exist_ok=True)
    path.replace(target / "manifest.json")
    return checkpoint.read(path.parent / "checkpoints", 1)


def read_transcripts(path: Path) -> Any:
    (path.parent / "a.wav").write_bytes(wav(TONE))
    return speech.transcribed(path, 8000)


def config_of(run: Run) -> Any:
    return from_dict(TrainingConfig, run.config.config)


def inputs_of(run: Run) -> Any:
    """Use what a spec says as ``predict`` does."""
    spec = run.spec
    (run.path / "a.npy").write_bytes(made(lambda file: np.save(file, PIXELS[None])))
    return spec["inputs"].example, data.read_inputs(run.path / "a.npy", spec["inputs"])


def use_weights(path: Path) -> Any:
    return {name: array.tobytes() for name, array in read_weights(path).items()}


def use_index(path: Path) -> Any:
    """Read an index beside which its shard is whole."""
    if not (shard := path.parent / "s.safetensors").exists():
        shard.write_bytes(weight_files.SHARD)
    return use_weights(path)


def json_of(value: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        to_json(Path(folder, "a"), value)
        return Path(folder, "a").read_bytes()


CSV = b'x,"kind, of",y\n1,2.5,cat\n-3,4e1,dog\n\n# note\n5,"6",cat\n'
SERIES = b"time,a,b\n2020-01-01 00:00+01:00,1,2\n2020-01-01 01:00+01:00,3,4\n2020-01-01 02:00+01:00,,6\n"
NPY = made(lambda file: np.save(file, PIXELS))
MANY = {"inputs": np.stack([PIXELS] * 10), "labels": np.arange(10) % 2}
NPZ = made(lambda file: np.savez(file, **MANY))
ROWS = data.Column((2,), "float32", 0, 9)
BODY = {"schema": 1, "step": 1, "state": "a.safetensors", "sha256": "0", "facts": {}}
METRICS = b'{"step": 1, "train/loss": 0.5, "seconds": [1, null]}\n{"step": 2, "train/loss": 0.25}\n'
ZIPPED = {"train/a/1.png": picture("png"), "train/b/2.png": picture("png"), "test/a/3.png": picture("png", "L")}
MASKED = {"images/1.png": picture("png"), "images/2.png": picture("png")}
MASKED |= {"masks/1.png": picture("png", "L"), "masks/2.png": picture("png", "P")}

CORNERS = b"<xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>4</ymax>"
VOC = b"<annotation><object><name>a</name><bndbox>" + CORNERS + b"</bndbox></object></annotation>"
COCO = (
    b'{"images": [{"id": 1, "file_name": "a.png"}, {"id": 3, "file_name": "b.png"}], '
    b'"categories": [{"id": 2, "name": "a"}], '
    b'"annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 2, 2]}]}'
)
BOX_LINES = [b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.2 0.2\n", b"Car 0 0 0 1 1 3 4 1 1 1 1 1 1 0\n"]


def boxed(annotations: dict[str, bytes]) -> bytes:
    return zip_of({"a.png": picture("png"), "b.png": picture("png"), **annotations})


def readers() -> list[Reader]:
    """Return every reader of files from elsewhere."""
    column = SPEC["inputs"]
    return [
        Reader("a.idx", data.read_idx, [idx(PIXELS), gzip.compress(idx(PIXELS))]),
        Reader("a.npz", data.read_npz, [NPZ, made(lambda file: np.savez_compressed(file, a=PIXELS, b=np.array("x")))]),
        Reader("b.npz", data.npz_splits, [NPZ]),
        Reader("c.npz", data.read_npz, [NPY], lambda content: zip_of({"a.npy": content, "b.npy": NPY})),
        Reader("a.npy", lambda path: data.read_inputs(path, column), [NPY]),
        Reader("a.txt", data.read_text, ["größe\r\n".encode(), gzip.compress(b"a text" * 9)]),
        Reader("a.csv", data.read_csv, [CSV, CSV.replace(b",", b";"), gzip.compress(CSV)]),
        Reader("table.csv", lambda path: data.read_columns(path, "y"), [CSV]),
        Reader("inputs.csv", lambda path: data.read_inputs(path, ROWS), [b"a,b\n1,2\n3,4\n"]),
        Reader("series.csv", data.read_series, [SERIES, b"t;a\n20230101;1,5\n20230102;2,5\n", b"t,a\n1,2\n2,3\n"]),
        Reader("a.tsv", tokens.labelled_sentences, [b"sentence\tlabel\na film\tgood\nno film\tbad\n"]),
        Reader(
            "a.jsonl", labelled_texts.read_texts, [b'{"text": "a film", "label": "good"}\n{"text": "b", "label": 2}\n']
        ),
        Reader("texts.csv", labelled_texts.read_texts, [b"text,label\na film,good\nno film,bad\n"]),
        Reader("a.md", passages.read_passages, [b"# Tea\n\nTea is hot. It is green.\n"]),
        Reader(
            "stories.zip", stories.story_parts, [zip_of({f"en/qa1_a_{part}.txt": STORY for part in ("train", "test")})]
        ),
        Reader("spans.json", spans.read_asked, [ASKED, gzip.compress(ASKED)]),
        Reader("a.en", lambda path: tokens.parallel_text([path, path]), [b"a man\na dog\n"]),
        Reader("a.json", music.read_pieces, [b'{"train": [[[60, 64], [62]]], "valid": [], "test": [[[21]]]}']),
        Reader("a.zip", data.image_splits, [zip_of(ZIPPED), zip_of(ZIPPED, zipfile.ZIP_STORED)]),
        Reader(
            "b.zip", data.image_splits, [ZIPPED["test/a/3.png"]], lambda png: zip_of({**ZIPPED, "test/a/3.png": png})
        ),
        Reader("v.zip", data.box_splits, [VOC], lambda xml: boxed({"a.xml": xml, "b.xml": VOC})),
        Reader("o.zip", data.box_splits, [COCO], lambda found: boxed({"a.json": found})),
        Reader("y.zip", data.box_splits, BOX_LINES[:1], lambda text: boxed({"a.txt": text, "b.txt": BOX_LINES[0]})),
        Reader("k.zip", data.box_splits, BOX_LINES[1:], lambda text: boxed({"a.txt": text, "b.txt": BOX_LINES[1]})),
        Reader("m.zip", data.masks.masked_images, [zip_of(MASKED)]),
        Reader(
            "n.zip",
            data.masks.masked_images,
            [picture("png", mode) for mode in "1LP"],
            lambda png: zip_of({**MASKED, "masks/2.png": png}),
        ),
        Reader("a.tar.gz", cifar._unpacked, [tar_of({f"{cifar.FOLDER}/{cifar.TEST}": bytes(99), "x": b"y"})]),
        *(
            Reader(f"a.{kind}", lambda path: data.read_inputs(path, column), [picture(kind), picture(kind, "L")])
            for kind in ("png", "jpeg", "bmp", "gif", "webp", "tiff")
        ),
        Reader("a.pgm", lambda path: data.read_inputs(path, column), [picture("ppm", "L")]),
        Reader("p.png", lambda path: data.read_inputs(path, column), [picture("png", mode) for mode in "1P"]),
        Reader("c.png", lambda path: data.read_inputs(path, column), [picture("png"), picture("png", "P")], png_of),
        Reader("a.wav", lambda path: read_sound(path, 8000), [wav(TONE), wav(TONE[:, None], 3), wav(TONE, 1, 11_025)]),
        Reader(
            "t.csv", read_transcripts, [b"file,text,speaker,part\na.wav,one two,ann,train\n", b"file,text\na.wav,x\n"]
        ),
        Reader("b.idx", data.read_idx, [idx(PIXELS)], gzip.compress),
        Reader("vectors", lambda path: read_word_vectors(path, ["good", "film"]), VECTORS),
        Reader("vectors.gz", lambda path: read_word_vectors(path, ["good", "film"]), VECTORS, gzip.compress),
        Reader("metrics", run_file("metrics.jsonl", Run.history), [METRICS]),
        Reader("config", run_file("config.json", config_of), [json_of(RunConfig("a", {"batch_size": 3}, (1, 2)))]),
        Reader("spec", run_file("spec.json", inputs_of), [json_of(SPEC)]),
        Reader("environment", run_file("environment.json", check_data), [b'{"data": {"train": "00"}, "cpus": 2}']),
        Reader("result", run_file("result.json", lambda run: run.result), [b'{"baselines": {}, "metrics": {"a": 1}}']),
        Reader("json", from_json, [b'{"a": [1, 2.5e3, null, "\\u00e9"], "b": {"c": true}}']),
        Reader("manifest", read_checkpoint, [json.dumps(BODY).encode()], manifest_of),
        *weights(),
    ]


def weights() -> list[Reader]:
    """Return every reader of weights; of PyTorch's, also with pickles that are broken in files that are not."""
    made_by_hand = weight_files.gguf(weight_files.BLOCKS, weight_files.METADATA, alignment=64)
    names = weight_files.SHARD[8:-24]
    return [
        Reader("w.safetensors", use_weights, [weight_files.SHARD]),
        Reader("h.safetensors", use_weights, [names], lambda head: weight_files.safetensors(head, bytes(24))),
        Reader("index.json", use_index, [weight_files.INDEX]),
        Reader("w.pth", use_weights, [weight_files.as_zip(weight_files.SMALL)]),
        Reader(
            "p.pth",
            use_weights,
            [weight_files.ROOT, weight_files.ROOT_4],
            lambda root: weight_files.torch_zip(root, weight_files.STORED),
        ),
        Reader("l.pth", use_weights, [weight_files.as_legacy(weight_files.SMALL)]),
        Reader("w.gguf", use_weights, [made_by_hand]),
        Reader("w.bin", use_weights, [weight_files.ctranslate2(weight_files.SPOKEN, {"c": "a/w"})]),
        Reader("w.npz", use_weights, [NPZ]),
    ]


def check_data(run: Run) -> Any:
    return run.check_data(data.Splits(data.Data(inputs=[1.0])))


WORDS = [b"\0", b"\xff\xff\xff\xff", b"-1", b"1e999", b"nan", b'"', b"\n", b",", b"{", b"[" * 300, b"9" * 5000, b"../"]


def broken(content: bytes, draw: random.Random) -> bytes:
    """Return a file with some bytes changed, cut out, written twice, or put in, or its end cut off."""
    text = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at = draw.randrange(len(text) + 1)
        end = min(len(text), at + draw.choice((1, 2, 4, 8, 64)))
        match draw.randrange(6):
            case 0:
                text[at:end] = draw.randbytes(end - at)
            case 1:
                del text[at:end]
            case 2:
                text[at:at] = text[at:end]
            case 3:
                text[at:at] = draw.choice(WORDS)
            case 4 if draw.random() < 0.2:
                del text[at:]
            case _ if at < len(text):
                text[at] ^= 1 << draw.randrange(8)
    return bytes(text)


class Found(NamedTuple):
    """What came of broken files: how many were read, refused, made others raise, and took too long."""

    read: int
    refused: int
    foreign: Counter[str]
    hangs: int


def fuzz(reader: Reader, number: int, seed: int = 0) -> Found:
    """Return what comes of ``number`` broken files, the same for the same seed."""
    draw = random.Random(f"{reader.name} {seed}")
    read = refused = hangs = 0
    foreign: Counter[str] = Counter()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where writing costs least
    with tempfile.TemporaryDirectory(dir=memory) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, reader.name)
        for _ in range(number):
            path.write_bytes(reader.wrap(broken(draw.choice(reader.seeds), draw)))
            start = time.process_time()
            try:
                reader.read(path)
                read += 1
            except InputError:
                refused += 1
            except Exception as error:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                foreign[f"{type(error).__name__}: {str(error)[:60]} ({Path(frame.filename).name}:{frame.lineno})"] += 1
            hangs += time.process_time() - start > HANG
    return Found(read, refused, foreign, hangs)


def main() -> int:
    """Break as many files for each reader as is asked for, and print what came of them."""
    number, names = int(sys.argv[1]), sys.argv[2:]
    failures = 0
    for reader in readers():
        if names and reader.name not in names:
            continue
        start = time.perf_counter()
        found = fuzz(reader, number, seed=int(os.environ.get("SEED", "0")))
        bad = sum(found.foreign.values())
        failures += bad + found.hangs
        seconds = time.perf_counter() - start
        counts = f"{found.read:,} read, {found.refused:,} refused, {bad} foreign, {found.hangs} hangs"
        print(f"{reader.name:12} {number:,} tried: {counts} ({seconds:.1f} s)", flush=True)
        for name, times in found.foreign.most_common(5):
            print(f"    {times} x {name}", flush=True)
    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
