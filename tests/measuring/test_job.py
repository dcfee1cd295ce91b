from pathlib import Path

import numpy as np
import pytest
from foreign_network import make_foreign
from making import make_folder

from sightline.measuring.job import Job


def test_a_job_survives_its_trip_to_the_worker() -> None:
    job = Job(path="runs/röt", engine="onnx", threads=2, batch_size=7, image_size=64)
    assert Job.from_json(job.to_json()) == job


def test_stored_images_are_timed_again_where_there_are_fewer_than_a_batch(tmp_path: Path) -> None:
    stored = np.random.default_rng(1).integers(0, 256, (3, 3, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", stored)
    model = make_folder(tmp_path / "model").path
    job = Job(path=str(model), engine="torch", batch_size=5, pixels=str(tmp_path / "pixels.npy"))
    network, images = job.open()
    assert np.array_equal(images, stored[[0, 1, 2, 0, 1]])
    assert network(images).shape == (5, 3)


def test_noise_is_timed_where_no_images_are_named(tmp_path: Path) -> None:
    model = make_folder(tmp_path / "model").path
    _, images = Job(path=str(model), engine="torch", batch_size=2).open()
    assert (images.shape, images.dtype) == ((2, 3, 16, 16), np.uint8)
    assert len(np.unique(images)) > 200


def test_a_folder_is_one_of_ours_whatever_its_name_ends_in(tmp_path: Path) -> None:
    model = make_folder(tmp_path / "run.onnx").path
    job = Job(path=str(model), engine="torch", batch_size=2)
    assert not job.foreign
    network, images = job.open()
    assert network(images).shape == (2, 3)


@pytest.mark.parametrize("name", ["net.ONNX", "net"])
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_file_is_another_s_whatever_its_name_ends_in(name: str, engine: str, tmp_path: Path) -> None:
    job = Job(path=str(make_foreign(tmp_path / name)), engine=engine, batch_size=2)
    assert job.foreign
    network, images = job.open()
    assert network(images)[0].shape == (2, 3)
