"""A file is an entry: the listing of an extension folder is the folder itself."""

import importlib
import pkgutil
from functools import cache


def names(package: str) -> list[str]:
    """The entries of `package` ("sightline.recipes"), sorted, without importing any of them."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path))


def entry(package: str, name: str) -> object:
    """What the file `name` of `package` binds as ENTRY. The name must be one of `names(package)`."""
    return importlib.import_module(f"{package}.{name}").ENTRY


@cache
def entries(package: str) -> dict[str, object]:
    """Every entry of `package` by file name. Imports them all."""
    return {name: entry(package, name) for name in names(package)}
