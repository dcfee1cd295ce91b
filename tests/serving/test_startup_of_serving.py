import subprocess
import sys


def test_a_server_of_exports_needs_neither_torch_nor_a_training_framework() -> None:
    code = "import sightline.serving.app, sightline.serving.workers, sightline.client"
    report = (
        "import sys; print(*(name for name in ('torch', 'lightning', 'sklearn', 'matplotlib') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_the_client_needs_nothing_but_python_s_library() -> None:
    report = "import sys; print(*(name for name in ('numpy', 'PIL', 'starlette', 'pydantic') if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sightline.client\n{report}"], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []


def test_a_server_shows_what_is_said_while_a_model_is_opened() -> None:
    code = "import logging; from sightline.serving.workers import _set_up_logging; _set_up_logging()"
    says = "logging.getLogger('sightline').info('engine: onnx'); logging.getLogger('PIL').info('noise')"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{says}"], check=True, capture_output=True, text=True)
    assert done.stderr == "INFO sightline: engine: onnx\n"
