"""Well-known sets by name: downloaded by torchvision, then kept as one zip that is read like any other.

The zip is written once, whole, beside the downloads in the cache folder. Sets of arrays become PNG files, sets of files
keep their very bytes. CIFAR's archives hold pickles; torchvision opens them only after their checksums agreed.
"""

import http.client
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from sightline.data.layout import arrange
from sightline.data.table import ImageTable
from sightline.data.zip import open_zip
from sightline.errors import DataError
from sightline.files import cache_folder, whole_file
from sightline.progress import track

Images = list[tuple[str, Callable[[], bytes]]]
"""Each image's path in the zip, and how to get its bytes."""


@dataclass(frozen=True, kw_only=True)
class NamedSet:
    """One set: what torchvision downloads, and how its images are found afterwards."""

    images: Callable[[Path], Images]
    """(folder for the downloads) -> every image. Downloads what is missing."""
    urls: tuple[str, ...]
    """What is downloaded, for users whose machine has no connection."""
    folder: str = ""
    """Below the folder for the downloads, where torchvision looks for these files."""


def named_set(name: str) -> ImageTable:
    """The table of a set in SETS, downloaded when it isn't in the cache folder yet.

    Raises DataError that says what to download by hand when there is no connection.
    """
    file = cache_folder() / "sets" / f"{name}.zip"
    if not file.exists():
        _write(file, name)
    source, listing = open_zip(file, name)
    return arrange(source, listing)


def _write(file: Path, name: str) -> None:
    downloads = file.parent / name
    named = SETS[name]
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        images = named.images(downloads)
        with whole_file(file) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
            for path, content in track(images, total=len(images), label=f"Writing {file.name}"):
                archive.writestr(zipfile.ZipInfo(path), _content(path, content))
    except (OSError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError, zipfile.BadZipFile) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DataError(
            f"{name!r} could not be had ({reason}). Where there is a connection, download {', '.join(named.urls)} and "
            f"put {'it' if len(named.urls) == 1 else 'them'} into {str(downloads / named.folder)!r}; remove what lies "
            "there in part. Or name a folder or zip of the set, with class folders in train/ and test/."
        ) from error


def _content(path: str, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except OSError as error:  # else it would be taken for a fault of the disk that is written to
        raise RuntimeError(f"{path} is missing from the download") from error


def _cifar(cls: str) -> Callable[[Path], Images]:
    def images(root: Path) -> Images:
        from torchvision import datasets

        made: Images = []
        for split in ("train", "test"):
            dataset = getattr(datasets, cls)(root, train=split == "train", download=True)
            made += _arrays(split, dataset.data, dataset.targets, dataset.classes)
        return made

    return images


def _mnist(cls: str, classes: Sequence[str]) -> Callable[[Path], Images]:
    def images(root: Path) -> Images:
        from torchvision import datasets

        made: Images = []
        for split in ("train", "test"):
            dataset = getattr(datasets, cls)(root, train=split == "train", download=True)
            made += _arrays(split, dataset.data.numpy(), dataset.targets.tolist(), classes)
        return made

    return images


def _flowers(root: Path) -> Images:
    from torchvision.datasets import Flowers102

    made: Images = []
    for split in ("train", "val", "test"):
        dataset: Any = Flowers102(root, split=split, download=True)
        made += _files(f"{split}/", dataset._image_files, dataset._labels, dataset.classes)
    return made


def _pets(root: Path) -> Images:
    from torchvision.datasets import OxfordIIITPet

    made: Images = []
    for split, name in (("train", "trainval"), ("test", "test")):
        dataset: Any = OxfordIIITPet(root, split=name, download=True)
        made += _files(f"{split}/", dataset._images, dataset._labels, dataset.classes)
    return made


def _imagenette(root: Path) -> Images:
    from torchvision.datasets import Imagenette

    made: Images = []
    for split in ("train", "val"):
        dataset: Any = Imagenette(root, split=split, size="320px", download=True)
        paths, labels = zip(*dataset._samples, strict=True)
        made += _files(f"{split}/", paths, labels, [names[0] for names in dataset.classes])
    return made


def _eurosat(root: Path) -> Images:
    from torchvision.datasets import EuroSAT

    dataset: Any = EuroSAT(root, download=True)
    paths, labels = zip(*dataset.samples, strict=True)
    return _files("", paths, labels, dataset.classes)


def _arrays(split: str, images: Any, targets: Sequence[int], classes: Sequence[str]) -> Images:
    """PNG files of a (N, H, W) or (N, H, W, 3) uint8 array."""
    return [
        (f"{split}/{classes[target]}/{number:05d}.png", lambda pixels=pixels: _png(pixels))
        for number, (pixels, target) in enumerate(zip(images, targets, strict=True))
    ]


def _files(prefix: str, files: Sequence[str | Path], targets: Sequence[int], classes: Sequence[str]) -> Images:
    return [
        (f"{prefix}{classes[target]}/{Path(file).name}", Path(file).read_bytes)
        for file, target in zip(files, targets, strict=True)
    ]


def _png(pixels: Any) -> bytes:
    content = BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


_GZ = tuple(
    f"{part}-ubyte.gz" for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
)
_GARMENTS = (
    "T-shirt or top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/"

SETS: dict[str, NamedSet] = {
    "cifar10": NamedSet(images=_cifar("CIFAR10"), urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",)),
    "cifar100": NamedSet(images=_cifar("CIFAR100"), urls=("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",)),
    "mnist": NamedSet(
        images=_mnist("MNIST", "0123456789"),
        urls=tuple(f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}" for name in _GZ),
        folder="MNIST/raw",
    ),
    "fashion-mnist": NamedSet(
        images=_mnist("FashionMNIST", _GARMENTS),
        urls=tuple(_FASHION + name for name in _GZ),
        folder="FashionMNIST/raw",
    ),
    "flowers102": NamedSet(
        images=_flowers,
        urls=tuple(f"{_OXFORD}flowers/102/{name}" for name in ("102flowers.tgz", "imagelabels.mat", "setid.mat")),
        folder="flowers-102",
    ),
    "oxford-pets": NamedSet(
        images=_pets,
        urls=tuple(f"{_OXFORD}pets/data/{name}" for name in ("images.tar.gz", "annotations.tar.gz")),
        folder="oxford-iiit-pet",
    ),
    "imagenette": NamedSet(
        images=_imagenette, urls=("https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz",)
    ),
    "eurosat": NamedSet(
        images=_eurosat,
        urls=(
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
        ),
        folder="eurosat",
    ),
}
