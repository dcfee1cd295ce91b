"""`sightline bench`: what is printed and written, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from foreign_network import make_foreign
from making import make_folder, make_photos
from markupsafe import escape

from sightline.benchmarking.figures import Accuracy, Bench, Latency, Row
from sightline.benchmarking.plan import Plan

Cli = Callable[..., tuple[int, str, str]]


def test_a_file_of_another_s_is_timed_and_written_as_json_and_as_a_page(tmp_path: Path, run_cli: Cli) -> None:
    path = make_foreign(tmp_path / "<b>other.onnx")
    arguments = ["--against", path, "--engines", "onnx", "--batch", "1,3", "--threads", "1", "--seconds", "0.05"]
    code, out, err = run_cli("bench", *arguments, "--json", tmp_path / "b.json", "--html", tmp_path / "b.html")
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("Batch")][:2] == [
        "Batch 1, 1 thread",
        "Batch 3, 1 thread",
    ]
    found = json.loads((tmp_path / "b.json").read_text())
    assert [(row["batch_size"], row["threads"], row["engine"]) for row in found["rows"]] == [
        (1, 1, "onnx"),
        (3, 1, "onnx"),
    ]
    for row in found["rows"]:
        assert row["failure"] is None
        assert row["size"] == path.stat().st_size
        assert row["images_per_second"] > 0
        assert row["start_seconds"] > 0
        assert (row["ratio"]["low"], row["ratio"]["high"]) == (1, 1)
    page = (tmp_path / "b.html").read_text()
    assert "&lt;b&gt;other.onnx" in page
    assert "<b>other" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_a_combination_that_fails_is_named_and_the_exit_code_is_1(tmp_path: Path, run_cli: Cli) -> None:
    path = make_foreign(tmp_path / "four.onnx", shape=(4, 3, 16, 16))
    code, out, _ = run_cli("bench", "--against", path, "--engines", "onnx", "--batch", "4,1", "--seconds", "0.05")
    assert code == 1
    assert "failed: four.onnx  onnx, batch 1: The file takes batches of 4 alone, not of 1." in out
    assert "Batch 1, " in out
    assert "nothing could be measured." in out


def test_models_of_one_name_have_a_column_and_the_baseline_is_not_taken_for_the_fastest(
    tmp_path: Path, run_cli: Cli
) -> None:
    paths = [make_foreign(tmp_path / place / "net.ONNX") for place in ("a", "b") if (tmp_path / place).mkdir() is None]
    arguments = [word for path in paths for word in ("--against", path)]
    arguments += ["--engines", "onnx", "--batch", "1", "--threads", "1", "--seconds", "0.05"]
    code, out, _ = run_cli("bench", *arguments, "--json", tmp_path / "b.json", "--html", tmp_path / "b.html")
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert code == 0
    assert [(row["model"], row["baseline"]) for row in rows] == [("a/net.ONNX", True), ("b/net.ONNX", False)]
    assert "a/net.ONNX  onnx" in out
    assert "b/net.ONNX  onnx" in out
    assert "Times are against a/net.ONNX, onnx, float32." in out
    assert "Bench of a/net.ONNX and b/net.ONNX" in (tmp_path / "b.html").read_text()


def test_which_images_accuracy_is_on_is_printed_and_on_the_page(
    tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy = Accuracy(value=0.9, low=0.8, high=0.95, said="60 images of '<b>'", num_seen=42)
    row = Row(
        model="run",
        engine="torch",
        precision="float32",
        batch_size=1,
        threads=1,
        device="cpu",
        size=9,
        latency=Latency.of([0.1]),
        images_per_second=10,
        start_seconds=1,
        accuracy=accuracy,
    )
    plan, about = asdict(Plan(data="<b>")), {"processor": "one", "cores": 1}
    found = Bench(created="", command="", machine=about, plan=plan, baseline="run", left_out=[], rows=[row])
    monkeypatch.setattr("sightline.benchmarking.bench", lambda *_, **__: found)
    code, out, _ = run_cli("bench", "run", "--html", tmp_path / "b.html")
    assert code == 0
    page = (tmp_path / "b.html").read_text()
    for sentence in (
        "Accuracy, with its 95% interval, is on 60 images of '<b>'.",
        "42 of these images are ones that run was trained on: its accuracy flatters it.",
    ):
        assert sentence in out.splitlines()
        assert str(escape(sentence)) in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "There is nothing to bench. Name a model folder, an exported one, or --against FILE.onnx."),
        (["nowhere"], "There is no model folder 'nowhere'."),
        (["{model}", "--engines", "onx"], "Unknown engine 'onx'. Did you mean 'onnx'?"),
        (["{model}", "--precision", "int3"], "Unknown precision 'int3'. There are: float32, bf16."),
        (["{model}", "--engines", "onnx", "--precision", "bf16"], "The engine 'onnx' can run none of the models so."),
        (["{model}", "--batch", "one"], "--batch takes whole numbers with commas between them, got 'one'."),
        (["{model}", "--batch", "0"], "batch_sizes must be at least 1, got 0."),
        (["{model}", "--threads", "99999999"], "threads must be at most 1,024, got 99,999,999."),
        (["{model}", "--threads", "-1"], "threads must be at least 1, got -1."),
        (["{model}", "--engines", ","], "--engines takes names with commas between them, got ','."),
        (["{model}", "--seconds", "nan"], "seconds must be a number greater than 0"),
        (["{model}", "--seconds", "inf"], "seconds must be a number greater than 0"),
        (["{model}", "--json", "{model}/model.json/b.json"], "is no folder that can be written to."),
        (["{model}", "--json", "{model}"], "is a folder. Name the file to write."),
        (["{model}", "--against", "none.onnx"], "There is no file 'none.onnx'."),
        (["{model}", "--against", "{model}/weights.safetensors"], "can't be opened by ONNX Runtime"),
        (["{model}", "--engines", "torch", "--data", "nowhere"], "nowhere"),
        (["{model}", "--engines", "torch", "--data", "{other}"], "Unknown class"),
        (["{model}", "--images", "5"], "--images says how many images of --data are taken. Name --data too."),
        (["--against", "{foreign}", "--data", "nowhere"], "--data measures model folders and exported ones."),
        (["{model}", "{model}"], "A model is named twice. Name each once."),
        (["{model}", "--device", "gpu"], "The device 'gpu' is not available here."),
    ],
)
def test_a_user_s_mistake_is_one_line(arguments: list[str], sentence: str, tmp_path: Path, run_cli: Cli) -> None:
    model = make_folder(tmp_path / "model").path
    other = tmp_path / "other"
    if "{other}" in arguments:
        make_photos(other, classes=("cat", "dog"), count=1)
    foreign = make_foreign(tmp_path / "net.onnx")
    code, out, err = run_cli("bench", *(word.format(model=model, other=other, foreign=foreign) for word in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert sentence in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_model_folder_is_timed_with_its_accuracy_on_images(tmp_path: Path, photos: Path, run_cli: Cli) -> None:
    model = make_folder(tmp_path / "model").path
    code, _, _ = run_cli(
        *("bench", model, "--engines", "channels_last,onnx", "--batch", "2", "--threads", "1", "--seconds", "0.1"),
        *("--data", photos, "--images", "20", "--json", tmp_path / "b.json"),
    )
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert code == 0
    assert [row["engine"] for row in rows] == ["torch", "channels_last", "onnx"]
    assert len({row["accuracy"]["value"] for row in rows}) == 1
    assert rows[0]["accuracy"]["said"] == f"20 images of '{photos}'"
    assert rows[2]["size"] > 1e6
    assert rows[2]["memory"] < rows[0]["memory"]


@pytest.mark.slow
def test_the_fastest_engine_predicts_and_is_remembered(tmp_path: Path, photos: Path, run_cli: Cli) -> None:
    model = make_folder(tmp_path / "model").path
    arguments = ["predict", model, photos, "--top-k", "1", "--batch-size", "4", "--threads", "1"]
    expected = run_cli(*arguments)[1]
    code, out, err = run_cli(*arguments, "--engine", "auto")
    assert (code, out) == (0, expected)
    assert "engine: " in err
    _, _, again = run_cli(*arguments, "--engine", "auto")
    assert again.rstrip().endswith("Measured before.")
    assert "Trying" not in again
