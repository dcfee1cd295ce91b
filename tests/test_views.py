"""Test-time augmentation: which views there are, how they are averaged, and that their figures stay apart."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_folder, make_photos
from PIL import Image
from torchvision.transforms.v2 import functional as reference

from sightline.errors import ModelError, RecipeError
from sightline.evaluation import evaluate
from sightline.model_folder import Calibration, ModelFolder
from sightline.prediction import Predictor
from sightline.preprocess import Preprocess
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import train
from sightline.views import averaged, check_views, views

PREPROCESS = Preprocess(image_size=12, resize=17)
SETTINGS = ["model.name=resnet20", "data.image_size=16", "data.resize=20", "data.num_workers=0", "epochs=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    photos = make_photos(tmp_path_factory.mktemp("data") / "photos")
    return train(override(Recipe(), SETTINGS), photos, out=tmp_path_factory.mktemp("model") / "run")


def pixels(side: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_five_crops_are_the_centre_that_evaluation_sees_and_torchvision_s_corners() -> None:
    canvas = pixels(17)
    centre, *corners = views(canvas, PREPROCESS, "five_crop")
    assert torch.equal(centre, canvas[:, :, 2:14, 2:14])  # Preprocess.margin
    assert all(
        torch.equal(ours, theirs) for ours, theirs in zip(corners, reference.five_crop(canvas, [12, 12]), strict=False)
    )


def test_flip_adds_the_mirror_image() -> None:
    plain, mirrored = views(pixels(12), PREPROCESS, "flip")
    assert torch.equal(plain, pixels(12))
    assert torch.equal(mirrored, reference.horizontal_flip(plain))


def test_the_logits_are_averaged() -> None:
    def network(images: torch.Tensor) -> torch.Tensor:
        return images[:, :, 0, 0]  # tells an image from its mirror image

    both = averaged(network, pixels(12), PREPROCESS, "flip")
    alone = [network(PREPROCESS.normalize(view)) for view in views(pixels(12), PREPROCESS, "flip")]
    assert torch.allclose(both, (alone[0] + alone[1]) / 2)
    assert torch.equal(averaged(network, pixels(12), PREPROCESS, None), alone[0])


def test_views_that_would_all_be_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--tta five_crop needs images resized to more than the 12 pixels"):
        check_views("five_crop", Preprocess(image_size=12, resize=12))


def test_an_image_and_its_mirror_image_get_one_answer_with_flip(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    image = Image.fromarray(pixels(18)[0].permute(1, 2, 0).numpy())
    pair = [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    plain, flipped = (Predictor(folder, tta=tta).predict(pair) for tta in (None, "flip"))
    assert plain[0].guesses != plain[1].guesses
    for one, other in zip(flipped[0].guesses, flipped[1].guesses, strict=True):
        assert one.label == other.label
        assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_the_predictor_averages_what_evaluation_averages(trained: ModelFolder) -> None:
    data = Path(trained.spec.provenance.data["location"])
    paths = sorted(data.rglob("*.jpg"))[:5]
    predictor = Predictor(trained, tta="five_crop")
    canvases = [trained.spec.preprocess.canvas(Image.open(path)) for path in paths]
    stacked = np.stack([canvas.transpose(2, 0, 1) for canvas in canvases])
    for prediction, row in zip(predictor.predict(paths), predictor.probabilities(stacked), strict=True):
        assert prediction.guesses[0].probability == pytest.approx(row.max().item(), abs=1e-6)


@pytest.mark.parametrize("tta", ["flip", "five_crop"])
def test_figures_of_views_stand_beside_the_plain_ones(tta: str, trained: ModelFolder) -> None:
    before = ModelFolder.read(trained.path)
    plain = (trained.path / "evaluation" / "test.json").read_bytes()
    evaluation = evaluate(before, tta=tta, num_workers=0)  # type: ignore[arg-type]
    after = ModelFolder.read(trained.path)
    assert after.spec.figures["test"] == before.spec.figures["test"]
    assert (trained.path / "evaluation" / "test.json").read_bytes() == plain
    assert after.spec.figures[f"test_tta_{tta}"]["log_loss"] == evaluation.calibrated.log_loss
    assert after.spec.figures[f"test_tta_{tta}"]["log_loss"] != before.spec.figures["test"]["log_loss"]
    assert json.loads((trained.path / "evaluation" / f"test_tta_{tta}.json").read_text()) == evaluation.to_json()


def test_a_folder_that_was_opened_once_keeps_the_figures_of_every_evaluation(
    trained: ModelFolder, tmp_path: Path
) -> None:
    opened = ModelFolder.read(shutil.copytree(trained.path, tmp_path / "copy"))
    for split in ("val", "test"):
        evaluate(opened, split=split, tta="flip", num_workers=0)
    assert {"val_tta_flip", "test_tta_flip"} <= set(ModelFolder.read(opened.path).spec.figures)


def test_figures_of_a_model_that_was_replaced_meanwhile_are_not_given_to_the_new_one(
    trained: ModelFolder, tmp_path: Path
) -> None:
    opened = ModelFolder.read(shutil.copytree(trained.path, tmp_path / "copy"))
    other = replace(opened.spec, calibration=Calibration(temperature=9.0), figures={})
    ModelFolder.write(opened.path, other, opened.model().state_dict())
    with pytest.raises(ModelError, match=r"was replaced by another model meanwhile\. Evaluate it again\.$"):
        evaluate(opened, tta="flip", num_workers=0)
    assert ModelFolder.read(opened.path).spec.figures == {}


def test_the_commands_say_what_was_averaged(trained: ModelFolder, run_cli: Callable[..., tuple[int, str, str]]) -> None:
    code, said, _ = run_cli("evaluate", trained.path, "--tta", "flip")
    assert code == 0
    assert "Test-time augmentation flip: logits averaged over the image and its mirror image." in said
    assert (
        json.loads(run_cli("evaluate", trained.path, "--tta", "flip", "--json")[1])["test_time_augmentation"] == "flip"
    )
    data = Path(trained.spec.provenance.data["location"])
    _, said, aside = run_cli("predict", trained.path, data / "red" / "000.jpg", "--tta", "five_crop")
    assert "Test-time augmentation five_crop: logits averaged over the image's centre and four corners." in aside
    assert "red/000.jpg" in said
