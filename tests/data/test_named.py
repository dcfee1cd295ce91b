"""The downloads themselves are torchvision's; here small archives in its formats lie where it would put them."""

import gzip
import hashlib
import io
import pickle
import socket
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encoded, picture
from PIL import Image

from sightline.data.named import SETS
from sightline.data.scan import scan
from sightline.errors import DataError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for the sets, in a cache of this test's own, on a machine without a connection."""

    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path / "sets"


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def put(path: Path, content: bytes) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return content


def pixels(seed: int, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def place_cifar(cache: Path, monkeypatch: pytest.MonkeyPatch, cls: Any, name: str, label_key: str) -> None:
    """The archive as its authors made it: pickled rows of 3072 bytes, channel by channel."""
    contents = {cls.meta["filename"]: pickle.dumps({cls.meta["key"]: ["cat", "dog"]})}
    for seed, (batch, _) in enumerate(cls.train_list + cls.test_list):
        contents[batch] = pickle.dumps({"data": pixels(seed, (2, 3072)), label_key: [1, 0]})
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for file, content in contents.items():
            entry = tarfile.TarInfo(f"{cls.base_folder}/{file}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    put(cache / name / cls.filename, archive.getvalue())
    monkeypatch.setattr(cls, "tgz_md5", md5(archive.getvalue()))
    for listing in ("train_list", "test_list"):
        monkeypatch.setattr(cls, listing, [[file, md5(contents[file])] for file, _ in getattr(cls, listing)])
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5(contents[cls.meta["filename"]])})


@pytest.mark.parametrize(("name", "label_key"), [("cifar10", "labels"), ("cifar100", "fine_labels")])
def test_cifar_becomes_a_zip_of_its_very_pixels(
    cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, label_key: str
) -> None:
    from torchvision import datasets

    cls = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    place_cifar(cache, monkeypatch, cls, name, label_key)
    table = scan(name)
    batches = len(cls.train_list)
    assert table.source.location == name
    assert [table.splits.count(split) for split in ("train", "val", "test")] == [2 * batches, 0, 2]
    assert table.classes == ("cat", "dog")
    first = pixels(0, (2, 3072))[0].reshape(3, 32, 32).transpose(1, 2, 0)
    image = Image.open(io.BytesIO(table.source.read("train/dog/00000.png")))
    np.testing.assert_array_equal(np.asarray(image), first)


def place_mnist(cache: Path, monkeypatch: pytest.MonkeyPatch, cls: Any, name: str) -> None:
    resources: list[tuple[str, str]] = []
    for file, _ in cls.resources:
        train, images = file.startswith("train"), "images" in file
        count = 4 if train else 2
        if images:
            content = struct.pack(">IIII", 2051, count, 28, 28) + pixels(count, (count, 28, 28)).tobytes()
        else:
            content = struct.pack(">II", 2049, count) + bytes(range(count))
        packed = put(cache / name / cls.__name__ / "raw" / file, gzip.compress(content))
        resources.append((file, md5(packed)))
    monkeypatch.setattr(cls, "resources", resources)


@pytest.mark.parametrize(
    ("name", "classes"),
    [("mnist", ("0", "1", "2", "3")), ("fashion-mnist", ("Dress", "Pullover", "T-shirt or top", "Trouser"))],
)
def test_mnist_becomes_a_zip_of_its_very_pixels(
    cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, classes: tuple[str, ...]
) -> None:
    from torchvision import datasets

    place_mnist(cache, monkeypatch, {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name], name)
    table = scan(name)
    assert table.classes == classes
    assert [table.splits.count(split) for split in ("train", "test")] == [4, 2]
    last = next(path for path in table.paths if path.startswith("train/") and path.endswith("00003.png"))
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(table.source.read(last)))), pixels(4, (4, 28, 28))[3]
    )


def test_flowers_keep_their_files_and_their_three_splits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    folder = cache / "flowers102" / "flowers-102"
    jpegs = {n: put(folder / "jpg" / f"image_{n:05}.jpg", encoded(picture(n), "JPEG")) for n in range(1, 7)}
    savemat(folder / "imagelabels.mat", {"labels": [1, 2, 1, 2, 1, 2]})
    savemat(folder / "setid.mat", {"trnid": [1, 2], "valid": [3, 4], "tstid": [5, 6]})
    files = {"label": "imagelabels.mat", "setid": "setid.mat"}
    sums = {key: (file, md5((folder / file).read_bytes())) for key, file in files.items()}
    monkeypatch.setattr(Flowers102, "_file_dict", {**Flowers102._file_dict, **sums})
    table = scan("flowers102")
    assert table.classes == ("hard-leaved pocket orchid", "pink primrose")
    assert [table.splits.count(split) for split in ("train", "val", "test")] == [2, 2, 2]
    assert table.source.read("val/pink primrose/image_00003.jpg") == jpegs[3]


