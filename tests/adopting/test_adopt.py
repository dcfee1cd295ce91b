"""Models from elsewhere: taken whole and answered for, or refused in one sentence that leaves nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from foreign_network import make_foreign
from making import make_folder, make_photos
from safetensors.torch import save_file
from torch import nn

import sightline
from sightline.adopting import MEASURED, StatedPreprocess
from sightline.adopting.class_names import read_classes
from sightline.errors import DataError, ModelError, RecipeError
from sightline.exported_folder import ExportedFolder
from sightline.model_folder import ModelFolder
from sightline.models import create_model

Cli = Callable[..., tuple[int, str, str]]
NAMES = ("red", "green", "blue")
SMALL = StatedPreprocess(image_size=16, resize=16)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """resnet20's, as torch saves them."""
    torch.manual_seed(0)
    path = tmp_path / "theirs.pth"
    torch.save(create_model("resnet20", num_classes=3, image_size=16).state_dict(), path)
    return path


def changed_onnx(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """A file that gives the mean of each channel, changed."""
    model = onnx.load(str(make_foreign(path)))
    change(model)
    onnx.save(model, str(path))
    return path


def _softmax(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Softmax", ["y"], ["z"], axis=1))
    model.graph.output[0].name = "z"


def _two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(onnx.helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, ["n", 3, 16, 16]))


def test_weights_become_a_model_folder_that_gives_their_network_s_answers(tmp_path: Path, weights: Path) -> None:
    folder = sightline.adopt(weights, NAMES, model="resnet20", out=tmp_path / "ours", preprocess=SMALL)
    assert isinstance(folder, ModelFolder)
    assert (folder.spec.classes, folder.spec.figures) == (NAMES, {})
    network = create_model("resnet20", num_classes=3, image_size=16).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    images = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(folder.model()(images), network(images))
    assert sorted(path.name for path in folder.path.iterdir()) == ["model.json", "weights.safetensors"]
    assert str(folder.spec.provenance.parent).startswith("theirs.pth, sha256 ")


def make_timm_folder(place: Path, **settings: object) -> tuple[Path, nn.Module]:
    """As timm keeps a model, with these settings in its `pretrained_cfg`."""
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3).eval()
    place.mkdir()
    save_file(network.state_dict(), place / "model.safetensors")
    usual = {
        "input_size": [3, 32, 32],
        "crop_pct": 0.8,
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    described = {"architecture": "test_resnet", "pretrained_cfg": usual | settings, "label_names": NAMES}
    (place / "config.json").write_text(json.dumps(described))
    return place, network


def test_a_folder_of_timm_s_brings_its_architecture_names_and_preprocessing(tmp_path: Path) -> None:
    hub, network = make_timm_folder(tmp_path / "hub", crop_mode="center")
    folder = sightline.adopt(hub, out=tmp_path / "ours")
    preprocess = folder.spec.preprocess
    assert (folder.spec.architecture.name, folder.spec.classes) == ("timm/test_resnet", NAMES)
    assert (preprocess.image_size, preprocess.resize, preprocess.interpolation) == (32, 40, "bicubic")
    assert preprocess.mean == (0.5, 0.5, 0.5)
    assert "evaluated" not in folder.spec.provenance.data["preprocessing"]
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(folder.model()(images), network(images))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mean": [0.5]}, "mean is of three finite numbers, one for each channel, got [0.5]"),
        ({"mean": [float("nan"), 0.5, 0.5]}, "mean is of three finite numbers"),
        ({"mean": "abc"}, "mean is of three finite numbers"),
        ({"mean": [10**400, 0.5, 0.5]}, "mean is of three finite numbers"),
        ({"std": [float("inf"), 0.5, 0.5]}, "std is of three finite numbers"),
        ({"std": [0.0, 0.5, 0.5]}, "Every std must be"),
        ({"std": ["0.5", "0.5", "0.5"]}, "std is of three finite numbers"),
        ({"input_size": [3, 64, 32]}, "a square of at most 10,000 pixels, got [3, 64, 32]"),
        ({"input_size": [1, 32, 32]}, "must be of three channels"),
        ({"crop_pct": 1e-9}, "crop_pct must be at most 1, and resize to 10,000 pixels at most, got 1e-09"),
        ({"crop_pct": float("nan")}, "crop_pct must be at most 1"),
    ],
)
def test_a_preprocessing_of_timm_s_that_can_t_be_is_refused(
    settings: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    hub, _ = make_timm_folder(tmp_path / "hub", **settings)
    with pytest.raises(ModelError) as error:
        sightline.adopt(hub, out=tmp_path / "ours")
    assert sentence in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def _named(hub: Path, label_names: object) -> Path:
    described = json.loads((hub / "config.json").read_text())
    (hub / "config.json").write_text(json.dumps(described | {"label_names": label_names}))
    return hub


def test_names_that_imagenet_has_twice_get_their_number_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub = _named(make_timm_folder(tmp_path / "hub")[0], ["crane", "maillot", "crane"])
    with caplog.at_level("INFO", logger="sightline"):
        folder = sightline.adopt(hub, out=tmp_path / "ours")
    assert folder.spec.classes == ("crane (0)", "maillot", "crane (2)")
    assert "their number was put behind it: 'crane'." in caplog.text


@pytest.mark.parametrize(
    ("label_names", "sentence"),
    [
        (["", "", ""], "The name of class 1 of 3"),
        ("abc", "it holds a str"),
        (["a", "b", 3], "is 3, where text is expected"),
        ({"0": "a", "1": "b", "3": "c"}, "its numbers are not 0, 1, 2 and so on"),
        (["a", "a", "a (1)"], "'a (1)' is named 2 times"),
    ],
)
def test_names_in_a_folder_of_timm_s_that_are_no_names_are_refused(
    label_names: object, sentence: str, tmp_path: Path
) -> None:
    hub = _named(make_timm_folder(tmp_path / "hub")[0], label_names)
    with pytest.raises(ModelError) as error:
        sightline.adopt(hub, out=tmp_path / "ours")
    assert sentence in str(error.value)
    assert (
        sightline.adopt(hub, NAMES, out=tmp_path / "ours").spec.classes == NAMES
    )  # named by the user they don't count


def test_what_a_folder_of_timm_s_says_and_preprocess_can_t_have_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub, _ = make_timm_folder(tmp_path / "hub", crop_mode="squash", interpolation="lanczos")
    with caplog.at_level("INFO", logger="sightline"):
        folder = sightline.adopt(hub, out=tmp_path / "ours")
    told = folder.spec.provenance.data["preprocessing"]
    assert "on whole images (crop_mode 'squash'); here the centre is cut out" in told
    assert "resized by 'lanczos'" in told
    assert told in caplog.text


def test_a_name_that_begins_with_a_tilde_and_no_user_s_is_a_name(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"There is nothing at '~no-such-user\.pth'"):
        sightline.adopt("~no-such-user.pth", NAMES, model="resnet20", out=tmp_path / "ours")
    monkeypatch.chdir(tmp_path)
    weights.rename("~no-such-user.pth")
    folder = sightline.adopt("~no-such-user.pth", NAMES, model="resnet20", out=tmp_path / "ours", preprocess=SMALL)
    assert folder.spec.provenance.parent.startswith("~no-such-user.pth, ")


def test_a_folder_named_by_a_dot_gives_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, _ = make_timm_folder(tmp_path / "hub")
    monkeypatch.chdir(hub)
    assert sightline.adopt(".").path == Path("runs") / "hub"


def test_an_onnx_file_becomes_an_exported_folder_measured_on_the_data(tmp_path: Path, run_cli: Cli) -> None:
    photos = make_photos(tmp_path / "photos", classes=NAMES)  # the channel that is bright is the class
    file = make_foreign(tmp_path / "means.onnx")
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    code, out, err = run_cli(
        "adopt", file, "--classes", tmp_path / "names.txt", "--out", tmp_path / "ours", "--data", photos
    )
    assert code == 0
    assert err == (
        "Images: short side to 16 pixels (bilinear), centre of 16, mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225; "
        "assumed as is usual for ImageNet: resize, interpolation, mean, std.\n"
    )
    assert out.splitlines()[1] == f"figures  accuracy 100.0% (90.4 to 100.0) on 36 images of '{photos}'"
    folder = ExportedFolder.read(tmp_path / "ours")
    assert folder.spec.figures[MEASURED]["accuracy"]["value"] == 1.0
    told = {entry.key: entry.value for entry in onnx.load(str(folder.path / "model.onnx")).metadata_props}
    assert json.loads(told["classes"]) == list(NAMES)
    code, out, _ = run_cli("evaluate", folder.path, photos, "--json")
    assert json.loads(out)["accuracy"]["value"] == 1.0
    code, _, err = run_cli("evaluate", folder.path)
    assert (code, err.count("\n")) == (2, 1)
    assert "name the DATA to use" in err


def test_probabilities_in_the_graph_are_given_as_they_are(tmp_path: Path, photos: Path) -> None:
    plain = sightline.adopt(make_foreign(tmp_path / "a.onnx"), NAMES, out=tmp_path / "a", preprocess=SMALL)
    soft = sightline.adopt(changed_onnx(tmp_path / "b.onnx", _softmax), NAMES, out=tmp_path / "b", preprocess=SMALL)
    photo = [photos / "red" / "000.jpg"]
    [expected] = sightline.Predictor(plain).predict(photo)
    [found] = sightline.Predictor(soft).predict(photo)
    assert soft.artefact.details["logarithm_appended"]  # type: ignore[union-attr]
    assert [guess.label for guess in found.guesses] == [guess.label for guess in expected.guesses]
    values = [guess.probability for guess in found.guesses]
    assert values == pytest.approx([guess.probability for guess in expected.guesses], abs=1e-6)


def _last(model: onnx.ModelProto, *nodes: onnx.NodeProto, kind: int | None = None) -> None:
    """Put nodes behind the output "y"; the last one gives "z", numbers of that kind."""
    model.graph.node.extend(nodes)
    model.graph.output[0].name = "z"
    if kind is not None:
        model.graph.output[0].type.tensor_type.elem_type = kind


def _scaled_softmax(factor: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(factor), "factor"))
        softmax = onnx.helper.make_node("Softmax", ["y"], ["s"], axis=1)
        _last(model, softmax, onnx.helper.make_node("Mul", ["s", "factor"], ["z"]))

    return change


