"""The page in a real Chromium, which is installed already: none is downloaded."""

import shutil
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from running import Running

from sightline.model_folder import ModelFolder

pytestmark = pytest.mark.browser

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, run_server: Callable[..., Running], served_model: ModelFolder) -> Generator[Page]:
    address = run_server(served_model.path).address
    opened = browser.new_page(viewport={"width": 390, "height": 844})
    asked: list[str] = []
    said: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    opened.goto(address)
    opened.wait_for_selector("#facts dt")
    yield opened
    assert all(url.startswith((address, "blob:", "data:")) for url in asked)
    assert [line for line in said if "status of 422" not in line] == []  # a browser tells of every failed request
    opened.close()


DROP = """([bytes, name]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""


def test_a_dropped_image_gets_its_label_bars_and_heat_map(page: Page, photos: Path, served_model: ModelFolder) -> None:
    from sightline.prediction import Predictor

    file = photos / "red" / "000.jpg"
    [expected] = Predictor(served_model).predict([file])
    page.evaluate(DROP, [list(file.read_bytes()), file.name])
    page.wait_for_selector(".bars li")
    assert page.inner_text(".result h3") == expected.guesses[0].label
    assert page.locator(".bars li").count() == 3
    assert page.inner_text(".bars li:first-child .value") == f"{expected.guesses[0].probability:.1%}"
    assert f"Most probable: {expected.guesses[0].label}" in page.inner_text("[role=status]")
    page.get_by_role("button", name="Show what it looked at").click()
    page.wait_for_selector("canvas.heat")


def test_a_file_that_is_no_image_is_told_so(page: Page, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("no image")
    page.set_input_files("#file", [tmp_path / "x.jpg"])
    page.wait_for_selector(".problem")
    assert page.inner_text(".problem") == "not an image in a known format"


def test_many_pictures_are_sent_in_several_requests(page: Page, photos: Path, tmp_path: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    files = sorted(photos.rglob("*.jpg")) * 2
    page.set_input_files("#file", files[:70])
    page.wait_for_selector(".result:nth-child(70) .bars")
    assert sum("/v1/predict" in url for url in asked) == 2
    assert "70 pictures." in page.inner_text("[role=status]")
    asked.clear()
    for number in range(4):  # three of them are more than 32 MiB
        (tmp_path / f"{number}.jpg").write_bytes(files[0].read_bytes() + bytes(12_000_000))
    page.set_input_files("#file", [tmp_path / f"{number}.jpg" for number in range(4)])
    page.wait_for_selector(".result:nth-child(4) .bars")
    assert sum("/v1/predict" in url for url in asked) == 2


def test_a_picture_that_is_too_large_fails_alone(
    browser: Browser, run_server: Callable[..., Running], served_model: ModelFolder, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(34_000_000))
    page = browser.new_page()
    page.goto(run_server(served_model.path).address)
    page.wait_for_selector("#facts dt")
    page.set_input_files("#file", [tmp_path / "large.jpg", photos / "red" / "000.jpg"])
    page.wait_for_selector(".bars li")
    assert "A request may have 33,554,432 bytes" in page.inner_text(".problem")
    assert page.locator(".result").count() == 2
    page.close()


def test_the_keyboard_reaches_the_choice_of_a_picture_first(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "camera"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int, photos: Path) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.set_input_files("#file", [photos / "red" / "000.jpg"])
    page.wait_for_selector(".bars li")
    page.get_by_text("The whole trail").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
