"""Packages that not everybody installs: import one when it is needed, or say how to install it."""

import importlib
from types import ModuleType

from sightline.errors import MissingPackageError

TRAINING = (
    *("torch", "torchvision", "lightning", "sklearn", "scipy", "matplotlib", "jinja2", "markupsafe"),
    *("pytorch_optimizer", "schedulefree"),
)
"""What the extra `train` installs, by the names they are imported by. Predicting with an exported model needs none."""
UNIX = ("fcntl", "resource")
"""Of Python's own library, what Windows lacks: training and searching hold folders by it."""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """The imported module.

    `extra` is the extra of this package that installs it, `purpose` what it is needed for, worded to
    stand before "needs" ("Reading Parquet").

    Raises MissingPackageError with the install command when it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(_sentence(module, error, extra=extra, purpose=purpose)) from error


def require_torch(purpose: str) -> None:
    """Raise MissingPackageError, with the install command, where torch cannot be imported. `purpose` as above."""
    require("torch", extra="train", purpose=purpose)


def explained(error: ModuleNotFoundError, *, purpose: str) -> MissingPackageError | None:
    """What to say where an import failed for want of the extra `train`, or of Unix; None where for another reason.

    Almost every module of this package imports torch at its top, where no sentence can be given. `purpose` as above.
    """
    module = (error.name or "").split(".")[0]
    if module in UNIX:
        return MissingPackageError(f"{purpose} needs Linux or another Unix. On Windows run it in WSL, which is one.")
    if module not in TRAINING:
        return None
    return MissingPackageError(_sentence(module, error, extra="train", purpose=purpose))


def _sentence(module: str, error: ImportError, *, extra: str, purpose: str) -> str:
    return (
        f"{purpose} needs {module.split('.')[0]}, which could not be imported ({error}). "
        f'Install it with: pip install "sightline[{extra}]"'
    )
