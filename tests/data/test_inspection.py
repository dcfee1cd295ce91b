import io
import os
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, memory_table, picture, write, write_zip
from PIL import Image, ImageEnhance

from sightline.data import inspection
from sightline.data.facts import look, perceptual_hash
from sightline.data.inspection import inspect
from sightline.data.memory import MemorySource
from sightline.data.scan import scan


def test_facts_state_what_the_file_holds() -> None:
    image = picture(0, (50, 40)).convert("CMYK")
    exif = Image.Exif()
    exif[0x0112] = 6
    content = io.BytesIO()
    image.save(content, "JPEG", exif=exif)
    fact = look(MemorySource("memory", {"a.jpg": content.getvalue()}), "a.jpg")
    assert (fact.width, fact.height, fact.mode, fact.format, fact.orientation) == (50, 40, "CMYK", "JPEG", 6)
    assert (fact.error, fact.num_bytes, fact.animated) == (None, len(content.getvalue()), False)


def test_an_animation_is_told() -> None:
    content = io.BytesIO()
    picture(0).save(content, "GIF", save_all=True, append_images=[picture(1), picture(2)])
    files = {"moving.gif": content.getvalue(), "still.gif": encoded(picture(0), "GIF")}
    source = MemorySource("memory", files)
    assert look(source, "moving.gif").animated
    assert not look(source, "still.gif").animated


@pytest.mark.parametrize("rest", [b"!", b",\x00\x00", b",\x00\x00\x00\x00\x28\x00\x28\x00"])
def test_an_animation_that_ends_in_its_second_frame_counts_as_one(rest: bytes) -> None:
    """Its first frame is whole, and that is what a training sees."""
    still = encoded(picture(0), "GIF").removesuffix(b";")
    fact = look(MemorySource("memory", {"damaged.gif": still + rest}), "damaged.gif")
    assert (fact.error, fact.animated, fact.width) == (None, True, 40)


def test_an_unreadable_file_has_its_reason_and_its_content_hash() -> None:
    source = MemorySource("memory", {"a.png": b"no image", "b.png": b""})
    assert look(source, "a.png").error == "not an image in a known format"
    assert len(look(source, "a.png").sha256) == 64
    assert look(source, "b.png").error == "the file is empty"
    assert look(source, "c.png").error == "the file does not exist"


def distance(left: Image.Image, right: Image.Image) -> int:
    first, second = perceptual_hash(left), perceptual_hash(right)
    assert first is not None
    assert second is not None
    return (first ^ second).bit_count()


@pytest.mark.parametrize("seed", range(20))
def test_the_hash_hardly_changes_when_an_image_is_saved_smaller_or_brighter(seed: int) -> None:
    image = picture(seed, (200, 150))
    again = Image.open(io.BytesIO(encoded(image.resize((120, 90)), "JPEG")))
    assert distance(image, again) <= 4
    assert distance(image, ImageEnhance.Brightness(image).enhance(0.8)) <= 4


def test_the_hash_tells_different_pictures_apart() -> None:
    hashes = [perceptual_hash(picture(seed, (64, 64))) for seed in range(100)]
    nearest = min((a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i])  # type: ignore[operator]
    assert nearest > 4


@pytest.mark.parametrize("image", [
    Image.new("RGB", (64, 64), "red"),
    Image.new("RGB", (64, 64)),
    Image.fromarray(np.random.default_rng(0).integers(100, 103, (64, 64, 3), dtype=np.uint8)),
    picture(0, (64, 31)),
])  # fmt: skip
def test_flat_and_tiny_images_have_no_hash_to_be_mistaken_by(image: Image.Image) -> None:
    assert perceptual_hash(image) is None


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are read from here on."""
    paths: list[str] = []

    def watch(source: MemorySource, path: str) -> object:
        paths.append(path)
        return look(source, path)

    monkeypatch.setattr(inspection, "look", watch)
    return paths


def test_only_what_changed_is_read_again(cache: Path, tmp_path: Path, looked_at: list[str]) -> None:
    write(tmp_path / "photos", ["cat/1.png", "cat/2.png", "dog/3.png"])
    first = inspect(scan(tmp_path / "photos"))
    assert sorted(looked_at) == ["cat/1.png", "cat/2.png", "dog/3.png"]
    looked_at.clear()
    assert inspect(scan(tmp_path / "photos")) == first
    assert looked_at == []
    (tmp_path / "photos/cat/2.png").write_bytes(encoded(picture(9)))
    write(tmp_path / "photos", ["dog/4.png"])
    second = inspect(scan(tmp_path / "photos"))
    assert sorted(looked_at) == ["cat/2.png", "dog/4.png"]
    assert second[1].sha256 != first[1].sha256
    assert [fact.path for fact in second] == ["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"]


def test_a_file_of_the_same_size_and_time_is_read_again(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "data" / "a" / "1.bmp"
    file.parent.mkdir(parents=True)
    picture(0).save(file)
    before, status = inspect(scan(tmp_path / "data"))[0], file.stat()
    picture(1).save(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert inspect(scan(tmp_path / "data"))[0].sha256 != before.sha256


def test_a_rewritten_archive_is_read_again(cache: Path, tmp_path: Path, looked_at: list[str]) -> None:
    file = write_zip(tmp_path / "a.zip", ["cat/1.png", "dog/2.png"])
    inspect(scan(file))
    os.utime(file, ns=(1, 1))
    inspect(scan(file))
    assert len(looked_at) == 4


def test_what_could_not_be_read_is_tried_again(cache: Path, tmp_path: Path, looked_at: list[str]) -> None:
    folder = write(tmp_path / "photos", ["cat/1.png", "cat/2.png"])
    (folder / "cat/1.png").write_bytes(b"")
    assert inspect(scan(folder))[0].error
    looked_at.clear()
    assert inspect(scan(folder))[0].error
    assert looked_at == ["cat/1.png"]


@pytest.mark.parametrize("content", ["", "[", '{"a": 1}', "[[1, 2]]", '[["stamp", "cat/1.png"], 7]'])
def test_a_damaged_cache_is_no_error(cache: Path, tmp_path: Path, content: str) -> None:
    table = scan(write(tmp_path / "photos", ["cat/1.png", "cat/2.png"]))
    facts = inspect(table)
    (file,) = (cache / "facts").iterdir()
    file.write_text(content)
    assert inspect(table) == facts


def test_an_unwritable_cache_is_no_error(cache: Path, tmp_path: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert len(inspect(scan(write(tmp_path / "photos", ["cat/1.png", "cat/2.png"])))) == 2


def test_the_cache_keeps_a_bounded_number_of_tables(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_KEPT", 3)
    for number in range(5):
        inspect(memory_table([("a/1.png", "a", encoded(picture(number)))]))
        inspect(scan(write(tmp_path / str(number), ["cat/1.png"])))
    assert len(list((cache / "facts").iterdir())) == 3


def test_facts_come_in_the_tables_order_whatever_the_threads_do(cache: Path, tmp_path: Path) -> None:
    table = scan(write(tmp_path / "photos", [f"cat/{number:03}.png" for number in range(200)]))
    assert tuple(fact.path for fact in inspect(table)) == table.paths
