"""metrics.csv, a row an epoch; and TensorBoard's form of it when that is installed."""

import csv
import importlib.util
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sightline.files import write_text
from sightline.training.gradients import GradientRow

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

AnyRow = TypeVar("AnyRow", "Row", GradientRow)


@dataclass(kw_only=True)
class Row:
    """One epoch."""

    epoch: int
    """From 1."""
    train_loss: float
    """Mean over the epoch's images, while the weights changed and images were augmented."""
    train_accuracy: float | None
    """None where images may have several labels."""
    val_loss: float | None = None
    """None in epochs without a look at the validation split."""
    val_accuracy: float | None = None
    """Where images may have several labels, the mean average precision of the classes."""
    lr: float
    """At the epoch's last step."""
    seconds: float
    """Of training; without validation."""
    images_per_second: float


class MetricsLog:
    """Writes a run's rows as they come: metrics.csv always, TensorBoard's events where it is installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events: SummaryWriter | None = None

    def write(self, rows: list[Row]) -> None:
        """Write all rows so far; the last one is new. Raises SightlineError when they can't be written."""
        _write_table(self.folder / "metrics.csv", Row, rows)
        if importlib.util.find_spec("tensorboard") is not None:
            self._write_events(rows[-1])

    def write_gradients(self, rows: list[GradientRow]) -> None:
        """Write gradients.csv, all rows so far. Raises SightlineError when it can't be written."""
        _write_table(self.folder / "gradients.csv", GradientRow, rows)

    def close(self) -> None:
        """Flush the events."""
        if self._events is not None:
            self._events.close()

    def _write_events(self, row: Row) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._events is None:  # of a resumed run: hides what the killed one wrote of this epoch and later
            self._events = SummaryWriter(str(self.folder / "tensorboard"), purge_step=row.epoch)
        for name, value in asdict(row).items():
            if name != "epoch" and value is not None:
                self._events.add_scalar(name, value, row.epoch)
        self._events.flush()


def _write_table(path: Path, kind: type[AnyRow], rows: list[AnyRow]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_text(path, text.getvalue())
