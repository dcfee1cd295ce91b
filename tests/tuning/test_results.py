from pathlib import Path

import pytest
from making import make_folder
from scipy.stats import ttest_rel

from sightline.files import write_json
from sightline.recipe import Recipe
from sightline.studies import Study
from sightline.tuning.results import RunFigures, collect, paired_difference, read_curve
from sightline.tuning.runs import plan
from sightline.tuning.vary import factor_of


def runs(*accuracies: float, first_seed: int = 0) -> list[RunFigures]:
    return [
        RunFigures(seed=seed, val=value, train=1.0, seconds=1.0, images_per_second=1.0, memory=1, curve=[])
        for seed, value in enumerate(accuracies, start=first_seed)
    ]


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    arm, baseline = (0.71, 0.75, 0.74, 0.78), (0.70, 0.72, 0.74, 0.73)
    found = paired_difference(runs(*arm), runs(*baseline))
    expected = ttest_rel(arm, baseline).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert found.mean == pytest.approx(0.0225)


def test_a_figure_that_is_no_number_is_left_out_of_a_curve(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,val_loss\n1,nan\n2,inf\n3,\n4,0.5\n")
    assert [row["val_loss"] for row in read_curve(tmp_path / "metrics.csv")] == [None, None, None, 0.5]


def test_a_linear_probe_which_has_no_epochs_is_collected_with_all_its_seconds(tmp_path: Path) -> None:
    study = Study(question="?", recipe=Recipe(), factors=(factor_of("data.max_train_images=50,100"),), repeats=1)
    first, _ = plan(study, tmp_path)
    figures = {split: {"accuracy": {"value": value}} for split, value in (("val", 0.5), ("train", 0.75))}
    make_folder(first.folder).with_figures(figures)
    write_json(first.measured, {"memory": 1, "memory_of_the_device": 0, "seconds_of_the_last_part": 3.5})
    [found] = collect(study, tmp_path, "photos", 1).arms[0].runs
    assert (found.seconds, found.curve, found.val, found.train) == (3.5, [], 0.5, 0.75)


def test_only_seeds_that_ended_in_both_are_compared() -> None:
    found = paired_difference(runs(0.5, 0.6, first_seed=1), runs(0.1, 0.4))
    assert found is not None
    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.verdict) == (None, "too few runs")


def test_differences_that_coincide_have_no_interval() -> None:
    found = paired_difference(runs(0.5, 0.75), runs(0.25, 0.5))
    assert found is not None
    assert (found.mean, found.low, found.verdict) == (0.25, None, "too few runs")


def test_without_a_common_seed_there_is_no_difference() -> None:
    assert paired_difference(runs(0.5, first_seed=5), runs(0.5)) is None


@pytest.mark.parametrize(
    ("arm", "verdict"),
    [((0.61, 0.62, 0.63), "better"), ((0.41, 0.42, 0.43), "worse"), ((0.4, 0.5, 0.6), "not told apart")],
)
def test_the_verdict_is_what_the_interval_says(arm: tuple[float, ...], verdict: str) -> None:
    found = paired_difference(runs(*arm), runs(0.5, 0.51, 0.5))
    assert found is not None
    assert found.verdict == verdict
