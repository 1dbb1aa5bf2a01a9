"""Annotations of boxes as others write them: Pascal VOC's XML, COCO's JSON, YOLO's and KITTI's lines of text."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from xml.parsers import expat

from jaxnets.data.unpacking import decoded, parse_json
from jaxnets.errors import InputError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_DEEPEST = 100  # elements within elements
_KITTI_FIELDS = 15
_YOLO_FIELDS = 5
NOT_ANNOTATED = "DontCare"  # KITTI's regions in which nobody has looked


class Box(NamedTuple):
    """A box and the name of its class; the corners are pixels, or of YOLO's shares of the image's sides."""

    name: str
    left: float
    top: float
    right: float
    bottom: float


Size = tuple[float, float]  # width and height of an image in pixels, as its annotations say


class Coco(NamedTuple):
    """What a file of COCO's says.

    Attributes:
        boxes: of each image that it names, by ``file_name``.
        classes: names of the categories, in the order of their numbers.
        crowds: annotations of crowds, which have no boxes of their own and are left out.
        sizes: of the images for which it says one.
        images: the number of each, by ``file_name``.
        categories: the number of each, by its name.
    """

    boxes: dict[str, list[Box]]
    classes: list[str]
    crowds: int
    sizes: dict[str, Size]
    images: dict[str, Any]
    categories: dict[str, Any]


def read_voc(name: str, content: bytes) -> tuple[list[Box], Size | None]:
    """Return the boxes in an XML file of Pascal VOC's layout, ``annotation/object/bndbox/xmin``, and its image's size.

    The corners are taken as edges. A document type, and so any entity of one's own, is refused; parts of objects are
    passed over.

    Args:
        name: of the file, for errors.
        content: its bytes.

    Raises:
        InputError: if it is no such file.
    """
    found: list[dict[str, str]] = []
    sides: dict[str, str] = {}
    path: list[str] = []
    parser = expat.ParserCreate()

    def refuse(*_: Any) -> None:
        raise InputError(f"{name}: has a document type (DOCTYPE), which annotations need not have; remove it")

    def start(tag: str, _: Any) -> None:
        path.append(tag)
        if len(path) > _DEEPEST:
            raise InputError(f"{name}: elements stand more than {_DEEPEST} deep in each other")
        if path == ["annotation", "object"]:
            found.append({})

    def end(_: str) -> None:
        path.pop()

    def text(characters: str) -> None:
        at = path[2:]
        if path[:2] == ["annotation", "object"] and (at == ["name"] or (at[:1] == ["bndbox"] and len(at) == 2)):
            found[-1][at[-1]] = found[-1].get(at[-1], "") + characters
        if path in (["annotation", "size", "width"], ["annotation", "size", "height"]):
            sides[path[-1]] = sides.get(path[-1], "") + characters

    parser.StartDoctypeDeclHandler, parser.CharacterDataHandler = refuse, text
    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise InputError(f"{name}: cannot be read as XML: {error}") from error
    for i, one in enumerate(found):
        if missing := [tag for tag in ("name", *_CORNERS) if not one.get(tag, "").strip()]:
            raise InputError(f"{name}: object {i + 1} has no {', '.join(missing)}")
    boxes = [_box(name, one["name"].strip(), [one[tag] for tag in _CORNERS]) for one in found]
    return boxes, _size(sides.get("width"), sides.get("height"))


def read_coco(name: str, content: bytes) -> Coco:
    """Return what a JSON file of COCO's layout says: "images", "annotations" and "categories".

    Args:
        name: of the file, for errors.
        content: its bytes.

    Raises:
        InputError: if it is no such file, an annotation is of no image or category in it, or two have one number.
    """
    try:
        whole = parse_json(decoded(content, name))
        for key in ("categories", "images"):
            numbers = [one["id"] for one in whole[key]]
            if twice := [number for number, times in Counter(numbers).items() if times > 1]:
                raise InputError(
                    f"{name}: {key}: {len(twice)} ids are of two or more, such as {twice[0]!r}; give each its own"
                )
        categories = {one["id"]: str(one["name"]) for one in sorted(whole["categories"], key=lambda one: one["id"])}
        images = {one["id"]: str(one["file_name"]) for one in whole["images"]}
        stated = {str(one["file_name"]): _size(one.get("width"), one.get("height")) for one in whole["images"]}
        boxes: dict[str, list[Box]] = {file: [] for file in images.values()}
        crowds = 0
        for one in whole["annotations"]:
            if one.get("iscrowd"):
                crowds += 1
                continue
            if one["image_id"] not in images or one["category_id"] not in categories:
                raise InputError(f"{name}: annotation {one.get('id')} is of no image, or no category, in the file")
            left, top, width, height = map(float, one["bbox"])
            corners = (left, top, left + width, top + height)
            boxes[images[one["image_id"]]].append(_box(name, categories[one["category_id"]], corners))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        wanted = "images, annotations (image_id, category_id, bbox) and categories"
        raise InputError(f"{name}: is not in COCO's layout ({wanted}): {error!r}") from error
    return Coco(
        boxes,
        list(dict.fromkeys(categories.values())),
        crowds,
        {file: size for file, size in stated.items() if size is not None},
        {file: number for number, file in images.items()},
        {category: number for number, category in categories.items()},
    )


def is_coco(content: bytes) -> bool:
    """Return whether a JSON file looks like COCO's annotations."""
    return all(re.search(rb'"%s"\s*:' % word, content) for word in (b"images", b"annotations", b"categories"))


