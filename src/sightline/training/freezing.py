"""Which parameters train, as a function of the epoch alone: a resumed run needs nothing but its place."""

from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]  # 1d, 2d, 3d and synchronised

from sightline.data.phrases import counted
from sightline.errors import RecipeError
from sightline.models import Classifier
from sightline.recipe import FineTuneConfig
from sightline.surgery import names_up_to

HEAD = "the head"


class Freezing:
    """What `finetune` freezes in a network, and until when.

    The network is a row of parts: its stages from the images on, what lies between the last stage and the head,
    and the head with the auxiliary classifiers. In each epoch all parts from one of them on are trained. The others
    have no gradients, so that they cost no backward pass and no decay touches them; their batch norms use the
    statistics they have and keep them, for these would drift although nothing is trained. Their dropout goes on.

    Source of the gradual unfreezing: Universal Language Model Fine-tuning for Text Classification (Howard and
    Ruder, 2018), section 3.3.
    """

    def __init__(self, model: Classifier, config: FineTuneConfig, epochs: int) -> None:
        """Raises RecipeError for a stage that the network doesn't have."""
        self.config = config
        self.epochs = epochs
        self.stages = tuple(dict.fromkeys(stage.name for stage in model.stages))
        self._lowest = self._first_never_frozen()
        part = self._parts(model)
        self._parameters = [(part[name.rpartition(".")[0]], tensor) for name, tensor in model.named_parameters()]
        modules = model.named_modules()
        self._norms = [(part[name], module) for name, module in modules if isinstance(module, _BatchNorm)]
        self.release()

    @property
    def _head(self) -> int:
        return len(self.stages) + 1

    def first_trained(self, epoch: int) -> int:
        """The part from which on everything is trained: 0 is the first stage, the head comes after all others.

        `epoch` counts from 0.
        """
        config = self.config
        alone = config.head_epochs or config.unfreeze_every or 0
        if epoch < alone:
            return self._head
        if config.unfreeze_every is None:
            return self._lowest
        joined = 1 + (epoch - alone) // config.unfreeze_every
        return max(len(self.stages) - joined, self._lowest)

    def apply(self, epoch: int) -> None:
        """Let exactly what trains in this epoch, which counts from 0, have gradients, and norms new statistics."""
        first = self.first_trained(epoch)
        if self.config.freezes:
            for part, parameter in self._parameters:
                parameter.requires_grad = part >= first
        if self.config.freezes or self.config.keep_statistics:
            for part, norm in self._norms:
                norm.train(part >= first and not self.config.keep_statistics)

    def release(self) -> None:
        """Let every parameter that trains in some epoch have gradients, as an optimiser looks for them."""
        for part, parameter in self._parameters:
            parameter.requires_grad = part >= self.first_trained(self.epochs - 1)

    def plan(self) -> list[str]:
        """A sentence on each change: from which epoch on what is trained. Empty where nothing is ever frozen."""
        return [*self._kept(), *(self._changes() if self.config.freezes else [])]

    def _kept(self) -> list[str]:
        if not self.config.keep_statistics:
            return []
        if not self._norms:
            return ["finetune.keep_statistics changes nothing: this network has no batch norm."]
        return [f"{counted(len(self._norms), 'batch norm keeps its', 'batch norms keep their')} statistics."]

    def _changes(self) -> list[str]:
        step = self.config.unfreeze_every or 1
        alone = self.config.head_epochs or self.config.unfreeze_every or 0
        changes = [0, *(epoch for epoch in range(alone, self.epochs, step)[: len(self.stages) + 1] if epoch)]
        sentences: list[str] = []
        shown = -1
        for epoch in changes:
            first = self.first_trained(epoch)
            if first == shown:
                continue
            shown = first
            trained = sum(tensor.numel() for part, tensor in self._parameters if part >= first)
            sentences.append(f"From epoch {epoch + 1} on {self._named(first)}: {counted(trained, 'parameter')}.")
        frozen = sum(tensor.numel() for part, tensor in self._parameters if part < shown)
        return [*sentences, f"Never trained: {counted(frozen, 'parameter')}."] if frozen else sentences

    def _named(self, first: int) -> str:
        if first == 0:
            return "everything is trained"
        if first == self._head:
            return f"{HEAD} is trained"
        if first == len(self.stages):
            return f"{HEAD} and what lies between it and {self.stages[-1]} are trained"
        return f"{self.stages[first]} and what follows it are trained"

    def _first_never_frozen(self) -> int:
        wanted = self.config.freeze
        if wanted is None:
            return 0
        if wanted == "all":
            return self._head
        if wanted not in self.stages:
            raise RecipeError(
                f"finetune.freeze: {wanted!r} is no stage of this network. "
                f'It has {", ".join(self.stages) or "none that is named"}; "all" freezes everything but the head.'
            )
        return self.stages.index(wanted) + 1

    def _parts(self, model: Classifier) -> dict[str, int]:
        """Each module's part by the module's name."""
        parts = {name: len(self.stages) for name, _ in model.named_modules()}
        for number in reversed(range(len(self.stages))):
            parts |= dict.fromkeys(names_up_to(model, self.stages[number]), number)
        heads = {id(module) for module in model.head.modules()}
        for name, module in model.named_modules():
            if id(module) in heads or name.partition(".")[0] == "auxiliary":
                parts[name] = self._head
        return parts
