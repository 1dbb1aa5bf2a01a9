"""One image file, decoded: the same way for training and for predicting."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxnets.data.unpacking import BROKEN
from jaxnets.errors import InputError

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".tif", ".tiff"}
_FORMATS = ["PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF"]  # no other, whatever a name says: no EPS, no PDF
_PNG, _PNG_DEPTH = b"\x89PNG\r\n\x1a\n", 24
_BITS_PER_SAMPLE = 258  # TIFF's tag
_MOST_PIXELS = 50_000_000  # what no honest image exceeds; a file can claim anything


def decode_image(
    name: str, read: Callable[[], bytes], size: tuple[int, int] | None = None, channels: int | None = None
) -> np.ndarray:
    """Return an image, [H, W, 1 or 3] uint8.

    Palettes and CMYK become RGB; an opaque alpha channel is dropped; of an animation the first frame
    is taken, but a TIFF must have one page; a camera's note that it was held sideways (EXIF) is followed.

    Args:
        name: of the file, for errors.
        read: returns its bytes.
        size: (H, W) to resize to, whatever the proportions.
        channels: 1 for grey, 3 for RGB; as the file has it if absent.

    Raises:
        InputError: if it is missing, broken, transparent, of more than 8 bits a channel, or too large.
    """
    from PIL import Image, ImageOps  # noqa: PLC0415  (slow to import)

    with _opened(name, read) as image:
        mode = image.mode
        if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise InputError(f"{name}: has transparent pixels (mode {mode}); flatten it onto a background")
        grey = mode in ("1", "L", "LA") if channels is None else channels == 1
        pixels = ImageOps.exif_transpose(image).convert("L" if grey else "RGB")
        if size is not None and pixels.size != (size[1], size[0]):
            pixels = pixels.resize((size[1], size[0]), Image.Resampling.BOX)
        return np.asarray(pixels).reshape(pixels.height, pixels.width, 1 if grey else 3)


def decode_mask(name: str, read: Callable[[], bytes]) -> np.ndarray:
    """Return a mask, [H, W] uint8: the grey value of each pixel or, where it has a palette, its number there.

    Args:
        name: of the file, for errors.
        read: returns its bytes.

    Raises:
        InputError: if it is missing, broken, in colours, of more than 8 bits a pixel, or too large.
    """
    with _opened(name, read) as image:
        if image.mode not in ("1", "L", "P"):
            raise InputError(
                f"{name}: a mask of mode {image.mode}; give the number of each pixel's class in grey (mode L) or by a "
                "palette (mode P)"
            )
        return np.asarray(image).astype(np.uint8)


@contextmanager
def _opened(name: str, read: Callable[[], bytes]) -> Iterator[Any]:
    """Open an image of 8 bits a channel; whatever Pillow raises there, or as it is read, becomes an ``InputError``."""
    from PIL import Image  # noqa: PLC0415  (slow to import)

    try:
        content = read()
        if content.startswith(_PNG) and content[_PNG_DEPTH : _PNG_DEPTH + 1] == b"\x10":  # Pillow keeps the high bytes
            raise InputError(f"{name}: has more than 8 bits a channel; convert it to 8")
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise InputError(f"{name}: {image.width} x {image.height} pixels; at most {_MOST_PIXELS:,} are read")
            mode = image.mode
            if mode.startswith(("I", "F")):
                raise InputError(f"{name}: its mode, {mode}, has more than 8 bits a channel; convert it to grey or RGB")
            if image.format == "PPM" and mode != "L":  # of 16 bits a channel Pillow keeps the high ones
                raise InputError(f"{name}: of PGM and its kin grey images of 8 bits are read; convert it to PNG")
            if image.format == "TIFF":
                _check_tiff(name, image)
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file") from None
    except (*BROKEN, AssertionError, Image.DecompressionBombError) as error:
        raise InputError(f"{name}: cannot be read as an image: {error}") from error


def _check_tiff(name: str, image: Any) -> None:
    """Check that a TIFF has one page, of 8 bits a channel at most: Pillow would take the first, and the high bits."""
    if (pages := getattr(image, "n_frames", 1)) > 1:
        raise InputError(f"{name}: holds {pages} pages; save each as a file of its own")
    if max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) > 8:
        raise InputError(f"{name}: has more than 8 bits a channel; convert it to 8")


def resized(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return a decoded image, [H, W, 1 or 3] uint8, in another size (H, W), whatever its proportions."""
    from PIL import Image  # noqa: PLC0415  (slow to import)

    if image.shape[:2] == tuple(size):
        return image
    pixels = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(pixels.resize((size[1], size[0]), Image.Resampling.BOX)).reshape(*size, image.shape[-1])
