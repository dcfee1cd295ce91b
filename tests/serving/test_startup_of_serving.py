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
