"""How training images are changed, each time anew."""

from dataclasses import dataclass

from jaxnets.data import augment
from jaxnets.errors import FINITE, check_field
from jaxnets.learner import Learner
from jaxnets.transforms import augmented


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
