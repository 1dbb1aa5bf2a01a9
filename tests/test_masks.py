"""Folders and zip files of images with masks: layouts, values, sizes, and what is refused."""

import zipfile

import numpy as np
import pytest
from helpers import fails
from PIL import Image

from jaxnets import InputError, data
from jaxnets.data.masks import masked_images
from jaxnets.options import MaskData

SHAPE = (6, 8)


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    (image.convert(mode) if mode else image).save(path)


def write(root, layout="{kind}/{name}.png", names=range(1, 12), kinds=("images", "masks"), values=(0, 7, 9)):
    """Write an image of its number's shade for each name, and a mask of all values."""
    for name in names:
        save(root / layout.format(kind=kinds[0], name=name), np.full(SHAPE, int(name)))
        mask = np.resize(values, SHAPE)
        save(root / layout.format(kind=kinds[1], name=name), np.roll(mask, int(name), 1))
    return root


def shades(part):
    return part["inputs"][:, 0, 0, 0].tolist()


def test_the_last_are_held_out_in_the_order_of_numbers(tmp_path, capsys):
    splits = masked_images(write(tmp_path))
    assert splits.test is not None and shades(splits.train) == list(range(1, 10)) and shades(splits.test) == [10, 11]
    assert splits.train["inputs"].shape == (9, *SHAPE, 1) and splits.train["labels"].shape == (9, *SHAPE)
    assert splits.train.classes == ("0", "7", "9") and "mask" not in splits.train
    assert "by their share of the training masks' pixels: 0 33.3%, 7 33.3%, 9 33.3%" in capsys.readouterr().err
    np.testing.assert_array_equal(splits.train["labels"][0, 0], np.roll(np.resize([0, 1, 2], SHAPE)[0], 1))


@pytest.mark.parametrize(
    ("layout", "kinds"),
    [
        ("{part}/{kind}/{name}.png", ("image", "label")),
        ("{kind}/{part}/{name}.png", ("JPEGImages", "SegmentationClass")),
        ("around/{part}/{kind}/deeper/{name}.png", ("imgs", "Masks")),
    ],
)
def test_layouts_and_zip_files(tmp_path, layout, kinds):
    root = tmp_path / "data"
    for part, names in (("train", range(1, 5)), ("val", (5,)), ("test", (6, 7))):
        write(root, layout.replace("{part}", part), names, kinds)
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in root.rglob("*.png"):
            file.write(path, path.relative_to(root))
    for path in (root, archive):
        splits = masked_images(path)
        assert splits.validation is not None and splits.test is not None
        assert [shades(part) for part in splits.parts.values()] == [[1, 2, 3, 4], [5], [6, 7]]
    assert masked_images(root).fingerprint == masked_images(archive).fingerprint


def test_palettes_are_numbers_and_ignored_values_do_not_count(tmp_path):
    write(tmp_path, values=(0, 1, 255))
    for path in (tmp_path / "masks").iterdir():
        image = Image.open(path)
        image = Image.fromarray(np.asarray(image))
        image.putpalette([200, 10, 10, 10, 200, 10] + [0, 0, 0] * 254)
        image.save(path)
    splits = masked_images(tmp_path, classes=["ground", "road"], ignore=[255])
    labels, mask = splits.train["labels"][0], splits.train["mask"][0]
    values = np.asarray(Image.open(tmp_path / "masks" / "1.png"))
    np.testing.assert_array_equal(mask, values != 255)
    np.testing.assert_array_equal(labels[mask == 1], values[values != 255])
    assert splits.train.classes == ("ground", "road")


