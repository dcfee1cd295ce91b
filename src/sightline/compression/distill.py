"""Distillation: train a network on a better one's probabilities, which say how alike the classes are.

With `student` a smaller architecture is trained from fresh weights, and the model that is compressed teaches it.
Without, the model itself is trained on, and `teacher` names who teaches it: after pruning, most often the model before.

Source: Distilling the Knowledge in a Neural Network (Hinton et al., 2015), https://arxiv.org/abs/1503.02531.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from sightline.compressing.images import Images, recipe_of
from sightline.compressing.tuning import of_other_length, overridden, tune, tuning_recipe
from sightline.data.unlabelled import contents, place_of
from sightline.errors import ModelError, RecipeError
from sightline.model_folder import ModelFolder
from sightline.models import find_variant
from sightline.recipe import DistillConfig, ModelConfig, Recipe
from sightline.recipe.distill import TEMPERATURE, WEIGHT
from sightline.recipe.finetune import FineTuneConfig
from sightline.training.teacher import check_classes, find_teacher


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Who teaches whom, and how."""

    teacher: str | None = None
    """A model folder of the same classes; None: the model that is compressed, which needs a student."""
    student: str | None = None
    """An architecture to train from fresh weights; None: the model that is compressed."""
    unlabelled: str | None = None
    """A folder or archive of images without labels to learn from, too."""
    temperature: float = TEMPERATURE
    weight: float = WEIGHT
    """Share of the loss that is the teacher's; the labels have the rest."""
    epochs: int | None = None
    """None: those of the model's own recipe for a student, 5 for the model itself."""
    settings: tuple[str, ...] = ()
    """Settings of the training."""

    def __post_init__(self) -> None:
        if self.teacher is None and self.student is None:
            raise ModelError("distill: name the model folder that teaches, or the architecture of a student.")
        if self.student is not None:
            find_variant(self.student)
        if self.unlabelled is not None:
            place_of(self.unlabelled)
        if self.epochs is not None and self.epochs < 1:
            raise ModelError(f"distill: epochs must be at least 1, got {self.epochs}.")

    @property
    def makes_another(self) -> bool:
        """Whether a student is trained, whatever architecture it has."""
        return self.student is not None

    def check(self, folder: ModelFolder) -> None:
        """Raise ModelError where there is no teacher, RecipeError for one that can't teach, or impossible settings."""
        if self.teacher is not None:
            check_classes(find_teacher(self._config(self.teacher)), folder.spec.classes)
        self.recipe(recipe_of(folder), folder)

    def sources(self) -> dict[str, str]:
        """What lies where its settings point to."""
        found: dict[str, str] = {}
        if self.teacher is not None and (Path(self.teacher) / "model.json").exists():  # else it is one of timm's
            found["teacher"] = ModelFolder.read(self.teacher).spec.fingerprint
        if self.unlabelled is not None:
            found["unlabelled"] = contents(self.unlabelled)
        return found

    def recipe(self, own: Recipe, folder: ModelFolder) -> Recipe:
        """The student's: a fresh one has the model's own recipe, whatever network that was for.

        Raises RecipeError for settings that can't be.
        """
        config = self._config(self.teacher or str(folder.path))
        if self.student is None:
            recipe = replace(tuning_recipe(own, folder, self.epochs or 5), distill=config)
        else:
            epochs = self.epochs or own.epochs
            recipe = own if epochs == own.epochs else of_other_length(own, epochs)
            recipe = replace(recipe, model=ModelConfig(name=self.student), finetune=FineTuneConfig(), distill=config)
        changed = overridden(recipe, self.settings)
        for name in ("teacher", "unlabelled"):
            if getattr(changed.distill, name) != getattr(config, name):
                option = "--distill" if name == "teacher" else "--unlabelled"
                raise RecipeError(f"--set distill.{name}: name it by {option}.")
        return changed

    def apply(self, folder: ModelFolder, images: Images, work: Path) -> ModelFolder:
        """The student, trained. Raises what training raises."""
        return tune(self.recipe(images.recipe, folder), images, work / "student")

    def _config(self, teacher: str) -> DistillConfig:
        """With absolute paths: a call that goes on may spell them otherwise, from another folder."""
        return DistillConfig(
            teacher=str(Path(teacher).resolve()) if (Path(teacher) / "model.json").exists() else teacher,
            unlabelled=None if self.unlabelled is None else place_of(self.unlabelled),
            temperature=self.temperature,
            weight=self.weight,
        )


ENTRY = Distill
