"""What a folder answers on a whole data set: its network's logits, whichever runtime computes them."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sightline.data.loader import Batches, explained_failures
from sightline.devices import pick_device
from sightline.engines import Settings
from sightline.engines.torch import load
from sightline.model_folder import ModelFolder
from sightline.prediction import Predictor, collect_logits
from sightline.progress import track

if TYPE_CHECKING:
    from sightline.engines import Folder
    from sightline.views import TestTimeAugmentation


def answers(folder: "Folder", batches: Batches, *, device: str, tta: "TestTimeAugmentation | None") -> Tensor:
    """(N, K) float32 logits, not calibrated, in the order of `batches`; with `tta` averaged over views.

    `batches` holds canvases where `needs_canvas(tta)`. Raises what opening the folder and reading the images raise.
    """
    if isinstance(folder, ModelFolder):
        chosen = pick_device(device)
        # On a CPU convolutions are up to 1.6 times as fast with the channel last, the others no slower: docs/log.md.
        model = load(folder, Settings(device=device), channels_last=chosen.type == "cpu")
        return collect_logits(model, batches, folder.spec.preprocess, device=chosen, tta=tta)
    predictor = Predictor(folder, device=device, tta=tta, batch_size=batches.batch_size)
    total = sum(len(part) for part in batches.order)
    with explained_failures():
        rows = [
            torch.from_numpy(predictor.logits(batch.images.numpy()))
            for batch in track(batches, total=total, label="Evaluating", size=batches.batch_size)
        ]
    return torch.cat(rows)
