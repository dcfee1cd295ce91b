"""Convolution, batch norm, activation: the unit that most networks since 2015 are built of."""

from collections.abc import Callable

from torch import Tensor, nn


class ConvNormAct(nn.Module):
    """A convolution without bias, batch norm, then the activation (None: none).

    `padding` left out keeps height and width at stride 1, for odd kernels.
    """

    def __init__(  # noqa: PLR0913  a convolution alone has six
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] | None = None,
        *,
        groups: int = 1,
        eps: float = 1e-5,
        activation: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        if padding is None:
            height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
            padding = (height // 2, width // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=eps)
        self.act = nn.Identity() if activation is None else activation()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        return self.act(self.norm(self.conv(x)))
