import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from sightline import pretrained
from sightline.errors import ModelError
from sightline.models import create_model, variants
from sightline.preprocess import Preprocess


def _fill(model: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor) * 0.05)
    return model.eval()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """A folder; what lies in it is served at http://127.0.0.1:PORT, where PORT is the content of `port`."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        (folder / "port").write_text(str(running.server_address[1]))
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder
        running.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def _put(reference: nn.Module, published: pretrained.Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference's own state dict, where the download would have put it."""
    published.path.parent.mkdir(parents=True, exist_ok=True)
    if published.path.suffix == ".safetensors":
        safetensors.torch.save_file(reference.state_dict(), published.path)
    else:
        torch.save(reference.state_dict(), published.path)
    monkeypatch.setattr(pretrained, "_check", lambda *_: None)  # random values have another hash


def _images(size: int) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))


def _saved(tmp_path: Path, name: str = "resnet18", file_name: str = "weights.pth") -> tuple[Path, nn.Module]:
    reference = _fill(torchvision.models.get_model(name))
    path = tmp_path / file_name
    torch.save(reference.state_dict(), path)
    return path, reference


# Published weights


@pytest.mark.parametrize(
    "name",
    ["resnet18", "googlenet", "efficientnet_b0", "densenet121", pytest.param("vit_b_32", marks=pytest.mark.slow)],
)
def test_torchvisions_file_gives_torchvisions_logits(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = pretrained.find("torchvision:IMAGENET1K_V1", name=name, timm_name=name)
    arguments = {"init_weights": False, "transform_input": True} if name == "googlenet" else {}
    reference = _fill(torchvision.models.get_model(name, **arguments))
    _put(reference, found, monkeypatch)
    model = create_model(name, pretrained="torchvision:IMAGENET1K_V1").eval()
    pixels = torch.randint(0, 256, (1, 3, 224, 224), generator=torch.Generator().manual_seed(1))
    theirs = torchvision.transforms.functional.normalize(
        pixels / 255, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    )
    with torch.no_grad():
        torch.testing.assert_close(
            model(model.start.preprocess.normalize(pixels)), reference(theirs), rtol=1e-4, atol=1e-4
        )
    assert model.start.source == "torchvision:IMAGENET1K_V1"
    assert model.start.notes == ()


@pytest.mark.parametrize("name", ["vit_ti_16", "tf_efficientnet_b0"])
def test_timms_file_gives_timms_logits(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm_name = variants()[name][1].timm or name
    reference = _fill(timm.create_model(timm_name))
    found = pretrained.find("timm:", name=name, timm_name=timm_name)
    _put(reference, found, monkeypatch)
    model = create_model(name, pretrained=found.source).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(_images(224)), reference(_images(224)), rtol=1e-4, atol=1e-4)


def test_true_means_the_publishers_preference() -> None:
    found = pretrained.find("default", name="resnet50", timm_name="resnet50")
    assert found.source == "torchvision:IMAGENET1K_V2"
    assert found.sha256_prefix == "11ad3fa6"
    assert found.preprocess == Preprocess(image_size=224, resize=232)
    assert (
        pretrained.find("default", name="inception_v4", timm_name="inception_v4").source == "timm:inception_v4.tf_in1k"
    )


@pytest.mark.slow
def test_weights_for_other_sizes_bring_their_size(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = _fill(torchvision.models.vit_b_16(image_size=384))
    source = "torchvision:IMAGENET1K_SWAG_E2E_V1"
    _put(reference, pretrained.find(source, name="vit_b_16", timm_name=""), monkeypatch)
    model = create_model("vit_b_16", pretrained=source)
    assert model.start.preprocess == Preprocess(image_size=384, resize=384, interpolation="bicubic")
    assert model.image_size == 384


@pytest.mark.parametrize("name", pretrained.TRANSFORMS_INPUT)
def test_inceptions_own_transform_is_in_the_preprocessing(name: str) -> None:
    found = pretrained.find("torchvision:IMAGENET1K_V1", name=name, timm_name=name)
    assert (found.preprocess.mean, found.preprocess.std) == ((0.5,) * 3, (0.5,) * 3)
    reference = torchvision.models.get_model(name, aux_logits=False, init_weights=False, transform_input=True)
    image = Image.linear_gradient("L").resize((400, 350)).convert("RGB")
    pixels = torch.from_numpy(found.preprocess.pixels(image)).permute(2, 0, 1)[None]
    theirs = torchvision.transforms.functional.normalize(
        pixels / 255, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(found.preprocess.normalize(pixels), reference._transform_input(theirs))


def test_timms_crop_fraction_becomes_the_resized_side() -> None:
    found = pretrained.find("timm:augreg_in21k_ft_in1k", name="vit_ti_16", timm_name="vit_tiny_patch16_224")
    half = (0.5, 0.5, 0.5)
    assert found.preprocess == Preprocess(image_size=224, resize=248, interpolation="bicubic", mean=half, std=half)
    assert (
        found.url
        == "https://huggingface.co/timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k/resolve/main/model.safetensors"
    )


def test_an_unknown_tag_lists_those_there_are() -> None:
    with pytest.raises(ModelError, match=r"no weights 'V9' for 'resnet50', but IMAGENET1K_V1, IMAGENET1K_V2\."):
        create_model("resnet50", pretrained="torchvision:V9")
    with pytest.raises(ModelError, match="timm has no weights 'v9' for 'inception_v4', but tf_in1k"):
        create_model("inception_v4", pretrained="timm:v9")
    with pytest.raises(ModelError, match="torchvision publishes no weights for 'zfnet'"):
        create_model("zfnet", pretrained="torchvision:IMAGENET1K_V1")
    with pytest.raises(ModelError, match="timm publishes no weights for 'zfnet'"):
        create_model("zfnet", pretrained=True)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("efficientnet_b0", "timm:tf_efficientnet_b0.in1k"),
        ("resnet50", "timm:resnetaa50.a1h_in1k"),
        ("timm/resnet18", "timm:resnetblur18.untrained"),
    ],
)
def test_weights_of_another_architecture_of_timm_s_are_refused_though_they_would_fit(name: str, source: str) -> None:
    with pytest.raises(ModelError, match="are for another network; these are for"):
        pretrained.find(source, name=name, timm_name=name.removeprefix("timm/"))


@pytest.mark.parametrize("architecture", pretrained.SAME_NETWORK)
def test_timms_other_names_of_an_architecture_are_of_its_very_layers(architecture: str) -> None:
    def layers(timm_name: str) -> list[tuple[object, ...]]:
        with torch.device("meta"):
            modules = dict(timm.create_model(timm_name).named_modules())
        return [
            (at, type(layer), getattr(layer, "eps", 0), getattr(layer, "scale", 0)) for at, layer in modules.items()
        ]

    [name] = [name for name, (_, variant) in variants().items() if variant.timm == architecture]
    assert pretrained.SAME_NETWORK[architecture]
    for other in pretrained.SAME_NETWORK[architecture]:
        assert layers(other) == layers(architecture)
        tagged = timm.list_pretrained(f"{other}.*")[0]
        assert pretrained.find(f"timm:{tagged}", name=name, timm_name=architecture).source == f"timm:{tagged}"


def test_weights_for_images_that_are_no_squares_are_refused() -> None:
    with pytest.raises(ModelError, match=r"images can't be had here: input_size must .* got \(3, 1024, 768\)"):
        pretrained.find("timm:", name="timm/vit_base_patch16_sapiens2", timm_name="vit_base_patch16_sapiens2")


def test_timms_efficientnet_b5_has_another_epsilon_than_ours_and_is_refused() -> None:
    with torch.device("meta"):
        theirs = timm.create_model("efficientnet_b5").bn1
        assert theirs.eps != create_model("efficientnet_b5").stem.norm.eps
    with pytest.raises(ModelError, match="its batch norms add 1e-5 to the variance"):
        pretrained.find("timm:sw_in12k_ft_in1k", name="efficientnet_b5", timm_name="efficientnet_b5")
    own = pretrained.find("timm:sw_in12k_ft_in1k", name="timm/efficientnet_b5", timm_name="efficientnet_b5")
    assert own.source == "timm:efficientnet_b5.sw_in12k_ft_in1k"


# Downloading


def _published(folder: Path, content: bytes, digest: str | None = None) -> pretrained.Published:
    (folder / "net.pth").write_bytes(content)
    return pretrained.Published(
        source="torchvision:TEST",
        url=f"http://127.0.0.1:{(folder / 'port').read_text()}/net.pth",
        file_name="net.pth",
        sha256_prefix=hashlib.sha256(content).hexdigest()[:8] if digest is None else digest,
        preprocess=Preprocess(image_size=224, resize=256),
    )


def test_a_file_is_downloaded_once_and_kept(server: Path, cache: Path) -> None:
    content = bytes(range(256)) * 10_000  # more than one part
    published = _published(server, content)
    assert pretrained.fetch(published).read_bytes() == content
    (server / "net.pth").unlink()
    assert pretrained.fetch(published) == cache / "net.pth"


def test_a_damaged_download_leaves_nothing_behind(server: Path, cache: Path) -> None:
    published = _published(server, b"not what was published", digest="0badc0de")
    with pytest.raises(ModelError, match="is not the file that 'torchvision:TEST' names: its SHA-256 begins with"):
        pretrained.fetch(published)
    assert list(cache.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_refused(server: Path, cache: Path) -> None:
    published = _published(server, b"right")
    pretrained.fetch(published)
    (cache / "net.pth").write_bytes(b"wrong")
    with pytest.raises(ModelError, match="Delete it, and get it again from http"):
        pretrained.fetch(published)


def _safetensors() -> bytes:
    return safetensors.torch.save({"a": torch.zeros(3), "b": torch.ones(2)}, metadata={"format": "pt"})


def test_a_page_in_place_of_weights_is_not_kept(server: Path, cache: Path) -> None:
    published = replace(_published(server, b"<html>log in</html>"), sha256_prefix="")
    for name in ("net.pth", "net.safetensors"):
        with pytest.raises(ModelError, match="is no whole file of weights"):
            pretrained.fetch(replace(published, file_name=name))
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"<html>log in</html>", _safetensors()[:-1], _safetensors()[:20], b"", b"\xff" * 90]
)
def test_a_file_in_the_cache_that_holds_no_weights_is_refused_with_what_to_delete(
    content: bytes, server: Path, cache: Path
) -> None:
    published = replace(_published(server, _safetensors()), sha256_prefix="", file_name="net.safetensors")
    assert pretrained.fetch(published).read_bytes() == _safetensors()
    (cache / "net.safetensors").write_bytes(content)
    with pytest.raises(ModelError) as error:
        pretrained.fetch(published)
    assert f"Delete {str(cache / 'net.safetensors')!r}" in str(error.value)