def read_lines(name: str, content: bytes, names: Sequence[str]) -> tuple[list[Box], str | None]:
    """Return the boxes in a text file, and whether they are "yolo" or "kitti"; None where there are none.

    YOLO's lines are ``CLASS x y width height``, of the centre, in shares of the image's sides; KITTI's have 15 fields,
    the class, then ... the corners in pixels as the fifth to the eighth. KITTI's regions without annotations are left
    out.

    Args:
        name: of the file, for errors.
        content: its bytes.
        names: of YOLO's classes, by number; numbers are their own names where there are none.

    Raises:
        InputError: if a line is of neither kind.
    """
    try:
        lines = decoded(content, name).splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: cannot be read as UTF-8 text: {error}") from error
    found, kinds = [], set()
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        where = f"{name}, line {number}"
        if len(fields) >= _KITTI_FIELDS and not fields[0][0].isdigit():
            kinds.add("kitti")
            found += [] if fields[0] == NOT_ANNOTATED else [_box(where, fields[0], fields[4:8])]
        elif len(fields) == _YOLO_FIELDS and fields[0].isdecimal():
            kinds.add("yolo")
            at = int(fields[0])
            if names and at >= len(names):
                raise InputError(f"{where}: class {at}, but there are {len(names)} names, 0..{len(names) - 1}")
            _, x, y, width, height = _box(where, "", fields[1:])
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            found.append(Box(names[at] if names else str(at), *corners))
        else:
            raise InputError(
                f"{where}: {line[:60]!r} is neither YOLO's, CLASS x y width height, nor KITTI's, of {_KITTI_FIELDS} "
                "fields"
            )
    if len(kinds) > 1:
        raise InputError(f"{name}: has lines of YOLO's and of KITTI's layout; use one")
    return found, next(iter(kinds), None)


def read_names(files: Mapping[tuple[str, ...], Any]) -> list[str]:
    """Return the names of YOLO's classes, in a data.yaml (``names:``) or a list, one a line; none if there is no file.

    Args:
        files: how each file that is no image is read, by its path.
    """
    for parts in sorted(files):
        last = PurePosixPath(parts[-1])
        if is_names(parts):
            return [line.strip() for line in decoded(files[parts](), "/".join(parts)).splitlines() if line.strip()]
        if last.suffix in (".yaml", ".yml") and (names := _yaml_names(decoded(files[parts](), "/".join(parts)))):
            return names
    return []


def is_names(parts: tuple[str, ...]) -> bool:
    """Return whether a file is one of YOLO's lists of names, by its own name."""
    return parts[-1] in ("classes.txt", "obj.names", "_darknet.labels")


def _yaml_names(text: str) -> list[str]:
    """Return the list after ``names:``: ``[a, b]``, ``{0: a}``, or lines ``- a`` or ``0: a``; the rest is not read."""
    match = re.search(
        r"^names:[ \t]*(\[.*?\]|\{.*?\})?[ \t]*$((?:\n[ \t]*(?:-|\d+:)[ \t]*.*$)*)", text, re.MULTILINE | re.DOTALL
    )
    if match is None:
        return []
    inline, lines = match.groups()
    if inline:
        items = [re.sub(r"^\s*\d+:", "", item) for item in inline[1:-1].split(",")]
    else:
        items = re.findall(r"^[ \t]*(?:-|\d+:)[ \t]*(.*)$", lines, re.MULTILINE)
    return [item.strip().strip("'\"") for item in items if item.strip()]


def _size(width: Any, height: Any) -> Size | None:
    """Return the size that annotations state; None where they state none, or 0, as some tools do."""
    try:
        size = float(width), float(height)
    except (TypeError, ValueError):
        return None
    return size if min(size) > 0 else None


def _box(name: str, of: str, numbers: Sequence[Any]) -> Box:
    try:
        corners = [float(number) for number in numbers]
    except (TypeError, ValueError):
        corners = []
    if len(corners) != 4 or any(not abs(corner) < 1e9 for corner in corners):
        raise InputError(f"{name}: a box of {', '.join(map(str, numbers))[:80]}; give four numbers")
    return Box(of, *corners)
