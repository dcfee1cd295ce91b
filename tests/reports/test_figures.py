import re
import xml.etree.ElementTree as ET

import numpy as np
from matplotlib.figure import Figure

from sightline.evaluation.calibration import calibration_error, reliability
from sightline.evaluation.metrics import ProbabilityFigures
from sightline.reports.figures import curves, label_points, reliability_diagram

HISTORY = [
    {"epoch": 1, "train_loss": 2.0, "val_loss": None, "train_accuracy": 0.3, "val_accuracy": None, "lr": 0.1},
    {"epoch": 2, "train_loss": 1.0, "val_loss": 1.5, "train_accuracy": 0.5, "val_accuracy": 0.4, "lr": 0.05},
    {"epoch": 3, "train_loss": 0.5, "val_loss": 1.2, "train_accuracy": 0.8, "val_accuracy": 0.625, "lr": 0.0},
]


def diagram(name: str = "calibrated") -> str:
    confidence = np.linspace(0.3, 1, 200)
    bins = reliability(confidence, np.arange(200) % 3 > 0)
    return reliability_diagram(
        ProbabilityFigures(
            temperature=1.0, log_loss=0.5, brier=0.3, calibration_error=calibration_error(bins), bins=bins
        ),
        name=name,
    )


def test_there_are_curves_of_loss_accuracy_and_learning_rate() -> None:
    words = [re.search('aria-label="([^"]*)"', chart) for chart in curves(HISTORY)]
    assert [match and match[1] for match in words] == [
        "Loss by epoch: training ends at 0.5, validation ends at 1.2.",
        "Accuracy by epoch: training ends at 80.0%, validation ends at 62.5%.",
        "Learning rate by epoch: lr ends at 0.",
    ]


def test_columns_that_are_missing_are_left_out() -> None:
    assert len(curves([{"epoch": 1, "lr": 0.1}, {"epoch": 2, "lr": 0.2}])) == 1


def test_one_epoch_is_no_curve() -> None:
    assert curves(HISTORY[:1]) == []


def test_charts_are_well_formed_and_scale_with_their_box() -> None:
    for chart in (*curves(HISTORY), diagram()):
        root = ET.fromstring(chart)
        assert "viewBox" in root.attrib
        assert "width" not in root.attrib


def test_charts_take_their_colours_from_the_page() -> None:
    for chart in (*curves(HISTORY), diagram()):
        assert "var(--ink)" in chart
        assert re.search(r"#0\d0\d0\d", chart) is None
        assert set(re.findall(r"#[0-9a-f]{6}\b", chart)) <= {"#000000"}


def test_two_charts_share_no_id() -> None:
    first, second = (set(re.findall(r'\bid="([^"]+)"', diagram(name))) for name in ("before", "after"))
    assert first
    assert not first & second


def test_equal_figures_are_equal_charts() -> None:
    assert diagram() == diagram()


def test_points_that_lie_on_each_other_share_a_label() -> None:
    points = [(50.0, 0.5, "1"), (20.0, 0.5, "2"), (50.5, 0.5, "3"), (50.0, 0.51, "4")]
    axes = Figure(figsize=(4, 3), layout="constrained").subplots()
    for x, y, _ in points:
        axes.plot([x], [y], "o")
    axes.margins(x=0.12)
    label_points(axes, points)
    assert [text.get_text() for text in axes.texts] == ["1, 3", "2", "4"]
