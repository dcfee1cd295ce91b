"""Averages of the weights along a run, which often generalise better than the last weights.

Exponential: Polyak averaging as the field does it, after every update. Its decay begins low,
min(decay, (1 + t) / (10 + t)) at update t, so that the fresh weights of the start are soon forgotten: TensorFlow's
ExponentialMovingAverage with `num_updates`. Batch-norm statistics are averaged in the same way as the weights
they belong to, as timm and torchvision do.

Stochastic: Averaging Weights Leads to Wider Optima and Better Generalization (Izmailov et al., 2018),
algorithm 1: the equal mean of the weights where the phase begins and after each epoch since. Batch-norm
statistics of an average are nobody's, so they are measured by a pass over the training images.

How often an average was taken is a function of the place in the run; only the tensors need saving.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]  # 1d, 2d, 3d and synchronised
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn


class WeightAverage:
    """A running average of a model's floating-point tensors: parameters and statistics.

    Made once the model is where it trains: it follows these very tensors.
    """

    def __init__(self, model: nn.Module) -> None:
        state: dict[str, Tensor] = model.state_dict()
        self._followed = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
        self._means = {name: tensor.clone() for name, tensor in self._followed.items()}

    def take_exponential(self, update: int, decay: float) -> None:
        """Move towards the weights after update number `update`, from 0."""
        now = min(decay, (1 + update) / (10 + update))
        get_ema_multi_avg_fn(now)(list(self._means.values()), list(self._followed.values()), None)

    def take_equal(self, taken: int) -> None:
        """Make the weights one of taken + 1 that count the same; the first replaces what was there."""
        get_swa_multi_avg_fn()(list(self._means.values()), list(self._followed.values()), taken)

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors by the model's names; what isn't a fraction (counters) has no average and is left out."""
        return self._means

    def load(self, state: dict[str, Tensor]) -> None:
        """Put a saved state back, to the bit."""
        for name, mean in self._means.items():
            mean.copy_(state[name])

    def show(self) -> None:
        """Copy the average into the model."""
        with torch.no_grad():
            for name, tensor in self._followed.items():
                tensor.copy_(self._means[name])


def measure_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Batch-norm statistics as the mean over these batches of normalised images (B, 3, H, W), in training mode.

    Norms that are in evaluation mode are frozen and keep theirs, which the layers behind them were trained on.
    Batches are looked at only where statistics are to be measured.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # an equal mean
    with torch.no_grad():
        for images in batches:
            model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
