"""torch.export's program: the model's own logits, and no code from a file that was prepared."""

import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filled import CLASSES, Exports

from sightline.errors import ModelError
from sightline.exported_folder import ExportedFolder
from sightline.formats import Graph, open_exported
from sightline.formats.torch import ProgramRunner, write
from sightline.model_folder import ModelFolder
from sightline.models import create_model, families
from sightline.safe_program import check_program

pytestmark = pytest.mark.xdist_group("formats")
Rewrite = Callable[[str, bytes], bytes]


@pytest.fixture
def folder(exports: Exports) -> ExportedFolder:
    return exports("torch", pixels=False)


def test_the_logits_are_the_model_s_to_the_bit(folder: ExportedFolder, filled: ModelFolder) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    with torch.inference_mode():
        expected = filled.model()(filled.spec.preprocess.normalize(torch.from_numpy(pixels)))
    assert np.array_equal(open_exported(folder)(pixels).logits, expected.numpy())


def test_an_extra_file_of_the_archive_names_the_classes_and_the_parent(folder: ExportedFolder) -> None:
    extra = {"sightline.json": ""}
    torch.export.load(folder.path / "model.pt2", extra_files=extra)
    told = json.loads(extra["sightline.json"])
    assert json.loads(told["classes"]) == list(CLASSES)
    assert told["parent"] == folder.artefact.parent


