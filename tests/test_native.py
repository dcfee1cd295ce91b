"""Compiled loops give torch's values, or are not used."""

import os
import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sightline.augmentations import Batch, augment
from sightline.augmentations.flip import Flip
from sightline.augmentations.random_resized_crop import RandomResizedCrop
from sightline.native import building, convolution
from sightline.native import pixels as native
from sightline.native.batch_norm import BATCH_NORM, Activation, gradients, normalize
from sightline.native.convolution import CONVOLUTION
from sightline.native.pixels import PIXELS
from sightline.operations.resize import Resize
from sightline.preprocess import Preprocess
from sightline.randomness import Draws

pytestmark = pytest.mark.skipif(
    not building.fits(PIXELS) or shutil.which("cc") is None, reason="needs AVX2 and a C compiler"
)

HEIGHT, WIDTH = 90, 130


@pytest.fixture(autouse=True)
def _anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Each test finds an empty cache, and what it built is forgotten."""
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    building.built_once.cache_clear()
    yield
    building.built_once.cache_clear()


def loaded(count: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """(count, 3, height, width) uint8, the channel innermost as loaded batches have it."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)


def random_windows(count: int) -> Tensor:
    """(count, 4): of every size from a single pixel to the whole image."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.rand(count, 4, generator=generator)
    sizes = (drawn[:, :2] * torch.tensor([HEIGHT, WIDTH])).long() + 1
    corners = (drawn[:, 2:] * (torch.tensor([HEIGHT, WIDTH]) - sizes + 1)).long()
    windows = torch.cat([corners, sizes], dim=1)
    windows[0] = torch.tensor([0, 0, HEIGHT, WIDTH])
    windows[1] = torch.tensor([HEIGHT - 1, WIDTH - 1, 1, 1])
    return windows


def resized_singly(images: Tensor, windows: Tensor, mirrored: Tensor, side: int) -> Tensor:
    """By torch, image by image."""
    resize = Resize(windows, side, mirrored)
    return torch.cat([resize(images[place : place + 1], place) for place in range(len(images))])


def empty(count: int, side: int) -> Tensor:
    return torch.zeros((count, 3, side, side), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", [60, 64, 97, 160, 224])
def test_windows_are_what_torch_makes_of_them(side: int) -> None:
    images, windows = loaded(1).expand(500, -1, -1, -1), random_windows(500)
    mirrored = torch.arange(500) % 2 == 0
    given = empty(500, side)
    assert native.resize(images, windows, mirrored, given) == 500
    assert torch.equal(given, resized_singly(images, windows, mirrored, side))


def test_the_largest_and_smallest_values_stay() -> None:
    for value in (0, 255):
        images = torch.full((1, HEIGHT, WIDTH, 3), value, dtype=torch.uint8).permute(0, 3, 1, 2)
        given = empty(1, 77)
        assert native.resize(images, random_windows(2)[:1], torch.tensor([False]), given) == 1
        assert (given == value).all()


def test_what_shrinks_too_far_is_left_to_torch() -> None:
    images, windows, mirrored = loaded(6), random_windows(6), torch.tensor([True, False] * 3)
    windows[:, 2:] = torch.tensor([10, 10])
    windows[:, :2] = 5
    windows[4] = torch.tensor([0, 0, HEIGHT, WIDTH])
    assert native.resize(images, windows, mirrored, empty(6, 12)) == 4
    whole = Resize(windows, 12, mirrored).all(images)
    assert torch.equal(whole, resized_singly(images, windows, mirrored, 12))


@pytest.mark.parametrize("window", [(-1, 0, 5, 5), (0, -1, 5, 5), (80, 0, 11, 5), (0, 120, 5, 11), (0, 0, 0, 5)])
def test_nothing_outside_an_image_is_read(window: tuple[int, ...]) -> None:
    windows = torch.tensor([window])
    assert native.resize(loaded(1), windows, torch.tensor([False]), empty(1, 60)) == 0


def test_other_images_are_left_to_torch() -> None:
    images, windows, mirrored = loaded(2), random_windows(2), torch.tensor([False, True])
    into = empty(2, 60)
    assert native.resize(images, windows, mirrored, into) == 2
    for others in (images.contiguous(), images.float(), images[:, :, :, 1:], images[:, :1], images.flip(3)[:, :, ::2]):
        assert native.resize(others, windows, mirrored, into) == 0
    assert native.resize(images, windows, mirrored, into.contiguous()) == 0


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 31), (64, 64)])
@pytest.mark.parametrize("skipped", [0, 1, 3])  # so that the first value lies at another address
def test_normalised_values_are_what_torch_makes_of_them(size: tuple[int, int], skipped: int) -> None:
    pixels = loaded(5, *size)[skipped:].permute(0, 2, 3, 1)
    mean, scale = torch.tensor([123.7, 116.3, 103.5]), torch.tensor([0.0171, 0.0175, 0.0174])
    everything = torch.full((skipped + pixels.numel() + 5,), 7.0)
    into = everything[skipped : skipped + pixels.numel()]
    assert native.normalize(pixels, into, mean, scale)
    assert torch.equal(into.view(pixels.shape), pixels.float().sub(mean).mul(scale))
    assert (everything[:skipped] == 7).all()
    assert (everything[skipped + pixels.numel() :] == 7).all()


def test_float_pixels_are_left_to_torch() -> None:
    pixels = loaded(1).permute(0, 2, 3, 1)
    three, into = torch.ones(3), torch.empty(pixels.shape)
    assert not native.normalize(pixels.float(), into, three, three)
    assert not native.normalize(pixels[:, ::2], into[:, ::2], three, three)


def batch_values() -> Tensor:
    images = loaded(9, 140, 150)
    batch = Batch(images, torch.eye(9), torch.arange(9))
    augmented = augment(batch, (RandomResizedCrop(), Flip()), Draws(0, 0, batch.samples), 128)
    return Preprocess(image_size=128, resize=140).normalize(augmented.images, channels_last=True)


def test_a_batch_is_the_same_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = batch_values()
    assert building.loops(PIXELS) is not None
    building.built_once.cache_clear()
    shutil.rmtree(tmp_path / "cache")
    for compiler in ("false", "sh -c 'exit 0'", "no-such-compiler", "unbalanced '", "cc -fvisibility=hidden"):
        monkeypatch.setenv("CC", compiler)
        building.built_once.cache_clear()
        assert building.loops(PIXELS) is None
        assert list((tmp_path / "cache" / "native").iterdir()) == []
    assert torch.equal(batch_values(), compiled)


def test_they_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert building.loops(PIXELS) is not None
    building.built_once.cache_clear()
    monkeypatch.setenv("CC", "false")
    assert building.loops(PIXELS) is not None


def test_other_values_than_torchs_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, change in enumerate(["s/1 << (bits - 1)/0/", "s/less, _mm256/_mm256_add_ps(less, less), _mm256/"]):
        compiler = tmp_path / f"cc{number}"
        compiler.write_text(
            "for last; do :; done\ncopy=$(mktemp --suffix .c)\n"
            f'sed "{change}" "$last" > "$copy"\ncmp -s "$copy" "$last" && exit 1\n'
            'touch "$0.ran"\nset -- "${@:1:$#-1}"\nexec cc "$@" "$copy"\n'
        )
        monkeypatch.setenv("CC", f"bash {compiler}")
        building.built_once.cache_clear()
        assert building.loops(PIXELS) is None
        assert compiler.with_name(f"{compiler.name}.ran").exists()


@pytest.fixture
def _another_type() -> Generator[None]:
    """A default that loops don't compute in, half as wide as theirs."""
    torch.set_default_dtype(torch.bfloat16)
    yield
    torch.set_default_dtype(torch.float32)


