"""Tar shards in WebDataset's form: samples of several files, classes by name or number, splits by name."""

import io
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from making import make_photos
from PIL import Image

from sightline import train
from sightline.data.prepare import check
from sightline.data.scan import scan
from sightline.errors import DataError
from sightline.recipe import DataConfig, ModelConfig, Recipe


def picture(brightness: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), brightness, dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def shard(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_labels_stand_beside_their_images_as_text_or_json(tmp_path: Path) -> None:
    shard(
        tmp_path / "a-0000.tar",
        {"1.png": picture(1), "1.cls": b"cat\n", "2.png": picture(2), "2.json": b'{"label": "dog"}'},
    )
    shard(tmp_path / "a-0001.tar", {"x/3.seg.png": picture(3), "x/3.json": b'{"cls": 7}'})
    table = scan(tmp_path)
    assert table.paths == ("a-0000.tar/1.png", "a-0000.tar/2.png", "a-0001.tar/x/3.seg.png")
    assert table.labels == ("cat", "dog", "7")
    assert table.splits == (None, None, None)
    assert [table.source.read(path) for path in table.paths] == [picture(1), picture(2), picture(3)]


def test_numbers_are_names_where_classes_txt_says_so(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    shard(tmp_path / "a.tar", {"1.png": picture(1), "1.cls": b"1", "2.png": picture(2), "2.cls": b"0"})
    assert scan(tmp_path).labels == ("dog", "cat")
    assert scan(tmp_path).ignored == ()


@pytest.mark.parametrize(
    "names",
    [
        ("train-000.tar", "val-000.tar"),
        ("train/000.tar", "valid/000.tar"),
        ("imagenet1k-train-0000.tar", "imagenet1k-validation-00.tar"),
        ("data/train/0000.tar", "data/val/0000.tar"),
        ("photos_Train/a.tar", "photos_Val/photos_val_2.tar"),
    ],
)
def test_a_shard_s_name_or_folder_is_its_split(tmp_path: Path, names: tuple[str, str]) -> None:
    for number, name in enumerate(names):
        shard(tmp_path / name, {"1.png": picture(number), "1.cls": b"cat"})
    assert scan(tmp_path).splits == ("train", "val")


@pytest.mark.parametrize("name", ["train/val-0.tar", "cars-train-test-0.tar"])
def test_a_shard_that_names_two_splits_is_refused(tmp_path: Path, name: str) -> None:
    shard(tmp_path / name, {"1.png": picture(1), "1.cls": b"cat"})
    with pytest.raises(DataError, match=f"shard '{name}' of .* names several splits: '[a-z]+', '[a-z]+'"):
        scan(tmp_path)


def test_a_split_s_name_within_a_word_is_no_split(tmp_path: Path) -> None:
    for name in ("trains-0.tar", "contest-0.tar", "valley-0.tar", "prêtest-0.tar"):
        shard(tmp_path / name, {"1.png": picture(1), "1.cls": b"cat"})
    assert scan(tmp_path).splits == (None, None, None, None)


@pytest.mark.parametrize("name", ["photos-0.TAR", "all.tar/photos-0.tar", "all.TAR/in.tar/photos-0.tar"])
def test_a_shard_is_known_by_its_whole_name(tmp_path: Path, name: str) -> None:
    content = picture(9)
    shard(tmp_path / name, {"in.tar/1.png": content, "in.tar/1.cls": b"cat"})
    table = scan(tmp_path)
    assert table.paths == (f"{name}/in.tar/1.png",)
    assert table.source.read(table.paths[0]) == content
    assert table.source.stamps(table.paths) != [""]


def test_some_shards_with_a_split_and_some_without_are_refused(tmp_path: Path) -> None:
    for name in ("train-0.tar", "more-0.tar"):
        shard(tmp_path / name, {"1.png": picture(1), "1.cls": b"cat"})
    with pytest.raises(DataError, match=r"no split \('more-0.tar'\)"):
        scan(tmp_path)


@pytest.mark.parametrize("label", [{}, {"1.cls": b"\xff\xfe"}, {"1.json": b"{"}, {"1.json": b"[1]"}, {"1.cls": b" "}])
def test_an_image_without_a_label_is_named(tmp_path: Path, label: dict[str, bytes]) -> None:
    shard(tmp_path / "a.tar", {"1.png": picture(1), **label})
    with pytest.raises(DataError, match=r"1 image of .* has no label \('a.tar/1.png'\)"):
        scan(tmp_path)


def test_a_number_beyond_the_names_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\n")
    shard(tmp_path / "a.tar", {"1.png": picture(1), "1.cls": b"1"})
    with pytest.raises(DataError, match="no label"):
        scan(tmp_path)


def test_the_system_s_hidden_files_beside_shards_are_ignored(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", {"1.png": picture(1), "1.cls": b"cat"})
    (tmp_path / "._train-0.tar").write_bytes(b"macOS's own, no tar")
    table = scan(tmp_path)
    assert table.paths == ("train-0.tar/1.png",)
    assert table.ignored == ("._train-0.tar",)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", {"1.png": picture(1), "1.cls": b"cat"})
    (tmp_path / "b.tar").write_bytes(b"no tar")
    with pytest.raises(DataError, match=r"b.tar' is no tar archive"):
        scan(tmp_path)


def test_shards_train_to_the_same_bits_with_and_without_the_packed_cache(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    table = scan(photos)
    files: dict[str, bytes] = {}
    for path, label in zip(table.paths, table.labels, strict=True):
        key, _, suffix = path.replace("/", "_").rpartition(".")
        files |= {f"{key}.{suffix}": (photos / path).read_bytes(), f"{key}.cls": label.encode()}
    shards = shard(tmp_path / "shards" / "a.tar", files).parent
    assert check(shards).num_images == len(table)
    recipe = Recipe(epochs=1, batch_size=8, model=ModelConfig(name="resnet20"))
    folders = [
        train(
            replace(recipe, data=DataConfig(image_size=16, resize=16, cache=cache)), shards, out=tmp_path / str(cache)
        )
        for cache in (True, False)
    ]
    assert folders[0].spec.classes == table.classes
    assert folders[0].spec.weights_sha256 == folders[1].spec.weights_sha256
