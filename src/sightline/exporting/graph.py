"""The network that is exported: alone, or with normalisation before it and calibrated probabilities behind."""

import json

import torch
from torch import Tensor, nn

from sightline.formats import Graph
from sightline.model_folder import ModelFolder, ModelSpec


class PixelsToProbabilities(nn.Module):
    """A network between `Preprocess.normalize` and `ModelSpec.probabilities`."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.network = network
        self.temperature = spec.calibration.temperature
        self.multi_label = spec.multi_label
        # The values of Preprocess.normalize, which a test compares with.
        self.register_buffer("mean", torch.tensor(spec.preprocess.mean).mul(255).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(spec.preprocess.std).mul(255).reciprocal().view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, 3) uint8 -> probabilities (B, K), logits (B, K)."""
        images = (pixels.permute(0, 3, 1, 2).float() - self.mean) * self.scale
        logits = self.network(images)
        scaled = logits / self.temperature
        return scaled.sigmoid() if self.multi_label else scaled.softmax(1), logits


def build_graph(folder: ModelFolder, *, pixels: bool, precision: str) -> Graph:
    """What a format writes for this model. Raises ModelError when the weights can't be read."""
    spec = folder.spec
    side = spec.preprocess.image_size
    network = folder.model()
    metadata = describe(spec, pixels=pixels, precision=precision)
    if pixels:
        module = PixelsToProbabilities(network, spec).eval()
        example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
        outputs = ("probabilities", "logits")
        return Graph(module=module, example=example, input_name="pixels", output_names=outputs, metadata=metadata)
    example = torch.zeros(2, 3, side, side)
    return Graph(module=network, example=example, input_name="images", output_names=("logits",), metadata=metadata)


def describe(spec: ModelSpec, *, pixels: bool, precision: str) -> dict[str, str]:
    """What a lone file should tell: JSON where a value is more than a word or a number."""
    preprocess = spec.preprocess
    side = preprocess.image_size
    resized = f"short side resized to {preprocess.resize} pixels ({preprocess.interpolation}, antialiased), centre cut"
    inputs = {
        True: f"pixels: uint8 (batch, {side}, {side}, 3), RGB, {resized}",
        False: f"images: float32 (batch, 3, {side}, {side}), RGB, {resized}, then (value / 255 - mean) / std",
    }
    link = "sigmoid" if spec.multi_label else "softmax"
    meaning = f"logits (batch, {len(spec.classes)}); probabilities are {link}(logits / temperature)"
    thresholds = {} if spec.thresholds is None else {"thresholds": json.dumps(spec.thresholds.values)}
    return {
        "producer": "sightline",
        "architecture": spec.architecture.name,
        "classes": json.dumps(spec.classes, ensure_ascii=False),
        "task": spec.task,
        "input": inputs[pixels],
        "output": f"probabilities, {meaning}" if pixels else meaning,
        "mean": json.dumps(preprocess.mean),
        "std": json.dumps(preprocess.std),
        "temperature": repr(spec.calibration.temperature),
        **thresholds,
        "figures": json.dumps(spec.figures),
        "precision": precision,
        "parent": spec.fingerprint,
    }
