"""Folders and zip files of images: layouts, modes, sizes, and one kind of error for what is broken or unsafe."""

import io
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxnets import InputError, data
from jaxnets.data import decoding, image_splits, images, read_inputs


def picture(shade: int = 0, size=(4, 3), mode: str = "RGB") -> Image.Image:
    return Image.new("L", size[::-1], shade).convert(mode)


def write(root, *names: str, **options):
    """Write a picture for each name, its shade the number in its name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(int("".join(filter(str.isdigit, path.stem)) or 0), **options).save(path)
    return root


def zipped(folder, name="images.zip"):
    path = folder.with_name(name)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.fixture
def folder(tmp_path):
    """Set up two classes in two parts."""
    return write(
        tmp_path / "animals",
        "train/dog/1.png",
        "train/cat/2.png",
        "train/cat/3.png",
        "test/dog/4.png",
        "test/cat/5.png",
    )


def test_predicting_reads_a_file_as_training_did(tmp_path):
    """Of dim pictures too: the range is that of images, not of those that happened to be there."""
    random = np.random.default_rng(0)
    for name in ("a/1", "a/2", "b/3", "b/4", "b/5", "a/6"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(20, 100, (5, 4, 3), np.uint8)).save(path)
    train = image_splits(tmp_path).train
    assert (train.spec["inputs"].low, train.spec["inputs"].high) == (0, 255)
    read = np.concatenate([read_inputs(path, train.spec["inputs"]) for path in sorted(tmp_path.glob("*/*.png"))])
    assert all(any((row == found).all() for found in read) for row in train["inputs"])
    picture(mode="RGBA").convert("L").save(tmp_path / "grey.png")
    assert read_inputs(tmp_path / "grey.png", train.spec["inputs"]).shape == (1, 5, 4, 3)
    Image.new("RGBA", (4, 5)).save(tmp_path / "clear.png")
    with pytest.raises(InputError, match="has transparent pixels"):
        read_inputs(tmp_path / "clear.png", train.spec["inputs"])


def test_a_picture_taken_sideways_is_turned(tmp_path):
    sideways = Image.new("RGB", (6, 3))
    sideways.getexif()[0x0112] = 6  # the camera was turned
    for name in ("a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        sideways.save(tmp_path / name, exif=sideways.getexif())
    assert image_splits(tmp_path).train["inputs"].shape[1:] == (6, 3, 3)


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("training", "testing")])
def test_parts_by_other_names(folder, train, test):
    (folder / "train").rename(folder / "other")
    (folder / "other").rename(folder / train)
    (folder / "test").rename(folder / "another")
    (folder / "another").rename(folder / test)
    splits = image_splits(folder)
    assert splits.train.classes == ("cat", "dog") and splits.test.num_examples == 2


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("inner", ["", "data/animals"])
def test_parts_and_classes(folder, as_zip, inner, tmp_path):
    (folder / "train" / "dog" / "notes.txt").write_text("no image")
    (folder / "train" / "cat" / ".hidden.png").write_text("no image")
    (folder / "README.md").write_text("about")
    if inner:
        shutil.move(folder, tmp_path / "outer" / inner)
        folder = tmp_path / "outer"
    train, validation, test = image_splits(zipped(folder) if as_zip else folder)
    assert train.classes == test.classes == ("cat", "dog") and validation is None
    assert train["inputs"].shape == (3, 4, 3, 3) and train["inputs"].dtype == np.uint8
    assert train["inputs"][:, 0, 0, 0].tolist() == [2, 3, 1] and train["labels"].tolist() == [0, 0, 1]
    assert test["inputs"][:, 0, 0, 0].tolist() == [5, 4] and test["labels"].tolist() == [0, 1]


def test_validation_part_and_a_class_that_test_lacks(folder):
    write(folder, "val/cat/9.png")
    shutil.rmtree(folder / "test" / "cat")
    train, validation, test = image_splits(folder)
    assert validation["labels"].tolist() == [0] and test["labels"].tolist() == [1]
    assert train.classes == validation.classes == test.classes


@pytest.mark.parametrize("inner", ["", "train"])
def test_without_a_test_part_a_fifth_is_held_out(tmp_path, inner):
    write(tmp_path / inner, *(f"{name}/{i}.png" for name in ("ship", "truck") for i in range(10)))
    train, _, test = image_splits(tmp_path)
    assert np.bincount(train["labels"]).tolist() == [8, 8] and np.bincount(test["labels"]).tolist() == [2, 2]


def test_a_class_may_be_called_train(tmp_path):
    write(tmp_path, *(f"{name}/{i}.png" for name in ("train", "truck") for i in range(5)))
    assert image_splits(tmp_path).train.classes == ("train", "truck")


def test_classes_of_classes_are_named_by_their_path(tmp_path):
    write(tmp_path / "all", *(f"{name}/{i}.png" for name in ("Greek/a", "Greek/b", "Latin/a") for i in range(5)))
    assert image_splits(tmp_path).train.classes == ("Greek/a", "Greek/b", "Latin/a")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "CMYK"])
def test_modes(mode, tmp_path):
    suffix = "jpg" if mode == "CMYK" else "png"
    write(tmp_path, f"train/a/255.{suffix}", f"train/b/0.{suffix}", f"test/a/255.{suffix}", mode=mode)
    train = image_splits(tmp_path).train
    grey = mode in ("1", "L", "LA")
    assert train["inputs"].shape == (2, 4, 3, 1 if grey else 3)
    np.testing.assert_allclose(train["inputs"][:, 0, 0, 0], [255, 0], atol=2)


def test_grey_images_beside_colour_ones_become_rgb(folder):
    write(folder, "train/dog/7.png", mode="L")
    train = image_splits(folder).train
    assert train["inputs"].shape == (4, 4, 3, 3) and (train["inputs"][3] == 7).all()


@pytest.mark.parametrize("size", [(8, 6), (2, 2)])
def test_resized(folder, size):
    write(folder, "train/dog/200.png", size=(20, 30))
    assert image_splits(folder, size).train["inputs"].shape == (4, *size, 3)


def test_wrong_size(folder):
    write(folder, "train/dog/7.png", size=(5, 3))
    with pytest.raises(
        InputError,
        match=r"train/dog/7\.png has 5 x 3 pixels \(height x width\), train/cat/2\.png 4 x 3; use --image-size 4 3",
    ):
        image_splits(folder)


def deep_png(colour: int, channels: int) -> bytes:
    """Return a PNG of 4 x 3 pixels with 16 bits a channel, of which Pillow would keep the high bytes in silence."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes(4 * (1 + 3 * channels * 2)))
    header = struct.pack(">IIBBBBB", 3, 4, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_no_png_of_16_bits_is_cut_to_8(colour, channels, folder):
    (folder / "train" / "dog" / "7.png").write_bytes(deep_png(colour, channels))
    Image.open(folder / "train" / "dog" / "7.png").load()  # it is a whole PNG
    with pytest.raises(InputError, match=r"dog/7\.png: has more than 8 bits a channel"):
        image_splits(folder)


def test_grey_pgm_files_are_read_and_no_other_of_their_kin(folder):
    pixels = np.arange(12, dtype=np.uint8).reshape(4, 3)
    (folder / "train" / "dog" / "7.pgm").write_bytes(b"P5 3 4 255\n" + pixels.tobytes())
    read = image_splits(folder).train["inputs"]
    assert any((image[..., 0] == pixels).all() for image in read)
    for header, size in ((b"P6 3 4 255", 36), (b"P6 3 4 65535", 72), (b"P5 3 4 65535", 24), (b"Pf 3 4 -1.0", 48)):
        (folder / "train" / "dog" / "7.pgm").write_bytes(header + b"\n" + bytes(size))
        with pytest.raises(InputError, match=r"dog/7\.pgm: (of PGM and its kin|its mode, .*more than 8 bits)"):
            image_splits(folder)


def test_tiff_files_of_one_page_and_8_bits(folder):
    file = folder / "train" / "dog" / "7.tif"
    pixels = np.arange(12, dtype=np.uint8).reshape(4, 3)
    image = Image.fromarray(pixels)
    image.save(file, compression="tiff_lzw")
    assert any((image[..., 0] == pixels).all() for image in image_splits(folder).train["inputs"])
    image.save(file, save_all=True, append_images=[image])
    with pytest.raises(InputError, match=r"dog/7\.tif: holds 2 pages; save each as a file of its own"):
        image_splits(folder)
    Image.fromarray(pixels.astype(np.uint16)).save(file)
    with pytest.raises(InputError, match=r"dog/7\.tif: its mode, I;16, has more than 8 bits"):
        image_splits(folder)


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", b"BLP1" + bytes(200)])
def test_a_file_is_of_one_of_the_formats_that_are_read_whatever_its_name_says(content, folder):
    (folder / "train" / "dog" / "7.png").write_bytes(content)
    with pytest.raises(InputError, match=r"dog/7\.png: cannot be read as an image"):
        image_splits(folder)


def test_wrong_modes(folder):
    Image.fromarray(np.full((4, 3), 1000, np.uint16)).save(folder / "train" / "dog" / "7.png")
    with pytest.raises(InputError, match=r"dog/7\.png: has more than 8 bits a channel"):
        image_splits(folder)
    Image.new("RGBA", (3, 4), (1, 2, 3, 4)).save(folder / "train" / "dog" / "7.png")
    with pytest.raises(InputError, match=r"dog/7\.png: has transparent pixels \(mode RGBA\); flatten it"):
        image_splits(folder)


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("keep", [0, 20, 60])
def test_broken_image(folder, keep, as_zip):
    path = folder / "train" / "dog" / "7.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 3, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"train/dog/7\.png: cannot be read as an image"):
        image_splits(zipped(folder) if as_zip else folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no images .*put them in a folder for each class"),
        (["a/1.txt.png/none/"], "holds no images"),
        (["1.png", "2.png"], "1.png does not lie as 1.png does; use train/CLASS/IMAGE"),
        (["a/1.png", "b/c/2.png"], "b/c/2.png does not lie as a/1.png does"),
        (["train/1.png", "test/2.png"], "test/2.png is in no class folder; use test/CLASS/IMAGE"),
        (["a/1.png", "a/2.png"], "holds one class, 'a'; give each class a folder"),
        (["a/1.png", "b/2.png", "c/"], "the class folder c holds no images; fill or remove it"),
        (["train/a/1.png", "train/b/1.png", "train/c/"], "the class folder train/c holds no images"),
        (["test/a/1.png", "test/b/1.png"], r"holds \['test'\] but no 'train'"),
        (["train/a/1.png", "train/b/1.png", "more/a/1.png"], r"'more' beside \['train'\] is none of"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "test has the classes c, of which train has no image"),
    ],
)
@pytest.mark.parametrize("as_zip", [False, True])
def test_wrong_layouts(tmp_path, names, message, as_zip):
    root = tmp_path / "root"
    root.mkdir()
    write(root, *(name for name in names if not name.endswith("/")))
    for name in names:
        if name.endswith("/"):
            (root / name).mkdir(parents=True)
    with pytest.raises(InputError, match=message):
        image_splits(zipped(root) if as_zip else root)


