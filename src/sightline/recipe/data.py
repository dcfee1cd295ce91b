"""Settings of the images."""

from dataclasses import dataclass
from typing import Literal

from sightline.errors import RecipeError
from sightline.preprocess import IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocess
from sightline.recipe.checks import at_least, share

MOST_WORKERS = 1024
"""Threads that read images."""

LARGEST_SIDE = 4096
"""Of an image, in pixels."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How images are split, checked and read."""

    image_size: int = 224
    """Side of the square the network sees, in pixels."""
    resize: int | None = None
    """Short side after resizing, in pixels; training crops within it. null: the image size divided by 0.875."""
    interpolation: Interpolation = "bilinear"
    """Filter for resizing, antialiased."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted from the red, green and blue channel, on the scale 0 to 1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Each channel is divided by it."""
    val_fraction: float = 0.15
    """Share of the training images held out to choose by, where the data has no validation split; 0 to 1."""
    test_fraction: float = 0.15
    """Share of all images held out for the final figures, where the data has no test split; 0 to 1."""
    max_train_images: int | None = None
    """Train on this many images at most, drawn evenly over the classes by the seed; null takes all."""
    label_separator: str | None = None
    """Parts the labels of an image in a CSV or Parquet list, such as ";": each image has then any number of labels, or
    none. null: one label an image."""
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    """The images of an epoch: each once; or every class equally often, in as many images, so that those of small
    classes repeat and not all of large classes come."""
    repeats: int = 1
    """How often a batch holds each of its images, augmented differently (repeated augmentation). It divides batch_size,
    which counts them all, so that an epoch takes this many times as long. Berman et al. (2019) have 3."""
    on_unreadable: Literal["error", "leave_out"] = "error"
    """What happens when images can't be read: stop with their list, or leave them out and list them."""
    cache: bool = True
    """Keep decoded images in the user's cache folder, so that only the first epoch decodes. Never changes a result."""
    num_workers: int = 2
    """Threads that read images beside the training; 0 reads between the steps. Never changes a result."""

    def __post_init__(self) -> None:
        at_least("data.image_size", self.image_size, 1, most=LARGEST_SIDE)
        at_least("data.resize", self.resize or 1, 1, most=LARGEST_SIDE)
        if self.max_train_images is not None:
            at_least("data.max_train_images", self.max_train_images, 1)
        at_least("data.repeats", self.repeats, 1, most=1000)
        at_least("data.num_workers", self.num_workers, 0, most=MOST_WORKERS)
        if self.label_separator == "":
            raise RecipeError(
                "data.label_separator must have a character; null is for one label an image. "
                "YAML wants quotes around some: --set 'data.label_separator=\"|\"'."
            )
        share("data.val_fraction", self.val_fraction)
        share("data.test_fraction", self.test_fraction)
        if self.resize is not None and self.resize < self.image_size:
            raise RecipeError(
                f"data.resize ({self.resize}) must be at least data.image_size ({self.image_size}): "
                "the crop would be larger than the image."
            )
        self.preprocess()

    def preprocess(self) -> Preprocess:
        """The Preprocess these settings describe."""
        return Preprocess(
            image_size=self.image_size,
            resize=self.resize if self.resize is not None else round(self.image_size / 0.875),
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
        )
