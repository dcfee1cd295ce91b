"""Any of timm's networks as a Classifier: `timm/NAME`, where timm is installed.

Beside the lineage's own files, for what the lineage doesn't hold. The networks are timm's, unchanged:
images of 32 pixels meet the stem that was made for 224.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from sightline import deps
from sightline.errors import ModelError, unknown_name
from sightline.models import Classifier, Family, Stage, Variant

NUM_MAPS = 4
"""Maps taken from networks that keep one resolution, at equal distances."""


@dataclass(frozen=True, kw_only=True)
class TimmConfig:
    """A network of timm's, at a size of images."""

    name: str
    """As timm has it, with or without a tag."""
    image_size: int
    """Pixels; networks with learned positions are built for it."""
    fixed_size: bool
    """Whether it takes images of that size only."""


class TimmClassifier(Classifier):
    """timm's network without its last linear layer, which is `head`.

    timm's networks drop features before their head themselves, so `head_dropout` is timm's where it is a layer.
    """

    def __init__(self, config: TimmConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        timm: Any = deps.require("timm", extra="timm", purpose=f"The model 'timm/{config.name}'")
        sized = {"img_size": config.image_size} if config.fixed_size else {}
        network = timm.create_model(config.name, num_classes=num_classes, in_chans=in_channels, **sized)
        head = _linear(network.get_classifier())
        if head is None:
            raise ModelError(f"'timm/{config.name}' does not end in one linear layer, which every model here has.")
        network.reset_classifier(0)
        self.network = network
        self.stages = _stages(network)
        self.num_features = head.in_features
        self.head_dropout = nn.Dropout(0.0)
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised -> (B, K) logits. The dropout before the head is in timm's own forward."""
        return self.head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D), pooled as timm does."""
        return self.network.forward_head(self.network.forward_features(images), pre_logits=True).flatten(1)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> for each of `stages` (B, C_i, H_i, W_i). Raises ModelError where timm has no maps."""
        if not self.stages:
            raise ModelError(f"timm gives no feature maps of {type(self.network).__name__}.")
        indices = [index for index, _ in _places(self.network)]
        return self.network.forward_intermediates(images, indices=indices, intermediates_only=True)


def _linear(head: nn.Module) -> nn.Linear | None:
    """A linear layer as it is, a 1x1 convolution as the linear layer it is on pooled features; None for more."""
    if isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1):
        linear = nn.Linear(head.in_channels, head.out_channels, bias=head.bias is not None)
        linear.load_state_dict(
            {name: tensor.flatten(1) if tensor.ndim == 4 else tensor for name, tensor in head.state_dict().items()}
        )
        return linear
    return head if isinstance(head, nn.Linear) else None


def _places(network: Any) -> list[tuple[int, dict[str, Any]]]:
    """(index, what timm says of it) for each map: the last of each resolution, or four at equal distances."""
    if not hasattr(network, "forward_intermediates"):
        return []
    described = list(enumerate(dict(info) for info in network.feature_info))
    last_of_each = {info["reduction"]: (index, info) for index, info in described}
    if len(last_of_each) > 1:
        return list(last_of_each.values())
    step = max(len(described) // NUM_MAPS, 1)
    return described[step - 1 :: step]


def _stages(network: nn.Module) -> tuple[Stage, ...]:
    modules = dict(network.named_modules())
    stages: list[Stage] = []
    for _, info in _places(network):
        name = info["module"]
        while name not in modules:  # timm names some places that are no module: take the nearest around it
            name = name.rpartition(".")[0]
        stages.append(Stage(f"network.{name}".rstrip("."), info["num_chs"], info["reduction"]))
    return tuple(stages)


@lru_cache(maxsize=16)
def find_timm(name: str) -> tuple[Family, Variant]:
    """The family and numbers of `timm/NAME`, as far as timm knows them.

    Raises ModelError when timm has no such network, and MissingPackageError without timm.
    """
    timm: Any = deps.require("timm", extra="timm", purpose=f"The model {name!r}")
    theirs = name.removeprefix("timm/")
    architecture = theirs.partition(".")[0]
    if not timm.is_model(architecture):
        raise ModelError(unknown_name("timm model", architecture, timm.list_models(), listing="timm.list_models()"))
    settings = timm.models.get_pretrained_cfg(theirs, allow_unregistered=False)
    size = settings.input_size[-1] if settings else 224
    num_classes = settings.num_classes if settings and settings.num_classes else 1000
    config = TimmConfig(name=theirs, image_size=size, fixed_size=bool(settings and settings.fixed_input_size))
    papers = settings.paper_ids if settings and settings.paper_ids else ""
    paper = papers if isinstance(papers, str) else papers[0]
    arxiv = re.search(r"(\d\d)\d\d\.\d{4,5}", paper)
    with torch.device("meta"):
        model = TimmClassifier(config, num_classes, 3)
    variant = Variant(
        config=config,
        num_params=sum(parameter.numel() for parameter in model.parameters()),
        image_size=size,
        num_classes=num_classes,
        timm=theirs if "." not in theirs else architecture,
    )
    family = Family(
        title=f"timm's {theirs}",
        paper=f"https://arxiv.org/abs/{arxiv[0]}" if arxiv else "https://github.com/huggingface/pytorch-image-models",
        year=2000 + int(arxiv[1]) if arxiv else 0,
        model=TimmClassifier,
        variants={name: variant},
        fit=_fit,
        renamings={"timm": _renaming(theirs)},
    )
    return family, variant


def _renaming(name: str) -> tuple[tuple[str, str | None], ...]:
    """Timm's tensors lie under `network`, but for those of its classifier."""
    timm: Any = deps.require("timm", extra="timm", purpose=f"The model 'timm/{name}'")
    with torch.device("meta"):
        network = timm.create_model(name)
    head = next(key for key, module in network.named_modules() if module is network.get_classifier())
    return ((rf"^{re.escape(head)}\.(weight|bias)$", r"head.\1"), (r"^(?!head\.(?:weight|bias)$)", "network."))


def _fit(config: Any, image_size: int) -> tuple[Any, str]:
    """Timm's networks are taken as they are; what can't take the size is found by sending shapes through."""
    fitted = replace(config, image_size=image_size)
    try:
        with torch.device("meta"):
            TimmClassifier(fitted, 1, 3).eval()(torch.empty(1, 3, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = (str(error).splitlines() or ["its layers don't fit"])[0]
        raise ModelError(f"'timm/{config.name}' can't take images of {image_size} pixels: {reason}") from error
    return fitted, ""
