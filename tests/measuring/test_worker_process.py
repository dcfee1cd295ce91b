"""A worker's process, with an ONNX file, which opens quickly."""

from pathlib import Path

import numpy as np
import pytest
from foreign_network import make_foreign

from sightline.errors import ModelError, SightlineError
from sightline.measuring.foreign import stated_input
from sightline.measuring.job import Job
from sightline.measuring.process import Worker


def test_a_worker_times_answers_tells_its_memory_and_ends(tmp_path: Path) -> None:
    path = make_foreign(tmp_path / "means.onnx")
    pixels = np.random.default_rng(0).standard_normal((5, 3, 16, 16), dtype=np.float32)
    np.save(tmp_path / "pixels.npy", pixels)
    with Worker(Job(path=str(path), engine="onnx", batch_size=2, threads=1)) as worker:
        assert worker.wait() > 0
        calls = worker.run(0.05)
        assert sum(calls) >= 0.04
        assert all(seconds > 0 for seconds in calls)
        assert len(worker.run(0)) == 1
        memory, gpu_memory = worker.memory()
        assert memory is None or 1e7 < memory < 2e9
        assert gpu_memory == 0
        worker._process.kill()
        with pytest.raises(SightlineError, match="its process ended with SIGKILL, most often for want of memory"):
            worker.run(0)


def test_a_worker_says_what_is_wrong_with_its_job(tmp_path: Path) -> None:
    path = make_foreign(tmp_path / "means.onnx", shape=(4, 3, 16, 16))
    said = pytest.raises(SightlineError, match="The file takes batches of 4 alone, not of 2")
    with Worker(Job(path=str(path), engine="onnx", batch_size=2)) as worker, said:
        worker.wait()


def test_noise_has_the_shape_and_the_type_that_the_file_states(tmp_path: Path) -> None:
    free = stated_input(make_foreign(tmp_path / "free.onnx", shape=("n", 3, "h", "w")))
    assert free.noise(2, 8).shape == (2, 3, 8, 8)
    assert free.noise(2, 8).dtype == np.float32
    with pytest.raises(ModelError, match="takes images of any size. Name a model folder beside it"):
        free.noise(2, None)
    pixels = stated_input(make_foreign(tmp_path / "pixels.onnx", dtype="UINT8")).noise(3, None)
    assert (pixels.shape, pixels.dtype) == ((3, 3, 16, 16), np.uint8)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (None, "There is no file"),
        ("text", "can't be opened by ONNX Runtime"),
        ("flat", r"takes tensor\(float\) of 2 dimensions, where images have 4"),
    ],
)
def test_what_is_no_network_of_images_is_one_sentence(made: str | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "file.onnx"
    if made == "text":
        path.write_text("no network")
    if made == "flat":
        from onnx import TensorProto, helper, save_model

        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", 4)) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "flat", ends[:1], ends[1:])
        save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    with pytest.raises(ModelError, match=sentence) as raised:
        stated_input(path)
    assert "\n" not in str(raised.value)
