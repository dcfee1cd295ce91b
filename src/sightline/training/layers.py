"""How the layers of a network that trains compute, as the recipe says."""

from functools import partial
from typing import Protocol

from torch import nn

from sightline.checkpointing import checkpoint_activations
from sightline.models import Classifier
from sightline.recipe import Recipe
from sightline.training.attention_gradients import differentiate_attention_in_float32
from sightline.training.depthwise import differentiate_by_pieces, has_depthwise
from sightline.training.fake_quantizing import fake_quantize
from sightline.training.fused_attention import check_attention, fuse_attention, has_attention
from sightline.training.fused_norms import check_norms, fuse_norms, has_norms
from sightline.training.mixed_attention import has_learned_bias, mix_attention
from sightline.training.out_of_place import compute_out_of_place
from sightline.training.packed_gradients import check_packing, has_packable, pack_gradients
from sightline.training.products import convolve_by_products, has_products
from sightline.training.rectifying import rectify_by_integers
from sightline.training.winograd import check_filtering, filter_minimally, has_filterable


class Chosen(Protocol):
    """The settings that are looked at: of a recipe's `train`, or of a way to compute that is tried."""

    @property
    def precision(self) -> str:
        """What is computed in."""
        ...

    @property
    def depthwise_float32(self) -> bool:
        """Depthwise convolutions compute in float32."""
        ...

    @property
    def matmul_convolutions(self) -> bool:
        """Other convolutions are matrix products where those are faster."""
        ...

    @property
    def mixed_attention(self) -> bool:
        """Attention with a learned bias computes in mixed precision."""
        ...

    @property
    def fused_attention(self) -> bool:
        """Attention is computed by compiled loops, in bf16 its gradients alone."""
        ...

    @property
    def fused_norms(self) -> bool:
        """Batch norm computes by compiled loops, with the activation behind it."""
        ...

    @property
    def packed_gradients(self) -> bool:
        """Convolutions' weight gradients are computed by compiled loops."""
        ...

    @property
    def winograd(self) -> bool:
        """3x3 convolutions are computed by minimal filtering."""
        ...


def check_layers(chosen: Chosen) -> None:
    """Raise RecipeError where this machine can't compute as chosen."""
    if chosen.fused_norms:
        check_norms(chosen.precision)
    if chosen.fused_attention:
        check_attention(chosen.precision)
    if chosen.packed_gradients:
        check_packing()
    if chosen.winograd:
        check_filtering()


def idle(model: nn.Module, chosen: Chosen) -> list[str]:
    """The settings that are on and find no layer in a network, which isn't settled yet."""
    finds = {
        "depthwise_float32": has_depthwise,
        "matmul_convolutions": has_products,
        "mixed_attention": has_learned_bias,
        "fused_attention": partial(has_attention, precision=chosen.precision),
        "fused_norms": partial(has_norms, precision=chosen.precision),
        "packed_gradients": has_packable,
        "winograd": has_filterable,
    }
    return [name for name, find in finds.items() if getattr(chosen, name) and not find(model)]


def settle(model: Classifier, recipe: Recipe) -> int:
    """Have the network compute as a recipe's `train` says; how many layers round as int8 would.

    Raises RecipeError where this machine can't compute so.
    """
    settle_layers(model, recipe.train, recipe.data.image_size)
    rounded = fake_quantize(model) if recipe.train.fake_quantize else 0
    if recipe.train.checkpoint_activations:
        checkpoint_activations(model)
    return rounded


def settle_layers(model: nn.Module, chosen: Chosen, side: int) -> None:
    """Have layers compute as chosen: most by swapping their classes. `side` is that of the images, in pixels.

    Raises RecipeError where this machine can't compute so.
    """
    if chosen.fused_norms:
        fuse_norms(model, chosen.precision, side)
    compute_out_of_place(model)
    differentiate_by_pieces(model, in_float32=chosen.depthwise_float32)
    if chosen.matmul_convolutions:
        convolve_by_products(model)
    if chosen.packed_gradients:
        pack_gradients(model)
    if chosen.winograd:
        filter_minimally(model)
    if chosen.fused_attention:  # before the others, which are asked where this doesn't answer
        fuse_attention(model, chosen.precision)
    if chosen.mixed_attention:
        mix_attention(model)
    if chosen.precision == "bf16":
        rectify_by_integers(model)
        differentiate_attention_in_float32(model)
