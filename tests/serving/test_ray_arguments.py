"""What `deploy/ray_serve.py` does before it needs ray; test_ray_serve.py runs a cluster."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from pydantic import ValidationError

from sightline.errors import SightlineError
from sightline.model_folder import ModelFolder

ROOT = Path(__file__).parents[2]
WITHOUT_RAY = "import runpy, sys; sys.modules['ray'] = None; runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.fixture
def ray_serve(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delenv("SIGHTLINE_TOKEN", raising=False)
    return importlib.import_module("deploy.ray_serve")


def test_without_ray_one_sentence_names_the_extra(served_model: ModelFolder) -> None:
    code = f"import sys; sys.argv = [{str(ROOT / 'deploy' / 'ray_serve.py')!r}, {str(served_model.path)!r}]; "
    done = subprocess.run([sys.executable, "-c", code + WITHOUT_RAY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: Serving on Ray needs ray")
    assert done.stderr.endswith('Install it with: pip install "sightline[ray]"\n')
    assert len(done.stderr.splitlines()) == 1


def test_models_are_a_list_or_a_text_with_commas(ray_serve: ModuleType) -> None:
    read = ray_serve.Arguments.model_validate
    assert read({"models": "runs/a, other=runs/b"}).models == ["runs/a", "other=runs/b"]
    assert read({"models": ["runs/a,b"]}).models == ["runs/a,b"]


def test_texts_of_the_command_line_become_numbers(ray_serve: ModuleType) -> None:
    read = ray_serve.Arguments.model_validate({"models": "a", "replicas": "3", "cpus": "0.5", "log": "false"})
    assert (read.replicas, read.cpus, read.log) == (3, 0.5, False)


@pytest.mark.parametrize("wrong", [{"replica": 2}, {"replicas": 0}, {"cpus": 0}, {"threads": 0}])
def test_a_wrong_or_unknown_argument_is_refused_by_name(ray_serve: ModuleType, wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ray_serve.Arguments.model_validate({"models": "a"} | wrong)


def test_replicas_are_told_absolute_paths_and_as_many_threads_as_cores(
    ray_serve: ModuleType, served_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(served_model.path.parent)
    told = ray_serve.settings(ray_serve.Arguments(models=["photos", "other=photos"], cpus=2))
    assert told.models == (f"photos={served_model.path}", f"other={served_model.path}")
    assert told.threads == 2


def test_the_token_comes_from_its_file_and_is_never_shown(
    ray_serve: ModuleType, served_model: ModelFolder, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("secret\n")
    told = ray_serve.settings(ray_serve.Arguments(models=[str(served_model.path)], token_file=tmp_path / "token"))
    assert told.token == "secret"
    assert "secret" not in repr(told)


@pytest.mark.parametrize("models", [[], ["nowhere"]])
def test_a_folder_that_is_no_model_is_refused_before_a_cluster_starts(
    ray_serve: ModuleType, models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SightlineError, match=r"Name at least one model folder|nowhere"):
        ray_serve.settings(ray_serve.Arguments(models=models))


def test_the_configuration_that_is_shipped_names_the_builder_and_its_arguments(ray_serve: ModuleType) -> None:
    [application] = yaml.safe_load((ROOT / "deploy" / "ray_serve.yaml").read_text())["applications"]
    module, _, name = application["import_path"].partition(":")
    assert (module, getattr(ray_serve, name)) == (ray_serve.__name__, ray_serve.build)
    assert ray_serve.Arguments.model_validate(application["args"]).models == ["/models/photos"]