class _Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def _in_program(change: Callable[[dict], None]) -> Rewrite:  # type: ignore[type-arg]
    def rewrite(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        program = json.loads(content)
        change(program)
        return json.dumps(program).encode()

    return rewrite


def _sample_inputs(name: str, content: bytes) -> bytes:
    return pickle.dumps(_Harmful(), protocol=2) if name.endswith("sample_inputs/model.pt") else content


def _pickled_weight(name: str, content: bytes) -> bytes:
    return (
        content.replace(b'"use_pickle": false', b'"use_pickle": true', 1) if name.endswith("config.json") else content
    )


def _system(program: dict) -> None:  # type: ignore[type-arg]
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"


def _calling(operator: str) -> Rewrite:
    def change(program: dict) -> None:  # type: ignore[type-arg]
        program["graph_module"]["graph"]["nodes"][0]["target"] = f"torch.ops.aten.{operator}"

    return _in_program(change)


def _expression(program: dict) -> None:  # type: ignore[type-arg]
    text = json.dumps(program).replace("positive=True", "positive=__import__('os')", 1)
    program.update(json.loads(text))


def _rewritten(exported: Path, prepared: Path, rewrite: Rewrite) -> None:
    with zipfile.ZipFile(exported) as source, zipfile.ZipFile(prepared, "w") as target:
        for name in source.namelist():
            target.writestr(name, rewrite(name, source.read(name)))


PREPARED: dict[str, tuple[Rewrite, str]] = {
    "sample inputs": (_sample_inputs, "a pickle"),
    "a weight": (_pickled_weight, "a pickle 'conv1.weight'"),
    "a call": (_in_program(_system), "a call of 'torch.os.system'"),
    **{
        operator: (_calling(operator), f"a call of 'torch.ops.aten.{operator}'")
        for operator in ("from_file.default", "set_.source_Storage", "as_strided.default", "empty.default", "add.out")
    },
    "a shape": (_in_program(_expression), "an expression"),
    "a guard": (_in_program(lambda program: program.update(guards_code=["exit()"])), "a condition 'exit()'"),
}


@pytest.mark.parametrize("case", PREPARED)
def test_an_archive_that_would_run_code_is_refused_in_one_sentence(
    case: str, folder: ExportedFolder, tmp_path: Path
) -> None:
    rewrite, sentence = PREPARED[case]
    prepared = tmp_path / "model.pt2"
    _rewritten(folder.path / "model.pt2", prepared, rewrite)
    check_program(folder.path / "model.pt2")  # as exported it passes
    with pytest.raises(ModelError, match="holds more than tensors and operators") as error:
        check_program(prepared)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def _file_writer(path: Path, victim: Path) -> None:
    """A program that maps the victim into memory and writes over it."""

    class Filling(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            mapped = torch.zeros(6, dtype=torch.uint8).fill_(33)
            return images.mean((2, 3)) + mapped[0]

    def change(program: dict) -> None:  # type: ignore[type-arg]
        for node in program["graph_module"]["graph"]["nodes"]:
            if node["target"].startswith("torch.ops.aten.zeros"):
                dtype = [{**given, "kind": 2} for given in node["inputs"] if given["name"] == "dtype"]
                values = {"filename": {"as_string": str(victim)}, "shared": {"as_bool": True}, "size": {"as_int": 6}}
                node["target"] = "torch.ops.aten.from_file.default"
                node["inputs"] = [{"name": name, "arg": arg, "kind": 1} for name, arg in values.items()] + dtype

    program = torch.export.export(Filling(), (torch.zeros(2, 3, 4, 4),))
    harmless = path.with_name("harmless.pt2")
    torch.export.save(program, harmless)
    _rewritten(harmless, path, _in_program(change))


def test_a_program_that_would_write_a_file_is_refused_by_the_operator_s_name(tmp_path: Path) -> None:
    victim, prepared = tmp_path / "victim.txt", tmp_path / "model.pt2"
    victim.write_text("the user's own words")
    _file_writer(prepared, victim)
    with pytest.raises(ModelError, match=r"a call of 'torch\.ops\.aten\.from_file\.default'"):
        ProgramRunner(prepared).run(np.zeros((2, 3, 4, 4), np.float32))
    assert victim.read_text() == "the user's own words"


@pytest.mark.parametrize("name", ["timm/test_convnext", *(next(iter(known.variants)) for known in families().values())])
@pytest.mark.slow
def test_every_family_s_program_passes(name: str, tmp_path: Path) -> None:
    size = 128
    network = create_model(name, num_classes=3, image_size=size).eval()
    example = torch.zeros(2, 3, size, size)
    write(Graph(module=network, example=example, input_name="images", output_names=("logits",), metadata={}), tmp_path)
    check_program(tmp_path / "model.pt2")


def test_an_archive_with_a_library_in_it_is_refused(folder: ExportedFolder, tmp_path: Path) -> None:
    prepared = tmp_path / "model.pt2"
    prepared.write_bytes((folder.path / "model.pt2").read_bytes())
    with zipfile.ZipFile(prepared, "a") as archive:
        archive.writestr("model/data/aotinductor/model/code.so", b"")
    with pytest.raises(ModelError, match=r"a file 'model/data/aotinductor/model/code.so'"):
        check_program(prepared)


def test_an_archive_that_two_readers_could_read_differently_is_refused(folder: ExportedFolder, tmp_path: Path) -> None:
    exported = (folder.path / "model.pt2").read_bytes()
    prepared = tmp_path / "model.pt2"
    with zipfile.ZipFile(folder.path / "model.pt2") as archive:
        program = next(name for name in archive.namelist() if name.endswith("models/model.json"))
    for name in (program, program.upper(), "elsewhere/models/model.json"):
        prepared.write_bytes(exported)
        with zipfile.ZipFile(prepared, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the doubled name
            archive.writestr(name, b"{}")
        with pytest.raises(ModelError, match="two files of one name|outside of its one folder"):
            check_program(prepared)
    prepared.write_bytes(b"before" + exported)
    with pytest.raises(ModelError, match="bytes before or after"):
        check_program(prepared)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_what_is_no_archive_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(content)
    with pytest.raises(ModelError, match="can't be read as a .pt2 archive"):
        check_program(tmp_path / "model.pt2")


def _model_json(content: bytes) -> Rewrite:
    return lambda name, old: content if name.endswith("models/model.json") else old


def _config(content: bytes) -> Rewrite:
    return lambda name, old: content if name.endswith("_config.json") else old


def _sample(content: bytes) -> Rewrite:
    return lambda name, old: content if name.endswith("sample_inputs/model.pt") else old


DAMAGED: dict[str, Rewrite] = {
    "a program that is a list": _model_json(b"[]"),
    "a program in depth": _model_json(b'{"guards_code": [], "a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
    "constants in a list": _config(b'{"config": []}'),
    "constants that are nothing": _config(b'{"config": {"a": null}}'),
    "no sample inputs": _sample(b""),
    "sample inputs of noise": _sample(b"\x80\x02]q\x00K\x01R."),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_an_archive_of_another_form_is_one_sentence(case: str, folder: ExportedFolder, tmp_path: Path) -> None:
    _rewritten(folder.path / "model.pt2", tmp_path / "model.pt2", DAMAGED[case])
    with pytest.raises(ModelError, match="can't be read as a .pt2 archive: .+|a pickle \\(.+\\)") as error:
        check_program(tmp_path / "model.pt2")
    assert "\n" not in str(error.value)


def test_a_file_that_does_not_unpack_is_one_sentence(tmp_path: Path) -> None:
    name, prepared = "model/models/model.json", tmp_path / "model.pt2"
    with zipfile.ZipFile(prepared, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b'{"guards_code": []}' * 100)
    content = bytearray(prepared.read_bytes())
    content[30 + len(name) : 34 + len(name)] = b"\xff" * 4
    prepared.write_bytes(content)
    with pytest.raises(ModelError, match="can't be read as a .pt2 archive: Error -3 while decompressing"):
        check_program(prepared)


def test_a_file_packed_in_a_way_torch_does_not_read_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("model/models/model.json", b"{}")
    with pytest.raises(ModelError, match="compressed in another way"):
        check_program(tmp_path / "model.pt2")