def test_torchs_files_without_a_hash_are_taken(server: Path, cache: Path, tmp_path: Path) -> None:
    for index, zipped in enumerate((True, False)):
        torch.save({"a": torch.zeros(3)}, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
        content = (tmp_path / "net.pth").read_bytes()
        published = replace(_published(server, content), sha256_prefix="", file_name=f"net{index}.pth")
        assert pretrained.fetch(published).read_bytes() == content


def test_offline_the_error_says_which_file_to_put_where(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, timeout: float) -> None:
        raise pretrained.urllib.error.URLError("Network is unreachable")

    monkeypatch.setattr(pretrained.urllib.request, "urlopen", refuse)
    with pytest.raises(ModelError) as caught:
        create_model("resnet18", pretrained=True)
    assert str(caught.value) == (
        "The weights 'torchvision:IMAGENET1K_V1' could not be downloaded (Network is unreachable). "
        "Get https://download.pytorch.org/models/resnet18-f37072fd.pth on another machine and put it at "
        f"{str(cache / 'resnet18-f37072fd.pth')!r}."
    )
    assert list(cache.iterdir()) == []


# Local files, whoever wrote them


def test_a_local_file_is_recognised_by_its_names(tmp_path: Path) -> None:
    path, reference = _saved(tmp_path)
    model = create_model("resnet18", pretrained=str(path)).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(_images(64)), reference(_images(64)))
    ours = tmp_path / "ours.safetensors"
    safetensors.torch.save_file(model.state_dict(), ours)
    again = create_model("resnet18", pretrained=str(ours))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert again.start.preprocess is None


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod."])
def test_wrappers_and_prefixes_of_training_code_are_taken_off(tmp_path: Path, wrapper: str, prefix: str) -> None:
    path, reference = _saved(tmp_path)
    wrapped = {f"{prefix}{name}": tensor for name, tensor in reference.state_dict().items()}
    torch.save({wrapper: wrapped, "epoch": 3, "optimizer": {"lr": 0.1}}, path)
    model = create_model("resnet18", pretrained=str(path))
    assert torch.equal(model.head.weight, reference.fc.weight)


