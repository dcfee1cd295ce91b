"""Every family in every format: how far are an export's logits from the model's, in batches of 1, 4 and 7?

`python benchmarks/export_parity.py [FAMILY...]` fills one network of each family with random values (weights, biases
and running statistics, so that nothing is compared with 0), exports it with pixels as input, and writes the figures
of the export's own gate on 36 scanned digits, resized to the network's input. Logits are in units of their spread.
Families that were measured before keep their rows.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "models"))
from reference import fill_randomly

from sightline import catalog
from sightline.errors import SightlineError
from sightline.exporting import export
from sightline.exporting.parity import read_parity
from sightline.formats import find_format
from sightline.model_folder import Architecture, Calibration, ModelFolder, ModelSpec, Provenance
from sightline.models import create_model
from sightline.preprocess import Preprocess

NETWORKS = {
    "alexnet": ("alexnet", 224),
    "zfnet": ("zfnet", 224),
    "vgg": ("vgg11_bn", 64),
    "googlenet": ("googlenet", 64),
    "inception_v3": ("inception_v3", 139),
    "inception_v4": ("inception_v4", 139),
    "inception_resnet_v2": ("inception_resnet_v2", 139),
    "resnet": ("resnet18", 64),
    "wide_resnet": ("wide_resnet50_2", 64),
    "densenet": ("densenet121", 64),
    "efficientnet": ("efficientnet_b0", 64),
    "vit": ("vit_ti_16", 64),
    "swin": ("swin_t", 64),
}
"""A network of each family, and images no larger than it needs to be itself."""
NUM_IMAGES = 36
RESULTS = Path(__file__).parent / "results" / "export_parity.json"


def filled_folder(path: Path, name: str, image_size: int) -> ModelFolder:
    torch.manual_seed(0)
    model = create_model(name, num_classes=10, image_size=image_size)
    fill_randomly(model)
    spec = ModelSpec(
        architecture=Architecture(name=name, num_classes=10, image_size=image_size),
        classes=tuple("0123456789"),
        preprocess=Preprocess(image_size=image_size, resize=image_size),
        calibration=Calibration(temperature=1.5),
        provenance=Provenance(command="", created="", data={}, versions={}),
    )
    return ModelFolder.write(path, spec, model.state_dict())


def measured(folder: ModelFolder, form: str, precision: str) -> dict[str, object]:
    try:
        exported = export(folder, form, pixels=True, precision=precision, data="digits", num_images=NUM_IMAGES)
    except SightlineError as error:
        return {"error": str(error)}
    parity = read_parity(exported)
    return {
        "by_batch_size": {size: value / parity.scale for size, value in parity.by_batch_size.items()},
        "mean_difference": parity.mean_difference / parity.scale,
        "disagreements": parity.disagreements,
        "probability_difference": parity.probability_difference,
        "scale": parity.scale,
        "megabytes": sum((exported.path / name).stat().st_size for name in exported.artefact.files) / 1e6,
    }


def main() -> None:
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    print("| network | format | batch 1 | 4 | 7 | mean | other answers | MB |\n|---|---|---|---|---|---|---|---|")
    for family in sys.argv[1:] or NETWORKS:
        name, image_size = NETWORKS[family]
        rows = [row for row in rows if row["network"] != name]
        with tempfile.TemporaryDirectory() as place:
            folder = filled_folder(Path(place) / "model", name, image_size)
            for form in catalog.names("sightline.formats"):
                for precision in find_format(form).tolerances:
                    row = measured(folder, form, precision)
                    rows.append(
                        {"network": name, "image_size": image_size, "format": form, "precision": precision} | row
                    )
                    print(line(rows[-1]), flush=True)
        RESULTS.write_text(json.dumps(rows, indent=2) + "\n")


def line(row: dict) -> str:
    start = f"| {row['network']} | {row['format']} {row['precision']} | "
    if "error" in row:
        return f"{start}{row['error']} |"
    batches = " | ".join(f"{row['by_batch_size'][size]:.1e}" for size in ("1", "4", "7"))
    return (
        f"{start}{batches} | {row['mean_difference']:.1e} | {row['disagreements']} of {NUM_IMAGES} | "
        f"{row['megabytes']:.1f} |"
    )


if __name__ == "__main__":
    main()