class TestUnsafeZips:
    def archive(self, tmp_path, name="x/1.png", attributes=0, content=None):
        path = tmp_path / "a.zip"
        buffer = io.BytesIO()
        picture().save(buffer, "png")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("train/a/1.png", buffer.getvalue())
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes
            archive.writestr(info, content or buffer.getvalue(), zipfile.ZIP_DEFLATED)
        return path

    @pytest.mark.parametrize("name", ["../train/b/1.png", "/train/b/1.png", "train/../../1.png", "C:\\b\\1.png"])
    def test_names_that_lead_out(self, tmp_path, name):
        with pytest.raises(InputError, match="its name leads out of the archive"):
            image_splits(self.archive(tmp_path, name))

    def test_links(self, tmp_path):
        with pytest.raises(InputError, match=r"'train/b/1\.png': a link"):
            image_splits(self.archive(tmp_path, "train/b/1.png", 0o120777 << 16, b"/etc/passwd"))

    def test_expansion(self, tmp_path, monkeypatch):
        path = self.archive(tmp_path, "train/b/1.png", content=bytes(1 << 20))
        with pytest.raises(InputError, match=r"train/b/1\.png: cannot be read as an image"):
            image_splits(path)
        monkeypatch.setattr(images, "_MOST_BYTES_A_FILE", 1 << 19)
        with pytest.raises(InputError, match="1,048,576 bytes unpacked; at most 524,288 are read"):
            image_splits(path)
        monkeypatch.undo()
        monkeypatch.setattr(images, "_MOST_BYTES", 1 << 19)
        with pytest.raises(InputError, match=r"its images are 1,048,\d* bytes unpacked; at most 524,288"):
            image_splits(path)

    def test_a_picture_of_too_many_pixels(self, tmp_path, monkeypatch):
        write(tmp_path, "a/1.png", "b/1.png", size=(100, 100))
        monkeypatch.setattr(decoding, "_MOST_PIXELS", 9_999)
        with pytest.raises(InputError, match=r"a/1\.png: 100 x 100 pixels; at most 9,999 are read"):
            image_splits(tmp_path)
        monkeypatch.undo()
        monkeypatch.setattr(images, "_MOST_BYTES", 50_000)
        with pytest.raises(InputError, match="2 images of 100 x 100 pixels are more than the 50,000 bytes"):
            image_splits(tmp_path)

    def test_encrypted(self, tmp_path):
        path = self.archive(tmp_path, "train/b/1.png")
        content = bytearray(path.read_bytes())
        for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
            at = content.rfind(signature)
            content[at + offset] |= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"'train/b/1\.png': encrypted; decrypt it first"):
            image_splits(path)

    def test_broken_archives(self, tmp_path, folder):
        with pytest.raises(InputError, match="there is no such file"):
            image_splits(tmp_path / "none.zip")
        (tmp_path / "a.zip").write_bytes(b"no zip file")
        with pytest.raises(InputError, match="cannot be read as a zip file"):
            image_splits(tmp_path / "a.zip")
        path = zipped(folder)
        content = bytearray(path.read_bytes())
        at = content.find(b"IDAT")
        content[at : at + 20] = bytes(20)
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"\.png: cannot be read as an image: Bad CRC-32"):
            image_splits(path)


def test_found_in_the_data_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNETS_DATA", str(tmp_path))
    assert data.find_path("animals") == folder and data.find_path(str(folder)) == folder
    assert data.find_path("plants") is None


def test_size_must_be_positive(folder):
    with pytest.raises(InputError, match=r"image_size=\(0, 3\) must be a height and a width of 1 or more"):
        image_splits(folder, (0, 3))
