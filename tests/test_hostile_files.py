"""Files from strangers: bombs, lies, disguises and damage. Each is read right, or is one error that names the file."""

import gzip
import pickle
import stat
import struct
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import fuzzing
import numpy as np
import pytest
from fuzzing import CSV, NPY, PIXELS, ZIPPED, idx, made, picture, zip_of
from PIL import Image

from jaxnets import InputError, data
from jaxnets.data import music, tokens
from jaxnets.data.unpacking import check_unpacked
from jaxnets.runs.folder import Run
from jaxnets.runs.json_files import from_json
from jaxnets.tasks.task import FileOptions, reading_files

COLUMN = data.Data(inputs=PIXELS[None]).spec["inputs"]
HUGE = struct.pack(">BBBB4I", 0, 0, 8, 4, *[2**32 - 1] * 4)
DEEP = b"[" * 100_000 + b"]" * 100_000


def npy(header: str, body: bytes = b"", version: int = 1) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text + body


def header(shape: str, descr: str = "'|u1'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def member(
    name: str, *, link: bool = False, packing: int = zipfile.ZIP_DEFLATED, content: bytes = ZIPPED["test/a/3.png"]
):
    def write(file):
        with zipfile.ZipFile(file, "w") as archive:
            for known, whole in ZIPPED.items():
                archive.writestr(known, whole)
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16 if link else 0
            archive.writestr(info, content, packing)

    return made(write)


def large(size: int, mode: str = "1") -> bytes:
    return made(lambda file: Image.new(mode, (size, size)).save(file, "png"))


def read_inputs(path: Path):
    return data.read_inputs(path, COLUMN)


