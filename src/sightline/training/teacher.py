"""The teacher of a distillation: its logits for the very images that the student trains on.

Source: Distilling the Knowledge in a Neural Network (Hinton et al., 2015), https://arxiv.org/abs/1503.02531, section 2:
the gradient of the softened cross-entropy shrinks with the temperature squared, which multiplies it here too.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.data.phrases import listed
from sightline.errors import ModelError, RecipeError
from sightline.model_folder import ModelFolder
from sightline.models import Classifier
from sightline.recipe import DistillConfig, Recipe
from sightline.training.attention import Maps, difference


class Teacher:
    """A trained network that is only asked. No module of the student's: it is not trained, moved or saved with it."""

    def __init__(self, config: DistillConfig, classes: Sequence[str], device: torch.device) -> None:
        folder = find_teacher(config)
        check_classes(folder, classes)
        self.fingerprint = folder.spec.fingerprint
        self._config = config
        self._preprocess = folder.spec.preprocess
        self._columns = torch.tensor([folder.spec.classes.index(name) for name in classes], device=device)
        self._network = folder.model().to(device)
        self._maps: tuple[Maps, Maps] | None = None

    def watch(self, student: Classifier) -> None:
        """Compare the feature maps, too. Raises RecipeError where a network has none."""
        if not (student.stages and self._network.stages):
            raise RecipeError("distill.attention compares feature maps, and one of the networks has none. Set it to 0.")
        self._maps = Maps(student), Maps(self._network)

    def mixed(self, loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """The labels' loss and the teacher's, by their shares, and the difference between feature maps if it counts.

        `logits` (B, K) are the student's for the augmented `images` (B, 3, H, W), 0 to 255, not normalised.
        """
        temperature, weight = self._config.temperature, self._config.weight
        wanted = (self.logits(images) / temperature).softmax(1)
        given = (logits.float() / temperature).log_softmax(1)
        soft = F.kl_div(given, wanted, reduction="batchmean") * temperature**2
        mixed = (1 - weight) * loss + weight * soft
        if self._maps is None:
            return mixed
        mine, theirs = (maps.take() for maps in self._maps)
        return mixed + self._config.attention * difference(mine, theirs)

    def logits(self, images: Tensor) -> Tensor:
        """(B, K) in the student's order of the classes; images of another size than the teacher's are resized."""
        side = self._preprocess.image_size
        with torch.no_grad():
            if images.shape[-1] != side:
                images = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
            return self._network(self._preprocess.normalize(images)).float()[:, self._columns]


def find_teacher(config: DistillConfig) -> ModelFolder:
    """The teacher's folder. Raises ModelError where there is none, RecipeError for one that can't teach."""
    assert config.teacher is not None
    if config.teacher.startswith("timm/"):
        raise RecipeError(
            f"distill.teacher {config.teacher!r} has no classes of yours. Train its head on your images first, by "
            f"`sightline train DATA --set model.name={config.teacher} --set model.pretrained=default`, and name that "
            "model folder."
        )
    folder = ModelFolder.read(config.teacher)
    if folder.spec.multi_label:
        raise RecipeError(f"distill.teacher {config.teacher!r} gives several labels an image, which isn't supported.")
    return folder


def check_classes(teacher: ModelFolder, classes: Sequence[str]) -> None:
    """Raise RecipeError where the teacher lacks one of these, which are the data's."""
    strange = [name for name in classes if name not in teacher.spec.classes]
    if strange:
        raise RecipeError(
            f"distill.teacher {str(teacher.path)!r} doesn't know the data's {listed(strange)}. "
            "Name a model of the same classes."
        )


def check_same(config: DistillConfig, known: str) -> None:
    """Raise ModelError unless the teacher has the fingerprint of the one that a run began with; "" is any."""
    if known and find_teacher(config).spec.fingerprint != known:
        raise ModelError(
            f"distill.teacher {config.teacher!r} is not the model that the run began with, whose folder was replaced. "
            "Put it back, or train anew."
        )


def teacher_of(recipe: Recipe, student: Classifier, classes: Sequence[str], device: torch.device) -> Teacher | None:
    """The teacher that a recipe names, if it does. Raises like `Teacher` and `Teacher.watch`."""
    if recipe.distill.teacher is None:
        return None
    teacher = Teacher(recipe.distill, classes, device)
    if recipe.distill.attention:
        teacher.watch(student)
    return teacher