def test_other_classes_get_a_fresh_head_and_it_is_said(tmp_path: Path) -> None:
    path, reference = _saved(tmp_path)
    model = create_model("resnet18", num_classes=10, pretrained=str(path))
    assert torch.equal(model.conv1.weight, reference.conv1.weight)
    assert model.start.notes == ("The head is fresh: the weights know 1000 classes, the network 10.",)


def test_weights_without_a_head_leave_it_fresh_and_it_is_said(tmp_path: Path) -> None:
    path, reference = _saved(tmp_path)
    state = {name: tensor for name, tensor in reference.state_dict().items() if not name.startswith("fc.")}
    torch.save(state, path)
    model = create_model("resnet18", num_classes=10, pretrained=str(path))
    assert torch.equal(model.conv1.weight, reference.conv1.weight)
    assert model.start.notes == ("The head is fresh: the weights have none.",)
    torch.save(state | {"fc.bias": reference.fc.bias}, path)  # damaged: half a head
    with pytest.raises(ModelError, match=r"They lack 'head\.weight'"):
        create_model("resnet18", pretrained=str(path))


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")  # torch's own, of what is refused here
@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.zeros(64, dtype=torch.complex64), "of complex64"),
        (torch.zeros(64).to_sparse(), "of float32 in the layout sparse_coo"),
        (torch.zeros(64, device="meta"), "of float32 on the device 'meta'"),
    ],
)
def test_tensors_that_are_not_plain_are_refused(tensor: Tensor, kind: str, tmp_path: Path) -> None:
    path, reference = _saved(tmp_path)
    torch.save(reference.state_dict() | {"bn1.weight": tensor}, path)
    with pytest.raises(ModelError) as error:
        create_model("resnet18", pretrained=str(path))
    assert f"'bn1.weight' is {kind}, where plain tensors of real numbers" in str(error.value)


