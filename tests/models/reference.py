"""What the comparisons with published references share: random values that reveal differences, and renaming."""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sightline.models import Classifier, Renaming, create_model, find_variant


def fill_randomly(module: nn.Module, seed: int = 0) -> None:
    """Values under which every tensor matters: nothing is left at 0 or 1, and activations keep their scale.

    Kernels and matrices keep the variance of what passes through a ReLU; running statistics are away from 0 and 1.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if not tensor.is_floating_point():
                continue
            values = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                values = 0.5 + torch.rand(tensor.shape, generator=generator)
            elif name.endswith("running_mean") or name.endswith("bias"):
                values = 0.1 * values
            elif tensor.ndim == 1:
                values = 1 + 0.1 * values
            else:
                values = values * (2 / tensor[0].numel()) ** 0.5
            tensor.copy_(values)


def renamed(state: dict[str, Tensor], renaming: Renaming) -> dict[str, Tensor]:
    """The state dict under our names: each pattern is applied in turn, None drops the tensor."""
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        ours: str | None = name
        for pattern, replacement in renaming:
            if ours is not None and re.search(pattern, ours):
                ours = None if replacement is None else re.sub(pattern, replacement, ours)
        if ours is not None:
            assert ours not in result, f"{name} and another tensor both become {ours}"
            result[ours] = tensor
    return result


def with_reference(name: str, build: Callable[[], nn.Module], library: str) -> tuple[Classifier, nn.Module]:
    """Our network of this name and what `build` gives, with the same random values, both ready for evaluation.

    Only for references whose buffers are all in their state dict. The two share their memory.
    """
    with torch.device("meta"):  # no time for initial values that nobody reads
        ours, reference = create_model(name), build()
    reference.to_empty(device="cpu")
    fill_randomly(reference)
    family, _ = find_variant(name)
    ours.load_state_dict(renamed(reference.state_dict(), family.renamings[library]), assign=True)
    return ours.eval(), reference.eval()


def assert_same_outputs(ours: Tensor, reference: Tensor) -> None:
    """Equal to 1e-4, for values spread widely enough to make that mean something."""
    assert reference.std() > 1
    assert (ours - reference).abs().max() <= 1e-4
