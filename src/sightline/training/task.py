"""The LightningModule: augment, normalise, forward, loss. Everything random is seeded by its place in the run."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sightline.augmentations import Batch, augment
from sightline.data.order import APPEARANCE
from sightline.errors import SightlineError
from sightline.models import Classifier
from sightline.preprocess import Preprocess
from sightline.randomness import Draws, seed_torch
from sightline.recipe import Recipe
from sightline.training.clipping import clip_gradients
from sightline.training.engine import Module
from sightline.training.freezing import Freezing
from sightline.training.losses import Loss
from sightline.training.lost_loss import lost_loss
from sightline.training.optimizers import build_optimizer, set_rates
from sightline.training.schedules import learning_rate, momentum
from sightline.training.teacher import Teacher

Outputs = Callable[[Tensor], list[tuple[float, Tensor]]]
"""Images (B, 3, H, W) to logits (B, K), each with its weight in the loss."""

_NO_COMPILER = ("No working C++ compiler", "Failed to find C compiler")
"""What torch says where it finds none, on a CPU and on a GPU."""


@dataclass(kw_only=True)
class Progress:
    """Where a run is; a checkpoint holds exactly this beside the tensors of the model and the optimiser."""

    position: int = 0
    """Batches done, over all epochs."""
    loss_sum: float | Tensor = 0.0
    """Over the images of this epoch so far."""
    correct: float | Tensor = 0.0
    seen: int = 0
    unlabelled: int = 0
    """Of those seen."""

    @property
    def accuracy(self) -> float:
        """Over the images with a label."""
        return float(self.correct) / max(self.seen - self.unlabelled, 1)


class ClassificationTask(Module):
    """One step of training: Batch in, loss out."""

    def __init__(self, model: Classifier, recipe: Recipe, batches_per_epoch: int, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.recipe = recipe
        self.preprocess: Preprocess = recipe.data.preprocess()
        self.batches_per_epoch = batches_per_epoch
        self.num_batches = recipe.epochs * batches_per_epoch
        self.progress = Progress()
        self.validation_losses: list[float] = []
        """Of the looks so far, for the schedule that follows them."""
        self.rate = recipe.optim.lr
        """The schedule's learning rate at the last batch."""
        self.freezing = Freezing(model, recipe.finetune, recipe.epochs)
        self.teacher: Teacher | None = None
        self.num_labelled: int | None = None
        """Samples' images from this number on have no label; None where all have one."""
        self.outputs: Outputs = _compiled(model.training_outputs) if recipe.train.compile else model.training_outputs

    @property
    def at_update(self) -> bool:
        """Whether the last batch's gradients have gone into the weights: between two of them nothing can be saved."""
        return self.progress.position % self.recipe.accumulate == 0 or self.progress.position == self.num_batches

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimiser, for every parameter that will ever train."""
        self.freezing.release()
        return build_optimizer(self.model, self.recipe.optim, unscales=self.recipe.train.precision == "fp16")

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip as the recipe says, before each update: Lightning has accumulated and unscaled the gradients by then."""
        del optimizer
        clip_gradients(self.model, self.recipe.optim)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move images and targets; the samples' numbers stay on the CPU, where draws are made."""
        del dataloader_idx
        return replace(
            batch,
            images=batch.images.to(device, non_blocking=True),
            targets=batch.targets.to(device, non_blocking=True),
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of the update this batch belongs to, and which parameters train in it."""
        del batch, batch_idx
        accumulate = self.recipe.accumulate
        epoch = self.progress.position // accumulate * accumulate // self.batches_per_epoch
        self.freezing.apply(epoch)
        place = (
            self.progress.position // accumulate,
            -(-self.num_batches // accumulate),
            self.batches_per_epoch / accumulate,
        )
        constant = self.recipe.train.swa_rate(epoch, self.recipe.epochs)
        self.rate = constant or self.schedule_rate(*place)
        moved = momentum(self.recipe.optim, self.recipe.optim.highest_momentum, *place)
        set_rates(self.trainer.optimizers[0], self.recipe.optim, self.rate, moved)

    def schedule_rate(self, update: int, updates: int, updates_per_epoch: float) -> float:
        """The learning rate of an update, as the recipe's schedule says."""
        return learning_rate(self.recipe.optim, update, updates, updates_per_epoch, self.validation_losses)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch of uint8 pixels (B, 3, H, W), scaled for the mean over the accumulated batches."""
        del batch_idx
        position = self.progress.position
        seed_torch(self.recipe.seed, position, "network")
        augmented = self.augment(batch, epoch=position // self.batches_per_epoch)
        images = self.preprocess.normalize(augmented.images, channels_last=self.recipe.train.channels_last)
        outputs = self.outputs(images)
        some = self.num_labelled is not None
        losses = [weight * self.loss(y, augmented.targets, some_unlabelled=some) for weight, y in outputs]
        loss = torch.stack(losses).sum()
        if self.teacher is not None:
            loss = self.teacher.mixed(loss, outputs[0][1], augmented.images)
        self._count(loss.detach(), outputs[0][1].detach(), batch)
        return loss * self._window_weight(position)

    def augment(self, batch: Batch, epoch: int) -> Batch:
        """Canvases (B, 3, resize, resize) -> images that the network trains on, augmented as the recipe says."""
        draws = Draws(self.recipe.seed, epoch, batch.samples)
        return augment(batch, self.recipe.augment, draws, self.preprocess.image_size)

    def _window_weight(self, position: int) -> float:
        """Lightning divides each loss by `accumulate`; the run's last window may hold fewer batches than that."""
        accumulate = self.recipe.accumulate
        window = min(accumulate, self.num_batches - position // accumulate * accumulate)
        return accumulate / window

    def _count(self, loss: Tensor, logits: Tensor, batch: Batch) -> None:
        """Add to the epoch's sums without waiting for the device."""
        progress = self.progress
        wide = torch.float32 if loss.device.type == "mps" else torch.float64  # which Apple's GPUs lack
        progress.loss_sum = progress.loss_sum + loss.to(wide) * len(batch.samples)
        right = logits.argmax(1) == batch.targets.argmax(1)
        if self.num_labelled is not None:
            right &= batch.targets.sum(1) > 0
            progress.unlabelled += int((batch.samples % APPEARANCE >= self.num_labelled).sum())
        progress.correct = progress.correct + right.sum()
        progress.seen += len(batch.samples)

    def check_finite(self) -> None:
        """Raise SightlineError when the loss is not a number any more: no later step can mend that."""
        loss = float(self.progress.loss_sum)
        if math.isfinite(loss):
            return
        raise SightlineError(
            lost_loss(self.recipe, loss, max(self.progress.position - 1, 0) // self.batches_per_epoch + 1)
        )


def _compiled(outputs: Outputs) -> Outputs:
    """The same, compiled when it is first called. Raises SightlineError where no compiler works."""
    compiled = torch.compile(outputs)

    def call(images: Tensor) -> list[tuple[float, Tensor]]:
        try:
            return compiled(images)
        except RuntimeError as error:
            if any(sentence in str(error) for sentence in _NO_COMPILER):
                raise SightlineError(
                    "train.compile needs a C++ compiler (g++), and none works here. "
                    "Install one, or set train.compile=false."
                ) from error
            raise

    return call