def _sigmoid(model: onnx.ModelProto) -> None:
    _last(model, onnx.helper.make_node("Sigmoid", ["y"], ["z"]))


def _double(model: onnx.ModelProto) -> None:
    nodes = [
        onnx.helper.make_node("Cast", ["y"], ["d"], to=onnx.TensorProto.DOUBLE),
        onnx.helper.make_node("Softmax", ["d"], ["z"], axis=1),
    ]
    _last(model, *nodes, kind=onnx.TensorProto.DOUBLE)


def _text(model: onnx.ModelProto) -> None:
    cast = onnx.helper.make_node("Cast", ["y"], ["z"], to=onnx.TensorProto.STRING)
    _last(model, cast, kind=onnx.TensorProto.STRING)


def _old_softmax(model: onnx.ModelProto) -> None:
    """In opset 7, whose Max doesn't broadcast: a logarithm that is appended can't be run."""
    model.opset_import[0].version = 7
    _last(model, onnx.helper.make_node("Softmax", ["y"], ["z"], axis=1))


def test_probabilities_that_were_rounded_are_taken_for_probabilities(tmp_path: Path) -> None:
    file = changed_onnx(tmp_path / "a.onnx", _scaled_softmax(0.99))
    folder = sightline.adopt(file, NAMES, out=tmp_path / "a", preprocess=SMALL)
    assert folder.artefact.details["logarithm_appended"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_sigmoid, "for an image, as sigmoid outputs do"),
        (_scaled_softmax(0.9), "add up to 0.9 to 0.9 for an image"),
        (_double, "gives double, where a float32 number for each class is expected"),
        (_text, "gives string, where a float32 number"),
        (_old_softmax, "What would be written of"),
    ],
)
def test_an_output_that_is_neither_logits_nor_probabilities_is_refused(
    change: Callable[[onnx.ModelProto], None], sentence: str, tmp_path: Path
) -> None:
    _refused(changed_onnx(tmp_path / "theirs.onnx", change), NAMES, sentence, tmp_path)