def test_pets_keep_their_files(cache: Path) -> None:
    folder = cache / "oxford-pets" / "oxford-iiit-pet"
    lines = {"trainval": ["great_pyrenees_1 1 2 1", "Abyssinian_7 2 1 1"], "test": ["Abyssinian_8 2 1 1"]}
    for split, rows in lines.items():
        text = "\n".join([*rows, "great_pyrenees_9 1 2 1"] if split == "test" else rows)
        put(folder / "annotations" / f"{split}.txt", text.encode())
    names = ("great_pyrenees_1", "Abyssinian_7", "Abyssinian_8", "great_pyrenees_9")
    jpegs = {name: put(folder / "images" / f"{name}.jpg", encoded(picture(n), "JPEG")) for n, name in enumerate(names)}
    table = scan("oxford-pets")
    assert table.classes == ("Abyssinian", "Great Pyrenees")
    assert table.splits.count("train") == table.splits.count("test") == 2
    assert table.source.read("train/Abyssinian/Abyssinian_7.jpg") == jpegs["Abyssinian_7"]


def test_imagenette_keeps_its_files_and_its_validation_split(cache: Path) -> None:
    folder = cache / "imagenette" / "imagenette2-320"
    for split in ("train", "val"):
        for wnid in ("n01440764", "n03417042"):
            put(folder / split / wnid / f"{split}_{wnid}.JPEG", encoded(picture(1), "JPEG"))
    table = scan("imagenette")
    assert table.classes == ("garbage truck", "tench")
    assert [table.splits.count(split) for split in ("train", "val", "test")] == [2, 2, 0]


def test_eurosat_keeps_its_files_and_has_no_splits(cache: Path) -> None:
    for label in ("Forest", "River"):
        put(cache / "eurosat" / "eurosat" / "2750" / label / f"{label}_1.jpg", encoded(picture(1), "JPEG"))
    table = scan("eurosat")
    assert table.paths == ("Forest/Forest_1.jpg", "River/River_1.jpg")
    assert table.splits == (None, None)


def test_a_set_is_written_once_and_needs_its_downloads_no_more(cache: Path) -> None:
    put(cache / "eurosat" / "eurosat" / "2750" / "River" / "1.jpg", encoded(picture(1), "JPEG"))
    first = scan("eurosat")
    (cache / "eurosat" / "eurosat" / "2750" / "River" / "1.jpg").unlink()
    assert scan("eurosat").source.read("River/1.jpg") == first.source.read("River/1.jpg")


@pytest.mark.parametrize("name", SETS)
def test_without_a_connection_each_set_says_what_to_put_where(cache: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name!r} could not be had") as error:
        scan(name)
    message = str(error.value)
    assert all(url in message for url in SETS[name].urls)
    assert str(cache / name / SETS[name].folder) in message
    assert "\n" not in message
    assert not (cache / f"{name}.zip").exists()


def test_a_set_in_part_leaves_no_zip_behind(cache: Path) -> None:
    folder = cache / "oxford-pets" / "oxford-iiit-pet"
    for split in ("trainval", "test"):
        put(folder / "annotations" / f"{split}.txt", b"Abyssinian_1 1 1 1")
    (folder / "images").mkdir()
    with pytest.raises(DataError, match="remove what lies there in part"):
        scan("oxford-pets")
    assert [path.name for path in cache.iterdir()] == ["oxford-pets"]


def test_the_addresses_told_are_those_torchvision_downloads_from() -> None:
    from torchvision import datasets

    flowers = datasets.Flowers102
    expected: dict[str, list[str]] = {
        "cifar10": [datasets.CIFAR10.url],
        "cifar100": [datasets.CIFAR100.url],
        "mnist": [datasets.MNIST.mirrors[0] + file for file, _ in datasets.MNIST.resources],
        "fashion-mnist": [datasets.FashionMNIST.mirrors[0] + file for file, _ in datasets.FashionMNIST.resources],
        "flowers102": [flowers._download_url_prefix + file for file, _ in flowers._file_dict.values()],
        "oxford-pets": [url for url, _ in datasets.OxfordIIITPet._RESOURCES],
        "imagenette": [datasets.Imagenette._ARCHIVES["320px"][0]],
    }
    for name, urls in expected.items():
        assert list(SETS[name].urls) == urls
    assert set(SETS) - set(expected) == {"eurosat"}  # its address is inside a function
