"""A small folder of CIFAR-10 for benchmarks: so many images of each class, from the archive of JPEGs."""

import zipfile
from pathlib import Path

COUNTS = {"train": 200, "val": 10, "test": 50}


def write_subset(archive: Path, folder: Path, counts: dict[str, int] = COUNTS) -> Path:
    """Write `train/`, `val/` and `test/`; validation images come from the archive's train/ too, after the others."""
    with zipfile.ZipFile(archive) as source:
        names = sorted(name for name in source.namelist() if name.endswith(".jpg"))
        for split, count in counts.items():
            kept = "test/" if split == "test" else "train/"
            skipped = counts["train"] if split == "val" else 0
            for label in sorted({name.split("/")[1] for name in names}):
                own = [name for name in names if name.startswith(f"{kept}{label}/")]
                (folder / split / label).mkdir(parents=True, exist_ok=True)
                for name in own[skipped : skipped + count]:
                    (folder / split / label / Path(name).name).write_bytes(source.read(name))
    return folder
