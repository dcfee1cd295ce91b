"""Promise 2 for what keeps more state than momentum: schedule-free's weights, Muon's parts, plateau's losses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from making import make_photos

from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import resume, train
from sightline.training.run import Run
from sightline.training.task import ClassificationTask

SETTINGS = [
    "model.name=resnet20",
    "data.image_size=16",
    "data.resize=18",
    "data.num_workers=0",
    "augment=flip",
    "epochs=3",
    "batch_size=5",
    "train.checkpoint_minutes=0",
    "train.select=last",
]
CASES = {
    "schedule-free": ["optim.name=schedulefree_adamw", "optim.warmup_epochs=1", "optim.target_batch=10"],
    "muon": ["optim.name=muon", "optim.layer_decay=0.8", "optim.clip_adaptive=0.02"],
    "plateau": ["optim.schedule=plateau", "optim.patience=1", "optim.lr=0.03", "optim.factor=0.5"],
    "one-cycle with momentum": ["optim.name=sgd", "optim.schedule=one_cycle", "optim.low_momentum=0.8"],
    "decoupled sgd": ["optim.name=sgd", "optim.decay=decoupled", "optim.head_lr=5"],
    "lion": ["optim.name=lion", "optim.lr=1e-4", "optim.schedule=cosine", "optim.cycles=2"],
}


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos")


def kill_in(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, call: int) -> None:
    original: Any = getattr(owner, method)
    calls = iter(range(1, 10_000))

    def killing(*arguments: Any, **named: Any) -> Any:
        if next(calls) == call:
            raise Killed
        return original(*arguments, **named)

    monkeypatch.setattr(owner, method, killing)


FASTEST = ("schedule-free", "muon", "plateau")


@pytest.mark.parametrize("case", [pytest.param(c, marks=[] if c in FASTEST else pytest.mark.slow) for c in CASES])
def test_three_kills_change_no_weight(case: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the first epoch; as the second look at the validation split begins; in the last step."""
    recipe = override(Recipe(), [*SETTINGS, *CASES[case]])
    whole = train(recipe, data, out=tmp_path / "whole")
    kills = [(ClassificationTask, "training_step", 4), (Run, "_look", 2), (ClassificationTask, "training_step", 5)]
    for number, (owner, method, call) in enumerate(kills):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_in(patch, owner, method, call)
            if number == 0:
                train(recipe, data, out=tmp_path / "run")
            else:
                resume(data, out=tmp_path / "run")
    resumed = resume(data, out=tmp_path / "run")
    assert resumed.spec.weights_sha256 == whole.spec.weights_sha256
    assert rates(resumed) == rates(whole)


def rates(folder: ModelFolder) -> list[str]:
    lines = (folder.path / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("lr")
    return [line.split(",")[column] for line in lines[1:]]


def test_plateau_lowers_the_rate_in_the_run_and_not_only_on_paper_and_a_kill_leaves_it_lowered(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(Recipe(), [*SETTINGS, *CASES["plateau"], "optim.lr=1", "optim.name=sgd", "epochs=5"])
    whole = train(recipe, data, out=tmp_path / "whole")
    found = [float(rate) for rate in rates(whole)]
    assert found[0] == 1
    assert found[-1] < 1
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, ClassificationTask, "training_step", 23)  # within the last epoch
        train(recipe, data, out=tmp_path / "run")
    assert resume(data, out=tmp_path / "run").spec.weights_sha256 == whole.spec.weights_sha256


def test_schedule_free_gives_its_averaged_weights_and_trains_others(data: Path, tmp_path: Path) -> None:
    """The checkpoint holds y, where gradients are taken; the model folder x, with batch norm's statistics of x."""
    recipe = override(Recipe(), [*SETTINGS, "optim.name=schedulefree_adamw"])
    folder = train(recipe, data, out=tmp_path / "run")
    kept = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    given = folder.model().state_dict()
    names = [name for name, _ in folder.model().named_parameters()]
    order = [number for group in kept["optimizer"]["param_groups"] for number in group["params"]]
    matrices = [name for name in names if kept["model"][name].ndim > 1]
    vectors = [name for name in names if kept["model"][name].ndim == 1]
    for number, name in zip(order, [*matrices, *vectors], strict=True):
        z, y = kept["optimizer"]["state"][number]["z"], kept["model"][name]
        assert torch.allclose(given[name], y + (z - y) * (1 - 1 / 0.9), atol=1e-6)
    statistics = [name for name in given if name.endswith("running_mean")]
    assert all(not torch.equal(given[name], kept["model"][name]) for name in statistics)
