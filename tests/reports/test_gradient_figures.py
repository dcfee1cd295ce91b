import re
import xml.etree.ElementTree as ET

from sightline.reports.gradient_figures import gradient_charts

HISTORY = [
    {
        "epoch": float(epoch),
        "stage": stage,
        "gradient_norm": 10.0 ** -(epoch + place),
        "gradient_to_weight": 0.0 if epoch == 1 else 0.1,
        "dead": 0.25 if stage != "head" else None,
        "saturated": None,
    }
    for epoch in (1, 2, 3)
    for place, stage in enumerate(("stem", "layer1", "head"))
]


def test_there_is_a_chart_of_each_figure_with_a_line_for_each_stage() -> None:
    words = [re.search('aria-label="([^"]*)"', chart) for chart in gradient_charts(HISTORY)]
    assert [match and match[1] for match in words] == [
        "Gradient norm by epoch: stem at 0.001, layer1 at 0.0001, head at 1e-05.",
        "Gradient by weight by epoch: stem at 0.1, layer1 at 0.1, head at 0.1.",
        "Dead units by epoch: stem ends at 25.0%, layer1 ends at 25.0%.",
    ]


def test_one_epoch_is_no_curve() -> None:
    assert gradient_charts(HISTORY[:3]) == []


def test_lines_take_their_colours_from_the_page() -> None:
    for chart in gradient_charts(HISTORY):
        ET.fromstring(chart)
        assert "color-mix(in oklch, var(--accent) 100%, var(--wrong))" in chart
        assert re.search(r"#0\d0\d\d\d", chart.replace("#000000", "")) is None