SOURCES = pytest.mark.parametrize(
    "source", [PIXELS, CONVOLUTION, BATCH_NORM[torch.float32], BATCH_NORM[torch.bfloat16]], ids=lambda each: each.name
)


@SOURCES
@pytest.mark.usefixtures("_another_type")
def test_they_are_built_whatever_type_tensors_have_by_default(source: building.Source) -> None:
    assert (building.loops(source) is not None) == building.fits(source)


@SOURCES
def test_they_are_built_while_a_network_without_values_is_made(source: building.Source) -> None:
    with torch.device("meta"):
        assert (building.loops(source) is not None) == building.fits(source)


@pytest.mark.usefixtures("_another_type")
def test_gradients_are_float32_whatever_type_tensors_have_by_default() -> None:
    images = torch.ones(2, 16, 5, 5, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    if building.fits(CONVOLUTION):
        weight = convolution.weight_gradient(images, images, (3, 3), (1, 1), (0, 0))
        assert weight.dtype == torch.float32
    if building.fits(BATCH_NORM[torch.float32]):
        saved = normalize(images, None, None, None, 0.1, 1e-5, Activation.NOTHING).saved
        assert {each.dtype for each in (saved, *gradients(images, images, saved, Activation.NOTHING)[1:])} == {
            torch.float32
        }


def test_a_file_that_others_may_write_to_is_built_anew(tmp_path: Path) -> None:
    assert building.loops(PIXELS) is not None
    (path,) = (tmp_path / "cache" / "native").iterdir()
    for content, mode in ((b"not a library", 0o600), (path.read_bytes(), 0o666)):
        path.write_bytes(content)
        path.chmod(mode)
        before = path.stat().st_ino
        building.built_once.cache_clear()
        assert building.loops(PIXELS) is not None
        assert path.stat().st_ino != before
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("kept", [0, 4096, 12000])
def test_a_damaged_file_is_built_anew(tmp_path: Path, kept: int) -> None:
    assert building.loops(PIXELS) is not None
    (path,) = (tmp_path / "cache" / "native").iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:kept], whole[:kept] + bytes(len(whole) - kept)):
        path.unlink()  # the open library is not changed
        path.write_bytes(damaged)
        path.chmod(0o600)
        building.built_once.cache_clear()
        assert building.loops(PIXELS) is not None
        assert path.read_bytes()[:4] == b"\x7fELF"
        assert len(path.read_bytes()) == len(whole)


def test_another_processor_uses_torch() -> None:
    assert building.loops(replace(PIXELS, needed=(*PIXELS.needed, "avx9000"))) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser can give a folder away")
def test_a_folder_of_another_s_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "native"
    folder.mkdir(parents=True)
    os.chown(folder, 65534, 65534)
    assert building.loops(PIXELS) is None
    assert list(folder.iterdir()) == []


def test_others_may_not_write_where_they_lie(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "native"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert building.loops(PIXELS) is not None
    assert folder.stat().st_mode & 0o077 == 0
