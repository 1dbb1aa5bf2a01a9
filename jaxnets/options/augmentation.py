"""How training images are changed, each time anew."""

from dataclasses import dataclass

from jaxnets.data import augment, augment_boxes
from jaxnets.errors import FINITE, check_field
from jaxnets.learner import Learner
from jaxnets.transforms import augmented, augmented_batches


@dataclass(frozen=True)
class ImageAugmentation:
    """Augmentation of images."""

    shift: int = 0
    """augmentation: move each training image by up to so many pixels"""
    rotate: float = 0.0
    """augmentation: turn each training image by up to so many degrees"""
    flip: bool = False
    """augmentation: mirror training images, one in two"""
    cutout: int = 0
    """augmentation: blank a square of so many pixels in each training image"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("shift", "rotate", "cutout"):
            check_field(self, name, 0 <= getattr(self, name) < FINITE, "0 or more")

    def around(self, learner: Learner) -> Learner:
        """Return the learner with these changes of its inputs, one after another, if there are any."""
        sized = {augment.shift: self.shift, augment.rotate: self.rotate, augment.cutout: self.cutout}
        changes = [make(size) for make, size in sized.items() if size] + [augment.flip()] * self.flip
        return augmented(learner, augment.chain(*changes)) if changes else learner


@dataclass(frozen=True)
class BoxAugmentation:
    """Augmentation of images with their boxes."""

    flip: bool = False
    """augmentation: mirror training images left to right, one in two"""
    flip_vertical: bool = False
    """augmentation: mirror training images top to bottom, one in two"""
    zoom: float = 1.0
    """augmentation: scale each training image by up to this factor, larger or smaller, and move it"""
    mosaic: float = 0.0
    """augmentation: put this share of the training images together from the quarters of four"""
    colour: float = 0.0
    """augmentation: change each channel's contrast and brightness by up to this share"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "zoom", 1 <= self.zoom < 10, "a factor of 1 or more, and less than 10")
        check_field(self, "mosaic", 0 <= self.mosaic <= 1, "a share in [0, 1]")
        check_field(self, "colour", 0 <= self.colour < 1, "a share in [0, 1)")

    def around(self, learner: Learner) -> Learner:
        """Return the learner with these changes of its batches, one after another, if there are any."""
        changes = [augment_boxes.mosaic(self.mosaic)] * (self.mosaic > 0)
        changes += [augment_boxes.zoom(self.zoom)] * (self.zoom > 1)
        changes += [augment_boxes.flip()] * self.flip + [augment_boxes.flip(vertical=True)] * self.flip_vertical
        changes += [augment_boxes.colour(self.colour)] * (self.colour > 0)
        return augmented_batches(learner, augment_boxes.chain(*changes)) if changes else learner
