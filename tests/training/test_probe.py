"""The linear probe: a head on features computed once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_photos
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression

from sightline.data.prepare import prepare
from sightline.errors import ModelError, RecipeError
from sightline.evaluation import evaluate
from sightline.model_folder import ModelFolder
from sightline.models import create_model
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.reports import write_report
from sightline.training import fast_dev_run, probe, resume, train
from sightline.training.find_rate import find_learning_rate

SETTINGS = [
    "model.name=resnet20",
    "data.image_size=16",
    "data.resize=18",
    "data.num_workers=0",
    "finetune.probe=true",
    "augment=[flip]",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos", count=20)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("parent") / "weights.safetensors"
    save_file(create_model("resnet20", num_classes=7, image_size=16).state_dict(), path)
    return path


@pytest.fixture
def recipe(parent: Path) -> Recipe:
    return override(Recipe(), [*SETTINGS, f"model.pretrained={parent}"])


@pytest.fixture(autouse=True)
def _cache_of_each_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))


def test_a_probe_changes_the_head_alone_and_gives_a_whole_model_folder(
    recipe: Recipe, parent: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="sightline"):
        folder = train(recipe, data, out=tmp_path / "run")
    before, after = load_file(parent), load_file(folder.path / "weights.safetensors")
    assert {name for name in after if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}
    assert folder.spec.figures["test"]["accuracy"]["value"] >= 0.8  # three colours, seen by random features
    assert evaluate(folder.path, device="cpu", num_workers=0).num_images == 9
    assert write_report(folder).exists()
    assert any("Of the recipe it does not use epochs, batch_size, augment, loss, optim" in m for m in caplog.messages)


def test_a_probe_is_deterministic_and_computes_the_features_once(
    recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(recipe, data, out=tmp_path / "first")
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(probe, "_compute", None)
        again = train(override(recipe, ["data.num_workers=1"]), data, out=tmp_path / "again")
    assert again.spec.weights_sha256 == first.spec.weights_sha256
    (tmp_path / "cache" / "features").rename(tmp_path / "elsewhere")
    anew = train(recipe, data, out=tmp_path / "anew")
    assert anew.spec.weights_sha256 == first.spec.weights_sha256


def test_other_weights_and_other_images_have_features_of_their_own(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    train(recipe, data, out=tmp_path / "first")
    torch.manual_seed(1)
    save_file(create_model("resnet20", num_classes=7, image_size=16).state_dict(), tmp_path / "other.safetensors")
    train(override(recipe, [f"model.pretrained={tmp_path / 'other.safetensors'}"]), data, out=tmp_path / "second")
    more = make_photos(tmp_path / "photos", count=21)
    train(recipe, more, out=tmp_path / "third")
    train(override(recipe, ["model.activation=elu"]), data, out=tmp_path / "fourth")
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 4


@pytest.mark.parametrize("classes", [("blue", "green", "red"), ("blue", "red")])
def test_the_head_gives_the_probabilities_of_scikit_learn_s_regression(
    classes: tuple[str, ...], recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "GRID", (0.1,))
    photos = make_photos(tmp_path / "photos", classes=classes)
    folder = train(recipe, photos, out=tmp_path / "run")
    prepared = prepare(photos, recipe.data, recipe.seed)
    features = features_of(folder, prepared.table.paths, photos)
    train_features = features[prepared.splits.train]
    mean, deviation = train_features.mean(0), train_features.std(0)
    deviation = np.where(deviation > 1e-6, deviation, 1)  # fresh networks have channels that are never active
    regression = LogisticRegression(C=0.1, max_iter=1000)
    regression.fit((train_features - mean) / deviation, prepared.table.targets[prepared.splits.train])
    expected = regression.predict_proba((features - mean) / deviation)
    model = folder.model()
    with torch.no_grad():
        probabilities = model.head(torch.from_numpy(features).float()).softmax(1)
    np.testing.assert_allclose(probabilities.numpy(), expected, atol=2e-3)


def features_of(folder: ModelFolder, paths: tuple[str, ...], photos: Path) -> np.ndarray:
    model = folder.model()
    rows: list[np.ndarray] = []
    with torch.no_grad():
        for path in paths:
            image = folder.spec.preprocess.tensor(Image.open(photos / path))
            rows.append(model.forward_features(image[None])[0].double().numpy())
    return np.stack(rows)


def test_the_penalty_is_chosen_by_the_validation_loss() -> None:
    draws = np.random.default_rng(0)
    targets = np.arange(40) % 2
    noise = draws.normal(size=(40, 30)).astype(np.float32)
    noise[:, 0] += 2 * targets
    _, _, weak = probe._fit(noise, targets, noise, targets)  # judged by what it was fitted to: no penalty is best
    other = draws.normal(size=(400, 30)).astype(np.float32)
    other_targets = np.arange(400) % 2
    other[:, 0] += 2 * other_targets
    _, _, strong = probe._fit(noise, targets, other, other_targets)
    assert strong < weak == max(probe.GRID)


def test_features_are_standardised_over_the_training_images_and_dead_ones_only_shifted() -> None:
    draws = np.random.default_rng(0)
    rows = np.zeros((5002, 3), np.float32)
    rows[:-2] = draws.normal((5, -3, 0), (2, 0.1, 0), (5000, 3))
    rows[:-2, 2] = 7
    original = rows[:-2].copy()
    probe._standardise(rows, 4500)
    np.testing.assert_allclose(rows[:4500].mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(rows[:4500, :2].std(0), 1, atol=1e-4)
    assert rows[-1, 2] == 1
    np.testing.assert_allclose(rows[:-2] * rows[-1] + rows[-2], original, atol=1e-4)


def test_a_dev_run_of_a_probe_may_have_batches_smaller_than_the_number_of_classes(recipe: Recipe, data: Path) -> None:
    fast_dev_run(override(recipe, ["batch_size=1"]), data)


def test_training_may_begin_with_the_probe_s_head(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    probed = train(recipe, data, out=tmp_path / "probed")
    first = override(recipe, ["finetune.probe=false", "finetune.probe_first=true", "epochs=1", "batch_size=8"])
    still = train(override(first, ["optim.lr=1e-12", "finetune.keep_statistics=true"]), data, out=tmp_path / "still")
    ours, theirs = (load_file(folder.path / "weights.safetensors") for folder in (still, probed))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-6, rtol=1e-4)
    moved = train(first, data, out=tmp_path / "moved")
    assert not torch.equal(load_file(moved.path / "weights.safetensors")["conv1.weight"], ours["conv1.weight"])


def test_a_recipe_that_begins_with_a_probe_may_end_with_it(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    probed = train(recipe, data, out=tmp_path / "probed")
    both = override(recipe, ["finetune.probe_first=true", "finetune.keep_statistics=true"])
    assert train(both, data, out=tmp_path / "both").spec.weights_sha256 == probed.spec.weights_sha256


def test_a_run_that_goes_on_is_not_probed_again(
    recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = override(recipe, ["finetune.probe=false", "finetune.probe_first=true", "epochs=2", "batch_size=8"])
    whole = train(chosen, data, out=tmp_path / "whole")

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("sightline.training.job.calibrate", stopped)
        train(chosen, data, out=tmp_path / "run")
    monkeypatch.setattr("sightline.training.job.fit_head", stopped)
    assert resume(data, out=tmp_path / "run").spec.weights_sha256 == whole.spec.weights_sha256


def test_a_range_test_begins_with_it_too(recipe: Recipe, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def probed(*_: object) -> None:
        raise KeyError("probed")

    monkeypatch.setattr("sightline.training.find_rate.fit_head", probed)
    chosen = override(recipe, ["finetune.probe=false", "finetune.probe_first=true", "batch_size=8"])
    with pytest.raises(KeyError, match="probed"):
        find_learning_rate(chosen, data)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["finetune.probe=false", "finetune.probe_first=true", "model.pretrained=null"], "needs trained weights"),
        (
            ["finetune.probe=false", "finetune.probe_first=true", 'data.label_separator=";"'],
            r"finetune\.probe_first fits one label an image",
        ),
    ],
)
def test_a_probe_that_makes_no_sense_is_refused_by_name(settings: list[str], sentence: str, recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=sentence):
        override(recipe, settings)


def test_a_probe_without_trained_weights_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"finetune\.probe needs trained weights .* model\.pretrained is null"):
        override(Recipe(), SETTINGS)


def test_damaged_features_are_one_sentence(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    train(recipe, data, out=tmp_path / "first")
    (file,) = (tmp_path / "cache" / "features").iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"The stored features '.*\.npy' are damaged"):
        train(recipe, data, out=tmp_path / "second")
