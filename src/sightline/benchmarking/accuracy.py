"""How right a model's answers are, as its folder states."""

from sightline.benchmarking.figures import Accuracy
from sightline.engines import Folder, artefact_of


def stated(folder: Folder, precision: str) -> Accuracy | None:
    """What was measured before: by the evaluation of a model folder, in float32, or by an export's comparison."""
    artefact = artefact_of(folder)
    if artefact is not None:
        found = artefact.parity.get("exported_accuracy")
        return None if found is None else Accuracy(**found, said=str(artefact.parity.get("images", "")))
    for split in ("test", "val"):
        figures = folder.spec.figures.get(split, {})
        measure = figures.get("accuracy", figures.get("exact_match"))
        if measure is not None and precision == "float32":
            return Accuracy(**measure, said=f"{figures['num_images']:,} images of the {split} split")
    return None