def test_an_output_of_one_class_is_refused(tmp_path: Path) -> None:
    _refused(make_foreign(tmp_path / "theirs.onnx"), ("cat",), "is of one class", tmp_path)


def test_a_folder_inside_of_the_data_is_refused(tmp_path: Path, weights: Path, photos: Path) -> None:
    inside = photos / "model"
    with pytest.raises(DataError, match="lies inside the images' own folder"):
        sightline.adopt(weights, NAMES, model="resnet20", out=inside, preprocess=SMALL, data=photos)
    assert not inside.exists()


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((1, 3, 16, 16), "takes batches of 1 alone. Export it with a dynamic batch"),
        (("n", 16, 16, 3), "takes (any, 16, 16, 3) as float, where float32 images of (batch, 3, height, width)"),
        (("n", 3, 16, 20), "takes images of 16x20 pixels, where squares are expected"),
    ],
)
def test_an_input_that_is_no_batch_of_square_images_is_refused(
    shape: tuple[str | int, ...], sentence: str, tmp_path: Path
) -> None:
    _refused(make_foreign(tmp_path / "a.onnx", shape=shape), NAMES, sentence, tmp_path)


def test_what_is_no_classifier_in_onnx_is_refused(tmp_path: Path) -> None:
    whole = make_foreign(tmp_path / "whole.onnx").read_bytes()
    for content in (b"", b"no protocol buffer", whole[: len(whole) // 2]):
        (tmp_path / "a.onnx").write_bytes(content)
        _refused(tmp_path / "a.onnx", NAMES, "can't be read as ONNX", tmp_path)
    _refused(changed_onnx(tmp_path / "b.onnx", _two_outputs), NAMES, "gives 2 outputs (y, f)", tmp_path)
    _refused(make_foreign(tmp_path / "c.onnx"), (*NAMES, "grey"), "gives 3 classes, but 4 are named", tmp_path)
    stated = StatedPreprocess(image_size=32)
    with pytest.raises(ModelError, match="takes images of 16 pixels, not of 32"):
        sightline.adopt(tmp_path / "c.onnx", NAMES, out=tmp_path / "ours", preprocess=stated)
    with pytest.raises(ModelError, match="holds its network"):
        sightline.adopt(tmp_path / "c.onnx", NAMES, out=tmp_path / "ours", model="resnet20")


def _mixing(model: onnx.ModelProto) -> None:
    """An image's answer less the mean over the batch, as batch norm in training mode would have it."""
    nodes = [
        onnx.helper.make_node("ReduceMean", ["y"], ["m"], axes=[0], keepdims=1),
        onnx.helper.make_node("Sub", ["y", "m"], ["z"]),
    ]
    model.graph.node.extend(nodes)
    model.graph.output[0].name = "z"


def test_an_answer_that_depends_on_the_batch_is_refused(tmp_path: Path) -> None:
    _refused(changed_onnx(tmp_path / "a.onnx", _mixing), NAMES, "answers an image differently in batches", tmp_path)


def test_weights_of_other_classes_or_of_another_network_are_refused(tmp_path: Path, weights: Path) -> None:
    _refused(weights, ("a", "b"), "know 3 classes, but 2 are named", tmp_path, model="resnet20")
    _refused(weights, NAMES, "Missing: 'layer1.3.", tmp_path, model="resnet32")
    _refused(weights, NAMES, "doesn't say which network its weights are of", tmp_path)
    _refused(weights, NAMES, "Did you mean 'resnet20'?", tmp_path, model="resnet20x")
    state = torch.load(weights, weights_only=True)
    torch.save(state | {"extra.weight": torch.zeros(3)}, weights)
    _refused(weights, NAMES, "Left over: 'extra.weight'.", tmp_path, model="resnet20")
    torch.save(state | {"head.bias": torch.full((3,), torch.nan)}, weights)
    _refused(weights, NAMES, "'head.bias' holds values that are no finite numbers", tmp_path, model="resnet20")


def test_weights_that_answer_by_no_numbers_are_refused(tmp_path: Path, weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    torch.save(state | {"bn1.running_var": -torch.ones(16)}, weights)
    _refused(
        weights, NAMES, "the network answers noise by values that are no finite numbers", tmp_path, model="resnet20"
    )


def test_weights_are_not_adopted_for_images_that_memory_can_t_hold(tmp_path: Path, weights: Path) -> None:
    stated = StatedPreprocess(image_size=10_000_000)
    with pytest.raises(ModelError, match="can't be run on images of 10000000 pixels"):
        sightline.adopt(weights, NAMES, model="resnet20", out=tmp_path / "ours", preprocess=stated)


def test_weights_without_a_head_are_refused(tmp_path: Path, weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("head.")}, weights)
    _refused(weights, NAMES, "have no head, so that they know no classes", tmp_path, model="resnet20")


def test_a_pickle_that_could_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(create_model("resnet20", num_classes=3, image_size=16), tmp_path / "whole.pth")
    _refused(tmp_path / "whole.pth", NAMES, "holds more than tensors and plain values", tmp_path, model="resnet20")


def test_data_that_can_t_be_used_leaves_no_folder(tmp_path: Path, weights: Path, photos: Path) -> None:
    with pytest.raises(sightline.SightlineError, match="Unknown class 'blue'"):
        sightline.adopt(
            weights, ("red", "green", "yellow"), model="resnet20", out=tmp_path / "ours", preprocess=SMALL, data=photos
        )
    assert not (tmp_path / "ours").exists()


def test_what_is_there_already_is_left_alone(tmp_path: Path, weights: Path) -> None:
    older = make_folder(tmp_path / "ours")
    before = (older.path / "model.json").read_bytes()
    with pytest.raises(ModelError, match="exists already"):
        sightline.adopt(weights, NAMES, model="resnet20", out=older.path, preprocess=SMALL)
    assert (older.path / "model.json").read_bytes() == before


def test_a_command_s_mistake_is_one_line_and_exit_code_2(tmp_path: Path, run_cli: Cli) -> None:
    (tmp_path / "noise.onnx").write_bytes(np.random.default_rng(0).bytes(500))
    (tmp_path / "names.txt").write_text("a\nb\n")
    for words in (
        [tmp_path / "noise.onnx", "--classes", tmp_path / "names.txt"],
        [tmp_path / "noise.onnx"],
        [tmp_path / "nowhere.pth"],
        [tmp_path],
        [tmp_path / "noise.onnx", "--classes", tmp_path / "names.txt", "--mean", "0.5,0.5"],
    ):
        code, out, err = run_cli("adopt", *words, "--out", tmp_path / "ours")
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith("error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["names.txt", "noise.onnx"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "cat\ndog, small\n"),
        ("a.json", '["cat", "dog, small"]'),
        ("b.json", '{"1": "dog, small", "0": "cat"}'),
        ("c.json", '{"dog, small": 1, "cat": 0}'),
    ],
)
def test_names_are_read_from_lines_and_from_json(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_classes(tmp_path / name) == ("cat", "dog, small")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.txt", "", "There are no names"),
        ("a.txt", "cat\n\ndog\n", "The name of class 2 of 3"),
        ("a.txt", "cat\ncat\n", "'cat' is named 2 times"),
        ("a.json", "3", "it holds a int"),
        ("a.json", '{"0": "cat", "2": "dog"}', "not 0, 1, 2"),
        ("a.json", '["cat"', "is no list of names"),
        ("a.json", "[" * 100_000, "is no list of names"),
    ],
)
def test_names_that_are_no_names_are_refused(name: str, text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match=sentence) as error:
        read_classes(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_name_may_hold_what_only_python_takes_for_the_end_of_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("cat\u2028small\r\ndog\n".encode())
    assert read_classes(tmp_path / "a.txt") == ("cat\u2028small", "dog")


@pytest.mark.parametrize(("name", "text"), [("a.txt", " cafe\u0301 \ndog\t\n"), ("a.json", '["cafe\u0301 ", " dog"]')])
def test_names_are_spelled_as_a_folder_s_are(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_classes(tmp_path / name) == ("caf\u00e9", "dog")


def test_names_that_differ_in_spelling_alone_are_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cafe\u0301\ncaf\u00e9 \n")
    with pytest.raises(ModelError, match="'caf\u00e9' is named 2 times"):
        read_classes(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([0, 1], "The name of class 1 of 2 is 0, where text is expected"),
        ({"cat": 1, "dog": 0}, "are a list in the order of the logits"),
        (3, "are a list in the order of the logits"),
        (["\x1b[31mred", "cat"], "holds control characters: '\\x1b[31mred'"),
        (["cat\ndog", "bird"], "holds control characters"),
        (["\ud800", "bird"], "holds control characters"),
    ],
)
def test_names_from_python_that_are_no_plain_text_are_refused(names: Any, sentence: str) -> None:
    with pytest.raises(ModelError) as error:
        read_classes(names)
    assert sentence in str(error.value)


def _later_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def _fixed_batch(model: onnx.ModelProto) -> None:
    """A batch of one in the graph, which its signature says nothing of."""
    shape = onnx.numpy_helper.from_array(np.array([1, len(NAMES)]), "one")
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node("Reshape", ["y", "one"], ["z"]))
    model.graph.output[0].name = "z"


