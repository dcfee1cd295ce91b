"""What a run does when it is asked to stop, once and again: in a process of its own, which signals may end."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe
from sightline.recipe_text import override

SMALL = ["model.name=resnet20", "data.num_workers=0", "data.cache=false", "epochs=1", "batch_size=4"]
Cli = Callable[..., tuple[int, str, str]]

ASKED = """
import signal
import sys
from sightline.training.interruption import watch_for_interruption
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
try:
    with watch_for_interruption() as asked:
        assert not asked()
        for name in sys.argv[1:]:
            signal.raise_signal(signal.Signals[name])
            assert asked()
except KeyboardInterrupt:
    print("at once")
else:
    print("after a checkpoint")
assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
"""


@pytest.mark.parametrize(
    ("signals", "stops"),
    [
        (("SIGINT",), "after a checkpoint"),
        (("SIGTERM",), "after a checkpoint"),
        (("SIGINT", "SIGTERM"), "after a checkpoint"),  # a study's run at a terminal's Ctrl-C
        (("SIGTERM", "SIGTERM"), "after a checkpoint"),
        (("SIGINT", "SIGINT"), "at once"),
        (("SIGTERM", "SIGINT"), "at once"),
    ],
)
def test_a_run_writes_its_checkpoint_unless_ctrl_c_comes_after_another_signal(
    signals: tuple[str, ...], stops: str
) -> None:
    done = subprocess.run([sys.executable, "-c", ASKED, *signals], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, stops), done.stderr


def ctrl_c(monkeypatch: pytest.MonkeyPatch, trains: str = "fit") -> None:
    """The user has asked the run to stop, by its first step; no signal is sent to the process of the tests."""

    @contextmanager
    def asked() -> Generator[Callable[[], bool]]:
        yield lambda: True

    monkeypatch.setattr(f"sightline.training.{trains}.watch_for_interruption", asked)


@pytest.mark.parametrize("out", [[], ["--out", "my runs/demo"]])
def test_a_demo_that_was_stopped_names_the_command_that_goes_on(
    out: list[str], run_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = override(Recipe(), [*SMALL, "data.image_size=16", "data.resize=16", "data.max_train_images=32"])
    monkeypatch.setattr("sightline.recipes.find_recipe", lambda _: recipe)
    with monkeypatch.context() as patch:
        ctrl_c(patch)
        code, _, said = run_cli("demo", *out)
    folder = out[1] if out else "runs/digits"
    named, _, rest = said.partition("Stopped. `sightline ")[2].partition("`")
    assert (code, rest) == (130, f" goes on from {folder}/checkpoints/last.pt.\n"), said
    assert run_cli(*shlex.split(named))[0] == 0
    assert ModelFolder.read(folder).spec.figures


def test_a_dev_run_that_was_stopped_says_that_nothing_was_kept(
    run_cli: Cli, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctrl_c(monkeypatch)
    settings = [word for setting in [*SMALL, "optim.warmup_epochs=0"] for word in ("--set", setting)]
    code, _, said = run_cli("train", photos, "--fast-dev-run", *settings)
    assert (code, said.splitlines()[-1]) == (130, "Stopped. Nothing was kept."), said


def test_a_search_for_a_rate_that_was_stopped_says_that_nothing_was_kept(
    run_cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctrl_c(monkeypatch, "find_rate")
    settings = [word for setting in [*SMALL, "optim.warmup_epochs=0"] for word in ("--set", setting)]
    code, _, said = run_cli("find", "lr", photos, "--out", tmp_path / "lr", *settings)
    assert (code, said.splitlines()[-1]) == (130, "Stopped. Nothing was kept."), said
    assert not (tmp_path / "lr").exists()
