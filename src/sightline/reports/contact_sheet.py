"""The contact sheet: originals beside what training would see of them, as one PNG."""

from functools import cache
from pathlib import Path
from typing import cast

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sightline.data.outside import check_outside
from sightline.data.phrases import printable
from sightline.data.prepare import prepare
from sightline.errors import SightlineError
from sightline.files import whole_file
from sightline.recipe import Recipe
from sightline.recipe_text import to_plain
from sightline.training.preview import Preview, as_pixels, preview

CELL = 160
"""Side of an image of the sheet in pixels, or a little less where small images are enlarged by a whole factor."""
GAP, LINE, MARGIN = 8, 20, 16
BACKGROUND, INK, MUTED = "#ffffff", "#1b1b1b", "#6b6b6b"


def write_contact_sheet(recipe: Recipe, data: str | Path, path: Path, *, num_images: int, num_epochs: int) -> None:
    """Write a PNG with a row an image: as it is read, then as each of the first epochs would see it.

    The pixels are those of a training with this recipe and data. Raises like `train` before it trains.
    """
    if path.suffix.lower() != ".png":
        raise SightlineError(f"The picture is written as PNG; {str(path)!r} should end in .png.")
    check_outside(path, data)
    prepared = prepare(data, recipe.data, recipe.seed)
    shown = preview(recipe, prepared, num_images=num_images, num_epochs=num_epochs)
    sheet = draw(shown, recipe, prepared.table.classes, [prepared.table.names[row.number] for row in shown])
    with whole_file(path) as aside:
        sheet.save(aside, format="PNG")


def draw(shown: list[Preview], recipe: Recipe, classes: tuple[str, ...], labels: list[tuple[str, ...]]) -> Image.Image:
    """The sheet: a line with the augmentations, a head over the columns, a row an image with captions below."""
    cell = _cell(recipe.data.image_size)
    num_columns = 1 + len(shown[0].versions)
    width = 2 * MARGIN + num_columns * (cell + GAP)
    summary = _lines(_summary(recipe), width - 2 * MARGIN)
    top = MARGIN + (len(summary) + 1) * LINE + GAP
    rows = list(zip(shown, labels, strict=True))
    mixtures = [[_mixture(target, classes, names) for target in row.targets] for row, names in rows]
    pitch = cell + LINE * max(1, *(len(lines) for row in mixtures for lines in row)) + GAP
    sheet = Image.new("RGB", (width, top + len(shown) * pitch + MARGIN), BACKGROUND)
    pen = _Pen(sheet, cell)
    for number, line in enumerate(summary):
        pen.write(line, (MARGIN, MARGIN + number * LINE), colour=INK, width=width - 2 * MARGIN)
    heads = ["original", *(f"epoch {number}" for number in range(1, num_columns))]
    for column, head in enumerate(heads):
        pen.write(head, (_left(column, cell), top - LINE - GAP // 2), colour=MUTED)
    for row, (image, names) in enumerate(rows):
        y = top + row * pitch
        pen.paste(image.original, (_left(0, cell), y), seen_as=cell)
        pen.write(", ".join(names), (_left(0, cell), y + cell + 2), colour=INK)
        for column, (version, lines) in enumerate(zip(image.versions, mixtures[row], strict=True), 1):
            x = _left(column, cell)
            if version is None:
                pen.write("not in this epoch", (x, y), colour=MUTED)
                continue
            pen.paste(version, (x, y), seen_as=round(version.shape[-1] / recipe.data.image_size * cell))
            for number, line in enumerate(lines):
                pen.write(line, (x, y + cell + 2 + number * (LINE - 4)), colour=MUTED)
    return sheet


def _cell(image_size: int) -> int:
    """The side at which images of that size are shown: small ones by a whole factor, so that pixels stay square."""
    return CELL if image_size >= CELL else image_size * (CELL // image_size)


def _left(column: int, cell: int) -> int:
    return MARGIN + column * (cell + GAP) + (GAP if column else 0)  # the originals stand a little apart


def _summary(recipe: Recipe) -> list[str]:
    """Each augmentation with its settings, in order."""
    entries = [next(iter(entry.items())) for entry in to_plain(recipe)["augment"]]
    named = [
        (name, ", ".join(f"{key} {_short(value)}" for key, value in settings.items())) for name, settings in entries
    ]
    texts = [f"{name} ({settings})" if settings else name for name, settings in named]
    return texts or ["no augmentation: the window that evaluation sees"]


def _short(value: object) -> str:
    """A setting's value, fractions with three digits."""
    if isinstance(value, list):
        return " to ".join(map(_short, cast(list[object], value)))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _lines(texts: list[str], width: int) -> list[str]:
    """The texts one after another, in lines of at most `width` pixels where each fits at all."""
    lines = [texts[0]]
    for text in texts[1:]:
        longer = f"{lines[-1]}  ·  {text}"
        if _font().getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(text)
    return lines


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 12)


def _mixture(target: Tensor | None, classes: tuple[str, ...], own: tuple[str, ...]) -> list[str]:
    """The two largest parts of a target that is not the original's any more."""
    if target is None:
        return []
    shares = sorted(zip(target.tolist(), classes, strict=True), reverse=True)
    parts = [(share, name) for share, name in shares if share >= 0.005]
    if {name for _, name in parts} == set(own) and all(share >= 0.995 for share, _ in parts):
        return []
    return [f"{share:.0%} {name}" for share, name in parts[:2]]


class _Pen:
    """Writes and pastes on a sheet; a text that is too long for its place ends in dots."""

    def __init__(self, sheet: Image.Image, cell: int) -> None:
        self.sheet = sheet
        self.cell = cell
        self.canvas = ImageDraw.Draw(sheet)

    def write(self, text: str, place: tuple[int, int], *, colour: str, width: int | None = None) -> None:
        """The text with its upper left corner there, within `width` pixels (a cell's if left out)."""
        limit = self.cell if width is None else width
        shown = printable(text)
        while _font().getlength(shown) > limit:
            shown = shown[:-2].rstrip() + "…"
        self.canvas.text(place, shown, fill=colour, font=_font())

    def paste(self, image: Tensor, place: tuple[int, int], *, seen_as: int) -> None:
        """(3, H, W) at `seen_as` pixels a side, in the middle of its cell."""
        picture = Image.fromarray(as_pixels(image))
        enlarged = seen_as >= picture.width
        picture = picture.resize((seen_as, seen_as), Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)
        inset = (self.cell - seen_as) // 2
        self.sheet.paste(picture, (place[0] + inset, place[1] + inset))