SERIES = data.read_series
HOSTILE = [
    # name, content, reader, what the error says
    ("a.idx", gzip.compress(idx(np.zeros((70, 1 << 20), np.uint8)), 9), data.read_idx, "73,400,332 or more unpacked"),
    ("a.idx", gzip.compress(idx(np.zeros((70, 1 << 20), np.uint8)))[:-4] + bytes(4), data.read_idx, "or more unpacked"),
    ("a.idx", HUGE, data.read_idx, "its header promises 340282366604025813"),
    ("a.idx", HUGE[:9], data.read_idx, "cut short inside its header"),
    ("a.idx", b"", data.read_idx, "its first bytes are missing"),
    ("a.txt", gzip.compress(bytes(70 << 20), 9), data.read_text, "at most 67,108,864 are read: unpack it yourself"),
    ("a.txt", "text".encode("utf-16"), data.read_text, "it is UTF-16; save it as UTF-8"),
    ("a.txt", b"caf\xe9", data.read_text, "cannot be read as UTF-8 text"),
    ("a.npz", zip_of({"x.npy": npy(header("(73400320,)"), bytes(70 << 20))}), data.read_npz, "at most 67,108,864"),
    (
        "a.npz",
        zip_of({"x.npy": npy(header("(1000000000000000,)"))}),
        data.read_npz,
        "promises 1,000,000,000,000,000 bytes",
    ),
    ("a.npz", zip_of({"x.npy": npy(header("(-1,)"))}), data.read_npz, r"a shape of \(-1,\)"),
    (
        "a.npz",
        zip_of({"x.npy": npy(header("(1,)", "'|O'"), pickle.dumps(print))}),
        data.read_npz,
        "Object arrays .pickles.",
    ),
    ("a.npz", zip_of({"x.npy": npy(header("(9,)", "'S0'"))}), data.read_npz, "Arrays of .* are not read"),
    (
        "a.npz",
        zip_of({"x.npy": npy("__import__('os').system('true')")}),
        data.read_npz,
        "cannot be read as an npz file",
    ),
    ("a.npz", zip_of({"x.npy": npy("(" * 5000)}), data.read_npz, "cannot be read as an npz file"),
    ("a.npz", zip_of({"x.npy": npy(header("(1,)"), b"x", 3)}), data.read_npz, r"version \(3, 0\) of the format"),
    ("a.npz", zip_of({"x.npy": NPY}, zipfile.ZIP_LZMA), data.read_npz, "'x' is packed or encrypted as no npz file is"),
    ("a.npz", zip_of({"x.txt": NPY}), data.read_npz, "'x.txt' is no array"),
    ("a.npz", NPY, data.read_npz, "not an npz file"),
    ("a.npy", npy("'" * 9), read_inputs, "cannot be read as an npy file"),
    ("a.npy", pickle.dumps(PIXELS), read_inputs, "cannot be read as an npy file"),
    ("a.npy", NPY + NPY, read_inputs, "its header promises 48 bytes"),
    ("a.csv", CSV.decode().encode("utf-16"), data.read_csv, "it is UTF-16"),
    ("a.csv", b"x,y\n1,2\n\n3\n", data.read_csv, "row 4 has 1 fields, the header has 2"),
    ("a.csv", b'x,y\n1,"2\n', data.read_csv, "cannot be read as a CSV file"),
    ("a.csv", b"x,y\n" + b"9" * 200_000 + b",2\n", data.read_csv, "field larger than field limit"),
    ("a.csv", b"x,y\n1,2\n=cmd(),3\n", data.read_csv, "column 'x', row 3: '=cmd..' is not a number"),
    ("a.csv", gzip.compress(b"x,y\n" + b"1,2\n" * (18 << 20)), data.read_csv, "at most 67,108,864 are read"),
    ("a.csv", b"\0".join(b"x,y\n1,2\n"[i : i + 1] for i in range(8)), data.read_csv, "holds zero bytes"),
    ("a.csv", b"t,a\n2020-13-01,1\n", SERIES, "row 2: '2020-13-01' is no time"),
    ("a.csv", b"t,a\n9e999,1\n1e400,2\n", SERIES, "row 2: '9e999' is no time"),
    (
        "a.tsv",
        b"text\tstars\n" + b"a\t1\nb\t2\n" * 3,
        tokens.labelled_sentences,
        "first line's label, 'stars', is no other",
    ),
    ("a.json", DEEP, music.read_pieces, "more than 100 deep"),
    ("a.json", b'{"train": [[[' + b"9" * 5000 + b"]]]}", music.read_pieces, "is no JSON of"),
    ("a.json", DEEP, from_json, "more than 100 deep"),
    ("a.json", b"\xff\xfe", from_json, "cannot be read as JSON"),
    ("a.zip", member("../b.png"), data.image_splits, "its name leads out"),
    ("a.zip", member("..\\..\\b.png"), data.image_splits, "its name leads out"),
    ("a.zip", member("\\b.png"), data.image_splits, "its name leads out"),
    ("a.zip", member("train/b/1.png", link=True), data.image_splits, "'train/b/1.png': a link"),
    ("a.zip", member("train\\a\\1.png"), data.image_splits, "it is there twice"),
    ("a.zip", member("train/b/1.png", packing=zipfile.ZIP_BZIP2), data.image_splits, "packed in another way"),
    ("a.zip", member("train/b/1.png", content=bytes(65 << 20)), data.image_splits, "68,157,440 bytes unpacked"),
    (
        "a.zip",
        member("train/b/1.png", content=b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        data.image_splits,
        "train/b/1.png: cannot be read",
    ),
    ("a.zip", zip_of(ZIPPED)[:200], data.image_splits, "cannot be read as a zip file"),
    (
        "a.zip",
        zip_of({f"{i % 2}/{i}.png": large(7000) for i in range(3)}),
        data.image_splits,
        "3 images of 7000 x 7000 pixels",
    ),
    ("a.png", large(7100), read_inputs, "at most 50,000,000 are read"),
    ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", read_inputs, "cannot be read as an image"),
    ("a.png", b"<svg onload='x()'/>", read_inputs, "cannot be read as an image"),
    ("a.png", picture("png")[:45], read_inputs, "cannot be read as an image"),
    ("a.png", b"", read_inputs, "cannot be read as an image"),
    ("metrics.jsonl", b"[1]\n", fuzzing.run_file("metrics.jsonl", Run.history), "line 1 is no row of metrics"),
    ("metrics.jsonl", b'{"step": 1, "a": "x"}\n', fuzzing.run_file("metrics.jsonl", Run.history), "line 1 is no row"),
    ("metrics.jsonl", DEEP + b"\n", fuzzing.run_file("metrics.jsonl", Run.history), "line 1 is no JSON: .* 100 deep"),
    (
        "environment.json",
        b"[]",
        fuzzing.run_file("environment.json", fuzzing.check_data),
        "does not say what the data were",
    ),
]


@pytest.mark.parametrize(
    ("name", "content", "read", "message"), HOSTILE, ids=[f"{i}-{row[0]}" for i, row in enumerate(HOSTILE)]
)
def test_a_hostile_file_is_one_error_that_names_it(name, content, read, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(("before", "after"), [(b"uint8", b"ui8"), (b"uint8", b"O"), (b"4,", b"0,"), (b"4,", b"-4,")])
def test_a_spec_of_arrays_that_cannot_be_is_refused(before, after, tmp_path):
    (tmp_path / "spec.json").write_bytes(fuzzing.json_of(fuzzing.SPEC).replace(before, after))
    with pytest.raises(InputError, match="there are no such arrays"):
        _ = Run(tmp_path).spec


def test_a_result_that_is_none_is_as_if_it_was_not_there(tmp_path):
    (tmp_path / "result.json").write_text("1")
    assert Run(tmp_path).result is None


def test_an_npz_with_a_name_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", NPY)
        archive.writestr("x.npy", NPY)
    with pytest.raises(InputError, match="'x' is there twice"):
        data.read_npz(tmp_path / "a.npz")


def test_a_zip_as_windows_writes_it_is_read(tmp_path):
    whole = zip_of({name.replace("/", "\\"): content for name, content in ZIPPED.items()})
    (tmp_path / "a.zip").write_bytes(whole)
    assert data.image_splits(tmp_path / "a.zip").train.classes == ("a", "b")


def test_broken_images_are_named_at_once_and_other_files_are_told(tmp_path, capsys):
    for name, content in {**ZIPPED, "train/a/4.png": b"x", "train/b/5.png": b"", "train/b/6.svg": b"x"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(
        InputError, match=r"2 images to mend or remove:\n  train/a/4\.png: cannot .*\n  train/b/5\.png: can"
    ):
        data.image_splits(tmp_path)
    assert "left out files that are no images by their names: 1 .svg" in capsys.readouterr().err
    (tmp_path / "train/a/1.png").write_bytes(b"")  # the first of all
    with pytest.raises(InputError, match=r"3 images to mend or remove:\n  train/a/1\.png"):
        data.image_splits(tmp_path)


def test_a_folder_stands_for_its_images(tmp_path):
    read = reading_files(data.Data(inputs=PIXELS[None]).spec)
    for name in ("b.png", "in/a.png", "in/.hidden.png", "in/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture("png"))
    examples = read([str(tmp_path)], FileOptions())
    assert [Path(name["file"]).name for name in examples.names] == ["b.png", "a.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="a folder that holds no images"):
        read([str(tmp_path / "empty")], FileOptions())


@pytest.mark.parametrize("shape", [(6, 3, 8, 9), (6, 1, 28, 28)])
def test_channels_that_come_first_are_doubted(shape, tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.ones(shape, np.uint8), labels=np.arange(6) % 2)
    with pytest.raises(InputError, match=r"look as if their channels came first; give \[N, H, W, C\]"):
        data.labelled_images(str(tmp_path / "a.npz"), validation=0)


def test_words_of_scripts_with_combining_marks_stay_whole():
    assert tokens.split_words("हिन्दी में, cafe\u0301 isn't Tiếng Việt!") == [
        "हिन्दी", "में", ",", "café", "is", "n't", "tiếng", "việt", "!",
    ]  # fmt: skip
    assert tokens.split_words("मैं क्\u200dष") == ["मैं", "क्\u200dष"]


def test_a_heading_is_one_by_the_usual_names(tmp_path):
    (tmp_path / "a.tsv").write_text("text\tSentiment\nfine\tgood\npoor\tbad\n")
    assert tokens.labelled_sentences(tmp_path / "a.tsv") == (["fine", "poor"], ["good", "bad"])
    (tmp_path / "a.tsv").write_text("by itself\tclass\nfine\tclass\npoor\tbad\n")
    assert len(tokens.labelled_sentences(tmp_path / "a.tsv").texts) == 3


def test_what_is_large_may_be_packed_as_well_as_files_are():
    check_unpacked(Path("a"), 1000, 64 << 20)
    check_unpacked(Path("a"), 10 << 20, 1000 << 20)
    with pytest.raises(InputError, match="1,000 bytes that become 67,108,865 or more unpacked"):
        check_unpacked(Path("a"), 1000, (64 << 20) + 1)


@pytest.mark.parametrize("reader", fuzzing.readers(), ids=lambda reader: reader.name)
def test_broken_files_are_read_or_refused_and_nothing_else(reader):
    found = fuzzing.fuzz(reader, 200, seed=1)
    assert (found.foreign, found.hangs) == ({}, 0)


@pytest.mark.slow
@pytest.mark.parametrize("reader", fuzzing.readers(), ids=lambda reader: reader.name)
def test_many_broken_files_are_read_or_refused_and_nothing_else(reader):
    found = fuzzing.fuzz(reader, 1500, seed=2)
    assert (found.foreign, found.hangs) == ({}, 0)


MEMORY = """
import re, sys
from pathlib import Path
import numpy as np
from jaxnets import data

def peak():  # of this process alone: what getrusage says begins with what its parent had
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

reader, small, path = getattr(data, sys.argv[1]), *map(Path, sys.argv[2:])
reader(small)  # what importing takes
before = peak()
reader(path)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["idx", "npy", "npz", "text"])
def test_reading_takes_at_most_twice_the_file_and_64_mb(kind, tmp_path):
    def write(path, size):
        array = np.random.default_rng(0).integers(65, 90, size, np.uint8)
        content = {
            "idx": lambda: idx(array),
            "npy": lambda: made(partial(np.save, arr=array)),
            "npz": lambda: made(partial(np.savez, x=array)),
            "text": array.tobytes,
        }[kind]()
        path.write_bytes(content)

    write(tmp_path / "small", 1000)
    write(tmp_path / "large", size := 200 << 20)
    command = [sys.executable, "-c", MEMORY, f"read_{kind}", tmp_path / "small", tmp_path / "large"]
    taken = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert taken <= 2 * size + (64 << 20)
