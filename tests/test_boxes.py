"""Images with boxes: four formats that say the same, what is left out and told, and files that are broken."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets.data import box_splits, boxed_images, load
from jaxnets.data.box_formats import read_names
from jaxnets.errors import InputError

# Of three images of 40 x 60 pixels (height x width), and of none in the third.
TRUTH = {"a": [("cat", 10, 5, 30, 25), ("dog", 0, 0, 60, 40)], "b": [("dog", 40, 20, 55, 30)], "c": []}
CLASSES = ("cat", "dog")


def picture(path: Path, size: tuple[int, int] = (40, 60)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.stem)).integers(0, 255, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def xml(boxes) -> str:
    corners = ("xmin", "ymin", "xmax", "ymax")
    made = [
        f"<object><name>{name}</name><part><bndbox><xmin>1</xmin></bndbox></part><bndbox>"
        + "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(corners, box, strict=True))
        + "</bndbox></object>"
        for name, *box in boxes
    ]
    return f"<annotation>{''.join(made)}</annotation>"


def voc(folder: Path, truth=TRUTH) -> None:
    for stem, boxes in truth.items():
        picture(folder / "JPEGImages" / f"{stem}.jpg")
        write(folder / "Annotations" / f"{stem}.xml", xml(boxes))
    write(folder / "ImageSets" / "Main" / "train.txt", "a\nc\n")
    write(folder / "ImageSets" / "Main" / "test.txt", "b 1\n")


def coco(folder: Path) -> None:
    for split, stems in {"train": "ac", "test": "b"}.items():
        images = [{"id": ord(stem), "file_name": f"{stem}.jpg"} for stem in stems]
        found = [
            {
                "id": 1,
                "image_id": ord(stem),
                "category_id": {"cat": 3, "dog": 7}[name],
                "bbox": [x, y, right - x, bottom - y],
            }
            for stem in stems
            for name, x, y, right, bottom in TRUTH[stem]
        ]
        found += [{"id": 9, "image_id": ord(stems[0]), "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1}]
        categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
        whole = {"images": images, "annotations": found, "categories": categories}
        write(folder / "annotations" / f"instances_{split}.json", json.dumps(whole))
        for stem in stems:
            picture(folder / f"{split}2017" / f"{stem}.jpg")


def yolo(folder: Path) -> None:
    write(folder / "data.yaml", "nc: 2\nnames:\n  0: cat\n  1: 'dog'\n")
    for split, stems in {"train": "ac", "test": "b"}.items():
        for stem in stems:
            picture(folder / "images" / split / f"{stem}.jpg")
            lines = [
                f"{CLASSES.index(name)} {(x + right) / 120} {(y + bottom) / 80} {(right - x) / 60} {(bottom - y) / 40}"
                for name, x, y, right, bottom in TRUTH[stem]
            ]
            write(folder / "labels" / split / f"{stem}.txt", "\n".join(lines))


def kitti(folder: Path) -> None:
    for split, stems in {"training": "ac", "testing": "b"}.items():
        for stem in stems:
            picture(folder / split / "image_2" / f"{stem}.png")
            lines = [
                f"{name} 0.00 0 -1.5 {' '.join(map(str, box))} 1 1 1 1 1 1 0"
                for name, *box in [*TRUTH[stem], ("DontCare", 1, 1, 9, 9)]
            ]
            write(folder / split / "label_2" / f"{stem}.txt", "\n".join(lines))


FORMATS = {"voc": voc, "coco": coco, "yolo": yolo, "kitti": kitti}


def said(part, classes=CLASSES):
    """Return what the labels say, as ``TRUTH`` has it."""
    return [
        sorted((classes[int(row[4])], *np.round(row[:4], 3).tolist()) for row in rows if row[4] >= 0)
        for rows in part["labels"]
    ]


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_says_the_same(kind, packed, tmp_path, capsys):
    FORMATS[kind](tmp_path / "set")
    place = tmp_path / "set"
    if packed:
        place = tmp_path / "set.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for file in (tmp_path / "set").rglob("*.*"):
                archive.write(file, file.relative_to(tmp_path))
    splits = box_splits(place)
    assert splits.train["inputs"].shape == (2, 40, 60, 3) and splits.train["labels"].shape == (2, 2, 5)
    assert splits.train.spec["labels"].classes == CLASSES
    assert said(splits.train) == [sorted(TRUTH["a"]), []]
    assert splits.test is not None and said(splits.test) == [TRUTH["b"]]
    assert ("left out 2 annotations of crowds" in capsys.readouterr().err) == (kind == "coco")


def test_boxes_follow_their_images_when_these_are_resized(tmp_path):
    voc(tmp_path)
    splits = box_splits(tmp_path, (20, 120))
    assert splits.train["inputs"].shape == (2, 20, 120, 3)
    assert said(splits.train)[0] == [("cat", 20, 2.5, 60, 12.5), ("dog", 0, 0, 120, 20)]


def test_what_is_left_out_is_counted_and_named(tmp_path, capsys):
    odd = [("dog", 50, 5, 80, 45), ("cat", 70, 5, 90, 25), ("cat", 9, 9, 9, 20)]  # over the edge; outside; no area
    voc(tmp_path, TRUTH | {"a": [*TRUTH["a"], *odd]})
    picture(tmp_path / "JPEGImages" / "unseen.jpg")
    write(tmp_path / "Annotations" / "lost.xml", xml([]))
    splits = box_splits(tmp_path)
    assert said(splits.train)[0] == sorted([*TRUTH["a"], ("dog", 50, 5, 60, 40)])
    told = capsys.readouterr().err
    assert "cut 1 boxes that reach over the edge of their image: JPEGImages/a.jpg (dog at 50 5 80 45)" in told
    assert "2 boxes of no area inside their image: JPEGImages/a.jpg (cat at 70 5 90 25), " in told
    assert "1 images without annotations: JPEGImages/unseen.jpg" in told
    assert "1 annotations without an image: Annotations/lost.xml" in told


def test_without_parts_a_fifth_is_for_testing(tmp_path):
    for i in range(10):
        picture(tmp_path / f"{i}.jpg")
        write(tmp_path / f"{i}.txt", "0 0.5 0.5 0.2 0.2")
    splits = boxed_images(str(tmp_path))
    assert [part.num_examples for part in splits.parts.values()] == [7, 1, 2]
    assert splits.train.spec["labels"].classes == ("0",)


BROKEN = {
    "entities": ("Annotations/a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "document type"),
    "no xml": ("Annotations/a.xml", "<annotation>", "cannot be read as XML"),
    "deep": ("Annotations/a.xml", "<a>" * 200 + "</a>" * 200, "100 deep"),
    "no name": ("Annotations/a.xml", "<annotation><object/></annotation>", "object 1 has no name, xmin"),
    "no number": ("Annotations/a.xml", xml([("cat", "x", 1, 2, 3)]), "give four numbers"),
    "nan": ("Annotations/a.xml", xml([("cat", "nan", 1, 2, 3)]), "give four numbers"),
    "json": ("a.json", '{"images": [{}], "annotations": [], "categories": []}', "not in COCO's layout"),
    "deep json": ("a.json", '{"images": ' + "[" * 9999 + ', "annotations": 1, "categories": 1', "COCO's layout"),
    "another size": (
        "Annotations/a.xml",
        xml([]).replace("<annotation>", "<annotation><size><width>40</width><height>60</height></size>"),
        r"40 x 60 pixels \(height x width\), but its annotations are of 60 x 40",
    ),
    "another size in JSON": (
        "a.json",
        '{"images": [{"id": 1, "file_name": "a.jpg", "width": 61, "height": 40}], "annotations": '
        '[{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 9, 9]}], "categories": [{"id": 2, "name": "b"}]}',
        "but its annotations are of 40 x 61",
    ),
    "ids": (
        "a.json",
        '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], "annotations": [], '
        '"categories": []}',
        "images: 1 ids are of two or more, such as 1",
    ),
    "dangling": (
        "a.json",
        '{"images": [], "annotations": [{"id": 4, "image_id": 1, "category_id": 2}], "categories": []}',
        "annotation 4 is of no image",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_annotations_are_named(case, tmp_path):
    file, text, message = BROKEN[case]
    voc(tmp_path)
    write(tmp_path / file, text)
    with pytest.raises(InputError, match=message) as caught:
        box_splits(tmp_path)
    assert file in str(caught.value) or "another size" in case


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "class 2, but there are 2 names"),
        ("0 0.5 0.5 0.1", "neither YOLO's"),
        ("0 0.5 inf 0.1 1", "give four"),
    ],
)
def test_broken_lines_are_named(line, message, tmp_path):
    yolo(tmp_path)
    write(tmp_path / "labels" / "train" / "a.txt", f"\n{line}")
    with pytest.raises(InputError, match=f"a.txt, line 2: .*{message}"):
        box_splits(tmp_path)


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="holds no images"):
        box_splits(tmp_path)
    picture(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="1 images and no boxes"):
        box_splits(tmp_path)
    voc(tmp_path / "voc")
    picture(tmp_path / "voc" / "JPEGImages" / "a.png")
    with pytest.raises(InputError, match="would share annotations"):
        box_splits(tmp_path / "voc")
    kitti(tmp_path / "kitti")
    picture(tmp_path / "kitti" / "training" / "image_2" / "c.png", (41, 60))
    with pytest.raises(InputError, match="use --image-size 40 60"):
        box_splits(tmp_path / "kitti")


def test_names_in_yaml():
    lines = ('names:\n- cat\n- "dog"\nnc: 2', "nc: 2\nnames:\n  0: cat\n  1: dog\n")
    for text in ("names: [cat, 'dog']", "names: {0: cat, 1: 'dog'}", *lines):
        assert read_names({("data.yaml",): lambda text=text: text.encode()}) == ["cat", "dog"]


@pytest.mark.slow
def test_scattered_digits_are_drawn_alike_and_boxed_tightly(mnist_folder):
    splits = load("scattered-digits", mnist_folder)
    again = load("scattered-digits", mnist_folder)
    assert splits.fingerprint == again.fingerprint
    assert splits.train["inputs"].shape == (2000, 64, 64, 1)
    for image, rows in zip(splits.test["inputs"][:50, ..., 0], splits.test["labels"], strict=False):
        covered = np.zeros_like(image, bool)
        for left, top, right, bottom, number in rows.astype(int):
            covered[top:bottom, left:right] |= number >= 0
        assert (image[~covered] <= 64).all()


@pytest.mark.slow
def test_blood_cells(jaxnets_data):
    splits = boxed_images("bccd", jaxnets_data, (240, 320))
    assert [part.num_examples for part in splits.parts.values()] == [205, 87, 72]
    assert [(part["labels"][..., 4] >= 0).sum() for part in splits.parts.values()] == [2804, 1137, 945]
    both = boxed_images("bccd", jaxnets_data, (240, 320), validation=0)
    assert both.train.num_examples == 292 and both.validation is None
    with pytest.raises(InputError, match="leave --validation out"):
        boxed_images("bccd", jaxnets_data, (240, 320), validation=0.2)


def test_blood_cells_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no bccd.zip and no folder BCCD in .*put the folder BCCD of https"):
        load("bccd", tmp_path)