def test_resized_masks_take_the_nearest_pixel(tmp_path):
    write(tmp_path, values=(0, 200))
    train = masked_images(tmp_path, (3, 4)).train
    assert train["inputs"].shape == (9, 3, 4, 1)
    whole = np.asarray(Image.open(tmp_path / "masks" / "1.png"))
    np.testing.assert_array_equal(train["labels"][0], whole[1::2, 1::2] // 200)


def spoil(folder, what):  # noqa: PLR0912
    mask, image = folder / "masks" / "3.png", folder / "images" / "3.png"
    values = np.asarray(Image.open(mask))
    match what:
        case "no mask":
            mask.unlink()
        case "no image":
            image.unlink()
        case "other size":
            save(mask, values[:, :-1])
        case "all of another size":
            save(mask, values[:, :-1])
            save(image, np.zeros((6, 7)))
        case "colours":
            save(mask, values, "RGB")
        case "16 bits":
            Image.fromarray(values.astype(np.uint16) * 256).save(mask)
        case "unknown value":
            save(folder / "test" / "masks" / "12.png", values + 1)
            save(folder / "test" / "images" / "12.png", values)
        case "unknown value at the end":
            save(folder / "masks" / "11.png", values + 1)
        case "many values":
            save(mask, np.arange(48).reshape(SHAPE) * 5)
            save(folder / "masks" / "4.png", np.arange(48).reshape(SHAPE) * 5 + 1)
        case "one value":
            for path in (folder / "masks").iterdir():
                save(path, np.zeros(SHAPE))
        case "nowhere":
            save(folder / "3.png", values)
        case "broken":
            mask.write_bytes(mask.read_bytes()[:60])
        case "two of one name":
            save(folder / "masks" / "3.bmp", values)
        case "few":
            for number in range(2, 12):
                (folder / "masks" / f"{number}.png").unlink()
                (folder / "images" / f"{number}.png").unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no mask", "1 without mask of the same name: images/3.png"),
        ("no image", "1 without image of the same name: masks/3.png"),
        ("other size", r"masks/3.png has 6 x 7 pixels \(height x width\), its image 6 x 8"),
        ("all of another size", "use --image-size H W"),
        ("colours", "masks/3.png: a mask of mode RGB"),
        ("16 bits", "masks/3.png: has more than 8 bits a channel"),
        ("unknown value", "test/masks/12.png has the values 1, 8, 10, which no training mask has; those have 0, 7, 9"),
        ("unknown value at the end", "masks/11.png has the values 1, 8, 10, which no training mask has"),
        ("many values", "there must be 2 to 64"),
        ("one value", "hold 1 values"),
        ("nowhere", "3.png lies neither in images nor in masks"),
        ("broken", "masks/3.png: cannot be read as an image"),
        ("two of one name", "two of one name"),
        ("few", "1 images to train on"),
    ],
)
def test_what_is_refused(tmp_path, what, message):
    spoil(write(tmp_path), what)
    with pytest.raises(InputError, match=message):
        masked_images(tmp_path)


@pytest.mark.slow
def test_names_and_sizes_that_do_not_fit(tmp_path, capsys):
    write(tmp_path)
    with pytest.raises(InputError, match="for the 3 values 0, 7, 9; name each"):
        masked_images(tmp_path, classes=["a", "b"])
    with pytest.raises(InputError, match=r"image_size=\(0, 3\) must be"):
        masked_images(tmp_path, (0, 3))
    command = ["train", "membranes", "--data", tmp_path, "--dry-run"]
    assert "instances='cell' is no class; there are 0, 7, 9: name one, or None" in fails(capsys, *command)
    message = fails(capsys, *command, "--instances", "None")
    assert "crop=256 of images of 6 x 8 pixels" in message


def test_validation_is_the_last_of_the_training_images(tmp_path):
    write(tmp_path)
    splits = MaskData(str(tmp_path), validation=0.3).load()
    assert splits.validation is not None and shades(splits.validation) == [7, 8, 9]
    assert MaskData(str(tmp_path), validation=0).load().validation is None


@pytest.mark.slow
def test_membranes(jaxnets_data):
    splits = data.load("membranes", jaxnets_data)
    assert splits.train["inputs"].shape == (24, 512, 512, 1) and splits.test["labels"].shape == (6, 512, 512)
    assert splits.train.classes == ("membrane", "cell")
    assert (splits.test["labels"] == 1).mean() == pytest.approx(0.80, abs=0.01)
    with pytest.raises(InputError, match="is for files of one's own"):
        MaskData(ignore=(255,)).load()
