"""What is fitted on the validation images once the weights stand: the temperature; thresholds for several labels."""

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.data.phrases import counted, listed
from sightline.evaluation.calibration import fit_binary_temperature, fit_temperature
from sightline.evaluation.thresholds import DEFAULT, fit_thresholds
from sightline.model_folder import Calibration, Thresholds


def calibrate(
    logits: torch.Tensor, targets: NDArray[np.int64], classes: tuple[str, ...]
) -> tuple[Calibration, Thresholds | None]:
    """From logits (N, K) and targets (N,), or (N, K) with several labels an image; thresholds for those only."""
    words = f"the validation split, {counted(len(targets), 'image')}"
    values = logits.numpy()
    if targets.ndim == 1:
        return Calibration(temperature=fit_temperature(values, targets), fitted_on=words), None
    temperature = fit_binary_temperature(values, targets)
    # In double precision, as the evaluation takes them: a probability at its threshold must stay there.
    thresholds = fit_thresholds((logits.double() / temperature).sigmoid().numpy(), targets)
    unknown = [name for name, column in zip(classes, targets.T, strict=True) if len(set(column.tolist())) < 2]
    said = f"{words}, by the highest F1 of each class"
    if unknown:
        said += f"; {DEFAULT} where all or none of them have the label: {listed(unknown)}"
    calibration = Calibration(temperature=temperature, fitted_on=words)
    return calibration, Thresholds(values=tuple(thresholds.tolist()), fitted_on=said)
