"""ExecuTorch: the planned batch is no bound to callers, and the file tells what it is."""

import json
from pathlib import Path

import numpy as np
import pytest
from filled import CLASSES, Exports, marks

from sightline.errors import ModelError
from sightline.exported_folder import ExportedFolder
from sightline.formats import open_exported
from sightline.formats.executorch import ExecuTorchRunner
from sightline.model_folder import ModelFolder
from sightline.prediction import Predictor

pytestmark = [pytest.mark.xdist_group("formats"), *marks("executorch")]


@pytest.fixture
def folder(exports: Exports) -> ExportedFolder:
    return exports("executorch")


def test_batches_larger_than_the_planned_one_are_cut_up(folder: ExportedFolder, filled: ModelFolder) -> None:
    opened = open_exported(folder)
    assert opened.runner._largest < 40  # type: ignore[attr-defined]
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    expected = Predictor.open(filled.path).logits(pixels)
    assert np.abs(opened(pixels).logits - expected).max() < 1e-4 * expected.std()


def test_constant_methods_name_the_classes_and_the_parent(folder: ExportedFolder) -> None:
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(str(folder.path / "model.pte"))
    told = {key: program.load_method(f"sightline_{key}").execute([])[0] for key in ("classes", "parent")}
    assert json.loads(told["classes"]) == list(CLASSES)
    assert told["parent"] == folder.artefact.parent


def test_an_operation_that_the_runtime_lacks_is_one_sentence(tmp_path: Path) -> None:
    import torch

    from sightline.formats import Graph
    from sightline.formats.executorch import write

    graph = Graph(
        module=torch.nn.LocalResponseNorm(5).eval(),
        example=torch.zeros(2, 8, 4, 4),
        input_name="images",
        output_names=("logits",),
        metadata={},
    )
    write(graph, tmp_path)
    with pytest.raises(ModelError, match="an operation that ExecuTorch's runtime has no kernel for"):
        ExecuTorchRunner(tmp_path / "model.pte", None)


def test_a_number_of_threads_is_refused(folder: ExportedFolder) -> None:
    with pytest.raises(ModelError, match="Leave --threads out"):
        open_exported(folder, threads=1)


@pytest.mark.parametrize("content", [b"", b"no program at all"])
def test_what_is_no_program_is_refused_before_its_runtime_ends_the_process(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pte").write_bytes(content)
    with pytest.raises(ModelError, match="it is no ExecuTorch program, or was damaged"):
        ExecuTorchRunner(tmp_path / "model.pte", None)
