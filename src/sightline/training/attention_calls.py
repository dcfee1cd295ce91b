"""Layers whose calls of torch's attention are answered by a function of ours.

The class of such a layer is swapped on the network that trains; its parameters and its state's names stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Answer: TypeAlias = Callable[..., Tensor | None]
"""Takes what F.scaled_dot_product_attention takes; None where torch's own shall compute."""


def answer_attention(module: nn.Module, prefix: str, answer: Answer) -> None:
    """Have the attention within the module's forward be `answer`'s; its class is called that with a prefix then."""
    if answer not in getattr(module, "_answers", ()):
        module.__class__ = _answered(type(module), prefix, answer)


@cache
def _answered(layer: type[nn.Module], prefix: str, answer: Answer) -> type[nn.Module]:
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with _Answering(answer):
            return layer.forward(self, *args, **kwargs)

    answers = (*getattr(layer, "_answers", ()), answer)
    return type(f"{prefix}{layer.__name__}", (layer,), {"forward": forward, "_answers": answers})


class _Answering(TorchFunctionMode):
    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        given = dict(kwargs or {})
        answer = self._answer(*args, **given) if func is F.scaled_dot_product_attention else None
        return func(*args, **given) if answer is None else answer