def test_grey_images_get_averaged_kernels_and_it_is_said(tmp_path: Path) -> None:
    path, reference = _saved(tmp_path)
    model = create_model("resnet18", in_channels=1, pretrained=str(path))
    torch.testing.assert_close(model.conv1.weight, reference.conv1.weight.sum(1, keepdim=True))
    assert "averaged" in model.start.notes[0]


def test_a_changed_stem_is_fresh_and_named(tmp_path: Path) -> None:
    path, reference = _saved(tmp_path)
    model = create_model("resnet18", image_size=32, pretrained=str(path))
    assert torch.equal(model.layer1[0].conv1.weight, reference.layer1[0].conv1.weight)
    assert model.start.notes == (
        "1 tensors are fresh, as a 3x3 stem of stride 1 without max pool replaces the 7x7 stem: conv1.weight.",
    )


def test_positions_are_interpolated_to_another_size(tmp_path: Path) -> None:
    reference = _fill(timm.create_model("vit_tiny_patch16_224"))
    path = tmp_path / "vit.pth"
    torch.save(reference.state_dict(), path)
    model = create_model("vit_ti_16", image_size=256, pretrained=str(path))
    assert model.pos_embed.shape == (1, 16 * 16 + 1, 192)
    assert torch.equal(model.pos_embed[:, 0], reference.pos_embed[:, 0])
    torch.testing.assert_close(model.pos_embed[:, 1:].mean(), reference.pos_embed[:, 1:].mean(), rtol=0, atol=1e-4)
    assert model.start.notes == ("Positions were interpolated to the network's grid: pos_embed.",)


