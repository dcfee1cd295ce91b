"""Text can be read on what it stands on: WCAG 2.2's contrast of at least 4.5, light and dark."""

import re
from importlib.resources import files

import pytest

from sightline.reports.confusion import _RIGHT, _WRONG

Colour = tuple[float, float, float]
CSS = (files("sightline.reports") / "report.css").read_text(encoding="utf-8")
LIGHT, DARK = (
    dict(re.findall(r"(--[\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.S)[:2]
)


def colour(text: str) -> Colour:
    red, green, blue = (int(text[start : start + 2], 16) for start in (1, 3, 5))
    return red, green, blue


def luminance(parts: Colour) -> float:
    shares = [part / 255 for part in parts]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: Colour, second: Colour) -> float:
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("text", ["--ink", "--muted", "--accent", "--wrong"])
def test_text_stands_out_from_page_and_card(theme: dict[str, str], text: str) -> None:
    for ground in ("--page", "--card"):
        assert contrast(colour(theme[text]), colour(theme[ground])) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_notices_stand_out(theme: dict[str, str]) -> None:
    assert contrast(colour(theme["--ink"]), colour(theme["--notice"])) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("cell", [_RIGHT, _WRONG], ids=["right", "wrong"])
@pytest.mark.parametrize("opacity", [0.12, 0.4, 0.7])
def test_counts_stand_out_from_their_cell(theme: dict[str, str], cell: Colour, opacity: float) -> None:
    card = colour(theme["--card"])
    mixed = tuple(opacity * top + (1 - opacity) * below for top, below in zip(cell, card, strict=True))
    assert contrast(colour(theme["--ink"]), (mixed[0], mixed[1], mixed[2])) >= 4.5
