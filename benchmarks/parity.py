"""Ours against the reference, family by family: the same random weights, the same photo, how far apart are the answers?

`python benchmarks/parity.py PHOTOS.zip` fills each reference with random values, loads its state dict through our
renaming, and compares the logits and the head's inputs in float32 on a real photo, prepared as the published
weights expect it, and on random numbers. The tests compare on random numbers alone; they need no data.
"""

import json
import sys
import zipfile
from pathlib import Path

import timm
import torch
import torchvision

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "models"))
from reference import fill_randomly, head_input, random_images, renamed

from sightline.decode import decode
from sightline.models import create_model, find_variant
from sightline.preprocess import Preprocess

NETWORKS = {
    "torchvision": (
        "alexnet", "vgg16", "vgg16_bn", "googlenet", "inception_v3", "resnet18", "resnet50", "resnet152",
        "wide_resnet50_2", "densenet121", "densenet161", "efficientnet_b0", "efficientnet_b4", "vit_b_16", "vit_b_32",
        "swin_t", "swin_b",
    ),
    "timm": (
        "inception_v4", "inception_resnet_v2", "resnet50", "densenet121", "efficientnet_b0", "efficientnet_b8",
        "vit_ti_16", "vit_s_16", "vit_b_16", "swin_t", "swin_l",
    ),
}  # fmt: skip
RESULTS = Path(__file__).parent / "results" / "parity.json"


def build(name: str, library: str) -> torch.nn.Module:
    """The reference, whose auxiliary classifiers (if any) ours has too."""
    if library == "timm":
        return timm.create_model(find_variant(name)[1].timm or name)
    return torchvision.models.get_model(
        name, **({"init_weights": False} if "ception" in name or "goog" in name else {})
    )


@torch.no_grad()
def differences(name: str, library: str, photo: bytes) -> dict[str, float]:
    """Largest absolute differences, and how widely the reference's logits are spread."""
    torch.manual_seed(0)
    size = find_variant(name)[1].image_size
    reference = build(name, library).eval()
    fill_randomly(reference)
    ours = create_model(name).eval()
    ours.load_state_dict(renamed(reference.state_dict(), find_variant(name)[0].renamings[library]))
    inputs = {
        "photo": Preprocess(image_size=size, resize=round(size / 0.875)).tensor(decode(photo))[None],
        "random": random_images(1, size),
    }
    found = {}
    for kind, images in inputs.items():
        logits = reference(images)
        found[f"{kind}_logits"] = (ours(images) - logits).abs().max().item()
        features = head_input(reference, images) if library == "torchvision" else reference_features(reference, images)
        found[f"{kind}_features"] = (ours.forward_features(images) - features).abs().max().item()
        found[f"{kind}_spread"] = logits.std().item()
    return found


def reference_features(reference: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    return reference.forward_head(reference.forward_features(images), pre_logits=True)


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as archive:
        photo = archive.read(sorted(archive.namelist())[0])
    rows = []
    print("| network | reference | photo: logits | features | random: logits | features | spread of the logits |")
    print("|---|---|---|---|---|---|---|")
    for library, names in NETWORKS.items():
        for name in names:
            row = differences(name, library, photo)
            rows.append({"network": name, "reference": library, **row})
            columns = ("photo_logits", "photo_features", "random_logits", "random_features")
            values = " | ".join(f"{row[column]:.1e}" for column in columns)
            print(f"| {name} | {library} | {values} | {row['photo_spread']:.2f} |", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
