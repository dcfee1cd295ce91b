"""How right a model's answers are, as its folder states."""

from sightline.benchmarking.figures import Accuracy
from sightline.engines import Folder, artefact_of


def stated(folder: Folder, precision: str) -> Accuracy | None:
    """What was measured before: a model folder's evaluation, in float32; an export's own, else its comparison's."""
    artefact = artefact_of(folder)
    if artefact is None:
        return _evaluated(folder, "test", "val") if precision == "float32" else None
    measured = _evaluated(folder, "test") if _has_own_figures(folder, artefact.precision) else None
    compared = artefact.parity.get("exported_accuracy")
    if measured is not None or compared is None:
        return measured
    return Accuracy(**compared, said=str(artefact.parity.get("images", "")))


def _evaluated(folder: Folder, *splits: str) -> Accuracy | None:
    """On the first of these splits that has figures."""
    for split in splits:
        figures = folder.spec.figures.get(split, {})
        measure = figures.get("accuracy", figures.get("exact_match"))
        if measure is not None:
            location = folder.spec.provenance.data.get("location")
            place = "" if location is None else f" of {location!r}"
            return Accuracy(**measure, said=f"{figures['num_images']:,} images of the {split} split{place}")
    return None


def _has_own_figures(folder: Folder, precision: str) -> bool:
    """Whether an export's figures are of its own answers: in bf16 they are its model's until it is evaluated."""
    return precision != "bf16" or (folder.path / "evaluation" / "test.json").exists()
