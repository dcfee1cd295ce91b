import base64
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from sightline.data.folder import FolderSource
from sightline.reports import _image  # pyright: ignore[reportPrivateUsage]
from sightline.reports.thumbnails import data_uri


def opened(address: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(address.partition(",")[2])))


def test_a_photo_becomes_a_small_jpeg_of_the_same_shape() -> None:
    address = data_uri(Image.effect_noise((1600, 1200), 60).convert("RGB"))
    assert address.startswith("data:image/jpeg;base64,")
    assert opened(address).size == (192, 144)
    assert len(address) < 40_000


def test_a_tiny_image_keeps_every_pixel() -> None:
    image = Image.effect_noise((32, 32), 60).convert("RGB")
    assert opened(data_uri(image)).convert("RGB").tobytes() == image.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (1, 5000)])
def test_odd_shapes_are_taken(size: tuple[int, int]) -> None:
    assert max(opened(data_uri(Image.new("RGB", size))).size) <= 192


def test_the_image_itself_stays_as_it_was() -> None:
    image = Image.new("RGB", (400, 400))
    data_uri(image)
    assert image.size == (400, 400)


def test_a_page_s_pictures_are_held_as_small_as_it_shows_them(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1200), "teal").save(tmp_path / "photo.jpg")
    found = _image(FolderSource("photos", str(tmp_path)), "photo.jpg")
    assert found is not None
    assert found.size == (192, 144)
