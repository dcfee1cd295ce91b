"""What the comparisons with published references share: random values that reveal differences, and renaming."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sightline.foreign_weights import Renaming, rename
from sightline.models import Classifier, create_model, find_variant


def fill_randomly(module: nn.Module, seed: int = 0) -> None:
    """Values under which every tensor matters: nothing is left at 0 or 1, and activations keep their scale.

    Kernels and matrices keep the variance of what passes through a ReLU; running statistics are away from 0 and 1.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():  # not buffers outside of it: masks, tables of places
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
    """The state dict under our names, where each tensor has one of its own."""
    names = rename(state, renaming)
    assert len(set(names.values())) == len(names)
    return {ours: state[theirs] for theirs, ours in names.items()}


def with_reference(
    name: str, build: Callable[[], nn.Module], library: str, *, device: str = "cpu"
) -> tuple[Classifier, nn.Module]:
    """Our network of this name and what `build` gives, with the same random values, both ready for evaluation.

    Only for references whose buffers are all in their state dict. The two share their memory.
    """
    with torch.device("meta"):  # no time for initial values that nobody reads
        ours, reference = create_model(name), build()
    if device != "meta":
        reference.to_empty(device=device)
        fill_randomly(reference)
    family, _ = find_variant(name)
    ours.load_state_dict(renamed(reference.state_dict(), family.renamings[library]), assign=True)
    return ours.eval(), reference.eval()


def assert_same_outputs(ours: Tensor, reference: Tensor) -> None:
    """Equal to 1e-4, for values spread widely enough to make that mean something."""
    assert reference.std() > 0.1
    assert (ours - reference).abs().max() <= 1e-4


def head_input(model: nn.Module, images: Tensor) -> Tensor:
    """What the last linear layer of a reference in evaluation is given: its features."""
    head = [module for module in model.children() if isinstance(module, nn.Linear | nn.Sequential)][-1]
    head = head[-1] if isinstance(head, nn.Sequential) else head
    caught: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
    model(images)
    handle.remove()
    return caught[0]


def random_images(batch_size: int, size: int) -> Tensor:
    """(B, 3, size, size), the same ones each time."""
    return torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(1))