def test_files_without_batch_counts_are_taken(tmp_path: Path) -> None:
    path, reference = _saved(tmp_path)
    state = {
        name: tensor for name, tensor in reference.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    torch.save(state, path)
    assert create_model("resnet18", pretrained=str(path)).start.notes == ()


def test_a_checkpoint_of_another_architecture_gets_one_line(tmp_path: Path) -> None:
    path, _ = _saved(tmp_path)
    with pytest.raises(ModelError) as caught:
        create_model("resnet50", pretrained=str(path))
    assert len(str(caught.value).splitlines()) == 1
    assert "tensors fit" in str(caught.value)
    assert "'layer1.0.conv1.weight' is 64x64x3x3 there and 64x64x1x1 in the network." in str(caught.value)
    with pytest.raises(ModelError, match="of its 152 tensors fit"):
        create_model("vit_ti_16", pretrained=str(path))


def test_a_deeper_networks_weights_are_refused_although_all_of_ours_are_there(tmp_path: Path) -> None:
    path, _ = _saved(tmp_path, "resnet34")
    with pytest.raises(ModelError, match=r"The network has no 'layer1\.2\.conv1\.weight'"):
        create_model("resnet18", pretrained=str(path))


def test_files_that_hold_no_weights_are_refused_with_a_reason(tmp_path: Path) -> None:
    text, plain, code = tmp_path / "text.pth", tmp_path / "plain.pth", tmp_path / "code.pth"
    text.write_text("hello")
    torch.save([1, 2], plain)
    torch.save({"function": Path}, code)
    (tmp_path / "weights.pth").write_bytes(plain.read_bytes()[:200])
    (tmp_path / "short.safetensors").write_bytes(b"\x00" * 20)
    for path in (text, code, tmp_path / "short.safetensors", tmp_path / "weights.pth"):
        with pytest.raises(ModelError, match="can't be read as weights"):
            create_model("resnet20", pretrained=str(path))
    with pytest.raises(ModelError, match="holds no state dict, but a list"):
        create_model("resnet20", pretrained=str(plain))
    with pytest.raises(ModelError, match="There are no weights at"):
        create_model("resnet20", pretrained=str(tmp_path / "missing.pth"))


# timm's networks


def test_a_timm_network_gives_timms_logits(tmp_path: Path) -> None:
    reference = _fill(timm.create_model("resnet10t", num_classes=1000))
    path = tmp_path / "weights.pth"
    torch.save(reference.state_dict(), path)
    model = create_model("timm/resnet10t", pretrained=str(path)).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(_images(64)), reference(_images(64)), rtol=1e-5, atol=1e-5)
        assert [found.shape[1:] for found in model.feature_maps(_images(64))] == [
            (stage.channels, 64 // stage.stride, 64 // stage.stride) for stage in model.stages
        ]


@pytest.mark.parametrize("name", ["timm/resnetv2_50", "timm/deit_tiny_patch16_224", "timm/mobilenetv3_small_100"])
def test_timms_networks_keep_the_contract(name: str, tmp_path: Path) -> None:
    model = create_model(name, num_classes=5, image_size=64, dropout=0.1).eval()
    assert model(_images(64)).shape == (1, 5)
    assert model.forward_features(_images(64)).shape == (1, model.num_features)
    assert len(model.feature_maps(_images(64))) == len(model.stages) > 1
    assert all(model.get_submodule(stage.name) is not None for stage in model.stages)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    again = create_model(name, num_classes=5, image_size=64, pretrained=str(path)).eval()
    assert torch.equal(again(_images(64)), model(_images(64)))


def test_timms_networks_take_published_weights(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = _fill(timm.create_model("resnet10t"))
    found = pretrained.find("timm:c3_in1k", name="timm/resnet10t", timm_name="resnet10t")
    _put(reference, found, monkeypatch)
    model = create_model("timm/resnet10t", num_classes=3, pretrained=True)
    assert torch.equal(model.network.layer1[0].conv1.weight, reference.layer1[0].conv1.weight)
    assert model.start.source == "timm:resnet10t.c3_in1k"


def test_an_unknown_timm_network_suggests_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"Unknown timm model 'resnet10tt'\. Did you mean 'resnet10t'"):
        create_model("timm/resnet10tt")


def test_a_size_that_timms_network_cannot_take_is_one_line() -> None:
    with pytest.raises(ModelError, match="'timm/vit_tiny_patch16_224' can't take images of 7 pixels") as caught:
        create_model("timm/vit_tiny_patch16_224", image_size=7)
    assert len(str(caught.value).splitlines()) == 1
