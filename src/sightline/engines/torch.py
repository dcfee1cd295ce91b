"""PyTorch, eagerly: the network as it was trained and evaluated, to the bit. Every other engine is compared with it."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.devices import autocast, pick_device
from sightline.engines import Engine, Settings
from sightline.model_folder import ModelFolder
from sightline.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class TorchNetwork:
    """A network on a device; `channels_last` is the layout that its images come in."""

    def __init__(
        self,
        network: "Callable[[torch.Tensor], torch.Tensor]",
        preprocess: Preprocess,
        settings: Settings,
        *,
        channels_last: bool = False,
    ) -> None:
        self._network = network
        self._preprocess = preprocess
        self._device = pick_device(settings.device)
        self._precision = settings.precision
        self._channels_last = channels_last

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 3, image_size, image_size) uint8 -> (B, K) logits."""
        import torch

        with torch.inference_mode(), autocast(self._device, self._precision):
            images = self._preprocess.normalize(torch.from_numpy(pixels).to(self._device))
            if self._channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            return self._network(images).float().cpu().numpy()


def load(folder: ModelFolder, settings: Settings, *, channels_last: bool = False) -> "torch.nn.Module":
    """The folder's network on the settings' device, and torch on their number of threads."""
    model = folder.model()
    import torch

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if channels_last:
        model.to(memory_format=torch.channels_last)
    return model.to(pick_device(settings.device))


def open_eager(folder: ModelFolder, settings: Settings) -> TorchNetwork:
    """The network as it is."""
    return TorchNetwork(load(folder, settings), folder.spec.preprocess, settings)


ENTRY = Engine(
    title="PyTorch, eager",
    extra="train",
    modules=("torch",),
    precisions=("float32", "bf16"),
    open=open_eager,
    gpu=True,
    steady=False,
)
