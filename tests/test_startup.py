import subprocess
import sys

import pytest

import sightline

HEAVY = ["torch", "numpy", "lightning", "sklearn", "matplotlib", "PIL", "pydantic", "rich"]


def imported(code: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after running `code`."""
    report = f"{code}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import sightline",
        "from sightline.cli import app\nfrom typer.testing import CliRunner\n"
        "assert 'train' in CliRunner().invoke(app, ['--help']).stdout",
        "from sightline.cli import app\nfrom typer.testing import CliRunner\n"
        "assert '--resume' in CliRunner().invoke(app, ['train', '--help']).stdout",
    ],
    ids=["import", "--help", "train --help"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    typer_s_own = {"pydantic"} if "train" in code else set[str]()
    assert imported(code) <= typer_s_own


@pytest.mark.parametrize("name", sightline.__all__)
def test_every_public_name_is_there_and_has_a_docstring(name: str) -> None:
    assert getattr(sightline, name).__doc__
    assert name in dir(sightline)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = sightline.trian  # type: ignore[attr-defined]


def test_a_served_model_needs_no_training_framework() -> None:
    """The import contracts say so for the source; this says it of a running process."""
    code = "import sightline\nsightline.Predictor, sightline.evaluate"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('lightning' in sys.modules, 'torchvision' in sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["False", "False"]
