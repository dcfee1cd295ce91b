"""Parity: an export's answers beside its model's, on the same images, and whether they are close enough."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import Interval, wilson
from sightline.evaluation.paired import PairedTest, compare_paired
from sightline.exported_folder import ExportedFolder
from sightline.formats import Tolerance
from sightline.model_folder import read_part

SIGNIFICANT = 0.05
"""A loss of accuracy with a smaller p-value is no chance."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What both said of N images; rows in the same order."""

    reference: NDArray[np.float32]
    """(N, K) the model's logits."""
    exported: NDArray[np.float32]
    """(N, K) the export's."""
    batch_sizes: NDArray[np.int64]
    """(N,) how many images the export was given at once."""
    reference_yes: NDArray[np.bool_]
    """(N, K) the model's answer: its likeliest class, or every class at or above its threshold."""
    exported_yes: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    """(N, K) the labels."""
    num_images: int
    """The first so many rows are different images; the rest repeat some, so that every batch size is tried."""
    probability_difference: float | None = None
    """The largest between a probability from the graph and the one its own logits give; None where it gives none."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The comparison's figures. Differences are absolute, of logits."""

    num_images: int
    images: str
    """Which they were, in words."""
    scale: float
    """The logits' spread: the root mean square of their distances from each image's mean logit."""
    max_difference: float
    mean_difference: float
    by_batch_size: dict[str, float]
    """The largest difference for each batch size that was tried."""
    agreement: Interval
    """Share of the images that both answer alike: the same class, or the same set of labels."""
    disagreements: int
    original_accuracy: Interval
    """Share of the images whose class, or whole set of labels, is right."""
    exported_accuracy: Interval
    paired: PairedTest
    """From the original's accuracy to the export's."""
    probability_difference: float | None
    tolerance: Tolerance

    @property
    def failures(self) -> tuple[str, ...]:
        """What is outside the tolerance, in words; nothing where the export holds."""
        bounds, said = self.tolerance, list[str]()
        for word, value, bound in (
            ("by at most", self.max_difference, bounds.max_difference),
            ("on average by", self.mean_difference, bounds.mean_difference),
        ):
            if not value <= bound * self.scale:  # also where it is no number
                said.append(
                    f"logits differ {word} {value / self.scale:.2g} of their spread, where {bound:g} is allowed"
                )
        allowed = max(1, int((1 - bounds.min_agreement) * self.num_images))
        if self.disagreements > allowed:
            said.append(f"{self.disagreements} of {self.num_images} answers differ, where {allowed} may")
        if self.probability_difference is not None and not (
            self.probability_difference <= bounds.max_probability_difference
        ):
            said.append(f"its probabilities are off by up to {self.probability_difference:.2g}")
        if self.paired.difference < 0 and self.paired.p_value < SIGNIFICANT:
            said.append(f"accuracy changed by {self.paired}")
        return tuple(said)

    @property
    def lines(self) -> tuple[str, ...]:
        """The report, for people."""
        tried = ", ".join(f"{size}: {value / self.scale:.1e}" for size, value in self.by_batch_size.items())
        bounds = self.tolerance
        lines = [
            f"compared on      {self.images}",
            f"logits differ    at most {self.max_difference / self.scale:.1e} of their spread "
            f"({bounds.max_difference:g} allowed), on average {self.mean_difference / self.scale:.1e} "
            f"({bounds.mean_difference:g} allowed)",
            f"by batch size    {tried}",
            f"same answer      {self.agreement}, {self.disagreements} of {self.num_images} images differ",
            f"accuracy         {self.original_accuracy} -> {self.exported_accuracy}: {self.paired}",
        ]
        if self.probability_difference is not None:
            lines.append(f"probabilities    from the graph, off by at most {self.probability_difference:.1e}")
        return tuple(lines)


def measure(answers: Answers, *, images: str, tolerance: Tolerance) -> Parity:
    """The figures of both on the same images."""
    reference, exported = answers.reference.astype(np.float64), answers.exported.astype(np.float64)
    difference = np.abs(reference - exported)
    largest = difference.max(axis=1)
    count = answers.num_images
    alike = (answers.reference_yes == answers.exported_yes).all(axis=1)[:count]
    right = (answers.reference_yes == answers.truth).all(axis=1)[:count]
    exported_right = (answers.exported_yes == answers.truth).all(axis=1)[:count]
    return Parity(
        num_images=count,
        images=images,
        scale=spread(reference),
        max_difference=float(largest.max()),
        mean_difference=float(difference.mean()),
        by_batch_size={
            str(size): float(largest[answers.batch_sizes == size].max())
            for size in np.unique(answers.batch_sizes).tolist()
        },
        agreement=wilson(int(alike.sum()), count),
        disagreements=int(count - alike.sum()),
        original_accuracy=wilson(int(right.sum()), count),
        exported_accuracy=wilson(int(exported_right.sum()), count),
        paired=compare_paired(right, exported_right),
        probability_difference=answers.probability_difference,
        tolerance=tolerance,
    )


def spread(logits: NDArray[np.float64]) -> float:
    """Of logits (N, K), from each row's mean, which softmax doesn't see; with one column, from 0."""
    centred = logits - logits.mean(axis=1, keepdims=True) if logits.shape[1] > 1 else logits
    return float(np.sqrt((centred**2).mean()))


def read_parity(folder: ExportedFolder) -> Parity:
    """What was measured when the folder was exported. Raises ModelError when it is damaged."""
    return read_part(folder.path, {"parity": folder.artefact.parity}, "parity", Parity)
