"""How an image becomes a view of it: another picture of the same thing."""

from dataclasses import dataclass

from jaxnets.data import augment
from jaxnets.data.warps import warp
from jaxnets.errors import FINITE, check_field


@dataclass(frozen=True)
class ViewsConfig:
    """How views of images are made, each time anew."""

    shift: float = 0.0
    """views: move each by up to so many pixels"""
    rotate: float = 0.0
    """views: turn each by up to so many degrees"""
    stretch: float = 0.0
    """views: make each side longer or shorter by up to this share"""
    shear: float = 0.0
    """views: slant each by up to so many pixels a pixel"""
    bend: float = 0.0
    """views: bend each by displacements of this standard deviation in pixels"""
    flip: bool = False
    """views: mirror one in two"""
    cutout: int = 0
    """views: blank a square of so many pixels in each"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("shift", "rotate", "stretch", "shear", "bend", "cutout"):
            check_field(self, name, 0 <= getattr(self, name) < FINITE, "0 or more")

    @property
    def augment(self) -> augment.Augment:
        """The augmentation that makes a view."""
        changes = [augment.flip()] * self.flip
        warps = self.rotate, self.stretch, self.shear, self.bend
        if any(warps) or self.shift % 1:
            changes += [warp(self.rotate, self.stretch, self.shear, self.shift, self.bend)]
        elif self.shift:
            changes += [augment.shift(int(self.shift))]  # whole pixels are read as they are
        changes += [augment.cutout(self.cutout)] if self.cutout else []
        return augment.chain(*changes)
