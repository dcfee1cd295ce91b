"""Optional packages: import one when it is needed, or say how to install it."""

import importlib
from types import ModuleType

from sightline.errors import MissingPackageError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """The imported module.

    `extra` is the extra of this package that installs it, `purpose` what it is needed for, worded to
    stand before "needs" ("Reading Parquet").

    Raises MissingPackageError with the install command when it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"{purpose} needs {module.split('.')[0]}, which could not be imported ({error}). "
            f'Install it with: pip install "sightline[{extra}]"'
        ) from error
