"""The page of a chain, and of a sweep."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.compressing.judging import Row
from sightline.errors import ModelError
from sightline.evaluation.intervals import wilson
from sightline.evaluation.paired import compare_paired
from sightline.files import write_json
from sightline.reports.compression import render_compression, sentences, write_compression_report
from sightline.reports.front import unbeaten


def row(name: str, right: int, macs: int, seconds: float | None, *, size: int = 8_000_000) -> Row:
    """One that gets the first `right` of 100 images right, of which the first model gets 90."""
    answers = [np.arange(100) < many for many in (90, right)]
    return Row(
        name=name,
        path=f"out/{name}",
        accuracy=wilson(right, 100),
        num_images=100,
        paired=None if name == "as it was" else compare_paired(*answers),
        size=size,
        params=2_000_000,
        macs=macs,
        engine="torch",
        precision="float32",
        seconds=seconds,
    )


FIRST = row("as it was", 90, 100_000_000, 8e-3)
CUT = row("1-prune", 82, 50_000_000, 4e-3, size=4_000_000)
SMALL = replace(
    row("2-quantize", 89, 50_000_000, 1e-3, size=1_000_000),
    engine="openvino",
    precision="int8",
    same_engine_seconds=4e-3,
)
HELD = {
    "model": "photos",
    "data": "more/<photos>",
    "command": "sightline compress photos",
    "created": "2026-11-23T12:00:00+00:00",
    "machine": {"processor": "a processor", "cores": 2},
    "fingerprint": "f",
    "seen": 0,
    "float_layers": {},
    "left_out": [],
}


def chain(*rows: Row) -> dict[str, Any]:
    steps = {
        "1-prune": [{"method": "prune", "settings": {"target": "macs", "share": 0.5}}],
        "2-quantize": [{"method": "quantize", "settings": {}}],
    }
    return {**HELD, "kind": "chain", "rows": [asdict(each) for each in rows], "settings": steps}


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    names = {"least": (10, 70), "worse": (60, 80), "half": (50, 91), "whole": (100, 90), "dear": (70, 91)}
    assert unbeaten(list(names), lambda name: names[name][0], lambda name: names[name][1]) == ["least", "half"]


def test_a_chain_is_told_by_its_end() -> None:
    [told] = sentences([FIRST, CUT, SMALL], "chain")
    assert told.startswith("2-quantize: 89.0% instead of 90.0% of the test images right, -1.0 points (")
    assert "which chance may have made; 8.0 times smaller; 8.0 times as fast as the model was in PyTorch" in told
    assert told.endswith("4.0 times as fast as in openvino's float32.")
    [worse] = sentences([FIRST, CUT], "chain")
    assert "chance" not in worse


def test_a_sweep_names_those_on_the_front_and_tells_of_every_way() -> None:
    rows = [FIRST, replace(CUT, name="macs=0.5"), row("macs=0.4", 80, 40_000_000, 5e-3), row("macs=0.1", 50, 1, None)]
    front, *ways = sentences(rows, "sweep")
    assert front.endswith("in as little time as: macs=0.5, as it was.")
    assert [said.partition(":")[0] for said in ways] == ["macs=0.5", "macs=0.4", "macs=0.1"]
    assert "as fast" not in ways[2]


def test_the_page_has_every_row_its_settings_and_a_chart_of_each_cost_that_differs(tmp_path: Path) -> None:
    write_json(tmp_path / "compress.json", chain(FIRST, CUT, SMALL))
    page = write_compression_report(tmp_path).read_text(encoding="utf-8")
    assert page.count("<figure>") == 3
    assert "<code>prune target=macs share=0.5</code>" in page
    assert "more/&lt;photos&gt;" in page
    assert "openvino int8" in page
    same = replace(CUT, macs=FIRST.macs)
    assert render_compression(chain(FIRST, same)).count("<figure>") == 2


def test_what_has_no_time_says_why_and_layers_in_float32_are_named() -> None:
    result = chain(FIRST, replace(SMALL, seconds=None, same_engine_seconds=None, reason="no <engine>"))
    page = render_compression(result | {"float_layers": {"2-quantize": ["conv1", "fc"]}})
    assert "2-quantize: no &lt;engine&gt;" in page
    assert "computes 2 layers in float32: <code>conv1, fc</code>" in page


def test_the_page_says_what_the_figures_are_of_and_what_flatters_them() -> None:
    page = render_compression(chain(FIRST, CUT))
    assert "All labels right" not in page
    assert "Flattered" not in page
    assert "flatters the choice" not in page
    several = [replace(each, several_labels=True) for each in (FIRST, CUT)]
    page = render_compression(chain(*several) | {"seen": 3, "kind": "sweep", "settings": {}})
    assert '<th scope="col" class="number">All labels right</th>' in page
    assert "82.0% instead of 90.0% of the test images right with all their labels" in page
    assert "3 of the test images are ones" in page
    assert "flatters the choice" in page


def test_no_difference_is_not_told_as_one() -> None:
    [told] = sentences([FIRST, replace(CUT, accuracy=FIRST.accuracy, paired=row("same", 90, 1, 1).paired)], "chain")
    assert "points" not in told


def test_without_a_table_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"compress\.json"):
        write_compression_report(tmp_path)
    assert not list(tmp_path.iterdir())
