"""The two-layer perceptron of a transformer block.

Source: An Image is Worth 16x16 Words (Dosovitskiy et al., 2020), https://arxiv.org/abs/2010.11929, section 3.1.
"""

from torch import Tensor, nn


class Mlp(nn.Module):
    """Widen each token, apply GELU, and come back to its width; dropout after each linear layer."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden_width)
        self.act = nn.GELU()
        self.dropout1 = nn.Dropout(0.0)
        self.fc2 = nn.Linear(hidden_width, width)
        self.dropout2 = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.dropout2(self.fc2(self.dropout1(self.act(self.fc1(x)))))
