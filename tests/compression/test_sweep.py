"""Several ways of compressing one model: judged side by side, and gone on with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.model_folder import ModelFolder


@pytest.mark.slow
def test_a_share_that_cannot_be_reached_is_named_and_the_others_are_judged_together(
    run_cli: Callable[..., tuple[int, str, str]], parent: ModelFolder, tmp_path: Path
) -> None:
    shares = ("--prune", "macs", "--sweep", "0.8,0.6,0.01", "--epochs", "0", "--round-to", "1")
    code, printed, said = run_cli("compress", parent.path, *shares, "--out", tmp_path / "swept")
    assert code == 0, said
    assert "macs=0.01 is left out" in said
    named = [line.split()[0] for line in printed.splitlines() if line.startswith("macs=")]
    assert named == ["macs=0.8", "macs=0.6"]
    page = (tmp_path / "swept" / "compress.html").read_text(encoding="utf-8")
    assert "macs=0.01: " in page
    assert page.count("<figure>") == 3
    before = (tmp_path / "swept" / "macs=0.8" / "1-prune" / "weights.safetensors").stat().st_mtime_ns
    code, _, _ = run_cli("compress", parent.path, *shares, "--out", tmp_path / "swept")
    after = (tmp_path / "swept" / "macs=0.8" / "1-prune" / "weights.safetensors").stat().st_mtime_ns
    assert (code, after) == (0, before)


@pytest.mark.usefixtures("untimed_here")
def test_every_way_has_its_own_counts_where_it_ends_in_an_export(
    run_cli: Callable[..., tuple[int, str, str]], parent: ModelFolder, tmp_path: Path
) -> None:
    cut, then = ("--prune", "macs", "--epochs", "0", "--round-to", "1"), ("--quantize", "fp16")
    code, printed, said = run_cli(
        "compress", parent.path, *cut, "--sweep", "0.8,0.6", *then, "--out", tmp_path / "swept"
    )
    assert code == 0, said
    macs = [float(line.split(" million")[0].split()[-1]) for line in printed.splitlines() if " million" in line]
    assert len(macs) == 3
    assert macs[2] < 0.62 * macs[0] < 0.7 * macs[0] < macs[1] < 0.82 * macs[0]  # as printed, rounded


def test_when_no_share_can_be_reached_that_is_said_once_and_nothing_is_left(
    run_cli: Callable[..., tuple[int, str, str]], parent: ModelFolder, tmp_path: Path
) -> None:
    cut = ("--prune", "macs", "--sweep", "0.001", "--epochs", "0")
    code, _, said = run_cli("compress", parent.path, *cut, "--out", tmp_path / "swept")
    assert (code, said.count("can't be reached")) == (2, 1), said
    assert not (tmp_path / "swept").exists()


def test_a_folder_that_holds_something_else_is_refused_and_stays(
    run_cli: Callable[..., tuple[int, str, str]], parent: ModelFolder, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "compress.json").write_text("hers")
    cut = ("--prune", "macs", "--sweep", "0.8", "--epochs", "0")
    code, _, said = run_cli("compress", parent.path, *cut, "--out", tmp_path / "mine")
    assert (code, "holds something else" in said) == (2, True), said
    assert (tmp_path / "mine" / "compress.json").read_text() == "hers"


@pytest.mark.usefixtures("untimed_here")
def test_a_sweep_with_other_settings_leaves_the_older_one_as_it_is(
    run_cli: Callable[..., tuple[int, str, str]], parent: ModelFolder, tmp_path: Path
) -> None:
    cut = ("--prune", "macs", "--epochs", "0", "--out", tmp_path / "swept")
    code, _, said = run_cli("compress", parent.path, *cut, "--sweep", "0.8", "--round-to", "1")
    assert code == 0, said
    before = (tmp_path / "swept" / "compress.json").read_bytes()
    code, _, said = run_cli("compress", parent.path, *cut, "--sweep", "0.8,0.6", "--round-to", "2")
    assert (code, "was made with other settings" in said) == (2, True), said
    assert (tmp_path / "swept" / "compress.json").read_bytes() == before


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("option", [("--quantize", "fp16"), ("--prune", "macs", "--sweep", "0.8", "--epochs", "0")])
def test_results_never_go_among_the_model_s_own_images(
    run_cli: Callable[..., tuple[int, str, str]],
    parent: ModelFolder,
    photos: Path,
    option: tuple[str, ...],
    named: bool,
) -> None:
    place = Path(parent.spec.provenance.data["location"]) / "red" / "small"
    code, _, said = run_cli("compress", parent.path, *([photos] if named else []), *option, "--out", place)
    assert (code, "inside the images' own folder" in said) == (2, True), said
    assert not place.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--sweep", "0.5"), "gives the shares of one target"),
        (("--prune", "macs=0.5", "--sweep", "0.5"), "gives the shares of one target"),
        (("--prune", "macs", "--sweep", "0.5,half"), "--sweep takes shares"),
        (("--prune", "macs"), "--prune takes a target and the share"),
        (("--prune", "macs=0.8,0.6"), "--prune takes a target and the share"),
        (("--prune", "macs", "--sweep", "0.5,1.5"), "above 0 and below 1"),
        (("--prune", "macs", "--sweep", "0.5,0.25,0.50"), "--sweep names the share 0.5 twice. Name each once."),
    ],
)
def test_shares_that_make_no_sense_are_one_sentence(
    run_cli: Callable[..., tuple[int, str, str]],
    parent: ModelFolder,
    options: tuple[str, ...],
    sentence: str,
) -> None:
    code, _, said = run_cli("compress", parent.path, *options)
    assert (code, sentence in said) == (2, True), said
    assert not parent.path.with_name("run-sweep").exists()
