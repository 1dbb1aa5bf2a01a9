"""Where images with masks come from, and how both are changed in training."""

from dataclasses import dataclass

from jaxnets.data import Splits, load, masks, named, paired
from jaxnets.errors import FINITE, InputError, check_field
from jaxnets.learner import Learner
from jaxnets.options.data import DataConfig
from jaxnets.transforms import augmented_pairs


@dataclass(frozen=True)
class MaskData(DataConfig):
    """Images with a class for each pixel."""

    data: str = "membranes"
    """membranes, or a folder or zip of images and masks of the same names (train/images/x.png, train/masks/x.png)"""
    image_size: tuple[int, int] | None = None
    """height and width to resize images and masks of one's own to; they must all have one size without it"""
    class_names: tuple[str, ...] = ()
    """names of the values in masks of one's own, in rising order; the values if absent"""
    ignore: tuple[int, ...] = ()
    """values in masks of one's own whose pixels do not count, such as 255"""
    validation: float | None = None
    """fraction of the training images, the last, held out to choose by, 0 for none; 0.125 if absent"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "validation", self.validation is None or 0 <= self.validation < 1, "in [0, 1)")
        check_field(self, "image_size", self.image_size is None or min(self.image_size, default=0) >= 1, "1 or more")
        check_field(self, "ignore", all(0 <= value <= 255 for value in self.ignore), "values from 0 to 255")
        if len(set(self.class_names)) < len(self.class_names):
            raise InputError(f"class_names={self.class_names} names a class twice; name each once")

    def load(self) -> Splits:
        """Return images [N, H, W, C], labels [N, H, W] and, with pixels that do not count, a mask [N, H, W]."""
        path = named.find("masks", self.data, self.data_dir, "a folder or zip file of images and masks")
        if path is not None:
            splits = masks.masked_images(path, self.image_size, self.class_names, self.ignore)
        else:
            for name in ("image_size", "class_names", "ignore"):
                if getattr(self, name):
                    raise InputError(f"{name}={getattr(self, name)} is for files of one's own, not for {self.data}")
            splits = load(self.data, self.data_dir)
        if splits.validation is not None:
            if self.validation:
                raise InputError(f"validation={self.validation}, but {self.data} has a validation part; leave it out")
            return splits
        if self.validation == 0:
            return splits
        train, validation = masks.last(splits.train, self.validation or 0.125, self.data)
        return Splits(train, validation, splits.test)


@dataclass(frozen=True)
class MaskAugmentation:
    """How training images and their masks are changed, each time anew."""

    crop: int = 256
    """height and width of the square that is cut out of each training image, each time another"""
    flips: bool = False
    """augmentation: mirror and turn training images and masks, in the eight ways of a square"""
    rotate: float = 0.0
    """augmentation: turn them by up to so many degrees"""
    zoom: float = 1.0
    """augmentation: stretch or shrink each side by up to this factor, 1 for not"""
    shear: float = 0.0
    """augmentation: lean them by up to this tangent"""
    elastic: float = 0.0
    """augmentation: bend them by displacements of so many pixels (standard deviation)"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "crop", 1 <= self.crop < 2**15, "1 or more, and less than 32768")
        for name in ("rotate", "shear", "elastic"):
            check_field(self, name, 0 <= getattr(self, name) < FINITE, "0 or more")
        check_field(self, "zoom", 1 <= self.zoom < FINITE, "1 or more")

    def around(self, learner: Learner) -> Learner:
        """Return the learner with these changes of its inputs and masks."""
        if MaskAugmentation(self.crop, self.flips) == self:
            taken = paired.crop(self.crop)
        else:
            bent = self.rotate, self.zoom, self.shear, self.elastic
            taken = paired.warp(self.crop, *bent)
        return augmented_pairs(learner, paired.chain(taken, *[paired.flips()] * self.flips))
