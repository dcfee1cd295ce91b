"""metrics.csv, a row an epoch; and TensorBoard's form of it when that is installed."""

import csv
import importlib.util
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from sightline.files import write_text


@dataclass(kw_only=True)
class Row:
    """One epoch."""

    epoch: int
    """From 1."""
    train_loss: float
    """Mean over the epoch's images, while the weights changed and images were augmented."""
    train_accuracy: float
    val_loss: float | None = None
    """None in epochs without a look at the validation split."""
    val_accuracy: float | None = None
    lr: float
    """At the epoch's last step."""
    seconds: float
    """Of training; without validation."""
    images_per_second: float


def write_rows(folder: Path, rows: list[Row]) -> None:
    """Write metrics.csv whole. Raises SightlineError when it can't be written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_text(folder / "metrics.csv", text.getvalue())


def write_tensorboard(folder: Path, rows: list[Row]) -> bool:
    """Write all rows as TensorBoard events under `folder`/tensorboard; False where it isn't installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return False
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for row in rows:
            for name, value in asdict(row).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, row.epoch)
    return True
