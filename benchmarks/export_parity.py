"""Every family in every format: how far are an export's logits from the model's, in batches of 1, 4 and 7?

`python benchmarks/export_parity.py [FAMILY...]` fills one network of each family with random values (weights, biases
and running statistics, so that nothing is compared with 0), exports it with pixels as input, and writes the figures
of the export's own gate on 36 scanned digits, resized to the network's input. Logits are in units of their spread.
With `--trained` each network first learns the digits for a few epochs, and the gate compares all of its images, so
that accuracy can be set beside accuracy. Families that were measured before keep their rows; `--formats` adds to them.
"""

import argparse
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
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.training import train

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
    "airbench": ("airbench94", 32),
}
"""A network of each family, and images no larger than it needs to be itself."""
TRAINED_SIZE = 32
"""Of images that networks learn from here, in the form that each family has for small ones."""
TRAINED = {"wide_resnet": "wide_resnet16_8"}
"""Where the network above is too large to be trained in passing."""
NUM_IMAGES = 36
SETTINGS = [
    "batch_size=32", "optim.name=adamw", "optim.lr=5e-4", "optim.warmup_epochs=1", "augment=[]",
    "train.select=last", "train.precision=bf16", "train.channels_last=true",
]  # fmt: skip
RESULTS = Path(__file__).parent / "results"


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


def trained_folder(path: Path, name: str, image_size: int, epochs: int) -> ModelFolder:
    own = [f"model.name={name}", f"data.image_size={image_size}", f"data.resize={image_size}", f"epochs={epochs}"]
    return train(override(Recipe(), [*SETTINGS, *own]), "digits", out=path)


def measured(folder: ModelFolder, form: str, precision: str, num_images: int) -> dict[str, object]:
    try:
        exported = export(folder, form, pixels=True, precision=precision, data="digits", num_images=num_images)
    except SightlineError as error:
        return {"error": str(error)}
    parity = read_parity(exported)
    return {
        "by_batch_size": {size: value / parity.scale for size, value in parity.by_batch_size.items()},
        "mean_difference": parity.mean_difference / parity.scale,
        "num_images": parity.num_images,
        "disagreements": parity.disagreements,
        "original_accuracy": str(parity.original_accuracy),
        "exported_accuracy": str(parity.exported_accuracy),
        "probability_difference": parity.probability_difference,
        "scale": parity.scale,
        "megabytes": sum((exported.path / name).stat().st_size for name in exported.artefact.files) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", default=list(NETWORKS))
    parser.add_argument("--trained", action="store_true")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--formats", nargs="+", default=catalog.names("sightline.formats"))
    asked = parser.parse_args()
    results = RESULTS / ("export_parity_trained.json" if asked.trained else "export_parity.json")
    rows = json.loads(results.read_text()) if results.exists() else []
    print("| network | format | batch 1 | 4 | 7 | mean | other answers | accuracy | MB |\n|" + "---|" * 9)
    for family in asked.families:
        name, image_size = NETWORKS[family]
        if asked.trained:
            name, image_size = TRAINED.get(family, name), TRAINED_SIZE
        rows = [row for row in rows if row["network"] != name or row["format"] not in asked.formats]
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "model"
            trained = asked.trained
            folder = (
                trained_folder(path, name, image_size, asked.epochs)
                if trained
                else filled_folder(path, name, image_size)
            )
            for form in asked.formats:
                for precision in find_format(form).tolerances:
                    row = measured(folder, form, precision, 256 if asked.trained else NUM_IMAGES)
                    rows.append(
                        {"network": name, "image_size": image_size, "format": form, "precision": precision} | row
                    )
                    print(line(rows[-1]), flush=True)
        results.write_text(json.dumps(rows, indent=2) + "\n")


def line(row: dict) -> str:
    start = f"| {row['network']} | {row['format']} {row['precision']} | "
    if "error" in row:
        return f"{start}{row['error']} |"
    batches = " | ".join(f"{row['by_batch_size'][size]:.1e}" for size in ("1", "4", "7"))
    return (
        f"{start}{batches} | {row['mean_difference']:.1e} | {row['disagreements']} of {row['num_images']} | "
        f"{row['original_accuracy']} -> {row['exported_accuracy']} | {row['megabytes']:.1f} |"
    )


if __name__ == "__main__":
    main()
