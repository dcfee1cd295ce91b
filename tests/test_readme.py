"""What the README shows must run."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from making import make_photos

from sightline import catalog
from sightline.recipes import describe_recipe, find_recipe
from sightline.training.job import check_job

ROOT = Path(__file__).parent.parent
COMMAND = Path(sys.executable).with_name("sightline")
READMES = ("README.md", "README.zh.md")


def commands(readme: str) -> list[str]:
    """The lines of the console blocks, without comments."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.removeprefix("$ ").partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("sightline")]


@pytest.mark.parametrize("name", catalog.names("sightline.recipes"))
def test_every_shipped_recipe_can_run_here_and_says_what_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.pretrained.fetch", lambda _: None)  # which may take a network
    check_job(find_recipe(name))
    assert describe_recipe(name).endswith(".")


def test_both_languages_show_the_same_commands() -> None:
    assert commands("README.md") == commands("README.zh.md")
    assert len(commands("README.md")) >= 6


def test_every_file_the_readme_links_to_exists() -> None:
    for readme in (*READMES, "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / readme).read_text(encoding="utf-8")):
            assert link.startswith("http") or (ROOT / link).exists(), f"{readme}: {link}"


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos")
    make_photos(tmp_path / "other", classes=("new",), count=2)
    shutil.move(tmp_path / "other" / "new", tmp_path / "new")
    (tmp_path / "mine.yaml").write_text("epochs: 1\nmodel: {name: resnet20}\ndata: {image_size: 32}\n")
    for command in commands("README.md"):
        line = command.replace("sightline", str(COMMAND), 1).replace("epochs=40", "epochs=2")
        if command.startswith("sightline serve"):  # until it is told to stop
            line = f"timeout --preserve-status 20 {line} --port 0"
        done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "runs" / "photos" / "report.html").exists()


@pytest.mark.slow
def test_the_demo_reaches_the_accuracy_it_is_known_for(tmp_path: Path) -> None:
    done = subprocess.run([COMMAND, "demo"], cwd=tmp_path, capture_output=True, text=True, check=True)
    accuracy = float(re.search(r"test accuracy ([\d.]+)%", done.stdout)[1])
    assert accuracy >= 98.5
    assert (tmp_path / "runs" / "digits" / "report.html").exists()
