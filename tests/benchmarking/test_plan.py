from pathlib import Path

import pytest
from foreign_network import make_foreign
from making import make_folder

from sightline.benchmarking import _Run
from sightline.benchmarking.plan import Entry, Plan, Subject, entries, subjects
from sightline.devices import cores
from sightline.engines import find_engine
from sightline.errors import MissingPackageError, SightlineError


def chosen(models: list[Path], plan: Plan, against: list[Path] | None = None) -> tuple[list[str], list[str]]:
    found, left_out = entries(subjects(models, against or []), plan)
    return [str(entry) for entry in found], left_out


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "model").path


def test_all_engines_run_a_model_folder_torch_first(model: Path) -> None:
    engines = ("torch", "channels_last", "compiled", "onnx", "openvino")
    assert chosen([model], Plan()) == ([f"model, {name}, float32" for name in engines], [])


def test_the_baseline_is_timed_although_it_was_not_asked_for(model: Path) -> None:
    found, left_out = chosen([model], Plan(engines=("openvino",), precisions=("bf16",)))
    assert found == ["model, torch, float32", "model, openvino, bf16"]
    assert left_out == []


def test_what_has_no_such_precision_is_left_out_and_said(model: Path) -> None:
    found, left_out = chosen([model], Plan(precisions=("float32", "bf16")))
    assert len(found) == 9
    assert left_out == ["'onnx' has no precision 'bf16'. It has: float32."]


def test_another_s_file_is_run_by_what_reads_onnx(model: Path, tmp_path: Path) -> None:
    path = make_foreign(tmp_path / "other.onnx")
    found, _ = chosen([model], Plan(engines=("torch", "onnx")), [path])
    assert found == ["model, torch, float32", "model, onnx, float32", "other.onnx, onnx, float32"]
    assert chosen([], Plan(), [path])[0] == ["other.onnx, onnx, float32", "other.onnx, openvino, float32"]


def test_an_engine_that_is_not_installed_is_an_error_when_named_and_a_note_when_not(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(find_engine("onnx")), "missing", property(lambda self: "x" if "ONNX" in self.title else None)
    )
    found, left_out = chosen([model], Plan())
    assert "model, onnx, float32" not in found
    assert left_out == ["'onnx' is left out, since x is not installed."]
    with pytest.raises(MissingPackageError, match=r'pip install "sightline\[onnx\]"'):
        chosen([model], Plan(engines=("onnx",)))


@pytest.mark.parametrize(("named", "given"), [((), {"executorch": None, "onnx": cores()}), ((2,), {"executorch": 2})])
def test_executorch_is_given_no_number_of_threads_unless_one_was_named(
    named: tuple[int, ...], given: dict[str, int | None], tmp_path: Path
) -> None:
    plan, subject = Plan(threads=named), Subject("model", tmp_path, None)
    run = _Run(plan, [], None, None)
    for engine, threads in given.items():
        assert run._job(Entry(subject, engine, "float32"), 1, plan.all_threads[0]).threads == threads


def test_a_model_that_is_named_twice_is_refused(model: Path) -> None:
    with pytest.raises(SightlineError, match="named twice"):
        subjects([model, model / ".." / "model"], [])


def test_folders_of_one_name_are_told_apart_by_the_folders_around_them(tmp_path: Path) -> None:
    paths = [tmp_path / "o" / share / "1-prune" for share in ("macs=0.8", "macs=0.6")]
    for path in paths:
        make_folder(path)
    other = make_foreign(tmp_path / "net.onnx")
    names = [subject.name for subject in subjects(paths, [other])]
    assert names == ["macs=0.8/1-prune", "macs=0.6/1-prune", "net.onnx"]


def test_a_folder_that_is_named_by_a_dot_has_its_own_name(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)
    assert [subject.name for subject in subjects([Path()], [])] == ["model"]
