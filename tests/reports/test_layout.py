"""The page in a real browser: it never scrolls sideways, whatever the classes are called."""

import html
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.reports.html import render
from sightline.reports.report import Report

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--hide-scrollbars --disable-component-update --disable-sync --virtual-time-budget=10000 --dump-dom"
)
# The page lies in a frame of the wanted width: a window can't be made as narrow as a phone.
FRAME = """<!doctype html><title>waiting</title><iframe style="width:{width}px;height:800px;border:0" srcdoc="{page}"
onload="document.title = 'width ' + this.contentDocument.documentElement.scrollWidth + '.'"></iframe>"""


def scroll_width(page: str, width: int, folder: Path) -> int:
    """Pixels the page takes from left to right in a frame of `width` pixels."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "These tests need chromium: apt-get install chromium"
    (folder / "frame.html").write_text(FRAME.format(width=width, page=html.escape(page)), encoding="utf-8")
    command = [chromium, *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", (folder / "frame.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return int(dom.partition("<title>width ")[2].partition(".")[0])


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(
    "classes",
    [
        ("bee", "cat"),
        tuple(f"species number {number}" for number in range(40)),
        tuple(f"Ценныйгрибборовикобыкновенный_{'w' * 60}_{number}" for number in range(120)),
    ],
    ids=["two", "forty", "long names"],
)
def test_the_page_never_scrolls_sideways(
    make_report: Callable[..., Report], tmp_path: Path, classes: tuple[str, ...], width: int
) -> None:
    page = render(make_report(classes, title="runs/" + "x" * 200))
    assert scroll_width(page, width, tmp_path) == width


def test_a_page_that_is_too_wide_is_noticed(tmp_path: Path) -> None:
    assert scroll_width("<div style='width:500px'>wide</div>", 390, tmp_path) > 390
