"""PyTorch, eagerly, with the channel innermost in memory: what many convolutions' kernels want."""

from sightline.engines import Engine, Settings
from sightline.engines.torch import TorchNetwork, load
from sightline.model_folder import ModelFolder


def open_channels_last(folder: ModelFolder, settings: Settings) -> TorchNetwork:
    """The network with its weights and images in that layout."""
    model = load(folder, settings, channels_last=True)
    return TorchNetwork(model, folder.spec.preprocess, settings, channels_last=True)


ENTRY = Engine(
    title="PyTorch, eager, channels last",
    extra="train",
    modules=("torch",),
    precisions=("float32", "bf16"),
    open=open_channels_last,
    gpu=True,
    steady=False,
)
