import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from sightline.errors import SightlineError
from sightline.reports.html import compact, render, write_report
from sightline.reports.report import Report

MakeReport = Callable[..., Report]
Draw = Callable[[int], str]
VOID = {"meta", "img", "br", "link", "use", "path"}


class Page(HTMLParser):
    """The elements of a page, in their order, and what doesn't fit together."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def pages() -> dict[int, str]:
    """Whole pages by number of classes, each drawn once."""
    return {}


@pytest.fixture
def draw(make_report: MakeReport, pages: dict[int, str]) -> Callable[[int], str]:
    """The page of a report on that many classes."""

    def page(num_classes: int) -> str:
        if num_classes not in pages:
            pages[num_classes] = render(make_report([f"class {number}" for number in range(num_classes)]))
        return pages[num_classes]

    return page


def addresses(page: Page) -> list[str]:
    keys = ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
    return [attributes[key] or "" for _, attributes in page.elements for key in keys if key in attributes]


@pytest.mark.parametrize("num_classes", [3, 60])
def test_every_element_that_opens_closes(draw: Draw, num_classes: int) -> None:
    assert Page(draw(num_classes)).open == []


@pytest.mark.parametrize("num_classes", [3, 60])
def test_nothing_is_requested_from_outside(draw: Draw, num_classes: int) -> None:
    text = draw(num_classes)
    page = Page(text)
    assert [address for address in addresses(page) if not address.startswith(("data:image/", "#"))] == []
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert not re.search(r"@import|url\((?!#)", style)
    assert not page.all("script")
    assert not page.all("link")


def test_the_users_text_is_never_markup(make_report: MakeReport) -> None:
    evil = "<script>alert('1')</script>\"><img src=x onerror=alert(2)>"
    report = make_report([evil, "{{ 7 * 7 }}", "plain"], title=evil, curves=False)
    report = replace(report, recipe=evil, warnings=[evil], splits=[evil], environment={evil: {evil: evil}})
    page = Page(render(report))
    assert not page.all("script")
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert page.text.count(evil) > 8
    assert "{{ 7 * 7 }}" in page.text


def test_the_accuracy_stands_at_the_top_with_its_interval_and_count(make_report: MakeReport) -> None:
    report = make_report(curves=False)
    text = Page(render(report)).text
    top = text[: text.index("Confusion matrix")]
    assert report.test.accuracy.percent in top
    assert f"95% interval {report.test.accuracy.span}%, from 300 images" in top


def test_warnings_come_before_the_accuracy(make_report: MakeReport) -> None:
    text = Page(render(replace(make_report(curves=False), warnings=["The test split was made by us."]))).text
    for sentence in ("The test split was made by us.", "Data: 1 image can't be read.", "may be too high"):
        assert text.index(sentence) < text.index("Accuracy on the test split")


def test_nothing_warns_where_nothing_is_wrong(make_report: MakeReport) -> None:
    assert "Read this first" not in render(replace(make_report(curves=False), audit=None))


def test_every_class_every_split_and_the_recipe_are_on_the_page(make_report: MakeReport) -> None:
    text = Page(render(make_report(["bee", "cat", "żółw"], curves=False))).text
    for part in ("żółw", "bee/broken.jpg", "epochs: 5", "2.15.0", "15% of the images were held out."):
        assert part in text


def test_parts_that_are_left_out_leave_no_heading(make_report: MakeReport) -> None:
    bare = replace(
        make_report(curves=False), val=None, history=(), mistakes=(), splits=(), audit=None, recipe="", environment=None
    )
    text = Page(render(bare)).text
    for heading in ("Training", "Worst mistakes", "Data", "Recipe", "Environment", "Splits compared"):
        assert heading not in text


def test_a_perfect_model_has_a_page_too(make_report: MakeReport, make_evaluation: Callable[..., object]) -> None:
    perfect = make_evaluation(("bee", "cat"), strength=50.0)
    text = Page(render(replace(make_report(curves=False), test=perfect, val=None, mistakes=()))).text
    assert "100.0%" in text
    assert "Not one image was taken for another class." in text


def test_a_mistake_whose_picture_is_gone_is_still_told(make_report: MakeReport) -> None:
    report = make_report(curves=False)
    report = replace(report, mistakes=[replace(report.mistakes[0], image=None)])
    text = Page(render(report)).text
    assert "no picture" in text
    assert str(report.mistakes[0].mistake.path) in text


def test_ids_are_unique_and_every_link_leads_somewhere(draw: Draw) -> None:
    page = Page(draw(3))
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    targets = {address[1:] for address in addresses(page) if address.startswith("#")}
    assert targets
    assert targets <= set(ids)


@pytest.mark.parametrize("num_classes", [3, 60])
def test_pictures_have_words_and_tables_captions(draw: Draw, num_classes: int) -> None:
    page = Page(draw(num_classes))
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("aria-label") for attributes in page.all("svg"))
    assert len(page.all("caption")) == len(page.all("table"))


def test_headings_descend_one_level_at_a_time(draw: Draw) -> None:
    levels = [int(tag[1]) for tag, _ in Page(draw(3)).elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


def test_equal_reports_give_equal_pages(make_report: MakeReport, draw: Draw) -> None:
    assert render(make_report(["class 0", "class 1", "class 2"])) == draw(3)


def test_a_page_that_can_not_be_written_is_one_sentence(make_report: MakeReport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SightlineError, match="Could not write"):
        write_report(tmp_path / "file" / "report.html", make_report(curves=False))


def test_a_page_is_written_as_utf_8(make_report: MakeReport, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", make_report(["猫", "żółw"], curves=False))
    assert "猫" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("number", "words"), [(950, "950"), (269_722, "270 thousand"), (11_173_962, "11.2 million"), (4.1e9, "4.1 billion")]
)
def test_large_counts_are_worded(number: float, words: str) -> None:
    assert compact(number) == words