def test_a_network_that_can_t_be_run_is_refused(tmp_path: Path) -> None:
    _refused(changed_onnx(tmp_path / "theirs.onnx", _fixed_batch), NAMES, "can't be run by ONNX Runtime", tmp_path)


def _unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "com.theirs"
    model.opset_import.append(onnx.helper.make_opsetid("com.theirs", 1))


@pytest.mark.parametrize("change", [_later_opset, _unknown_operator])
def test_a_network_that_onnx_runtime_can_t_open_is_refused(
    change: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    _refused(changed_onnx(tmp_path / "theirs.onnx", change), NAMES, "can't be opened by ONNX Runtime", tmp_path)


def test_images_that_memory_can_t_hold_are_refused(tmp_path: Path) -> None:
    file = make_foreign(tmp_path / "theirs.onnx", shape=("n", 3, "h", "w"))
    with pytest.raises(ModelError, match="no memory for 7 images of 10000000 pixels"):
        sightline.adopt(file, NAMES, out=tmp_path / "ours", preprocess=StatedPreprocess(image_size=10_000_000))
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("mean", (123.0, 117.0, 104.0), "Divide what is meant for pixels up to 255 by 255"),
        ("mean", (float("nan"), 0.0, 0.0), "mean is of pixels from 0 to 1, got (nan"),
        ("mean", (0.5,), "mean is of three numbers"),
        ("std", (float("nan"), 1.0, 1.0), "Every std must be a number greater than 0"),
    ],
)
def test_a_mean_or_std_on_another_scale_is_refused(
    name: str, values: tuple[float, float, float], sentence: str
) -> None:
    with pytest.raises(RecipeError) as error:
        StatedPreprocess(**{name: values})  # type: ignore[arg-type]
    assert sentence in str(error.value)


def _refused(file: Path, names: tuple[str, ...], sentence: str, place: Path, model: str | None = None) -> None:
    with pytest.raises(ModelError) as error:
        sightline.adopt(file, names, model=model, out=place / "ours", preprocess=SMALL)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert not any(path.name.startswith(".") or path.name == "ours" for path in place.iterdir())


def test_an_adopted_model_is_exported_and_explains_itself(tmp_path: Path, weights: Path, photos: Path) -> None:
    folder = sightline.adopt(weights, NAMES, model="resnet20", out=tmp_path / "ours", preprocess=SMALL)
    exported = sightline.export(folder, "torch", data=photos)
    assert exported.spec == folder.spec
    assert isinstance(exported.spec.provenance.data["preprocessing"], str)
