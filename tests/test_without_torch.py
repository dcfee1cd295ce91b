"""What the extra `train` is for, and that predicting with an exported model does without."""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from making import make_folder, make_photos

from sightline.deps import TRAINING
from sightline.exporting import export

ROOT = Path(__file__).parent.parent
BLOCKED = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(TRAINING)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from sightline.cli import main
"""


def without_training(*arguments: str | Path, code: str = "main()") -> subprocess.CompletedProcess[str]:
    """The command in a process that can import nothing of the extra `train`."""
    words = [sys.executable, "-c", BLOCKED + code, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos", count=2) / "red" / "000.jpg"


def extras() -> dict[str, set[str]]:
    """The distributions of each extra, without versions."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {"core": listed["dependencies"], **listed["optional-dependencies"]}
    return {extra: {line.partition(">")[0] for line in lines} for extra, lines in named.items()}


def test_the_extra_train_is_what_the_sentences_say_it_installs() -> None:
    distributions = {name for module in TRAINING for name in packages_distributions()[module]}
    assert {name.lower().replace("_", "-") for name in distributions} == extras()["train"] - {"onnx", "onnxscript"}


def test_the_core_and_the_extra_onnx_hold_nothing_that_trains() -> None:
    assert not (extras()["core"] | extras()["onnx"]) & extras()["train"]


@pytest.mark.slow  # the quick half of it is in tests/formats
def test_an_exported_model_predicts_as_it_does_with_torch_installed(tmp_path: Path, photo: Path, run_cli) -> None:  # type: ignore[no-untyped-def]
    folder = export(make_folder(tmp_path / "model"), "onnx", pixels=True, data=photo.parent.parent)
    done = without_training("predict", folder.path, photo)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run_cli("predict", folder.path, photo)[1]
    assert done.stdout == run_cli("predict", tmp_path / "model", photo)[1]


@pytest.mark.parametrize("verb", [["train", "digits"], ["predict", "{model}", "{photo}"], ["evaluate", "{model}"]])
def test_a_verb_that_needs_torch_says_how_to_install_it(verb: list[str], tmp_path: Path, photo: Path) -> None:
    model = make_folder(tmp_path / "model").path
    done = without_training(*(word.format(model=model, photo=photo) for word in verb))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith('Install it with: pip install "sightline[train]"\n')
    assert len(done.stderr.splitlines()) == 1


def test_a_public_function_that_needs_torch_says_so_when_it_is_asked_for() -> None:
    done = without_training(
        code="import sightline\ntry: sightline.train\nexcept sightline.SightlineError as e: print(e)"
    )
    assert done.stdout.startswith("sightline.train needs ")
    assert 'pip install "sightline[train]"' in done.stdout


@pytest.mark.slow
@pytest.mark.network
def test_a_fresh_environment_with_the_wheel_and_the_extra_onnx_predicts(tmp_path: Path, photo: Path, run_cli) -> None:  # type: ignore[no-untyped-def]
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from lean_environment import make_environment

    folder = export(make_folder(tmp_path / "model"), "onnx", pixels=True, data=photo.parent.parent)
    python = make_environment(tmp_path)
    done = subprocess.run(
        [python.with_name("sightline"), "predict", folder.path, photo],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run_cli("predict", tmp_path / "model", photo)[1]
    listed = subprocess.run([python, "-c", "import torch"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "No module named 'torch'" in listed.stderr


@pytest.mark.parametrize("verb", [["train", "photos"], ["tune", "photos"], ["study", "photos", "--vary", "epochs=1,2"]])
def test_where_there_is_no_unix_a_verb_that_holds_folders_says_so(verb: list[str], tmp_path: Path) -> None:
    code = "import sys; sys.modules.update(fcntl=None, resource=None); from sightline.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *verb],
        capture_output=True,
        text=True,
        check=False,
        cwd=make_photos(tmp_path / "photos").parent,
    )
    assert (done.returncode, done.stdout) == (2, "")
    sentence = f"`sightline {verb[0]}` needs Linux or another Unix. On Windows run it in WSL, which is one."
    assert done.stderr.splitlines()[-1] == f"error: {sentence}"
