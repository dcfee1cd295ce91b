"""Report: everything a page about a model is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from sightline.evaluation.metrics import Evaluation, Mistake
from sightline.evaluation.multilabel import MultiLabelEvaluation, WrongAnswer


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLine:
    """What the model is, in one line."""

    architecture: str
    num_params: int
    num_macs: int | None
    """Multiply-accumulates for one image; None where they are not known."""
    image_size: int


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class PicturedMistake:
    """A wrong prediction with its picture, RGB and upright; None when it could not be read again."""

    mistake: Mistake | WrongAnswer
    image: Image.Image | None


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Report:
    """What `html.write_report` shows. A part that is left out is left out of the page."""

    title: str
    model: ModelLine
    test: Evaluation | MultiLabelEvaluation
    """The evaluation that the page is about."""
    evaluated_on: str = "the test split"
    """The images of `test`, in words that fit after "on"."""
    val: Evaluation | MultiLabelEvaluation | None = None
    history: Sequence[Mapping[str, float | None]] = ()
    """A row for each epoch: epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr, seconds,
    images_per_second. Accuracies are 0 to 1; None where the epoch had no look at the validation split."""
    gradients: Sequence[Mapping[str, str | float | None]] = ()
    """A row for each stage of each epoch, as in gradients.csv."""
    mistakes: Sequence[PicturedMistake] = ()
    """The most confident first."""
    warnings: Sequence[str] = ()
    """Sentences that must not be missed; those that follow from `test` and `audit` are added."""
    thresholds_fitted_on: str = ""
    """The images that decide where yes begins, in words; of images with several labels."""
    splits: Sequence[str] = ()
    """Sentences: how the images were divided."""
    audit: Mapping[str, object] | None = None
    """Plain values: what `sightline check` found."""
    recipe: str = ""
    """The run's recipe as YAML."""
    environment: Mapping[str, object] | None = None
    """Plain values: command, versions, data, machine."""
