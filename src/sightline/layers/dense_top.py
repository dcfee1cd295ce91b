"""Two fully connected layers of 4096 units over a grid of pooled features: the top of the networks before 2014.

Source: ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky et al., 2012), sections 3.5 and 4.2.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class DenseTop(nn.Module):
    """Average the map to `grid` by `grid`, then layers "6" and "7", each with ReLU.

    The dropout between them is here; the one after layer 7 is the classifier's `head_dropout`.
    """

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.fc6 = nn.Linear(channels * grid**2, 4096)
        self.act6 = nn.ReLU(inplace=True)
        self.dropout6 = nn.Dropout(0.5)
        self.fc7 = nn.Linear(4096, 4096)
        self.act7 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4096)."""
        x = F.adaptive_avg_pool2d(x, self.grid).flatten(1)
        x = self.dropout6(self.act6(self.fc6(x)))
        return self.act7(self.fc7(x))
