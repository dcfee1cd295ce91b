"""The initial values of the networks before 2014: one narrow normal distribution for everything.

Source: ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky et al., 2012), section 5.
"""

from torch import nn

PIXEL_DEVIATION = 57.0
"""Of ImageNet's pixels on the scale 0 to 255."""


def initialise_narrow_normal(model: nn.Module) -> None:
    """N(0, 0.01) in all kernels and matrices, biases 0; the first layer's kernels are larger.

    These papers feed centred pixels on the scale 0 to 255, we normalised ones of deviation 1. With kernels larger by
    the ratio the first layer answers as theirs does; with theirs, biases of 1 drown it and training stands still.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for index, layer in enumerate(layers):
        nn.init.normal_(layer.weight, std=0.01 * PIXEL_DEVIATION if index == 0 else 0.01)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
