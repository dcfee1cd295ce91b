"""Activations whose gradient needs their input are computed out of place: the same values, one copy less.

In place, torch copies the input for the backward pass first and then overwrites it, which takes longer and no less
memory. Only ReLU and its kin, whose gradient follows from their output, gain by computing in place.
"""

from torch import nn

KEEPS_INPUT = (nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Mish)


def compute_out_of_place(model: nn.Module) -> int:
    """Have those activations compute out of place, and return how many there are."""
    found = [module for module in model.modules() if isinstance(module, KEEPS_INPUT)]
    for module in found:
        module.inplace = False
    return len(found)
