"""Results never go among the images: the next scan would take them for data."""

from pathlib import Path

from sightline.errors import DataError, path_of


def check_outside(folder: Path, data: str | Path) -> None:
    """Raise DataError when `folder`, or a file, which is to be written lies inside the folder of images `data`.

    So it does where it is the data's own file.
    """
    images = path_of(data, "The data")
    if images.is_dir() and folder.resolve().is_relative_to(images.resolve()):
        raise DataError(
            f"{str(folder)!r} lies inside the images' own folder {str(data)!r}, where it would be taken for data. "
            "Choose another place."
        )
    if _is_same(folder, images):
        raise DataError(f"{str(folder)!r} is the data itself, which would be overwritten. Choose another name.")


def _is_same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except (OSError, ValueError):  # one of them isn't there, or can't be
        return False
