"""Local response normalisation: each activation is divided by the activity of its neighbour channels.

Source: ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky et al., 2012), section 3.3.
"""

from torch import nn


class LocalResponseNorm(nn.LocalResponseNorm):
    """b_i = a_i / (k + alpha * sum of a_j^2)^beta over the n = 5 channels around i; k = 2, alpha = 1e-4, beta = 0.75.

    (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self) -> None:
        # PyTorch takes the mean of the squares where the paper takes their sum: alpha is n times larger.
        super().__init__(size=5, alpha=5 * 1e-4, beta=0.75, k=2.0)
