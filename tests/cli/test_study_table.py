"""`sightline study`: the table that it prints."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sightline import tuning
from sightline.files import write_json
from sightline.recipe_text import to_plain
from sightline.studies import Study
from sightline.tuning.results import ArmFigures, RunFigures, StudyResult, paired_difference


def run(seed: int, val: float) -> RunFigures:
    return RunFigures(seed=seed, val=val, train=1.0, seconds=1.0, images_per_second=1.0, memory=1, curve=[])


def results(plan: Study, *runs: list[RunFigures]) -> StudyResult:
    return StudyResult(
        question=plan.question,
        data="photos",
        figure="accuracy",
        factors=[],
        seeds=list(plan.seeds),
        recipe=to_plain(plan.recipe),
        side_by_side=1,
        arms=[
            ArmFigures(
                arm=arm,
                runs=each,
                failures=[] if each else ["seed 0: no memory"],
                difference=None if arm == plan.arms[0] else paired_difference(each, runs[0]),
            )
            for arm, each in zip(plan.arms, runs, strict=True)
        ],
    )


@pytest.mark.parametrize(
    ("baseline", "code", "words"),
    [
        ([], 1, ["failed: seed 0: no memory", "no baseline", "no baseline"]),
        ([run(0, 0.4), run(1, 0.5)], 0, ["baseline", "+16.0 (+3.3 to +28.7)", "+5.0 points"]),
    ],
)
def test_the_first_arm_alone_is_called_the_baseline(
    baseline: list[RunFigures],
    code: int,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_cli: Callable[..., tuple[int, str, str]],
) -> None:
    def study(plan: Study, _data: str, *, out: Path, **_: object) -> StudyResult:
        found = results(plan, baseline, [run(0, 0.55), run(1, 0.67)], [run(0, 0.45)])
        write_json(out / "study.json", found.to_json())
        return found

    monkeypatch.setattr(tuning, "study", study)
    ended, out, _ = run_cli("study", "photos", "--vary", "optim.lr=1,0.1,0.01", "--out", tmp_path / "study")
    assert ended == code
    _, *rows = out.splitlines()
    assert all(word in row for row, word in zip(rows, words, strict=False))
    assert out.count("baseline") == sum("baseline" in word for word in words)
