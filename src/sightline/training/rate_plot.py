"""The picture of a learning-rate range test."""

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from sightline.files import whole_file

if TYPE_CHECKING:
    from sightline.training.find_rate import RateRange


def draw(found: "RateRange", path: Path) -> None:
    """Write the loss over the rate as a PNG. Raises SightlineError when it can't be written."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, ".", color="#9aa5b1", markersize=4, label="loss of each update")
    axes.plot(found.rates, found.smoothed, "-", color="#1f5fbf", linewidth=1.8, label="smoothed")
    if found.suggestion is not None:
        axes.axvline(found.suggestion, color="#b3261e", linestyle="--", label=f"suggested: {found.suggestion:.2g}")
    low, high = min(found.losses), max(found.smoothed[: max(len(found.smoothed) // 2, 1)])
    room = max(high - low, 1e-6)
    axes.set(xscale="log", xlabel="Learning rate", ylabel="Training loss", ylim=(low - 0.1 * room, high + 0.6 * room))
    ended = "stopped where the loss diverged" if found.diverged else "to the highest rate"
    axes.set_title(f"Learning-rate range test: {len(found.rates)} updates, {ended}", loc="left", fontsize=10)
    axes.grid(visible=True, alpha=0.25)
    axes.legend(loc="best", fontsize=9)
    with whole_file(path) as aside:
        figure.savefig(aside, format="png", dpi=130, metadata={"Software": None})
